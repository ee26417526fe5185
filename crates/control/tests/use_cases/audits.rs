//! Each mutation leaves one record in the audit, in its transaction, and nothing else leaves any.
//!
//! The steps walk every use case that changes something. A test reads the source and fails when a
//! use case is neither among them nor among those that only read.

use std::collections::BTreeSet;

use stillpoint_control::backup::{self, BackupCreate};
use stillpoint_control::image::{self, ImageCreate, ImageSource};
use stillpoint_control::instance::{self, DeleteVolumes, InstanceOfSnapshot};
use stillpoint_control::item::{ItemCreate, ItemUpdate};
use stillpoint_control::restore::{self, RestoreCreate, RestoreMode, RestorePointRef};
use stillpoint_control::volume::{VolumeFromImage, VolumeImport};
use stillpoint_control::{Change, Context, Reference, snapshot, token, upload, volume};
use stillpoint_control::{instance_snapshot, operation};
use stillpoint_model::ByteCount;
use stillpoint_model::audit::AuditRecord;
use stillpoint_model::instance::StopMode;
use stillpoint_model::item::ItemKind;
use stillpoint_model::task::ImageFormat;
use stillpoint_model::volume::VolumeRole;
use stillpoint_store::audit::audit_list_after;

use crate::instances::ask_instance;
use crate::lab::{Lab, accepted, name, use_cases};

/// Use cases that change nothing.
const READERS: &[&str] = &[
    "volume::list",
    "volume::options",
    "volume::show",
    "instance::list",
    "instance::options",
    "instance::show",
    "image::list",
    "image::options",
    "image::show",
    "instance_snapshot::list",
    "instance_snapshot::show",
    "snapshot::list",
    "snapshot::show",
    "backup::list",
    "backup::show",
    "operation::list",
    "operation::show",
    "upload::is_wanted",
    "token::list",
    "event::subscribe",
    "admin::nodes",
    "admin::pools",
    "admin::targets",
    "admin::target",
    "admin::accounts",
    "admin::audit",
    "admin::verify_audit",
];

/// Walks the use cases and holds each to its one record.
struct Walk<'a> {
    lab: &'a Lab,
    walked: BTreeSet<String>,
    seen: i64,
}

impl<'a> Walk<'a> {
    async fn new(lab: &'a Lab) -> Self {
        let mut walk = Self {
            lab,
            walked: BTreeSet::new(),
            seen: 0,
        };
        walk.news().await;
        walk
    }

    fn cx(&self) -> &'a Context {
        &self.lab.cx
    }

    /// The records since it was last asked.
    async fn news(&mut self) -> Vec<AuditRecord> {
        let mut conn = self.lab.db.read().await.expect("the database");
        let news = audit_list_after(&mut conn, self.seen, 1_000).await;
        let news = news.expect("the audit");
        self.seen = news.last().map_or(self.seen, |record| record.sequence);
        news
    }

    /// What a use case gave, which left one record of this action.
    async fn step<T, E: std::fmt::Debug>(
        &mut self,
        case: &str,
        action: &str,
        call: impl Future<Output = Result<T, E>>,
    ) -> T {
        let given = call.await;
        let given = given.unwrap_or_else(|error| panic!("{case}: {error:?}"));
        let actions: Vec<_> = self.news().await.into_iter().map(|r| r.action).collect();
        assert_eq!(actions, [action], "{case}");
        self.lab.settle().await;
        self.lab.rest().await;
        let later = self.news().await;
        assert!(later.is_empty(), "{case}: {later:?}");
        self.walked.insert(case.to_owned());
        given
    }

    async fn volumes(&mut self) -> Reference {
        let (cx, me, change) = (self.cx(), &self.lab.tenant, Change::default());
        let made = self.lab.ask_volume(me, "web", &change);
        let made = self.step("volume::create", "volume_create", made).await;
        let web: Reference = accepted(Ok(made)).volume_id.expect("one").into();
        let cloned = volume::clone(cx, me, &web, None, &change);
        self.step("volume::clone", "volume_clone", cloned).await;
        let size = ByteCount::from_gib(2);
        let resized = volume::resize(cx, me, &web, size, &change);
        self.step("volume::resize", "volume_resize", resized).await;
        let renamed = volume::rename(cx, me, &web, name("shop"), &change);
        self.step("volume::rename", "volume_rename", renamed).await;
        let free = volume::set_attachment(cx, &self.lab.admin, &web, None, &change);
        self.step("volume::set_attachment", "volume_attach", free)
            .await;
        web
    }

    async fn instances(&mut self, web: &Reference) {
        let (cx, me, change) = (self.cx(), &self.lab.tenant, Change::default());
        let made = instance::create(cx, me, ask_instance("vm"), &change);
        let made = self.step("instance::create", "instance_create", made).await;
        let vm: Reference = accepted(Ok(made)).instance_id.expect("one").into();
        let attached = volume::attach(cx, me, web, &vm, &change);
        self.step("volume::attach", "volume_attach", attached).await;
        let detached = volume::detach(cx, me, web, &change);
        self.step("volume::detach", "volume_detach", detached).await;
        let paused = instance::pause(cx, me, &vm, &change);
        self.step("instance::pause", "instance_pause", paused).await;
        let resumed = instance::resume(cx, me, &vm, &change);
        self.step("instance::resume", "instance_resume", resumed)
            .await;
        let stopped = instance::stop(cx, me, &vm, StopMode::USUAL, &change);
        self.step("instance::stop", "instance_stop", stopped).await;
        let started = instance::start(cx, me, &vm, &change);
        self.step("instance::start", "instance_start", started)
            .await;
        let renamed = instance::rename(cx, me, &vm, name("vm-2"), &change);
        self.step("instance::rename", "instance_rename", renamed)
            .await;
        self.instance_snapshots(&vm).await;
        let (all, typed) = (DeleteVolumes::All, Some("vm-2"));
        let deleted = instance::delete(cx, me, &vm, all, typed, &change);
        self.step("instance::delete", "instance_delete", deleted)
            .await;
    }

    async fn instance_snapshots(&mut self, vm: &Reference) {
        let (cx, me, change) = (self.cx(), &self.lab.tenant, Change::default());
        let stopped = instance::stop(cx, me, vm, StopMode::Forced, &change);
        self.step("instance::stop", "instance_stop", stopped).await;
        let item = ItemCreate {
            name: Some(name("whole")),
            ..ItemCreate::default()
        };
        let taken = instance_snapshot::create(cx, me, vm, item, &change);
        let (case, action) = ("instance_snapshot::create", "instance_snapshot_create");
        let taken = accepted(Ok(self.step(case, action, taken).await));
        let whole: Reference = taken.instance_snapshot_id.expect("one").into();
        let said = ItemUpdate {
            description: Some("before the update".into()),
            ..ItemUpdate::default()
        };
        let edited = instance_snapshot::update(cx, me, &whole, said, &change);
        let (case, action) = ("instance_snapshot::update", "instance_snapshot_update");
        self.step(case, action, edited).await;
        let request = InstanceOfSnapshot {
            source: whole.clone(),
            name: None,
            flavor: None,
            start: true,
            with_memory: false,
        };
        let made = instance::create_of_snapshot(cx, me, request, &change);
        self.step("instance::create_of_snapshot", "instance_create", made)
            .await;
        let back = instance_snapshot::rebuild(cx, me, vm, &whole, (Some("vm-2"), false), &change);
        self.step("instance_snapshot::rebuild", "instance_rebuild", back)
            .await;
        let deleted = instance_snapshot::delete(cx, me, &whole, Some("whole"), &change);
        let (case, action) = ("instance_snapshot::delete", "instance_snapshot_delete");
        self.step(case, action, deleted).await;
    }

    async fn items(&mut self, web: &Reference) {
        let (cx, me, change) = (self.cx(), &self.lab.tenant, Change::default());
        let item = ItemCreate {
            name: Some(name("kept")),
            ..ItemCreate::default()
        };
        let taken = snapshot::create(cx, me, web, item.clone(), &change);
        let taken = self
            .step("snapshot::create", "snapshot_create", taken)
            .await;
        let taken: Reference = accepted(Ok(taken)).snapshot_id.expect("one").into();
        let said = ItemUpdate {
            description: Some("before the update".into()),
            ..ItemUpdate::default()
        };
        let edited = snapshot::update(cx, me, &taken, said.clone(), &change);
        self.step("snapshot::update", "snapshot_update", edited)
            .await;
        let request = RestoreCreate {
            source: RestorePointRef {
                kind: ItemKind::Snapshot,
                item: taken.clone(),
            },
            mode: RestoreMode::InPlace {
                confirm: Some("shop".into()),
            },
        };
        let restored = restore::create(cx, me, request, &change);
        self.step("restore::create", "restore_in_place", restored)
            .await;
        let deleted = snapshot::delete(cx, me, &taken, Some("kept"), &change);
        self.step("snapshot::delete", "snapshot_delete", deleted)
            .await;
        let request = BackupCreate {
            item,
            snapshot: None,
        };
        let made = backup::create(cx, me, web, request, &change);
        let made = self.step("backup::create", "backup_create", made).await;
        let made: Reference = accepted(Ok(made)).backup_id.expect("one").into();
        let edited = backup::update(cx, me, &made, said, &change);
        self.step("backup::update", "backup_update", edited).await;
        let proved = backup::verify(cx, me, &made, true, &change);
        self.step("backup::verify", "backup_verify", proved).await;
        let deleted = backup::delete(cx, me, &made, Some("kept"), &change);
        self.step("backup::delete", "backup_delete", deleted).await;
    }

    async fn images(&mut self, web: &Reference) {
        let (cx, me, change) = (self.cx(), &self.lab.tenant, Change::default());
        let item = ItemCreate::default();
        let taken = snapshot::create_with_image(cx, me, web, item, name("golden"), &change);
        let taken = self
            .step("snapshot::create_with_image", "snapshot_create", taken)
            .await;
        let source = ImageSource::RestorePoint(RestorePointRef {
            kind: ItemKind::Snapshot,
            item: accepted(Ok(taken)).snapshot_id.expect("one").into(),
        });
        let request = ImageCreate {
            item: ItemCreate::default(),
            source,
            pool: None,
        };
        let made = image::create(cx, me, request, &change);
        let made = self.step("image::create", "image_create", made).await;
        let made: Reference = accepted(Ok(made)).image_id.expect("one").into();
        let said = ItemUpdate {
            name: Some(name("silver")),
            ..ItemUpdate::default()
        };
        let edited = image::update(cx, me, &made, said, &change);
        self.step("image::update", "image_update", edited).await;
        let request = VolumeFromImage {
            name: name("started"),
            image: made.clone(),
            size: None,
            role: VolumeRole::Root,
            pool: None,
        };
        let started = volume::create_from_image(cx, me, request, &change);
        self.step("volume::create_from_image", "volume_create", started)
            .await;
        let deleted = image::delete(cx, me, &made, Some("silver"), &change);
        self.step("image::delete", "image_delete", deleted).await;
    }

    async fn care(&mut self) {
        let (lab, admin) = (self.lab, &self.lab.admin);
        lab.ask_for_confirmation(9).await;
        let confirmed = lab.confirm(admin, 9);
        self.step("admin::confirm_collection", "collection_confirm", confirmed)
            .await;
        let copied = lab.copy_every(std::time::Duration::from_hours(24));
        self.step("admin::set_copies", "target_copies_set", copied)
            .await;
    }

    async fn operations(&mut self, web: &Reference) {
        let (cx, me, admin) = (self.cx(), &self.lab.tenant, &self.lab.admin);
        let change = Change::default();
        for case in ["operation::cancel", "operation::release"] {
            let asked = snapshot::create(cx, me, web, ItemCreate::default(), &change).await;
            let id = accepted(asked).id;
            self.news().await;
            if case == "operation::cancel" {
                let stopped = operation::cancel(cx, me, id, None);
                self.step(case, "operation_cancel", stopped).await;
            } else {
                let ended = operation::release(cx, admin, id, "stuck", None);
                self.step(case, "operation_release", ended).await;
                let again = operation::retry(cx, admin, id, "fixed", None);
                self.step("operation::retry", "snapshot_create", again)
                    .await;
            }
        }
    }

    async fn uploads_and_tokens(&mut self) {
        let (cx, me, change) = (self.cx(), &self.lab.tenant, Change::default());
        let size = ByteCount::from_gib(1);
        let lost = async { Ok::<_, ()>(self.lab.begin_upload(me).await) };
        let lost = self.step("upload::begin", "upload_create", lost).await.id;
        let given_up = upload::abandon(cx, me, lost);
        self.step("upload::abandon", "upload_abandon", given_up)
            .await;
        let image = self.lab.begin_upload(me).await.id;
        self.news().await;
        let whole = upload::complete(cx, me, image, size);
        self.step("upload::complete", "upload_complete", whole)
            .await;
        let request = VolumeImport {
            name: name("imported"),
            role: VolumeRole::Data,
            upload: image,
            format: ImageFormat::Raw,
            pool: None,
        };
        let imported = volume::import(cx, me, request, &change);
        self.step("volume::import", "volume_import", imported).await;
        let token = token::create(cx, me, name("ci"), None, None);
        let (token, _) = self.step("token::create", "token_create", token).await;
        let revoked = token::revoke(cx, me, token.id);
        self.step("token::revoke", "token_delete", revoked).await;
    }
}

#[tokio::test]
async fn every_mutation_leaves_one_record() {
    let lab = Lab::new().await;
    let mut walk = Walk::new(&lab).await;
    let web = walk.volumes().await;
    walk.instances(&web).await;
    walk.items(&web).await;
    walk.images(&web).await;
    walk.care().await;
    walk.operations(&web).await;
    walk.uploads_and_tokens().await;
    let (cx, me, change) = (&lab.cx, &lab.tenant, Change::default());
    let deleted = volume::delete(cx, me, &web, Some("shop"), &change);
    walk.step("volume::delete", "volume_delete", deleted).await;
    let readers = READERS.iter().map(|case| (*case).to_owned());
    walk.walked.extend(readers);
    assert_eq!(walk.walked, use_cases());
}
