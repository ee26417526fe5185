//! What must be there, proved: each volume, snapshot and backup with the hash it had when it was
//! made.
//!
//! Volumes and snapshots are read by QEMU from the pool's files, backups by `stillpoint vault
//! restore` from the target and the key: neither asks the server. A file system that should be
//! sound is checked by `e2fsck` once per content; equal hashes are equal bytes.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use blake3::Hash;
use stillpoint_client::every_page;
use stillpoint_model::id::{BackupId, SnapshotId, VolumeId};
use stillpoint_wire::backup::Backup;
use stillpoint_wire::item::ItemState;
use stillpoint_wire::snapshot::Snapshot;
use stillpoint_wire::volume::VolumeState;

use crate::hash::{check_ext4, file_hash};
use crate::person::Person;
use crate::pool::PoolFolder;
use crate::process::run;
use crate::server::{Server, stillpoint_binary};

/// How many items are read at once.
const READERS: usize = 2;

/// What a volume, snapshot or backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// The hash of the whole volume.
    pub hash: Hash,
    /// Whether its file system is in order.
    pub sound: bool,
}

/// Something whose content can be proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    Volume(VolumeId),
    Snapshot(VolumeId, SnapshotId),
    Backup(BackupId),
}

/// Everything that must be there, and nothing else.
pub struct Ledger {
    pool: PoolFolder,
    target: PathBuf,
    key: PathBuf,
    /// Where copies are made to be looked at.
    scratch: tempfile::TempDir,
    items: BTreeMap<Item, Content>,
    found_sound: Mutex<HashSet<Hash>>,
}

impl Ledger {
    /// An empty ledger of a server.
    ///
    /// # Panics
    /// When there is no room for copies.
    #[track_caller]
    pub fn new(server: &Server) -> Self {
        let data = server.data();
        Self {
            pool: server.pool(),
            target: data.join("target"),
            key: data.join("keys/root.key"),
            scratch: crate::scratch_folder(),
            items: BTreeMap::new(),
            found_sound: Mutex::default(),
        }
    }

    /// Reads what a volume holds now, and enters it.
    #[track_caller]
    pub fn enter_volume(&mut self, volume: VolumeId, sound: bool) -> Content {
        let hash = self.hash_of(Item::Volume(volume), false);
        let content = Content { hash, sound };
        self.items.insert(Item::Volume(volume), content);
        content
    }

    /// Enters a volume that must hold this.
    pub fn expect_volume(&mut self, volume: VolumeId, content: Content) {
        self.items.insert(Item::Volume(volume), content);
    }

    /// Enters a snapshot that must hold this.
    pub fn expect_snapshot(&mut self, snapshot: &Snapshot, content: Content) {
        self.items
            .insert(Item::Snapshot(snapshot.volume_id, snapshot.id), content);
    }

    /// Enters a backup that must hold this.
    pub fn expect_backup(&mut self, backup: &Backup, content: Content) {
        self.items.insert(Item::Backup(backup.id), content);
    }

    /// What a volume must hold.
    ///
    /// # Panics
    /// When it was never entered.
    #[track_caller]
    pub fn volume(&self, volume: VolumeId) -> Content {
        self.items[&Item::Volume(volume)]
    }

    /// What a snapshot must hold.
    ///
    /// # Panics
    /// When it was never entered.
    #[track_caller]
    pub fn snapshot(&self, snapshot: &Snapshot) -> Content {
        self.items[&Item::Snapshot(snapshot.volume_id, snapshot.id)]
    }

    /// Whether a snapshot was entered.
    pub fn has_snapshot(&self, snapshot: &Snapshot) -> bool {
        self.items
            .contains_key(&Item::Snapshot(snapshot.volume_id, snapshot.id))
    }

    /// What a backup must hold.
    ///
    /// # Panics
    /// When it was never entered.
    #[track_caller]
    pub fn backup(&self, backup: &Backup) -> Content {
        self.items[&Item::Backup(backup.id)]
    }

    /// Strikes a volume that was deleted.
    pub fn strike_volume(&mut self, volume: VolumeId) {
        self.items.remove(&Item::Volume(volume));
    }

    /// Strikes a snapshot that was deleted.
    pub fn strike_snapshot(&mut self, snapshot: &Snapshot) {
        self.items
            .remove(&Item::Snapshot(snapshot.volume_id, snapshot.id));
    }

    /// Strikes a backup that was deleted.
    pub fn strike_backup(&mut self, backup: &Backup) {
        self.items.remove(&Item::Backup(backup.id));
    }

    /// Proves that the server lists exactly these items, all usable, and that each holds what it
    /// held when it was made.
    ///
    /// # Panics
    /// With the first that does not.
    #[track_caller]
    pub fn prove(&self, tenant: &Person) {
        assert_eq!(listed(tenant), self.items.keys().copied().collect());
        let queue = Mutex::new(self.items.iter());
        std::thread::scope(|scope| {
            for _ in 0..READERS {
                scope.spawn(|| {
                    while let Some((item, content)) = next(&queue) {
                        let hash = self.hash_of(*item, content.sound);
                        assert_eq!(hash, content.hash, "{item:?} does not hold what it held");
                    }
                });
            }
        });
    }

    /// The hash of an item's content; its file system is checked, too, if it should be sound.
    #[track_caller]
    fn hash_of(&self, item: Item, sound: bool) -> Hash {
        let copy = self.scratch.path().join(match item {
            Item::Volume(id) => format!("volume-{id}.raw"),
            Item::Snapshot(_, id) => format!("snapshot-{id}.raw"),
            Item::Backup(id) => format!("backup-{id}.raw"),
        });
        match item {
            Item::Volume(id) => self.pool.copy_volume(id, &copy),
            Item::Snapshot(volume, id) => self.pool.copy_snapshot(volume, id, &copy),
            Item::Backup(id) => restore_without_server(&self.target, &self.key, id, &copy),
        }
        let hash = file_hash(&copy);
        if sound && self.found_sound.lock().expect("no panic yet").insert(hash) {
            check_ext4(&copy);
        }
        fs::remove_file(&copy).expect("remove the copy");
        hash
    }
}

fn next<T>(queue: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    queue.lock().expect("no panic yet").next()
}

/// `stillpoint vault restore`: the target and the key alone.
///
/// # Panics
/// With what it says, when it fails.
#[track_caller]
pub fn restore_without_server(target: &Path, key: &Path, backup: BackupId, to: &Path) {
    run(Command::new(stillpoint_binary())
        .args(["vault", "restore", "--target"])
        .arg(target)
        .arg("--key")
        .arg(key)
        .arg(backup.to_string())
        .arg("--to")
        .arg(to));
}

/// Every item that the server lists. Each must be usable.
#[track_caller]
fn listed(tenant: &Person) -> BTreeSet<Item> {
    let volumes =
        tenant.get(async |client| every_page(async |page| client.volume_list(&page).await).await);
    let snapshots = tenant
        .get(async |client| every_page(async |page| client.snapshot_list(None, &page).await).await);
    let backups = tenant
        .get(async |client| every_page(async |page| client.backup_list(None, &page).await).await);
    let volumes = volumes.into_iter().map(|v| {
        let usable = matches!(v.state, VolumeState::Available | VolumeState::InUse);
        assert!(usable, "{v:?}");
        Item::Volume(v.id)
    });
    let snapshots = snapshots.into_iter().map(|s| {
        assert_eq!(s.state, ItemState::Available, "{s:?}");
        Item::Snapshot(s.volume_id, s.id)
    });
    let backups = backups.into_iter().map(|b| {
        assert_eq!(b.state, ItemState::Available, "{b:?}");
        Item::Backup(b.id)
    });
    volumes.chain(snapshots).chain(backups).collect()
}
