//! Copying backups into another vault, such as one in another region.
//!
//! A copy is a backup like any other: its source is not a volume but a backup, its run, commit and
//! read-back are the usual ones. So the two vaults share nothing that could be lost for both: keys,
//! packs and collections are their own. What is copied of an increment is what differs from the
//! backup of the same volume that was copied last, found in the two trees of the source. It is
//! compressed as hard as the backup was, which has a note of that.
//!
//! **Guarantees.** Every chunk that is read is proven against its id in the source, and the copy is
//! read back before it is said to be there. Stopped at any point, it is done again: backups that
//! are there are left alone, and what a broken run left is reaped first. A deletion in the source
//! deletes nothing here.

use std::io;

use stillpoint_model::id::{BackupId, VolumeId};
use stillpoint_model::progress::Monitor;
use stillpoint_model::{ByteCount, ByteRange, ErrorKind};

use crate::backup::level_of;
use crate::locking::{KEEP_UNTIL, noted};
use crate::reader::{BackupReader, ReadCache};
use crate::{BackupInfo, BackupSpec, Error, Receipt, Vault, VolumeReader};

/// The note in a copy that says when the backup was made.
pub const TAKEN: &str = "taken";
/// The note in a copy that says which vault it was copied from.
pub const COPIED_FROM: &str = "copied_from";
/// Memory for what was read and may be read again.
const CACHE: ByteCount = ByteCount::from_mib(16);

/// What became of one backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// It was there before.
    AlreadyThere,
    /// It was copied and read back.
    Now(Receipt),
}

impl Vault {
    /// Copies one backup of another vault into this one, under the same id. Nobody else may copy
    /// the same backup at the same time: whoever comes later takes the run back. `confirm` says that
    /// the caller may still commit.
    pub fn copy_backup(
        &self,
        from: &Self,
        (volume, backup): (VolumeId, BackupId),
        confirm: &mut dyn FnMut() -> Result<(), ErrorKind>,
        monitor: &dyn Monitor,
    ) -> Result<Copied, Error> {
        if self.keys.opens_the_same(&from.keys) {
            return Err(Error::Invalid("a vault is not copied into itself"));
        }
        // Finishes what was committed, and takes back what was not.
        if self.reap_backup(volume, backup)?.committed {
            self.read_back(volume, backup, monitor)?;
            return Ok(Copied::AlreadyThere);
        }
        let info = from.describe(volume, backup)?;
        if info.deleted.is_some() {
            return Err(Error::BackupDeleted(backup));
        }
        let cache = ReadCache::new(CACHE);
        let source = from.open_backup(volume, backup, &cache)?;
        let parent = self.copied_before(from, &info)?;
        let changed = parent
            .map(|parent| source.differs_from(&from.open_backup(volume, parent, &cache)?))
            .transpose()?;
        let mut metadata = info.metadata;
        let note = |text: String| move || text;
        let taken = info.created.to_string();
        metadata.entry(TAKEN.to_owned()).or_insert_with(note(taken));
        metadata.insert(COPIED_FROM.to_owned(), from.id().to_string());
        let spec = BackupSpec {
            backup_id: backup,
            volume_id: volume,
            parent,
            changed: changed.as_deref(),
            keep_until: noted(&metadata, KEEP_UNTIL),
            metadata,
        };
        let alike = self.clone().compressing_at(level_of(&spec.metadata));
        let prepared = alike.prepare_backup(&spec, &source, monitor)?;
        let receipt = prepared.commit(confirm)?;
        self.read_back(volume, backup, monitor)?;
        Ok(Copied::Now(receipt))
    }

    /// The newest backup of the volume, older than this one, that is alive in both vaults.
    fn copied_before(&self, from: &Self, info: &BackupInfo) -> Result<Option<BackupId>, Error> {
        let alive = |vault: &Self| -> Result<Vec<BackupId>, Error> {
            let names = vault.list_names(Some(info.volume_id))?;
            let alive = names.manifests.difference(&names.tombstones);
            Ok(alive.map(|(_, backup)| *backup).collect())
        };
        let there = alive(self)?;
        let both = alive(from)?.into_iter().filter(|id| there.contains(id));
        Ok(both.filter(|id| *id < info.backup_id).max())
    }
}

impl VolumeReader for BackupReader {
    fn size(&self) -> ByteCount {
        Self::size(self)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        Self::read_at(self, offset, buf).map_err(of_reading)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<ByteRange>> {
        Self::next_data(self, offset).map_err(of_reading)
    }
}

/// What is wrong with the backup that is copied, and not with the target, is told apart.
fn of_reading(error: Error) -> io::Error {
    let kind = match error.is_damage() {
        true => io::ErrorKind::InvalidData,
        false => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}
