//! The audit: one record for each mutation, in its transaction, sealed to the record before.
//!
//! A record's hash covers the hash before and every field, each with its length, so that no
//! record can be changed, removed or put in between without the rest not fitting any more.

use stillpoint_model::Timestamp;
use stillpoint_model::account::Actor;
use stillpoint_model::audit::AuditRecord;
use stillpoint_model::id::AccountId;
use stillpoint_store::{Tx, audit};
use uuid::Uuid;

use crate::error::Result;

/// What is to be recorded.
pub(crate) struct Entry<'a> {
    actor: Option<&'a Actor>,
    account_id: Option<AccountId>,
    action: &'a str,
    resource_id: Uuid,
    detail: String,
}

impl<'a> Entry<'a> {
    /// Something that an actor did with a thing of its own account.
    pub(crate) const fn new(actor: &'a Actor, action: &'a str, resource_id: Uuid) -> Self {
        Self {
            actor: Some(actor),
            account_id: Some(actor.account_id),
            action,
            resource_id,
            detail: String::new(),
        }
    }

    /// Something that the installation did by itself.
    pub(crate) const fn of_installation(
        action: &'a str,
        resource_id: Uuid,
        detail: String,
    ) -> Self {
        Self {
            actor: None,
            account_id: None,
            action,
            resource_id,
            detail,
        }
    }

    /// With details.
    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// About a thing of this account, when it is not the actor's own.
    pub(crate) const fn account(mut self, account_id: AccountId) -> Self {
        self.account_id = Some(account_id);
        self
    }
}

/// Appends a record to the chain.
pub(crate) async fn record(tx: &mut Tx, entry: Entry<'_>, now: Timestamp) -> Result<()> {
    let (last, before) = audit::audit_last(tx).await?.unwrap_or_default();
    let mut record = AuditRecord {
        sequence: last + 1,
        at: now,
        account_id: entry.account_id,
        user_id: entry.actor.map(|a| a.user_id),
        login: entry
            .actor
            .map_or_else(|| "installation".to_owned(), |a| a.login.clone()),
        request_id: entry.actor.map(|a| a.request_id),
        action: entry.action.to_owned(),
        resource_id: entry.resource_id.to_string(),
        detail: entry.detail,
        hash: String::new(),
    };
    record.hash = hash(&before, &record);
    audit::audit_insert(tx, &record).await?;
    Ok(())
}

/// The hash of a record after the record with the hash `before`; empty for the first.
pub(crate) fn hash(before: &str, record: &AuditRecord) -> String {
    let text = |id: Option<Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
    let mut hasher = blake3::Hasher::new_derive_key("stillpoint audit record v1");
    for field in [
        before,
        &record.sequence.to_string(),
        &record.at.as_micros().to_string(),
        &text(record.account_id.map(AccountId::as_uuid)),
        &text(record.user_id.map(|id| id.as_uuid())),
        &record.login,
        &text(record.request_id.map(|id| id.as_uuid())),
        &record.action,
        &record.resource_id,
        &record.detail,
    ] {
        hasher.update(&u64::try_from(field.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(field.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_and_the_record_before_are_in_the_hash() {
        let id = Uuid::from_u128(1);
        let record = AuditRecord {
            sequence: 1,
            at: Timestamp::from_micros(1),
            account_id: None,
            user_id: None,
            login: "ab".into(),
            request_id: None,
            action: "c".into(),
            resource_id: "d".into(),
            detail: "e".into(),
            hash: String::new(),
        };
        let changes: [fn(&mut AuditRecord, Uuid); 9] = [
            |r, _| r.sequence = 2,
            |r, _| r.at = Timestamp::from_micros(2),
            |r, id| r.account_id = Some(AccountId::from_uuid(id)),
            |r, id| r.user_id = Some(stillpoint_model::id::UserId::from_uuid(id)),
            // The same letters, cut elsewhere.
            |r, _| (r.login, r.action) = ("a".into(), "bc".into()),
            |r, id| r.request_id = Some(stillpoint_model::id::RequestId::from_uuid(id)),
            |r, _| r.action = "x".into(),
            |r, _| r.resource_id = "x".into(),
            |r, _| r.detail = "x".into(),
        ];
        let whole = hash("", &record);
        assert_ne!(hash("0", &record), whole);
        for (n, change) in changes.iter().enumerate() {
            let mut changed = record.clone();
            change(&mut changed, id);
            assert_ne!(hash("", &changed), whole, "change {n}");
        }
    }
}
