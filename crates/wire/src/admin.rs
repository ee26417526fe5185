//! What operators see of the installation, and what they confirm.

use serde::{Deserialize, Serialize};
use stillpoint_model::id::{
    AccountId, BackupId, NodeId, PoolId, RequestId, TargetId, UserId, VaultId,
};
use stillpoint_model::{ByteCount, Timestamp, account, audit, care, operation, place};
use utoipa::ToSchema;

use crate::operation::Progress;
use crate::words::words;

/// A hypervisor host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// The region it is in.
    pub region: String,
    /// Whether it answers.
    pub online: bool,
    /// When it was last heard of.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub last_seen_at: Option<Timestamp>,
}

impl Node {
    /// From the model, and what the server knows beside it.
    pub fn new(node: place::Node, region: String, online: bool) -> Self {
        let place::Node {
            id,
            region_id: _,
            name,
            last_seen_at,
            runs_instances: _,
        } = node;
        Self {
            id,
            name: name.into(),
            region,
            online,
            last_seen_at,
        }
    }
}

/// Storage that holds volumes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pool {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: PoolId,
    /// Its name.
    pub name: String,
    /// The node that reaches it.
    #[schema(value_type = String, format = "uuid")]
    pub node_id: NodeId,
    /// What kind of storage it is, such as `qcow2`.
    pub driver: String,
    /// Whether it can capture a volume while an instance that runs has it open.
    pub live_capture: bool,
}

impl From<place::Pool> for Pool {
    fn from(pool: place::Pool) -> Self {
        let place::Pool {
            id,
            node_id,
            name,
            driver,
            live_capture,
        } = pool;
        Self {
            id,
            name: name.into(),
            node_id,
            driver,
            live_capture,
        }
    }
}

words! {
    /// What a backup target is for.
    TargetRole = place::TargetRole {
        /// Backups are made into it.
        Backups = "backups",
        /// It gets copies of the backups of other targets, and nothing else.
        Copies = "copies",
    }
}

/// A place where backups go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Target {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: TargetId,
    /// Its name.
    pub name: String,
    /// What kind of storage it is, such as `local`.
    pub driver: String,
    /// What it is for.
    pub role: TargetRole,
}

impl From<place::Target> for Target {
    fn from(target: place::Target) -> Self {
        let place::Target {
            id,
            region_id: _,
            name,
            driver,
            role,
            copies: _,
        } = target;
        Self {
            id,
            name: name.into(),
            driver,
            role: role.into(),
        }
    }
}

words! {
    /// How deep a backup is proven.
    VerifyLevel = care::VerifyLevel {
        /// Everything that it names is there with its length; manifest and tree are proven.
        Present = "present",
        /// Every chunk decrypts and is what its id says, at its position.
        Decrypt = "decrypt",
        /// It is restored to a scratch volume, which is compared whole with its hash.
        Restore = "restore",
    }
}

words! {
    /// How far the collection of a vault is.
    CollectionState = care::CollectionState {
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

/// A backup target, and how the vaults in it are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetDetail {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: TargetId,
    /// Its name.
    pub name: String,
    /// What kind of storage it is, such as `local`.
    pub driver: String,
    /// What it is for.
    pub role: TargetRole,
    /// Where its backups are copied to, if they are.
    pub copies: Option<CopyRule>,
    /// Its vaults, by account.
    pub vaults: Vec<VaultHealth>,
}

impl TargetDetail {
    /// From the model.
    pub fn new(target: place::Target, copies: Option<CopyRule>, vaults: Vec<VaultHealth>) -> Self {
        let Target {
            id,
            name,
            driver,
            role,
        } = target.into();
        Self {
            id,
            name,
            driver,
            role,
            copies,
            vaults,
        }
    }
}

/// Where the backups of a target are copied to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CopyRule {
    /// The name of the target that gets the copies.
    pub to: String,
    /// Seconds between two looks for what is new.
    pub every_s: u32,
}

/// An administrator's word that the backups of a target are copied into another one, or no longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CopiesSet {
    /// The target that gets the copies, by name or id; null ends the copying.
    pub to: Option<String>,
    /// Seconds between two looks for what is new, a minute to 31 days. A day when it is not said.
    #[serde(default = "daily")]
    pub every_s: u32,
}

const fn daily() -> u32 {
    24 * 3600
}

/// How the copies of a vault are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Copies {
    /// The target of the backups.
    pub from: String,
    /// The target of the copies.
    pub to: String,
    /// Whether they still follow the backups.
    pub active: bool,
    /// How far the copying is that goes on now.
    pub progress: Option<Progress>,
    /// Backups that have a copy.
    pub copied: u32,
    /// Backups that have none yet.
    pub waiting: u32,
    /// Those among them that are older than the time between two looks.
    pub behind: u32,
    /// Copies of backups that were deleted: they stay for a while.
    pub of_deleted: u32,
    /// When the first of those are deleted.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub next_deletion: Option<Timestamp>,
    /// When what is new is looked for next.
    #[schema(value_type = String, format = "date-time")]
    pub due_at: Timestamp,
    /// When everything was looked at last.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub passed_at: Option<Timestamp>,
    /// What the last pass that had something to do came to.
    pub last: Option<CopyPass>,
    /// Why the last pass failed or was cut off.
    pub failure: Option<String>,
}

impl Copies {
    /// From the model, and what the server knows beside it.
    pub fn new(
        filling: care::CopyCare,
        (from, to): (String, String),
        active: bool,
        counts: care::CopyCounts,
        next_deletion: Option<Timestamp>,
        progress: Option<operation::Progress>,
    ) -> Self {
        let care::CopyCare {
            source_id: _,
            due_at,
            last,
            passed_at,
            failure,
        } = filling;
        let care::CopyCounts {
            copied,
            waiting,
            behind,
            of_deleted,
            deleted_since: _,
        } = counts;
        Self {
            from,
            to,
            active,
            progress: progress.map(Into::into),
            copied,
            waiting,
            behind,
            of_deleted,
            next_deletion,
            due_at,
            passed_at,
            last: last.map(Into::into),
            failure,
        }
    }
}

/// What a pass over the backups of a vault copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CopyPass {
    /// Backups whose copies are there, read back.
    #[schema(value_type = Vec<String>)]
    pub copied: Vec<BackupId>,
    /// Bytes that this added to the target of the copies.
    #[schema(value_type = u64)]
    pub stored: ByteCount,
    /// Backups that could not be copied.
    pub left: Vec<NotCopied>,
    /// Backups whose copies were deleted.
    #[schema(value_type = Vec<String>)]
    pub deleted: Vec<BackupId>,
}

impl From<care::CopyPass> for CopyPass {
    fn from(pass: care::CopyPass) -> Self {
        let care::CopyPass {
            copied,
            stored,
            left,
            deleted,
            cut_off: _,
        } = pass;
        Self {
            copied,
            stored,
            left: left.into_iter().map(Into::into).collect(),
            deleted,
        }
    }
}

/// A backup that could not be copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotCopied {
    /// The backup.
    #[schema(value_type = String, format = "uuid")]
    pub backup_id: BackupId,
    /// Why.
    pub why: String,
}

impl From<care::NotCopied> for NotCopied {
    fn from(left: care::NotCopied) -> Self {
        let care::NotCopied { backup_id, why } = left;
        Self { backup_id, why }
    }
}

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
            confirmed,
            freed,
            collection,
            collected_at,
            verification,
            verified_at,
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
}

impl Collection {
    fn new(last: care::Collection, confirmed: ByteCount, at: Option<Timestamp>) -> Self {
        let care::Collection {
            state,
            backups,
            packs,
            freed,
            spared,
            until,
            open_runs,
            would_free,
            reason,
            emptied: _,
        } = last;
        Self {
            at,
            state: state.into(),
            backups,
            objects: packs,
            freed,
            spared,
            until,
            open_runs: open_runs.len(),
            would_free,
            confirmed,
            reason,
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
}

impl Verification {
    fn new(last: care::Verification, at: Option<Timestamp>) -> Self {
        let care::Verification {
            level,
            backups,
            bad,
            repaired,
        } = last;
        Self {
            at,
            level: level.into(),
            backups,
            bad: bad.into_iter().map(Into::into).collect(),
            repaired,
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

/// A customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Account {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: AccountId,
    /// Its name.
    pub name: String,
    /// When it was opened.
    #[schema(value_type = String, format = "date-time")]
    pub created_at: Timestamp,
}

impl From<account::Account> for Account {
    fn from(account: account::Account) -> Self {
        let account::Account {
            id,
            name,
            default_project: _,
            created_at,
        } = account;
        Self {
            id,
            name: name.into(),
            created_at,
        }
    }
}

/// One mutation, as the audit recorded it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditRecord {
    /// Its place in the chain.
    pub sequence: i64,
    /// When.
    #[schema(value_type = String, format = "date-time")]
    pub at: Timestamp,
    /// Whose resources it was about; null for the installation itself.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub account_id: Option<AccountId>,
    /// Who acted; null for the installation itself.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub user_id: Option<UserId>,
    /// Who acted, by login.
    pub login: String,
    /// The request, for support.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub request_id: Option<RequestId>,
    /// What was done, in the words of the API.
    pub action: String,
    /// The id of what it was done to.
    pub resource_id: String,
    /// Details, such as the reason an operator gave.
    pub detail: String,
    /// Hex of the hash over the record before and the fields of this one.
    pub hash: String,
}

impl From<audit::AuditRecord> for AuditRecord {
    fn from(record: audit::AuditRecord) -> Self {
        let audit::AuditRecord {
            sequence,
            at,
            account_id,
            user_id,
            login,
            request_id,
            action,
            resource_id,
            detail,
            hash,
        } = record;
        Self {
            sequence,
            at,
            account_id,
            user_id,
            login,
            request_id,
            action,
            resource_id,
            detail,
            hash,
        }
    }
}

/// What `/healthz` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok` while the server answers.
    pub status: String,
    /// The version that runs.
    pub version: String,
}
