//! What belongs to others is `not_found`, in every use case.
//!
//! The table names each public use case. A test reads the source and fails when a use case is in
//! neither list, so that a new one cannot be forgotten.

use std::collections::BTreeSet;

use futures_util::future::BoxFuture;
use stillpoint_control::backup::{self, BackupCreate};
use stillpoint_control::image::{self, ImageCreate, ImageSource};
use stillpoint_control::instance::{self, DeleteVolumes, InstanceCreate, InstanceOfSnapshot};
use stillpoint_control::instance_snapshot::{self, InstanceSnapshotQuery};
use stillpoint_control::item::{ItemCreate, ItemQuery, ItemUpdate};
use stillpoint_control::operation::{self, OperationQuery};
use stillpoint_control::restore::{self, RestoreCreate, RestoreMode, RestorePointRef};
use stillpoint_control::volume::{VolumeFromImage, VolumeImport};
use stillpoint_control::{Change, Error, Reference, admin, snapshot, token, upload, volume};
use stillpoint_model::ByteCount;
use stillpoint_model::id::{
    BackupId, ImageId, InstanceId, InstanceSnapshotId, OperationId, SnapshotId, TokenId, VaultId,
    VolumeId,
};
use stillpoint_model::instance::StopMode;
use stillpoint_model::item::ItemKind;
use stillpoint_model::refusal::ProblemCode;
use stillpoint_model::task::ImageFormat;
use stillpoint_model::volume::VolumeRole;

use crate::images::image_of;
use crate::instance_snapshots::captured;
use crate::instances::{ask_instance, instance_of};
use crate::lab::{Lab, by_name, code, name, use_cases};

/// What the other tenant has.
struct Theirs {
    instance: InstanceId,
    whole: InstanceSnapshotId,
    volume: VolumeId,
    snapshot: SnapshotId,
    backup: BackupId,
    image: ImageId,
    operation: OperationId,
    upload: uuid::Uuid,
    token: TokenId,
}

type Case<'a> = (&'static str, BoxFuture<'a, Result<(), Error>>);

macro_rules! cases {
    ($($name:literal => $call:expr),* $(,)?) => {
        vec![$(($name, Box::pin(async move { $call.await.map(drop) }) as BoxFuture<'_, _>)),*]
    };
}

/// Each use case that names a thing, asked by the tenant about the other's.
#[expect(clippy::too_many_lines, reason = "a table, one line each")]
fn asked<'a>(
    lab: &'a Lab,
    their: &'a Theirs,
    (volume, instance): (&'a Reference, &'a Reference),
    (snapshot_ref, backup_ref): (&'a Reference, &'a Reference),
    (image_ref, whole): (&'a Reference, &'a Reference),
    change: &'a Change,
) -> Vec<Case<'a>> {
    let (cx, me) = (&lab.cx, &lab.tenant);
    let import = VolumeImport {
        name: name("mine"),
        role: VolumeRole::Data,
        upload: their.upload,
        format: ImageFormat::Raw,
        pool: None,
    };
    let restore_of = |kind, item: &Reference| RestoreCreate {
        source: RestorePointRef {
            kind,
            item: item.clone(),
        },
        mode: RestoreMode::NewVolume {
            name: None,
            pool: None,
            instant: false,
        },
    };
    let from_snapshot = restore_of(ItemKind::Snapshot, snapshot_ref);
    let from_backup = restore_of(ItemKind::Backup, backup_ref);
    let typed = Some("theirs");
    let booted = InstanceCreate {
        root: instance::DiskRequest::Volume(volume.clone()),
        ..ask_instance("mine")
    };
    let image_of = |source| ImageCreate {
        item: ItemCreate::default(),
        source,
        pool: None,
    };
    let image_of_snapshot = image_of(ImageSource::RestorePoint(from_snapshot.source.clone()));
    let image_of_upload = image_of(ImageSource::Upload {
        upload: their.upload,
        format: ImageFormat::Raw,
    });
    let image_of_whole = image_of(ImageSource::InstanceSnapshot(whole.clone()));
    let started = VolumeFromImage {
        name: name("mine"),
        image: image_ref.clone(),
        size: None,
        role: VolumeRole::Root,
        pool: None,
    };
    let started_vm = InstanceCreate {
        root: instance::DiskRequest::Image {
            name: None,
            image: image_ref.clone(),
            size: None,
        },
        ..ask_instance("mine")
    };
    let made_of_whole = InstanceOfSnapshot {
        source: whole.clone(),
        name: None,
        flavor: None,
        start: true,
        with_memory: false,
    };
    cases![
        "volume::show" => volume::show(cx, me, volume),
        "volume::import" => volume::import(cx, me, import, change),
        "volume::clone" => volume::clone(cx, me, volume, None, change),
        "volume::resize" => volume::resize(cx, me, volume, ByteCount::from_gib(9), change),
        "volume::rename" => volume::rename(cx, me, volume, name("mine"), change),
        "volume::delete" => volume::delete(cx, me, volume, typed, change),
        "volume::attach" => volume::attach(cx, me, volume, instance, change),
        "volume::detach" => volume::detach(cx, me, volume, change),
        "instance::create" => instance::create(cx, me, booted, change),
        "instance::show" => instance::show(cx, me, instance),
        "instance::rename" => instance::rename(cx, me, instance, name("mine"), change),
        "instance::start" => instance::start(cx, me, instance, change),
        "instance::stop" => instance::stop(cx, me, instance, StopMode::USUAL, change),
        "instance::pause" => instance::pause(cx, me, instance, change),
        "instance::resume" => instance::resume(cx, me, instance, change),
        "instance::delete" =>
            instance::delete(cx, me, instance, DeleteVolumes::All, typed, change),
        "instance::create_of_snapshot" =>
            instance::create_of_snapshot(cx, me, made_of_whole, change),
        "instance_snapshot::show" => instance_snapshot::show(cx, me, whole),
        "instance_snapshot::create" =>
            instance_snapshot::create(cx, me, instance, ItemCreate::default(), change),
        "instance_snapshot::update" =>
            instance_snapshot::update(cx, me, whole, ItemUpdate::default(), change),
        "instance_snapshot::delete" => instance_snapshot::delete(cx, me, whole, typed, change),
        "instance_snapshot::rebuild" =>
            instance_snapshot::rebuild(cx, me, instance, whole, (typed, false), change),
        "snapshot::show" => snapshot::show(cx, me, snapshot_ref),
        "snapshot::update" =>
            snapshot::update(cx, me, snapshot_ref, ItemUpdate::default(), change),
        "snapshot::delete" => snapshot::delete(cx, me, snapshot_ref, typed, change),
        "snapshot::create" => snapshot::create(cx, me, volume, ItemCreate::default(), change),
        "snapshot::create_with_image" =>
            snapshot::create_with_image(cx, me, volume, ItemCreate::default(), name("m"), change),
        "image::show" => image::show(cx, me, image_ref),
        "image::update" => image::update(cx, me, image_ref, ItemUpdate::default(), change),
        "image::delete" => image::delete(cx, me, image_ref, typed, change),
        "image::create" => image::create(cx, me, image_of_snapshot, change),
        "image::create" => image::create(cx, me, image_of_upload, change),
        "image::create" => image::create(cx, me, image_of_whole, change),
        "volume::create_from_image" => volume::create_from_image(cx, me, started, change),
        "instance::create" => instance::create(cx, me, started_vm, change),
        "backup::show" => backup::show(cx, me, backup_ref),
        "backup::update" => backup::update(cx, me, backup_ref, ItemUpdate::default(), change),
        "backup::delete" => backup::delete(cx, me, backup_ref, typed, change),
        "backup::create" => backup::create(cx, me, volume, BackupCreate::default(), change),
        "backup::verify" => backup::verify(cx, me, backup_ref, true, change),
        "restore::create" => restore::create(cx, me, from_snapshot, change),
        "restore::create" => restore::create(cx, me, from_backup, change),
        "operation::show" => operation::show(cx, me, their.operation),
        "operation::cancel" => operation::cancel(cx, me, their.operation, None),
        "upload::complete" => upload::complete(cx, me, their.upload, ByteCount::ZERO),
        "upload::abandon" => upload::abandon(cx, me, their.upload),
        "token::revoke" => token::revoke(cx, me, their.token),
    ]
}

/// Use cases that name nothing, or are for administrators alone, and are tested as such.
const OTHERS: &[&str] = &[
    "volume::list",
    "volume::options",
    "volume::create",
    "volume::set_attachment",
    "instance::list",
    "instance::options",
    "image::list",
    "image::options",
    "instance_snapshot::list",
    "snapshot::list",
    "backup::list",
    "operation::list",
    "operation::release",
    "operation::retry",
    "upload::begin",
    "upload::is_wanted",
    "token::create",
    "token::list",
    "event::subscribe",
    "admin::nodes",
    "admin::pools",
    "admin::targets",
    "admin::target",
    "admin::confirm_collection",
    "admin::set_copies",
    "admin::accounts",
    "admin::audit",
    "admin::verify_audit",
];

async fn their_things(lab: &Lab) -> Theirs {
    let volume = lab.volume(&lab.other, "theirs").await;
    let snapshot = lab.snapshot(&lab.other, volume).await;
    let backup = lab.backup(&lab.other, volume).await;
    let instance = instance_of(lab, &lab.other, "theirs").await;
    let image = image_of(lab, &lab.other, "theirs", snapshot).await;
    let whole = captured(lab, &lab.other, instance, "theirs").await;
    let upload = lab.begin_upload(&lab.other).await;
    upload::complete(&lab.cx, &lab.other, upload.id, ByteCount::from_mib(1))
        .await
        .expect("an upload");
    let (token, _) = token::create(&lab.cx, &lab.other, name("ci"), None, None)
        .await
        .expect("a token");
    let query = OperationQuery::default();
    let operations = operation::list(&lab.cx, &lab.other, &query)
        .await
        .expect("a list");
    Theirs {
        instance,
        whole,
        volume,
        snapshot,
        backup,
        image,
        operation: operations.items[0].id,
        upload: upload.id,
        token: token.id,
    }
}

#[tokio::test]
async fn what_belongs_to_others_is_not_found() {
    let lab = Lab::new().await;
    let their = their_things(&lab).await;
    let change = Change::default();
    let ids = (
        (their.volume.into(), their.instance.into()),
        (their.snapshot.into(), their.backup.into()),
        (their.image.into(), their.whole.into()),
    );
    let shown = snapshot::show(&lab.cx, &lab.other, &their.snapshot.into())
        .await
        .expect("it");
    let backed = backup::show(&lab.cx, &lab.other, &their.backup.into())
        .await
        .expect("it");
    let names = (
        (by_name("theirs"), by_name("theirs")),
        (
            Reference::Name(shown.snapshot.name),
            Reference::Name(backed.backup.name),
        ),
        (by_name("theirs"), by_name("theirs")),
    );
    for ((v, i), (s, b), (m, w)) in [ids, names] {
        for (case, call) in asked(&lab, &their, (&v, &i), (&s, &b), (&m, &w), &change) {
            assert_eq!(code(call.await), ProblemCode::NotFound, "{case} of {v:?}");
        }
    }
}

#[tokio::test]
async fn lists_hold_the_accounts_own_alone() {
    let lab = Lab::new().await;
    let their = their_things(&lab).await;
    let (cx, me) = (&lab.cx, &lab.tenant);
    let of = Some(Reference::from(their.volume));
    assert!(
        volume::list(cx, me, &volume::VolumeQuery::default())
            .await
            .expect("it")
            .items
            .is_empty()
    );
    let query = instance::InstanceQuery::default();
    let instances = instance::list(cx, me, &query).await.expect("it");
    assert!(instances.items.is_empty());
    let images = image::list(cx, me, &image::ImageQuery::default()).await;
    assert!(images.expect("it").items.is_empty());
    for instance in [None, Some(Reference::from(their.instance))] {
        let query = InstanceSnapshotQuery {
            instance,
            ..Default::default()
        };
        let wholes = instance_snapshot::list(cx, me, &query).await.expect("it");
        assert!(wholes.items.is_empty());
    }
    for volume in [None, of] {
        let query = ItemQuery {
            volume: volume.clone(),
            ..Default::default()
        };
        assert!(
            snapshot::list(cx, me, &query)
                .await
                .expect("it")
                .items
                .is_empty()
        );
        let query = ItemQuery {
            volume: volume.clone(),
            ..Default::default()
        };
        assert!(
            backup::list(cx, me, &query)
                .await
                .expect("it")
                .items
                .is_empty()
        );
        let query = OperationQuery {
            volume,
            ..Default::default()
        };
        assert!(
            operation::list(cx, me, &query)
                .await
                .expect("it")
                .items
                .is_empty()
        );
    }
    assert!(
        token::list(cx, me, &Default::default())
            .await
            .expect("it")
            .items
            .is_empty()
    );
}

#[tokio::test]
async fn operators_pages_are_for_operators() {
    let lab = Lab::new().await;
    let (cx, me) = (&lab.cx, &lab.tenant);
    let all = OperationQuery {
        all_accounts: true,
        ..Default::default()
    };
    let audit = admin::AuditQuery {
        before: None,
        limit: 1,
    };
    let named = &by_name("target-1");
    let vault = VaultId::generate(&*lab.env);
    let (bytes, key) = ((vault, ByteCount::from_gib(1)), None);
    let cases: Vec<Case<'_>> = cases![
        "target" => admin::target(cx, me, named),
        "confirm_collection" => admin::confirm_collection(cx, me, named, bytes, key),
        "set_copies" => admin::set_copies(cx, me, named, None, key),
        "nodes" => admin::nodes(cx, me),
        "pools" => admin::pools(cx, me),
        "targets" => admin::targets(cx, me),
        "accounts" => admin::accounts(cx, me, &Default::default()),
        "audit" => admin::audit(cx, me, &audit),
        "verify_audit" => admin::verify_audit(cx, me),
        "operations" => operation::list(cx, me, &all),
    ];
    for (case, call) in cases {
        assert_eq!(code(call.await), ProblemCode::Forbidden, "{case}");
    }
    assert_eq!(
        admin::accounts(cx, &lab.admin, &Default::default())
            .await
            .expect("it")
            .items
            .len(),
        3
    );
    assert!(admin::nodes(cx, &lab.admin).await.expect("it")[0].online);
}

#[tokio::test]
async fn every_use_case_is_in_the_table() {
    let lab = Lab::new().await;
    let their = their_things(&lab).await;
    let (any, change) = (by_name("any"), Change::default());
    let pair = (&any, &any);
    let tabled: BTreeSet<String> = asked(&lab, &their, pair, pair, pair, &change)
        .into_iter()
        .map(|(case, _)| case.to_owned())
        .chain(OTHERS.iter().map(|case| (*case).to_owned()))
        .collect();
    assert_eq!(use_cases(), tabled);
}
