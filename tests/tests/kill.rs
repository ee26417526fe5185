//! `kill -9` at random moments of every kind of work. After each, a server that is started on the
//! same data ends every operation by itself, and everything that was there is there.
//!
//! An operation that was under way may end either way, but only wholly: what it made is proved,
//! or nothing of it is left.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it did"
)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stillpoint_client::{Change, every_page};
use stillpoint_env::SimEnv;
use stillpoint_model::ByteCount;
use stillpoint_model::id::VolumeId;
use stillpoint_tests::debian::make_small_disk;
use stillpoint_tests::guest;
use stillpoint_tests::ledger::{Content, Ledger};
use stillpoint_tests::leftovers::no_leftovers;
use stillpoint_tests::mount::ExportedVolume;
use stillpoint_tests::person::{Person, restore_new, roll_back};
use stillpoint_tests::server::Server;
use stillpoint_tests::wait::{PATIENCE, until, wait_out};
use stillpoint_wire::backup::{Backup, BackupCreate};
use stillpoint_wire::item::{ItemKind, ItemState, Trigger};
use stillpoint_wire::operation::{Operation, OperationState};
use stillpoint_wire::snapshot::{Snapshot, SnapshotCreate};
use stillpoint_wire::upload::ImageFormat;
use stillpoint_wire::volume::VolumeState;

const KILLS: u64 = 50;
/// How often, in kills, it is checked that nothing is left over.
const SWEEP_EVERY: u64 = 10;
const VOLUME: &str = "data";
/// What is written to the volume between two kills.
const CHANGE: ByteCount = ByteCount::from_mib(24);
/// How long work lasts that was never measured.
const FIRST_GUESS: Duration = Duration::from_millis(400);
/// The pause before the pool is tidied after a delete, with a margin for the merge itself.
const TIDY_AFTER: Duration = Duration::from_millis(1900);

/// What is under way when the server is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    Snapshot,
    Backup,
    RollBack,
    RestoreBackupInPlace,
    RestoreNew,
    Import,
    DeleteSnapshot,
    DeleteBackup,
    Merge,
}

const WORK: [Work; 9] = [
    Work::Snapshot,
    Work::Backup,
    Work::RollBack,
    Work::RestoreBackupInPlace,
    Work::RestoreNew,
    Work::Import,
    Work::DeleteSnapshot,
    Work::DeleteBackup,
    Work::Merge,
];

/// What becomes of the ledger when an operation succeeds.
enum Effect {
    Snapshot(Content),
    Backup(Content),
    Volume(Content),
    /// The volume holds this, and a safety snapshot what it held before.
    RollBack(Content),
    SnapshotGone(Snapshot),
    BackupGone(Backup),
}

struct Trial {
    server: Server,
    tenant: Person,
    ledger: Ledger,
    image: PathBuf,
    imported: Content,
    volume: VolumeId,
    random: SimEnv,
    names: u32,
    /// How long each kind of work took lately.
    lasted: BTreeMap<Work, Duration>,
    _folder: tempfile::TempDir,
}

#[test]
fn fifty_kills_lose_nothing_and_leave_nothing() {
    let mut trial = Trial::begin();
    let mut under_way = 0;
    for kill in 1..=KILLS {
        let work = WORK[usize::try_from(trial.random.below(WORK.len() as u64)).unwrap()];
        trial.make_possible(work);
        trial.change_volume();
        let begun = trial.begin_work(work);
        let moment = trial.random_moment(work);
        wait_out(moment);
        let in_flight = begun
            .iter()
            .filter(|(operation, _)| !trial.is_over(operation))
            .count();
        under_way += u32::from(in_flight > 0 || work == Work::Merge);
        trial.server.kill();
        trial.server.resume();
        trial.tenant.follow(&trial.server);
        trial.settle(begun);
        trial.ledger.prove(&trial.tenant);
        println!("kill {kill}: {work:?} after {moment:?}, {in_flight} under way");
        if kill % SWEEP_EVERY == 0 {
            no_leftovers(&trial.server, &trial.tenant);
        }
    }
    println!("{under_way} of {KILLS} kills hit work that was under way");
    assert!(
        u64::from(under_way) * 2 > KILLS,
        "most kills must hit something"
    );
    trial.server.stop();
}

impl Trial {
    fn begin() -> Self {
        let server = Server::start_with_plan(|plan| {
            plan.pacing.cooldown_s = 0;
            plan.pacing.in_flight_per_account = 100;
            plan.caps.max_snapshots = 100;
            plan.caps.max_backups = 100;
        });
        let folder = tempfile::tempdir_in(stillpoint_tests::cache_folder()).unwrap();
        let image = folder.path().join("small.raw");
        make_small_disk(&image);
        let tenant = Person::tenant(&server);
        let volume = tenant.import(VOLUME, &image, ImageFormat::Raw);
        let mut ledger = Ledger::new(&server);
        let imported = ledger.enter_volume(volume, true);
        Self {
            server,
            tenant,
            ledger,
            image,
            imported,
            volume,
            random: SimEnv::new(9),
            names: 0,
            lasted: BTreeMap::new(),
            _folder: folder,
        }
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("item-{}", self.names)
    }

    fn snapshots(&self) -> Vec<Snapshot> {
        self.tenant.get(async |client| {
            every_page(async |page| client.snapshot_list(None, &page).await).await
        })
    }

    fn backups(&self) -> Vec<Backup> {
        self.tenant.get(async |client| {
            every_page(async |page| client.backup_list(None, &page).await).await
        })
    }

    fn any<T>(&self, mut things: Vec<T>) -> T {
        let index = self.random.below(things.len() as u64);
        things.swap_remove(usize::try_from(index).unwrap())
    }

    /// Makes what the work needs, and room for what it makes.
    fn make_possible(&mut self, work: Work) {
        let needs_snapshot = matches!(
            work,
            Work::RollBack | Work::DeleteSnapshot | Work::Merge | Work::RestoreNew
        );
        if needs_snapshot && self.snapshots().len() < 2 {
            let name = self.name();
            let taken = self.tenant.snapshot(self.volume, &name);
            let content = self.ledger.volume(self.volume);
            self.ledger.expect_snapshot(&taken, content);
            self.change_volume();
        }
        let needs_backup = matches!(
            work,
            Work::RestoreBackupInPlace | Work::DeleteBackup | Work::RestoreNew
        );
        if needs_backup && self.backups().is_empty() {
            let name = self.name();
            let made = self.tenant.backup(self.volume, &name);
            let content = self.ledger.volume(self.volume);
            self.ledger.expect_backup(&made, content);
        }
        while self.snapshots().len() > 4 {
            let snapshot = self.any(self.snapshots());
            self.tenant.delete_snapshot(&snapshot);
            self.ledger.strike_snapshot(&snapshot);
        }
        while self.backups().len() > 3 {
            let backup = self.any(self.backups());
            self.tenant.delete_backup(&backup);
            self.ledger.strike_backup(&backup);
        }
        self.delete_extra_volumes();
    }

    fn delete_extra_volumes(&mut self) {
        let volumes = self
            .tenant
            .get(async |client| every_page(async |page| client.volume_list(&page).await).await);
        let mut extra: Vec<_> = volumes
            .into_iter()
            .filter(|v| v.id != self.volume)
            .collect();
        while extra.len() > 1 {
            let volume = extra.remove(0);
            let (id, name) = (volume.id.to_string(), volume.name.to_string());
            self.tenant.complete(async |client| {
                client
                    .volume_delete(&id, Some(&name), &Change::default())
                    .await
            });
            self.ledger.strike_volume(volume.id);
        }
    }

    /// Writes to the volume as a machine would that has it.
    fn change_volume(&mut self) {
        let exported = ExportedVolume::open_volume(&self.server.pool(), self.volume, true);
        guest::scatter(&exported.path(), CHANGE, &self.random);
        exported.close();
        self.ledger.enter_volume(self.volume, false);
    }

    /// Asks for the work, sometimes with a snapshot of another volume beside it.
    fn begin_work(&mut self, work: Work) -> Vec<(Operation, Effect)> {
        let now = self.ledger.volume(self.volume);
        let name = self.name();
        let (volume, change) = (self.volume.to_string(), Change::default());
        let one = match work {
            Work::Snapshot => {
                let request = SnapshotCreate {
                    volume,
                    name: Some(name),
                    ..SnapshotCreate::default()
                };
                let begun = self
                    .tenant
                    .begin(async |c| c.snapshot_create(&request, &change).await);
                (begun, Effect::Snapshot(now))
            }
            Work::Backup => {
                let request = BackupCreate {
                    volume,
                    name: Some(name),
                    ..BackupCreate::default()
                };
                let begun = self
                    .tenant
                    .begin(async |c| c.backup_create(&request, &change).await);
                (begun, Effect::Backup(now))
            }
            Work::RollBack => {
                let own = self
                    .snapshots()
                    .into_iter()
                    .filter(|s| s.volume_id == self.volume);
                let source = self.any(own.collect());
                let request = roll_back(ItemKind::Snapshot, source.id, VOLUME);
                let begun = self
                    .tenant
                    .begin(async |c| c.restore_create(&request, &change).await);
                (begun, Effect::RollBack(self.ledger.snapshot(&source)))
            }
            Work::RestoreBackupInPlace => {
                let source = self.any(self.backups());
                let request = roll_back(ItemKind::Backup, source.id, VOLUME);
                let begun = self
                    .tenant
                    .begin(async |c| c.restore_create(&request, &change).await);
                (begun, Effect::RollBack(self.ledger.backup(&source)))
            }
            Work::RestoreNew => self.begin_restore_new(&name),
            Work::Import => {
                let begun = self
                    .tenant
                    .begin_import(&name, &self.image, ImageFormat::Raw);
                (begun, Effect::Volume(self.imported))
            }
            Work::DeleteSnapshot => self.begin_delete_snapshot(),
            Work::DeleteBackup => {
                let gone = self.any(self.backups());
                let (id, name) = (gone.id.to_string(), gone.name.to_string());
                let begun = self
                    .tenant
                    .begin(async |c| c.backup_delete(&id, Some(&name), &change).await);
                (begun, Effect::BackupGone(gone))
            }
            Work::Merge => {
                let begun = self.begin_delete_snapshot();
                self.tenant.end_of(&begun.0);
                begun
            }
        };
        vec![one]
    }

    fn begin_restore_new(&self, name: &str) -> (Operation, Effect) {
        let (kind, id, content) = if self.random.below(4) == 0 {
            let source = self.any(self.snapshots());
            (
                ItemKind::Snapshot,
                source.id.to_string(),
                self.ledger.snapshot(&source),
            )
        } else {
            let source = self.any(self.backups());
            (
                ItemKind::Backup,
                source.id.to_string(),
                self.ledger.backup(&source),
            )
        };
        let request = restore_new(kind, id, name);
        let begun = self
            .tenant
            .begin(async |c| c.restore_create(&request, &Change::default()).await);
        (begun, Effect::Volume(content))
    }

    fn begin_delete_snapshot(&self) -> (Operation, Effect) {
        let gone = self.any(self.snapshots());
        let (id, name) = (gone.id.to_string(), gone.name.to_string());
        let begun = self.tenant.begin(async |c| {
            c.snapshot_delete(&id, Some(&name), &Change::default())
                .await
        });
        (begun, Effect::SnapshotGone(gone))
    }

    /// Somewhere in the time that this work lasted when it was last seen to end.
    fn random_moment(&self, work: Work) -> Duration {
        let lasted = self.lasted.get(&work).copied().unwrap_or(FIRST_GUESS);
        let micros = u64::try_from(lasted.as_micros()).unwrap().max(1);
        let moment = Duration::from_micros(self.random.below(micros));
        match work {
            Work::Merge => TIDY_AFTER + moment,
            _ => moment,
        }
    }

    fn is_over(&self, operation: &Operation) -> bool {
        let id = operation.id;
        self.tenant
            .get(async |client| client.operation_show(id).await)
            .state
            .is_terminal()
    }

    /// Waits for the end of everything, and enters what became of it.
    fn settle(&mut self, begun: Vec<(Operation, Effect)>) {
        for (operation, effect) in begun {
            let ended = self.tenant.end_of(&operation);
            if ended.state == OperationState::Succeeded {
                self.remember(&ended);
                self.enter(&ended, effect);
            } else {
                println!("  {} {}: {:?}", ended.kind, ended.state, ended.failure);
                self.dismiss_what_failed();
            }
        }
    }

    /// The next kill comes within the time that this took.
    fn remember(&mut self, ended: &Operation) {
        use stillpoint_wire::operation::OperationKind as Kind;
        let work = match ended.kind {
            Kind::SnapshotCreate => Work::Snapshot,
            Kind::BackupCreate => Work::Backup,
            Kind::RestoreNew => Work::RestoreNew,
            Kind::VolumeImport => Work::Import,
            Kind::SnapshotDelete => Work::DeleteSnapshot,
            Kind::BackupDelete => Work::DeleteBackup,
            Kind::RestoreInPlace if ended.backup_id.is_some() => Work::RestoreBackupInPlace,
            Kind::RestoreInPlace => Work::RollBack,
            _ => return,
        };
        if let (Some(started), Some(finished)) = (ended.started_at, ended.finished_at) {
            let took = finished.duration_since(started).min(FIRST_GUESS * 2);
            let known = self.lasted.get(&work).copied().unwrap_or(took);
            // A run that was killed lasted longer than the work itself.
            self.lasted
                .insert(work, known.min(took).max(Duration::from_millis(5)));
        }
    }

    fn enter(&mut self, ended: &Operation, effect: Effect) {
        let ledger = &mut self.ledger;
        match effect {
            Effect::Snapshot(content) => {
                let id = ended.snapshot_id.unwrap().to_string();
                let made = self.tenant.get(async |c| c.snapshot_show(&id).await);
                ledger.expect_snapshot(&made, content);
            }
            Effect::Backup(content) => {
                let id = ended.backup_id.unwrap().to_string();
                let made = self.tenant.get(async |c| c.backup_show(&id).await);
                ledger.expect_backup(&made, content);
            }
            Effect::Volume(content) => ledger.expect_volume(ended.volume_id.unwrap(), content),
            Effect::RollBack(content) => {
                let before = ledger.volume(self.volume);
                ledger.expect_volume(self.volume, content);
                let snapshots = self.snapshots();
                let safety = snapshots
                    .iter()
                    .find(|s| s.trigger == Trigger::Safety && !self.ledger.has_snapshot(s));
                self.ledger
                    .expect_snapshot(safety.expect("a safety snapshot"), before);
            }
            Effect::SnapshotGone(gone) => ledger.strike_snapshot(&gone),
            Effect::BackupGone(gone) => ledger.strike_backup(&gone),
        }
    }

    /// Failures are visible until somebody takes note of them.
    fn dismiss_what_failed(&self) {
        let change = Change::default();
        for failed in self
            .snapshots()
            .iter()
            .filter(|s| s.state == ItemState::Failed)
        {
            self.tenant.delete_snapshot(failed);
        }
        for failed in self
            .backups()
            .iter()
            .filter(|b| b.state == ItemState::Failed)
        {
            self.tenant.delete_backup(failed);
        }
        let volumes = self
            .tenant
            .get(async |client| every_page(async |page| client.volume_list(&page).await).await);
        for failed in volumes.iter().filter(|v| v.state == VolumeState::Failed) {
            let (id, name) = (failed.id.to_string(), failed.name.to_string());
            self.tenant
                .complete(async |c| c.volume_delete(&id, Some(&name), &change).await);
        }
    }
}

#[test]
fn an_upload_that_was_cut_off_is_swept_away() {
    let mut server = Server::start();
    let tenant = Person::tenant(&server);
    let uploads = server.data().join("uploads");
    let address = server.url().strip_prefix("http://").unwrap().to_owned();
    let mut sender = TcpStream::connect(&address).unwrap();
    write!(
        sender,
        "POST /v1/uploads HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/octet-stream\r\nContent-Length: 8388608\r\n\r\n",
        tenant.token()
    )
    .unwrap();
    sender.write_all(&vec![7; 1 << 20]).unwrap();
    until(PATIENCE, "the upload's file", || match names(&uploads) {
        files if files.is_empty() => Err("there is none"),
        _ => Ok(()),
    });
    server.kill();
    server.resume();
    assert_eq!(names(&uploads), Vec::<String>::new());
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}
