//! How a vault is: collected, verified, damaged; and what operators confirm.

use serde::{Deserialize, Serialize};
use stillpoint_model::id::{AccountId, BackupId, VaultId};
use stillpoint_model::{ByteCount, Timestamp, care};
use utoipa::ToSchema;

use super::{CollectionState, Copies, VerifyLevel};
use crate::operation::Progress;

/// How a vault is, and what was done for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VaultHealth {
    /// The vault.
    #[schema(value_type = String, format = "uuid")]
    pub vault_id: VaultId,
    /// Whose it is.
    #[schema(value_type = String, format = "uuid")]
    pub account_id: AccountId,
    /// That account's name.
    pub account: String,
    /// Backups in it, or copies of backups.
    pub backups: u32,
    /// Those among them that are known to be damaged.
    pub degraded: u32,
    /// Bytes that the backups added when they were made.
    #[schema(value_type = u64)]
    pub stored: ByteCount,
    /// How far the collection, verification or copying is that goes on now.
    pub progress: Option<Progress>,
    /// Bytes that collections gave back, ever.
    #[schema(value_type = u64)]
    pub freed: ByteCount,
    /// When it is collected next.
    #[schema(value_type = String, format = "date-time")]
    pub collect_due_at: Timestamp,
    /// What the last collection came to.
    pub collection: Option<Collection>,
    /// What the last verification looked at.
    pub verification: Option<Verification>,
    /// What the last look at its small objects came to.
    pub mending: Option<Mending>,
    /// Every object that is known to be bad, until what it affects is found sound.
    pub damage: Vec<BadObject>,
    /// Why the last care of it failed.
    pub failure: Option<String>,
    /// How its copies are, or how those are that it holds.
    pub copies: Option<Copies>,
}

impl VaultHealth {
    /// From the model, and what the server knows beside it.
    pub fn new(care: care::VaultCare, holds: care::Holdings, copies: Option<Copies>) -> Self {
        let care::Holdings {
            backups,
            degraded,
            stored,
        } = holds;
        let care::VaultCare {
            vault_id,
            target_id: _,
            account_id,
            account_name,
            task_id: _,
            progress,
            collect_due_at,
            verify_due_at: _,
            mend_due_at: _,
            confirmed,
            freed,
            collection,
            collected_at,
            verification,
            verified_at,
            mending,
            mended_at,
            damage,
            failure,
            copies: _,
        } = care;
        let of = |last: care::Collection| Collection::new(last, confirmed, collected_at);
        Self {
            vault_id,
            account_id,
            account: account_name.into(),
            backups,
            degraded,
            stored,
            progress: progress.map(Into::into),
            freed,
            collect_due_at,
            collection: collection.map(of),
            verification: verification.map(|last| Verification::new(last, verified_at)),
            mending: mending.map(|last| Mending::new(last, mended_at)),
            damage: damage.into_iter().map(Into::into).collect(),
            failure,
            copies,
        }
    }
}

/// What the last collection of a vault came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Collection {
    /// When.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub at: Option<Timestamp>,
    /// How far it is.
    pub state: CollectionState,
    /// Backups that were removed for good.
    pub backups: u32,
    /// Objects with data that were deleted.
    pub objects: u32,
    /// Their bytes.
    #[schema(value_type = u64)]
    pub freed: ByteCount,
    /// Objects that were to go and stayed because something needs them after all.
    pub spared: u32,
    /// Objects that nothing needs and that stay until their locks are over.
    pub locked: u32,
    /// When the grace is over.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub until: Option<Timestamp>,
    /// How many backups have a run that is under way or was cut off.
    pub open_runs: usize,
    /// Bytes that would go and were not confirmed.
    #[schema(value_type = Option<u64>)]
    pub would_free: Option<ByteCount>,
    /// Bytes that may go in the next one.
    #[schema(value_type = u64)]
    pub confirmed: ByteCount,
    /// Why nothing went.
    pub reason: Option<String>,
    /// What was done so that packs which are mostly dead can go; null when there were none.
    pub emptied: Option<Emptied>,
}

/// What was done so that packs which are mostly dead can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Emptied {
    /// How many packs that is.
    pub packs: u32,
    /// About how many bytes go once no backup reaches them.
    #[schema(value_type = u64)]
    pub would_free: ByteCount,
    /// Bytes that were stored anew for it.
    #[schema(value_type = u64)]
    pub stored: ByteCount,
    /// Backups that do without them now.
    pub backups: u32,
    /// Backups that still reach them.
    pub left: u32,
}

impl From<care::Emptied> for Emptied {
    fn from(emptied: care::Emptied) -> Self {
        let care::Emptied {
            packs,
            would_free,
            stored,
            backups,
            left,
        } = emptied;
        Self {
            packs,
            would_free,
            stored,
            backups,
            left,
        }
    }
}

impl Collection {
    fn new(last: care::Collection, confirmed: ByteCount, at: Option<Timestamp>) -> Self {
        let care::Collection {
            state,
            backups,
            packs,
            freed,
            spared,
            locked,
            until,
            open_runs,
            would_free,
            reason,
            emptied,
        } = last;
        Self {
            at,
            state: state.into(),
            backups,
            objects: packs,
            freed,
            spared,
            locked,
            until,
            open_runs: open_runs.len(),
            would_free,
            confirmed,
            reason,
            emptied: emptied.map(Into::into),
        }
    }
}

/// What the last verification in a vault looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verification {
    /// When.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub at: Option<Timestamp>,
    /// How deep it looked.
    pub level: VerifyLevel,
    /// The backups that it looked at.
    #[schema(value_type = Vec<String>)]
    pub backups: Vec<BackupId>,
    /// What it found bad.
    pub bad: Vec<BadObject>,
    /// The backups among those that were made whole again at once, and proven since.
    #[schema(value_type = Vec<String>)]
    pub repaired: Vec<BackupId>,
    /// Objects that could not be compared, because nothing says what they were; of `ciphertext` only.
    pub uncovered: u32,
}

impl Verification {
    fn new(last: care::Verification, at: Option<Timestamp>) -> Self {
        let care::Verification {
            level,
            backups,
            bad,
            repaired,
            uncovered,
        } = last;
        Self {
            at,
            level: level.into(),
            backups,
            bad: bad.into_iter().map(Into::into).collect(),
            repaired,
            uncovered,
        }
    }
}

/// What the last look at the small objects of a vault found and did: at keys, and at what says again
/// what others say. No backup is affected by what is wrong with them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Mending {
    /// When.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub at: Option<Timestamp>,
    /// How many there are.
    pub objects: u32,
    /// Those that were damaged, and were made anew at once.
    pub mended: Vec<BadObject>,
    /// Those that are damaged and stay as they are.
    pub left: Vec<BadObject>,
}

impl Mending {
    fn new(last: care::Mending, at: Option<Timestamp>) -> Self {
        let care::Mending {
            objects,
            mended,
            left,
        } = last;
        Self {
            at,
            objects,
            mended: mended.into_iter().map(Into::into).collect(),
            left: left.into_iter().map(Into::into).collect(),
        }
    }
}

/// An object of a vault that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BadObject {
    /// Its name in the target.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
    /// The backups that cannot be restored because of it: all of them, and no other.
    #[schema(value_type = Vec<String>)]
    pub affected: Vec<BackupId>,
}

impl From<care::BadObject> for BadObject {
    fn from(bad: care::BadObject) -> Self {
        let care::BadObject {
            object,
            what,
            affected,
        } = bad;
        Self {
            object,
            what,
            affected,
        }
    }
}

/// An administrator's word that a collection may remove so many bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CollectionConfirm {
    /// The vault.
    #[schema(value_type = String, format = "uuid")]
    pub vault_id: VaultId,
    /// As many as the collection said that it would remove, or more.
    #[schema(value_type = u64)]
    pub bytes: ByteCount,
}
