//! What operators see of the installation, and what they confirm.

mod copies;
mod vault;

use serde::{Deserialize, Serialize};
use stillpoint_model::id::{AccountId, NodeId, PoolId, RequestId, TargetId, UserId};
use stillpoint_model::{Timestamp, account, audit, care, place};
use utoipa::ToSchema;

use crate::words::words;

pub use copies::{Copies, CopiesSet, CopyPass, CopyRule, NotCopied};
pub use vault::{BadObject, Collection, CollectionConfirm, Mending, VaultHealth, Verification};

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

words! {
    /// How a backup target locks what its backups need, for as long as they are promised to stay.
    ObjectLock = place::ObjectLock {
        /// For everybody who has no right to bypass it.
        Governance = "governance",
        /// For everybody, the owner of the bucket included.
        Compliance = "compliance",
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
    /// The region that it is in.
    pub region: String,
    /// How it locks what is promised to stay; null: it locks nothing.
    pub object_lock: Option<ObjectLock>,
}

impl Target {
    /// From the model, and the name of its region.
    pub fn new(target: place::Target, region: String) -> Self {
        let place::Target {
            id,
            region_id: _,
            name,
            driver,
            role,
            copies: _,
            object_lock,
        } = target;
        Self {
            id,
            name: name.into(),
            driver,
            role: role.into(),
            region,
            object_lock: object_lock.map(Into::into),
        }
    }
}

words! {
    /// How deep a backup is proven.
    VerifyLevel = care::VerifyLevel {
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
    /// The region that it is in.
    pub region: String,
    /// How it locks what is promised to stay; null: it locks nothing.
    pub object_lock: Option<ObjectLock>,
    /// Where its backups are copied to, if they are.
    pub copies: Option<CopyRule>,
    /// Its vaults, by account.
    pub vaults: Vec<VaultHealth>,
}

impl TargetDetail {
    /// The target, with what is about its vaults.
    pub fn new(target: Target, copies: Option<CopyRule>, vaults: Vec<VaultHealth>) -> Self {
        let Target {
            id,
            name,
            driver,
            role,
            region,
            object_lock,
        } = target;
        Self {
            id,
            name,
            driver,
            role,
            region,
            object_lock,
            copies,
            vaults,
        }
    }
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
