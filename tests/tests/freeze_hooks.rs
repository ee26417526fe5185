//! Freeze hooks with a real database: PostgreSQL in a guest commits rows all the time while its
//! instance is captured, and what was captured is started as another instance, beside it.
//!
//! The hooks are those of `docs/freeze-hooks`, as they are; one more fails or hangs when the test wants
//! it. What the guest does, and says, is in `tests/guests/database.sh`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};

use stillpoint_client::{Change, ListQuery};
use stillpoint_model::id::InstanceId;
use stillpoint_model::item::FreezePolicy;
use stillpoint_tests::debian::{database_disk, guest_with};
use stillpoint_tests::machine::Machine;
use stillpoint_tests::person::Person;
use stillpoint_tests::scratch_folder;
use stillpoint_tests::server::Server;
use stillpoint_wire::instance::{InstanceCreate, InstanceDisk};
use stillpoint_wire::instance_snapshot::{
    InstanceRestore, InstanceSnapshot, InstanceSnapshotCreate,
};
use stillpoint_wire::item::{Consistency, ItemState};
use stillpoint_wire::operation::{Operation, OperationState};
use stillpoint_wire::problem::ProblemCode;
use stillpoint_wire::upload::ImageFormat;

/// Begins the line that says how a guest found its database.
const FOUND: &str = "database: crashed, ";
/// Begins the line that says what is in it.
const ROWS: &str = "database: rows 1 to ";

/// A server whose guest runs a database.
struct Trial {
    // Dropped first: it writes to the server's folder.
    tenant: Person,
    server: Server,
    instance: InstanceId,
}

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

impl Trial {
    /// `trials` is what the test's own hook does, freeze for freeze.
    fn begin(policy: FreezePolicy, hooks: &[&str], trials: &str) -> Self {
        let server = Server::start_with_instances(|plan| {
            plan.pacing.cooldown_s = 0;
            plan.freeze = policy;
        });
        let tenant = Person::tenant(&server);
        let scratch = scratch_folder();
        let (image, list) = (scratch.path().join("image"), scratch.path().join("trials"));
        fs::write(&list, trials).unwrap();
        let hooks = hooks
            .iter()
            .map(|hook| file("../docs/freeze-hooks").join(hook));
        let mut files: Vec<PathBuf> = hooks.collect();
        files.extend([list, file("guests/database-trial.sh")]);
        guest_with(&file("guests/database.sh"), &image, &files);
        let disk = |name: &str, image: &Path| InstanceDisk {
            volume: Some(tenant.import(name, image, ImageFormat::Raw).to_string()),
            ..InstanceDisk::default()
        };
        let request = InstanceCreate {
            name: Some("database".into()),
            root: disk("root", &image),
            data: vec![disk("data", &database_disk())],
            ..InstanceCreate::default()
        };
        let made = tenant
            .complete(async |client| client.instance_create(&request, &Change::default()).await);
        let instance = made.instance_id.expect("the instance's id");
        tenant.wait_until_ready(instance);
        let trial = Self {
            tenant,
            server,
            instance,
        };
        trial.machine().wait_for_rest(ROWS);
        trial.machine().wait_for_more_steps();
        trial
    }

    fn machine(&self) -> Machine {
        self.server.machine(self.instance)
    }

    fn begin_capture(&self, name: &str) -> Operation {
        let request = InstanceSnapshotCreate {
            instance: self.instance.to_string(),
            name: Some(name.into()),
            ..InstanceSnapshotCreate::default()
        };
        self.tenant.begin(async |client| {
            client
                .instance_snapshot_create(&request, &Change::default())
                .await
        })
    }

    /// Captures the instance, and what its guest had said of its rows before.
    fn capture(&self, name: &str) -> (InstanceSnapshot, u64) {
        let acknowledged = self.machine().steps_said();
        let ended = self.tenant.end_of(&self.begin_capture(name));
        assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
        let id = ended.instance_snapshot_id.expect("its id").to_string();
        let shown = self
            .tenant
            .get(async |client| client.instance_snapshot_show(&id).await);
        (shown, acknowledged)
    }

    /// The capture fails with the reason, and leaves nothing but that.
    fn capture_in_vain(&self, name: &str) {
        let ended = self.tenant.end_of(&self.begin_capture(name));
        assert_eq!(ended.state, OperationState::Failed, "{ended:?}");
        let failure = ended.failure.expect("a reason");
        assert_eq!(failure.code, ProblemCode::NotEligible);
        assert!(
            failure.detail.contains("could not be frozen"),
            "{failure:?}"
        );
        let id = ended.instance_snapshot_id.expect("its id").to_string();
        let left = self
            .tenant
            .get(async |client| client.instance_snapshot_show(&id).await);
        assert_eq!((left.state, left.consistency), (ItemState::Failed, None));
        let parts = self
            .tenant
            .get(async |client| client.snapshot_list(None, &ListQuery::default()).await);
        assert!(
            !parts
                .items
                .iter()
                .any(|s| s.instance_snapshot_id == Some(left.id))
        );
    }

    /// Starts another instance of a snapshot; how many changes its database had to do again, and how
    /// many rows it has: every one that had been acknowledged, and none twice or left out.
    fn resurrect(&self, snapshot: &InstanceSnapshot, acknowledged: u64) -> u64 {
        let (id, request) = (snapshot.id.to_string(), InstanceRestore::default());
        let made = self.tenant.complete(async |client| {
            client
                .instance_snapshot_restore(&id, &request, &Change::default())
                .await
        });
        let twin = self
            .server
            .machine(made.instance_id.expect("the twin's id"));
        let rows = twin.wait_for_rest(ROWS);
        let (last, count) = rows.split_once(", ").expect("two numbers");
        assert_eq!(count, format!("{last} of them"));
        let last: u64 = last.parse().expect("a number");
        assert!(last >= acknowledged, "{last} of {acknowledged}");
        // It works, too.
        twin.wait_for_more_steps();
        let found = twin.wait_for_rest(FOUND);
        twin.kill();
        let changes = found.split_once(' ').expect("a number").0.parse();
        changes.expect("a number")
    }

    /// Waits until the guest says that the test's hook has ended, and writes afterwards.
    fn wait_until_over(&self, trial: u32) {
        let machine = self.machine();
        machine.wait_for_rest(&format!("trial {trial} ended"));
        machine.wait_for_more_steps();
    }
}

#[test]
fn a_database_that_was_told_needs_no_recovery() {
    let hooks = ["fsfreeze-hook", "postgresql"];
    let trial = Trial::begin(FreezePolicy::Require, &hooks, "well\nfail\nhang\n");
    let (snapshot, acknowledged) = trial.capture("told");
    assert_eq!(snapshot.consistency, Some(Consistency::Filesystem));
    assert_eq!(trial.resurrect(&snapshot, acknowledged), 0);

    // A hook that fails, and one that hangs: no capture, and a guest that goes on.
    for name in ["failed", "hung"] {
        trial.capture_in_vain(name);
        trial.machine().wait_for_more_steps();
    }
    // The hook that hung was ended, so the next capture is as good as the first.
    let (snapshot, _) = trial.capture("afterwards");
    assert_eq!(snapshot.consistency, Some(Consistency::Filesystem));
}

#[test]
fn a_database_that_was_not_told_recovers_every_row() {
    let trial = Trial::begin(FreezePolicy::Try, &[], "fail\nhang\n");
    let (snapshot, acknowledged) = trial.capture("not-told");
    assert_eq!(snapshot.consistency, Some(Consistency::Crash));
    // What a checkpoint would have written.
    assert!(trial.resurrect(&snapshot, acknowledged) > 0);

    // Nobody ends this hook, so the guest freezes after it was given up.
    let (snapshot, _) = trial.capture("hung");
    assert_eq!(snapshot.consistency, Some(Consistency::Crash));
    trial.wait_until_over(2);
    let (snapshot, _) = trial.capture("afterwards");
    assert_eq!(snapshot.consistency, Some(Consistency::Filesystem));
}
