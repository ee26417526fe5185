//! The main job, end to end, on a real disk: a Debian system is imported, changed through its
//! file system, captured, backed up, destroyed, and brought back, and what was made is deleted in
//! several orders. After each step every surviving item is proved.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it did"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use stillpoint_client::{Change, ListQuery};
use stillpoint_env::SimEnv;
use stillpoint_model::ByteCount;
use stillpoint_model::id::VolumeId;
use stillpoint_tests::cache_folder;
use stillpoint_tests::debian::debian_disk;
use stillpoint_tests::guest;
use stillpoint_tests::hash::{file_hash, is_sound_ext4};
use stillpoint_tests::ledger::Ledger;
use stillpoint_tests::leftovers::no_leftovers;
use stillpoint_tests::mount::{ExportedVolume, MountedVolume};
use stillpoint_tests::person::Person;
use stillpoint_tests::process::run;
use stillpoint_tests::server::Server;
use stillpoint_wire::backup::Backup;
use stillpoint_wire::item::{ItemKind, Trigger};
use stillpoint_wire::snapshot::Snapshot;
use stillpoint_wire::upload::ImageFormat;
use stillpoint_wire::volume::{AttachedState, AttachmentReport};

const VOLUME: &str = "debian";
const DATABASE: &str = "srv/database";
const DATABASE_SIZE: ByteCount = ByteCount::from_mib(128);
/// Rounds of taking items and deleting them in another order.
const ROUNDS: u64 = 2;

/// The story's people, its server, and what must be there.
struct Story {
    server: Server,
    tenant: Person,
    administrator: Person,
    ledger: Ledger,
    volume: VolumeId,
    random: SimEnv,
    day: u32,
}

/// Something that was made and can be deleted.
enum Made {
    Snapshot(Snapshot),
    Backup(Backup),
}

#[test]
fn a_disk_is_captured_backed_up_destroyed_and_brought_back() {
    let mut story = Story::begin();
    let clean = story.snapshot("clean");
    story.live_a_day();
    let monday = story.snapshot("monday");
    let first = story.backup("first");
    story.change_one_percent();
    let second = story.backup("second");
    assert_in_proportion(&first, &second);
    story.live_a_day();
    let tuesday = story.snapshot("tuesday");

    let safety = story.wreck_and_roll_back(&tuesday);
    let restored = story.restore_new(ItemKind::Backup, &Made::Backup(first.clone()), "restored");
    let reborn = story.restore_new(ItemKind::Snapshot, &Made::Snapshot(clean.clone()), "reborn");
    story.work_on(restored);
    story.delete_volume(reborn, "reborn");

    let mut made = vec![
        Made::Snapshot(clean),
        Made::Snapshot(monday),
        Made::Snapshot(tuesday),
        Made::Snapshot(safety),
        Made::Backup(first),
        Made::Backup(second),
    ];
    story.delete_in_any_order(&mut made);
    for round in 1..=ROUNDS {
        story.take_and_delete(round);
    }
    story.end();
}

/// The figures of the second backup, printed, and held against the first one's.
fn assert_in_proportion(first: &Backup, second: &Backup) {
    let changed = second.sizes.changed_bytes;
    for (title, backup) in [("first", first), ("second", second)] {
        println!(
            "{title} backup: used {}, changed {}, read {}, stored {}",
            backup.sizes.used_bytes,
            backup.sizes.changed_bytes,
            backup.bytes_read,
            backup.sizes.stored_bytes
        );
    }
    let percent = |part: ByteCount, whole: ByteCount| part.get() * 100 / whole.get();
    assert!(
        percent(changed, first.sizes.used_bytes) <= 3,
        "about 1 % was changed"
    );
    assert!(
        percent(second.bytes_read, first.bytes_read) <= 5,
        "read in proportion"
    );
    assert!(
        percent(second.sizes.stored_bytes, first.sizes.stored_bytes) <= 5,
        "stored, too"
    );
}

/// The Debian disk as one would upload it: 2 GiB of mostly nothing travel badly as raw bytes.
fn debian_qcow2() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir_in(cache_folder()).unwrap();
    let image = folder.path().join("debian.qcow2");
    run(Command::new("qemu-img")
        .args(["convert", "-f", "raw", "-O", "qcow2"])
        .arg(debian_disk())
        .arg(&image));
    (folder, image)
}

impl Story {
    /// A server with the Debian disk as a volume.
    fn begin() -> Self {
        let server = Server::start_with_plan(|plan| {
            plan.pacing.cooldown_s = 0;
            plan.caps.max_snapshots = 20;
            plan.caps.max_backups = 20;
        });
        let tenant = Person::tenant(&server);
        let administrator = Person::administrator(&server);
        let (_folder, image) = debian_qcow2();
        let volume = tenant.import(VOLUME, &image, ImageFormat::Qcow2);
        let ledger = Ledger::new(&server);
        let random = SimEnv::new(20_261_121);
        let mut story = Self {
            server,
            tenant,
            administrator,
            ledger,
            volume,
            random,
            day: 0,
        };

        let imported = story.ledger.enter_volume(volume, true);
        assert_eq!(imported.hash, file_hash(&debian_disk()));
        story.inside(volume, |root, random| {
            guest::make_database(&root.join(DATABASE), DATABASE_SIZE, random);
        });
        story.prove();
        story
    }

    fn prove(&self) {
        self.ledger.prove(&self.tenant);
    }

    /// Works in a volume's file system while an instance has it, as its ledger entry will say.
    fn inside(&mut self, volume: VolumeId, work: impl FnOnce(&Path, &SimEnv)) {
        self.attach(volume);
        let mounted = MountedVolume::open_volume(&self.server.pool(), volume);
        work(mounted.root(), &self.random);
        mounted.close();
        self.detach(volume);
        self.ledger.enter_volume(volume, true);
    }

    fn attach(&self, volume: VolumeId) {
        let attachment = AttachmentReport {
            instance: "web-1".into(),
            state: AttachedState::Running,
        };
        let id = volume.to_string();
        self.administrator
            .get(async |client| client.volume_attachment_report(&id, &attachment).await);
    }

    fn detach(&self, volume: VolumeId) {
        let id = volume.to_string();
        self.administrator
            .get(async |client| client.volume_attachment_end(&id).await);
    }

    fn live_a_day(&mut self) {
        self.day += 1;
        let day = self.day;
        self.inside(self.volume, |root, random| {
            guest::live_a_day(root, day, random)
        });
    }

    /// Changes 1 % of what the volume holds, at random places.
    fn change_one_percent(&mut self) {
        let id = self.volume.to_string();
        let used = self
            .tenant
            .get(async |client| client.volume_show(&id).await)
            .used_bytes;
        let amount = ByteCount::new(used.get() / 100);
        self.inside(self.volume, |root, random| {
            guest::scatter(&root.join(DATABASE), amount, random);
        });
    }

    /// A restored volume is a volume like any other.
    fn work_on(&mut self, volume: VolumeId) {
        self.day += 1;
        let day = self.day;
        self.inside(volume, |root, random| guest::live_a_day(root, day, random));
        self.prove();
    }

    fn snapshot(&mut self, name: &str) -> Snapshot {
        let snapshot = self.tenant.snapshot(self.volume, name);
        let content = self.ledger.volume(self.volume);
        self.ledger.expect_snapshot(&snapshot, content);
        self.prove();
        snapshot
    }

    fn backup(&mut self, name: &str) -> Backup {
        let backup = self.tenant.backup(self.volume, name);
        let content = self.ledger.volume(self.volume);
        self.ledger.expect_backup(&backup, content);
        self.prove();
        backup
    }

    /// Destroys the live volume, rolls it back, and gives the safety snapshot that holds the
    /// wreck.
    fn wreck_and_roll_back(&mut self, to: &Snapshot) -> Snapshot {
        self.attach(self.volume);
        let exported = ExportedVolume::open_volume(&self.server.pool(), self.volume, true);
        guest::wreck(&exported.path(), &self.random);
        assert!(!is_sound_ext4(&exported.path()), "it is ruined indeed");
        exported.close();
        self.detach(self.volume);
        let wreck = self.ledger.enter_volume(self.volume, false);
        assert_ne!(wreck.hash, self.ledger.snapshot(to).hash);
        self.prove();

        self.tenant.roll_back(ItemKind::Snapshot, to.id, VOLUME);
        let id = self.volume.to_string();
        let safety = self
            .tenant
            .get(async |client| client.snapshot_list(Some(&id), &ListQuery::default()).await);
        let safety = safety
            .items
            .into_iter()
            .find(|s| s.trigger == Trigger::Safety);
        let safety = safety.expect("a roll back can be undone");
        let back = self.ledger.snapshot(to);
        self.ledger.expect_volume(self.volume, back);
        self.ledger.expect_snapshot(&safety, wreck);
        self.prove();
        safety
    }

    fn restore_new(&mut self, kind: ItemKind, source: &Made, name: &str) -> VolumeId {
        let (id, content) = match source {
            Made::Snapshot(s) => (s.id.to_string(), self.ledger.snapshot(s)),
            Made::Backup(b) => (b.id.to_string(), self.ledger.backup(b)),
        };
        let volume = self.tenant.restore_new(kind, id, name);
        self.ledger.expect_volume(volume, content);
        self.prove();
        volume
    }

    fn delete_in_any_order(&mut self, made: &mut Vec<Made>) {
        while !made.is_empty() {
            let index = self.random.below(made.len() as u64);
            match made.swap_remove(usize::try_from(index).unwrap()) {
                Made::Snapshot(snapshot) => {
                    println!("delete the snapshot {}", snapshot.name);
                    self.tenant.delete_snapshot(&snapshot);
                    self.ledger.strike_snapshot(&snapshot);
                }
                Made::Backup(backup) => {
                    println!("delete the backup {}", backup.name);
                    self.tenant.delete_backup(&backup);
                    self.ledger.strike_backup(&backup);
                }
            }
            self.prove();
        }
    }

    /// Another set of items, deleted in another order.
    fn take_and_delete(&mut self, round: u64) {
        let mut made = Vec::new();
        for item in 0..2 {
            self.live_a_day();
            made.push(Made::Snapshot(
                self.snapshot(&format!("snapshot-{round}-{item}")),
            ));
        }
        made.push(Made::Backup(self.backup(&format!("backup-{round}"))));
        self.live_a_day();
        made.push(Made::Snapshot(
            self.snapshot(&format!("snapshot-{round}-last")),
        ));
        self.delete_in_any_order(&mut made);
    }

    fn delete_volume(&mut self, volume: VolumeId, name: &str) {
        let id = volume.to_string();
        self.tenant.complete(async |client| {
            client
                .volume_delete(&id, Some(name), &Change::default())
                .await
        });
        self.ledger.strike_volume(volume);
        self.prove();
    }

    /// The volumes go last; then nothing is left.
    fn end(mut self) {
        let volumes = self
            .tenant
            .get(async |client| client.volume_list(&ListQuery::default()).await);
        for volume in volumes.items {
            self.delete_volume(volume.id, volume.name.as_str());
        }
        no_leftovers(&self.server, &self.tenant);
        assert_eq!(self.server.pool().layer_files(), Vec::<String>::new());
    }
}
