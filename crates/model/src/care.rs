//! The care of a vault: collecting what no backup reaches, proving what backups rest on, mending small
//! objects, and copying backups into a second target.
//!
//! None belongs to an operation: a vault is cared for on a schedule ([`CareTerms`]), by one task at a
//! time, whose end is noted on the vault as a [`Collection`], a [`Verification`], a [`Mending`] or a
//! [`CopyPass`].
//!
//! The copies of a vault are a vault of the same id in another target, with keys, packs and
//! collections of its own, and are cared for like the first.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{AccountId, BackupId, TargetId, TaskId, VaultId, VolumeId};
use crate::name::Name;
use crate::operation::Progress;
use crate::task::VaultRef;
use crate::words::words;
use crate::{ByteCount, Timestamp};

words! {
    /// How deep a backup is proven. Each level proves what the one before does.
    VerifyLevel {
        /// Everything that it names is there with its length; manifest and tree are proven.
        Present = "present",
        /// Every object is still what was put, byte for byte, where that was noted. Nothing is decrypted.
        Ciphertext = "ciphertext",
        /// Every chunk decrypts and is what its id says, at its position.
        Decrypt = "decrypt",
        /// It is restored to a scratch volume, which is compared whole with its hash.
        Restore = "restore",
    }
}

/// When and how vaults are cared for, as data in the server's settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CareTerms {
    /// Seconds between two collections of a vault.
    pub collect_every_s: u32,
    /// Seconds for which a deleted backup's data stays at least.
    pub keep_deleted_s: u32,
    /// Seconds between what a collection decides and what it does.
    pub grace_s: u32,
    /// Seconds for which a copy stays, untouched, after its backup was deleted; see
    /// [`CareTerms::keep_copies`].
    pub keep_copies_s: u32,
    /// The most that a collection removes without confirmation, in hundredths of the vault.
    pub max_percent: u8,
    /// So many MiB may go without confirmation, whatever share that is.
    pub floor_mib: u32,
    /// Every backup is verified once in so many seconds, and the small objects are looked at.
    pub verify_every_s: u32,
    /// How deep.
    pub verify_level: VerifyLevel,
}

impl Default for CareTerms {
    /// Collected every six hours, a week and a day after the deletion; a fifth of a vault, or a
    /// gibibyte, without confirmation; every backup decrypted once in thirty days. A copy is deleted
    /// two weeks after its backup was.
    fn default() -> Self {
        Self {
            collect_every_s: 6 * 3600,
            keep_deleted_s: 7 * 24 * 3600,
            grace_s: 24 * 3600,
            keep_copies_s: 14 * 24 * 3600,
            max_percent: 20,
            floor_mib: 1024,
            verify_every_s: 30 * 24 * 3600,
            verify_level: VerifyLevel::Decrypt,
        }
    }
}

impl CareTerms {
    /// The time between two collections of a vault.
    pub fn collect_every(&self) -> Duration {
        Duration::from_secs(self.collect_every_s.into())
    }

    /// How long a copy stays after its backup was deleted. It is never shorter than the time after which
    /// the backup's own data goes: one mistake does not reach both before somebody could see it.
    pub fn keep_copies(&self) -> Duration {
        let first = self.keep_deleted_s.saturating_add(self.grace_s);
        Duration::from_secs(self.keep_copies_s.max(first).into())
    }

    /// The time in which every backup is verified once.
    pub fn verify_every(&self) -> Duration {
        Duration::from_secs(self.verify_every_s.into())
    }
}

/// A backup, with the volume under which its vault has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BackupKey {
    /// The volume that it is of.
    pub volume_id: VolumeId,
    /// The backup.
    pub backup_id: BackupId,
}

/// What a collection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectTerms {
    /// Seconds for which a deleted backup's data stays at least.
    pub keep_deleted_s: u32,
    /// Seconds between what it decides and what it does.
    pub grace_s: u32,
    /// The most that it removes without confirmation, in hundredths of the vault.
    pub max_percent: u8,
    /// So many bytes may go without confirmation.
    pub floor: ByteCount,
    /// So many bytes were confirmed.
    pub confirmed: ByteCount,
}

words! {
    /// How far the collection of a vault is.
    CollectionState {
        /// Nothing was dead.
        NothingToDo = "nothing_to_do",
        /// Runs that began before it must end first.
        WaitsForRuns = "waits_for_runs",
        /// What it decided goes when the grace is over.
        WaitsForGrace = "waits_for_grace",
        /// What was dead is gone.
        Done = "done",
        /// More would go than may without an administrator's confirmation.
        NeedsConfirmation = "needs_confirmation",
        /// It stopped because something in the vault is not as it should be; nothing went.
        Refused = "refused",
    }
}

/// What a collection came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collection {
    /// How far it is.
    pub state: CollectionState,
    /// Backups that were removed for good.
    pub backups: u32,
    /// Packs that were deleted.
    pub packs: u32,
    /// Their bytes.
    pub freed: ByteCount,
    /// Packs that were to go and stayed because something needs them after all.
    pub spared: u32,
    /// Packs that are dead and stay until their locks are over.
    #[serde(default)]
    pub locked: u32,
    /// When the grace is over.
    pub until: Option<Timestamp>,
    /// Backups whose runs have a record: under way, or cut off.
    pub open_runs: Vec<BackupKey>,
    /// Bytes that would go and were not confirmed.
    pub would_free: Option<ByteCount>,
    /// Why nothing went, for operators.
    pub reason: Option<String>,
    /// What was done about packs that are mostly dead, when nothing else was left to do.
    #[serde(default)]
    pub emptied: Option<Emptied>,
}

/// What was done so that packs which are mostly dead can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emptied {
    /// How many packs that is.
    pub packs: u32,
    /// About how many bytes go once no backup reaches them.
    pub would_free: ByteCount,
    /// Bytes that were stored anew for it.
    pub stored: ByteCount,
    /// Backups that do without them now.
    pub backups: u32,
    /// Backups that still reach them.
    pub left: u32,
}

/// An object that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadObject {
    /// Its name in the target.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
    /// The backups that cannot be restored because of it: all of them, and no other.
    pub affected: Vec<BackupId>,
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// How deep it looked.
    pub level: VerifyLevel,
    /// The backups that it looked at.
    pub backups: Vec<BackupId>,
    /// What is wrong.
    pub bad: Vec<BadObject>,
    /// Backups that something bad affected, and that were made whole again and proven since.
    #[serde(default)]
    pub repaired: Vec<BackupId>,
    /// Objects of which nothing says what they were, when that was to be compared.
    #[serde(default)]
    pub uncovered: u32,
}

impl Verification {
    /// Whether a bad object affects this backup still.
    pub fn affects(&self, backup: BackupId) -> bool {
        !self.repaired.contains(&backup)
            && self.bad.iter().any(|bad| bad.affected.contains(&backup))
    }
}

/// What a look at the small objects of a vault found and did: at keys, indexes, sums, proofs and the
/// like, all but packs and what backups are read by. No backup is affected by what is wrong with them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mending {
    /// How many there are.
    pub objects: u32,
    /// Those that were damaged, and were made anew at once.
    pub mended: Vec<BadObject>,
    /// Those that are damaged and stay as they are: their names say all that counts, or something stood
    /// in the way.
    pub left: Vec<BadObject>,
}

/// A backup that could not be copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotCopied {
    /// The backup.
    pub backup_id: BackupId,
    /// Why, for operators.
    pub why: String,
}

/// What a pass over the backups of a vault copied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyPass {
    /// Backups whose copies are there, read back: those that were there before, too.
    pub copied: Vec<BackupId>,
    /// Bytes that this added to the target of the copies.
    pub stored: ByteCount,
    /// Backups that could not be copied.
    pub left: Vec<NotCopied>,
    /// Backups whose copies were deleted, because they themselves were, long ago.
    pub deleted: Vec<BackupId>,
    /// Why it ended before its last backup, for operators.
    pub cut_off: Option<String>,
}

/// How the copies of a vault are kept up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyCare {
    /// The target of the vault whose backups are copied.
    pub source_id: TargetId,
    /// When what is new is looked for next.
    pub due_at: Timestamp,
    /// What the last pass that had something to do came to.
    pub last: Option<CopyPass>,
    /// When all that there was to copy was looked at last.
    pub passed_at: Option<Timestamp>,
    /// Why the last pass failed, for operators.
    pub failure: Option<String>,
}

/// How many copies there are, and of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyCounts {
    /// Backups that have a copy.
    pub copied: u32,
    /// Backups that have none yet.
    pub waiting: u32,
    /// Those among them that are older than the time between two looks.
    pub behind: u32,
    /// Copies of backups that were deleted.
    pub of_deleted: u32,
    /// When the first of those was found to be one, if a pass saw it.
    pub deleted_since: Option<Timestamp>,
}

/// What a vault holds, by the rows of its backups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Backups, or copies of backups.
    pub backups: u32,
    /// Those among them that are known to be damaged.
    pub degraded: u32,
    /// Bytes that the backups added when they were made.
    pub stored: ByteCount,
}

/// The care of one vault, as the control plane keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultCare {
    /// The vault.
    pub vault_id: VaultId,
    /// Where it is.
    pub target_id: TargetId,
    /// Whose it is.
    pub account_id: AccountId,
    /// That account's name.
    pub account_name: Name,
    /// The task that cares for it now.
    pub task_id: Option<TaskId>,
    /// How far that is.
    pub progress: Option<Progress>,
    /// When it is collected next.
    pub collect_due_at: Timestamp,
    /// No verification before this time: the last one could not be done.
    pub verify_due_at: Timestamp,
    /// When its small objects are looked at next.
    pub mend_due_at: Timestamp,
    /// So many bytes may go in the next collection, because an administrator said so.
    pub confirmed: ByteCount,
    /// Bytes that were given back, ever.
    pub freed: ByteCount,
    /// What the last collection came to.
    pub collection: Option<Collection>,
    /// When.
    pub collected_at: Option<Timestamp>,
    /// What the last verification found.
    pub verification: Option<Verification>,
    /// When.
    pub verified_at: Option<Timestamp>,
    /// What the last look at its small objects came to.
    pub mending: Option<Mending>,
    /// When.
    pub mended_at: Option<Timestamp>,
    /// The last verification that found something bad, until one finds all of that sound.
    pub damage: Vec<BadObject>,
    /// Why the last task failed, for operators.
    pub failure: Option<String>,
    /// How it is filled, when it holds the copies of a vault in another target.
    pub copies: Option<CopyCare>,
}

impl VaultCare {
    /// The vault in another target that has the same backups under the same ids.
    pub const fn twin_in(&self, target_id: TargetId) -> VaultRef {
        VaultRef {
            target_id,
            ..self.vault()
        }
    }

    /// The vault, as tasks name it.
    pub const fn vault(&self) -> VaultRef {
        VaultRef {
            target_id: self.target_id,
            vault_id: self.vault_id,
            account_id: self.account_id,
        }
    }

    /// Notes what a verification found: what it looked at and found sound is damaged no more.
    pub fn note_verification(&mut self, found: Verification, now: Timestamp) {
        let seen = |backup: &BackupId| found.backups.contains(backup);
        for bad in &mut self.damage {
            bad.affected.retain(|backup| !seen(backup));
        }
        let again = |bad: &BadObject| found.bad.iter().any(|new| new.object == bad.object);
        self.damage
            .retain(|bad| !bad.affected.is_empty() && !again(bad));
        self.damage.extend(found.bad.iter().cloned());
        self.verification = Some(found);
        self.verified_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_stays_at_least_until_the_data_of_its_backup_may_be_gone() {
        let terms = CareTerms {
            keep_deleted_s: 100,
            grace_s: 20,
            keep_copies_s: 7,
            ..CareTerms::default()
        };
        assert_eq!(terms.keep_copies(), Duration::from_secs(120));
        let terms = CareTerms {
            keep_copies_s: 500,
            ..terms
        };
        assert_eq!(terms.keep_copies(), Duration::from_secs(500));
    }

    fn backup(id: u128) -> BackupId {
        BackupId::from_uuid(uuid::Uuid::from_u128(id))
    }

    fn bad(object: &str, affected: &[u128]) -> BadObject {
        BadObject {
            object: object.to_owned(),
            what: "it is missing".to_owned(),
            affected: affected.iter().copied().map(backup).collect(),
        }
    }

    fn care() -> VaultCare {
        let id = uuid::Uuid::from_u128;
        VaultCare {
            vault_id: VaultId::from_uuid(id(1)),
            target_id: TargetId::from_uuid(id(2)),
            account_id: AccountId::from_uuid(id(3)),
            account_name: "demo".parse().expect("a name"),
            task_id: None,
            progress: None,
            collect_due_at: Timestamp::from_micros(0),
            verify_due_at: Timestamp::from_micros(0),
            mend_due_at: Timestamp::from_micros(0),
            confirmed: ByteCount::ZERO,
            freed: ByteCount::ZERO,
            collection: None,
            collected_at: None,
            verification: None,
            verified_at: None,
            mending: None,
            mended_at: None,
            damage: Vec::new(),
            failure: None,
            copies: None,
        }
    }

    fn found(backups: &[u128], bad: &[BadObject]) -> Verification {
        Verification {
            level: VerifyLevel::Decrypt,
            backups: backups.iter().copied().map(backup).collect(),
            bad: bad.to_vec(),
            repaired: Vec::new(),
            uncovered: 0,
        }
    }

    #[test]
    fn damage_stays_until_all_that_it_affects_was_found_sound() {
        let mut care = care();
        let now = Timestamp::from_micros(7);
        care.note_verification(found(&[1, 2], &[bad("a", &[1, 2, 3])]), now);
        care.note_verification(found(&[1, 2], &[]), now);
        assert_eq!(care.damage, [bad("a", &[3])]);
        care.note_verification(found(&[3], &[]), now);
        assert!(care.damage.is_empty());
    }

    #[test]
    fn an_object_is_listed_once() {
        let mut care = care();
        let now = Timestamp::from_micros(7);
        care.note_verification(found(&[1], &[bad("a", &[1, 2])]), now);
        care.note_verification(found(&[2], &[bad("a", &[1, 2])]), now);
        assert_eq!(care.damage, [bad("a", &[1, 2])]);
    }
}
