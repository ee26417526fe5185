//! What operators see of the installation. Read only.

use serde::{Deserialize, Serialize};
use stillpoint_model::Timestamp;
use stillpoint_model::id::{AccountId, NodeId, PoolId, TargetId};
use utoipa::ToSchema;

/// A hypervisor host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where it is.
    pub region: String,
    /// Whether it answers.
    pub online: bool,
    /// When it was last heard of.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub last_seen_at: Option<Timestamp>,
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
    /// What kind of storage it is.
    pub driver: String,
}

/// A place where backups go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Target {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: TargetId,
    /// Its name.
    pub name: String,
    /// What kind of storage it is.
    pub driver: String,
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

/// One mutation, as the audit recorded it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditRecord {
    /// Its place in the chain.
    pub sequence: i64,
    /// When.
    #[schema(value_type = String, format = "date-time")]
    pub at: Timestamp,
    /// Who, by login.
    pub login: String,
    /// What was done.
    pub action: String,
    /// What it was done to.
    pub resource_id: String,
    /// Details, such as the reason an operator gave.
    pub detail: String,
    /// Hex of the hash over this record and the one before.
    pub hash: String,
}

/// What `/healthz` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok` while the server answers.
    pub status: String,
    /// The version that runs.
    pub version: String,
}
