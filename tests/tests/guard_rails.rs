//! Each guard rail, provoked on a real server: the API, the CLI and the portal give the same
//! code, the same sentence and the same ways out, because one function decides.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::process::Output;

use stillpoint_client::{Change, Result};
use stillpoint_env::SystemEnv;
use stillpoint_model::id::{SnapshotId, VolumeId};
use stillpoint_model::plan::Plan;
use stillpoint_model::{ByteCount, Env as _};
use stillpoint_tests::person::{Login, Person, roll_back};
use stillpoint_tests::server::Server;
use stillpoint_tests::visitor::{Page, Visitor};
use stillpoint_wire::Problem;
use stillpoint_wire::backup::BackupCreate;
use stillpoint_wire::item::{ItemKind, ItemPatch};
use stillpoint_wire::problem::ProblemCode;
use stillpoint_wire::snapshot::{Snapshot, SnapshotCreate};
use stillpoint_wire::upload::ImageFormat;
use stillpoint_wire::volume::{AttachedState, AttachmentReport, VolumeCreate};

/// A server and three ways in.
struct World {
    // Dropped first: it writes to the server's folder.
    tenant: Person,
    administrator: Person,
    portal: Visitor,
    server: Server,
}

impl World {
    fn new(edit: impl FnOnce(&mut Plan)) -> Self {
        Self::on(Server::start_with_plan(edit))
    }

    fn on(server: Server) -> Self {
        Self {
            tenant: Person::tenant(&server),
            administrator: Person::administrator(&server),
            portal: Visitor::sign_in(&server, &Login::tenant(&server)),
            server,
        }
    }

    fn volume(&self, name: &str) -> VolumeId {
        new_volume(&self.tenant, name)
    }

    /// A volume whose backup takes long enough to be met by others.
    fn large_volume(&self, name: &str) -> VolumeId {
        let folder = tempfile::tempdir_in(stillpoint_tests::cache_folder()).unwrap();
        let image = folder.path().join("noise.raw");
        let mut noise = vec![0; 384 << 20];
        SystemEnv::new().fill_random(&mut noise);
        std::fs::write(&image, &noise).unwrap();
        self.tenant.import(name, &image, ImageFormat::Raw)
    }

    /// Something that is under way for more than a second.
    fn keep_busy(&self, volume: VolumeId) -> stillpoint_wire::operation::Operation {
        let request = BackupCreate {
            volume: volume.to_string(),
            ..BackupCreate::default()
        };
        self.tenant
            .begin(async |c| c.backup_create(&request, &Change::default()).await)
    }

    fn snapshot_page(&self, volume: VolumeId) -> Page {
        self.portal.open(&format!("/volumes/{volume}/snapshots"))
    }

    fn backup_page(&self, volume: VolumeId) -> Page {
        self.portal.open(&format!("/volumes/{volume}/backups"))
    }

    fn refuse_snapshot(&self, volume: VolumeId, name: Option<&str>) -> Problem {
        let request = SnapshotCreate {
            volume: volume.to_string(),
            name: name.map(str::to_owned),
            ..SnapshotCreate::default()
        };
        self.tenant
            .refused(async |c| c.snapshot_create(&request, &Change::default()).await)
    }
}

fn new_volume(person: &Person, name: &str) -> VolumeId {
    let request = VolumeCreate {
        name: name.into(),
        size_bytes: Some(ByteCount::from_mib(64)),
        ..VolumeCreate::default()
    };
    let made = person.complete(async |c| c.volume_create(&request, &Change::default()).await);
    made.volume_id.unwrap()
}

/// What a refusal must be, wherever it is met.
struct Rail<'a> {
    code: ProblemCode,
    http_status: u16,
    exit: i32,
    text: &'a str,
    ways_out: &'a [&'a str],
}

impl Rail<'_> {
    /// Holds the three answers against each other. Seconds may pass between them.
    fn check(&self, api: &Problem, cli: &Output, page: &Page) {
        assert_eq!(api.code, self.code, "{api:?}");
        assert_eq!(api.status, self.http_status, "{api:?}");
        assert_eq!(timeless(&api.detail), timeless(self.text));
        let labels: Vec<String> = api.resolutions.iter().map(|r| timeless(&r.label)).collect();
        let ways_out: Vec<String> = self.ways_out.iter().map(|label| timeless(label)).collect();
        assert_eq!(labels, ways_out);

        let printed = timeless(&String::from_utf8_lossy(&cli.stderr));
        assert_eq!(cli.status.code(), Some(self.exit), "{printed}");
        let error = format!("error[{}]: {}", self.code.as_str(), timeless(self.text));
        assert!(printed.contains(&error), "{error} is not in {printed}");
        let shown = timeless(&page.text);
        assert!(
            shown.contains(&timeless(self.text)),
            "{} is not in {shown}",
            self.text
        );
        for label in ways_out {
            let said = timeless(self.text).contains(&label);
            assert!(
                said || printed.contains(&format!("hint: {label}")),
                "{label}: {printed}"
            );
            assert!(said || shown.contains(&label), "{label} is not in {shown}");
        }
    }
}

/// The same text without its numbers.
fn timeless(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '0'..='9' if out.ends_with('N') => {}
            '0'..='9' => out.push('N'),
            _ => out.push(c),
        }
    }
    out
}

#[test]
fn busy_and_too_much_in_flight() {
    let world = World::new(|plan| {
        plan.pacing.cooldown_s = 0;
        plan.pacing.in_flight_per_account = 1;
    });
    let (busy, idle) = (world.large_volume("busy"), world.volume("idle"));
    let running = world.keep_busy(busy);

    let api = world.refuse_snapshot(busy, None);
    let cli = world.tenant.cli(&["snapshot", "create", "busy"]);
    let page = world.snapshot_page(busy);
    let in_flight_api = world.refuse_snapshot(idle, None);
    let in_flight_cli = world.tenant.cli(&["snapshot", "create", "idle"]);
    let in_flight_page = world.snapshot_page(idle);
    world.tenant.end_of(&running);

    Rail {
        code: ProblemCode::VolumeBusy,
        http_status: 409,
        exit: 6,
        text: "Volume is busy with operation: backup",
        ways_out: &[
            "Watch the running operation",
            "Cancel the running operation",
        ],
    }
    .check(&api, &cli, &page);
    let hint = format!("stillpoint operation watch {}", running.id);
    assert!(String::from_utf8_lossy(&cli.stderr).contains(&hint));
    Rail {
        code: ProblemCode::InflightLimit,
        http_status: 429,
        exit: 6,
        text: "Your account has 1 operation in flight, and 1 is the limit. \
               Wait for one to finish.",
        ways_out: &["See the operations in flight"],
    }
    .check(&in_flight_api, &in_flight_cli, &in_flight_page);
}

#[test]
fn cooldown_and_the_cap_of_snapshots() {
    let world = World::new(|plan| plan.caps.max_snapshots = 1);
    let volume = world.volume("data");
    world.tenant.snapshot(volume, "first");

    Rail {
        code: ProblemCode::SnapshotLimit,
        http_status: 409,
        exit: 7,
        text: "Snapshot limit reached. Delete an existing snapshot first.",
        ways_out: &["Delete a snapshot"],
    }
    .check(
        &world.refuse_snapshot(volume, None),
        &world.tenant.cli(&["snapshot", "create", "data"]),
        &world.snapshot_page(volume),
    );

    let request = BackupCreate {
        volume: volume.to_string(),
        ..BackupCreate::default()
    };
    let refuse = || {
        world
            .tenant
            .refused(async |c| c.backup_create(&request, &Change::default()).await)
    };
    let resting = refuse();
    assert!(
        resting
            .retry_after_s
            .is_some_and(|left| (290..=300).contains(&left))
    );
    Rail {
        code: ProblemCode::Cooldown,
        http_status: 409,
        exit: 6,
        text: "Volume is in cooldown. Try again in 300 seconds.",
        ways_out: &["Try again in 300 seconds"],
    }
    .check(
        &resting,
        &world.tenant.cli(&["backup", "create", "data"]),
        &world.backup_page(volume),
    );

    // The administrator's word passes the cooldown, and nobody else's.
    let change = Change {
        override_cooldown: true,
        ..Change::default()
    };
    let forbidden = world
        .tenant
        .refused(async |c| c.backup_create(&request, &change).await);
    assert_eq!(forbidden.code, ProblemCode::Forbidden);
}

#[test]
fn the_cap_of_backups() {
    let world = World::new(|plan| plan.caps.max_backups = 1);
    let fresh = world.volume("fresh");
    world.tenant.backup(fresh, "first");
    let request = BackupCreate {
        volume: fresh.to_string(),
        ..BackupCreate::default()
    };
    Rail {
        code: ProblemCode::BackupLimit,
        http_status: 409,
        exit: 7,
        text: "Backup limit reached. Delete an existing backup first.",
        ways_out: &["Delete a backup"],
    }
    .check(
        &world
            .tenant
            .refused(async |c| c.backup_create(&request, &Change::default()).await),
        &world.tenant.cli(&["backup", "create", "fresh"]),
        &world.backup_page(fresh),
    );
}

#[test]
fn without_a_backup_target() {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("settings.toml");
    std::fs::write(&settings, "[target]\nkind = \"none\"\n").unwrap();
    let settings = settings.display().to_string();
    let world = World::on(Server::start_with(&["--config", &settings]));
    let volume = world.volume("lonely");
    let request = BackupCreate {
        volume: volume.to_string(),
        ..BackupCreate::default()
    };
    Rail {
        code: ProblemCode::NoBackupTarget,
        http_status: 422,
        exit: 1,
        text: "Hypervisor has no backup storage configured.",
        ways_out: &["Ask your operator"],
    }
    .check(
        &world
            .tenant
            .refused(async |c| c.backup_create(&request, &Change::default()).await),
        &world.tenant.cli(&["backup", "create", "lonely"]),
        &world.backup_page(volume),
    );
    // Snapshots need none.
    world.tenant.snapshot(volume, "here");
}

#[test]
fn attached_to_a_running_instance() {
    let world = World::new(|plan| plan.pacing.cooldown_s = 0);
    let volume = world.volume("data");
    let snapshot = world.tenant.snapshot(volume, "before");
    let attachment = AttachmentReport {
        instance: "web-1".into(),
        state: AttachedState::Running,
    };
    let id = volume.to_string();
    world
        .administrator
        .get(async |c| c.volume_attachment_report(&id, &attachment).await);

    let request = roll_back(ItemKind::Snapshot, snapshot.id, "data");
    Rail {
        code: ProblemCode::AttachedRunning,
        http_status: 409,
        exit: 1,
        text: "Cannot restore in-place while attached to a running instance. \
               Stop the instance or detach the volume first.",
        ways_out: &[
            "Stop the instance",
            "Detach the volume",
            "Restore to a new volume",
        ],
    }
    .check(
        &world
            .tenant
            .refused(async |c| c.restore_create(&request, &Change::default()).await),
        &world.tenant.cli(&[
            "restore",
            "in-place",
            "--volume",
            "data",
            "--from-snapshot",
            "before",
            "--yes",
            "data",
        ]),
        &world
            .portal
            .open(&format!("/snapshots/{}/restore", snapshot.id)),
    );
    Rail {
        code: ProblemCode::AttachedRunning,
        http_status: 409,
        exit: 1,
        text: "This pool cannot do that while a running instance has the volume open. \
               Stop the instance or detach the volume first.",
        ways_out: &["Stop the instance", "Detach the volume"],
    }
    .check(
        &world.refuse_snapshot(volume, None),
        &world.tenant.cli(&["snapshot", "create", "data"]),
        &world.snapshot_page(volume),
    );
}

#[test]
fn protected_items_stay() {
    let world = World::new(|plan| plan.pacing.cooldown_s = 0);
    let volume = world.volume("data");
    let snapshot = world.tenant.snapshot(volume, "keep");
    let id = snapshot.id.to_string();
    let patch = ItemPatch {
        protected: Some(true),
        ..ItemPatch::default()
    };
    world
        .tenant
        .get(async |c| c.snapshot_update(&id, &patch, &Change::default()).await);

    Rail {
        code: ProblemCode::Protected,
        http_status: 409,
        exit: 1,
        text: "This item is protected. Remove the protection first.",
        ways_out: &["Remove the protection"],
    }
    .check(
        &refuse_delete(&world.tenant, &snapshot, "keep"),
        &world
            .tenant
            .cli(&["snapshot", "delete", "keep", "--yes", "keep"]),
        &world.snapshot_page(volume),
    );
}

fn refuse_delete(tenant: &Person, snapshot: &Snapshot, typed: &str) -> Problem {
    let id = snapshot.id.to_string();
    tenant.refused(async |c| {
        c.snapshot_delete(&id, Some(typed), &Change::default())
            .await
    })
}

#[test]
fn names() {
    let world = World::new(|plan| plan.pacing.cooldown_s = 0);
    let volume = world.volume("data");
    world.tenant.snapshot(volume, "monday");
    let dialog = format!("/volumes/{volume}/snapshots/new");

    let taken = world.refuse_snapshot(volume, Some("monday"));
    assert_eq!(pointers(&taken), ["/name"]);
    Rail {
        code: ProblemCode::NameTaken,
        http_status: 409,
        exit: 1,
        text: &taken.detail,
        ways_out: &["Choose another name"],
    }
    .check(
        &taken,
        &world
            .tenant
            .cli(&["snapshot", "create", "data", "--name", "monday"]),
        &world.portal.post(&dialog, &[("name", "monday")]),
    );

    let long = "n".repeat(51);
    let invalid = world.refuse_snapshot(volume, Some(&long));
    assert_eq!(pointers(&invalid), ["/name"]);
    Rail {
        code: ProblemCode::NameInvalid,
        http_status: 422,
        exit: 2,
        text: &invalid.detail,
        ways_out: &[],
    }
    .check(
        &invalid,
        &world
            .tenant
            .cli(&["snapshot", "create", "data", "--name", &long]),
        &world.portal.post(&dialog, &[("name", &long)]),
    );
}

fn pointers(problem: &Problem) -> Vec<&str> {
    problem
        .errors
        .iter()
        .map(|error| error.pointer.as_str())
        .collect()
}

#[test]
fn what_belongs_to_others_does_not_exist() {
    let world = World::new(|plan| plan.pacing.cooldown_s = 0);
    let others = new_volume(&world.administrator, "theirs");
    let nobodys = VolumeId::generate(&SystemEnv::new());
    let answers = [others, nobodys].map(|volume| {
        let id = volume.to_string();
        let api = world.tenant.refused(async |c| c.volume_show(&id).await);
        let cli = world.tenant.cli(&["volume", "show", &id]);
        let page = world.portal.open(&format!("/volumes/{id}"));
        assert_eq!(page.status, 404);
        Rail {
            code: ProblemCode::NotFound,
            http_status: 404,
            exit: 5,
            text: "There is no such volume.",
            ways_out: &[],
        }
        .check(&api, &cli, &page);
        Problem {
            request_id: None,
            ..api
        }
    });
    assert_eq!(answers[0], answers[1], "nothing tells the two apart");
}

#[test]
fn what_is_lost_must_be_typed() {
    let world = World::new(|plan| plan.pacing.cooldown_s = 0);
    let volume = world.volume("data");
    let snapshot = world.tenant.snapshot(volume, "monday");

    let api = refuse_delete(&world.tenant, &snapshot, "tuesday");
    let page = world.portal.post(
        &format!("/snapshots/{}/delete", snapshot.id),
        &[("confirm", "tuesday")],
    );
    assert!(
        page.text.contains(&api.detail),
        "{} is not in {}",
        api.detail,
        page.text
    );
    let cli = world
        .tenant
        .cli(&["snapshot", "delete", "monday", "--yes", "tuesday"]);
    assert_eq!(cli.status.code(), Some(2));

    let mut request = roll_back(ItemKind::Snapshot, snapshot.id, "dat");
    let wrong = world.tenant.refused(restoring(&request));
    assert_eq!(pointers(&wrong), ["/confirm"]);
    request.confirm = None;
    let absent = world.tenant.refused(restoring(&request));
    assert_eq!(pointers(&absent), ["/confirm"]);
    let page = world.portal.post(
        &format!("/snapshots/{}/restore", snapshot.id),
        &[("mode", "in-place"), ("confirm", "dat")],
    );
    assert!(
        page.text.contains(&wrong.detail),
        "{} is not in {}",
        wrong.detail,
        page.text
    );
    still_there(&world, snapshot.id);
    let _ = &world.server;
}

fn restoring(
    request: &stillpoint_wire::restore::RestoreCreate,
) -> impl AsyncFnOnce(&stillpoint_client::Client) -> Result<stillpoint_client::Answer> {
    async move |client: &stillpoint_client::Client| {
        client.restore_create(request, &Change::default()).await
    }
}

fn still_there(world: &World, snapshot: SnapshotId) {
    let id = snapshot.to_string();
    let shown = world.tenant.get(async |c| c.snapshot_show(&id).await);
    assert_eq!(shown.state, stillpoint_wire::item::ItemState::Available);
}
