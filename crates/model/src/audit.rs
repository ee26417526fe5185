//! The audit: one record for each mutation, each sealed to the one before.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::id::{AccountId, RequestId, UserId};

/// One mutation, as the audit recorded it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Its place in the chain, from 1, without a gap.
    pub sequence: i64,
    /// When.
    pub at: Timestamp,
    /// Whose resources it was about; none for the installation itself.
    pub account_id: Option<AccountId>,
    /// Who acted; none for the installation itself.
    pub user_id: Option<UserId>,
    /// Who acted, by login.
    pub login: String,
    /// The request, for support.
    pub request_id: Option<RequestId>,
    /// What was done, in the words of the API, such as `snapshot_create`.
    pub action: String,
    /// The id of what it was done to.
    pub resource_id: String,
    /// Details, such as the reason an operator gave.
    pub detail: String,
    /// Hex of the hash over the record before and the fields of this one.
    pub hash: String,
}
