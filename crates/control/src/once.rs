//! A request that is sent again with its `Idempotency-Key` is done once, and answered again.
//!
//! A key belongs to an account and stands for one request, which is remembered by its hash, with
//! the id of what it led to: an operation, a token, an upload. The answer to the repeated request
//! is that thing as it is now. A key that comes with another request is refused. Keys are
//! forgotten after 24 hours ([`crate::upkeep`]).
//!
//! Everything here is part of the transaction that does the work, so of twins that race one
//! works and the others find its key.
//!
//! Sign-ins take no key: before the password is checked there is no account whose key it could
//! be, the answer is a secret, and a second session harms nobody.

use serde::Serialize;
use stillpoint_model::Timestamp;
use stillpoint_model::account::Actor;
use stillpoint_model::id::AccountId;
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_store::Tx;
use stillpoint_store::idempotency::{idempotency_by_key, idempotency_delete, idempotency_insert};
use uuid::Uuid;

use crate::error::Result;

/// A request, and the key that makes it the same when it is sent again.
pub(crate) struct Once {
    account_id: AccountId,
    key: Option<String>,
    fingerprint: String,
}

impl Once {
    /// A request of this kind with this input. Without a key it is always a new one.
    pub(crate) fn new(
        actor: &Actor,
        key: Option<&str>,
        kind: &str,
        input: &impl Serialize,
    ) -> Result<Self> {
        check_key(key)?;
        let input = serde_json::to_vec(&(kind, actor.project_id, input))?;
        Ok(Self {
            account_id: actor.account_id,
            key: key.map(str::to_owned),
            fingerprint: blake3::hash(&input).to_hex().to_string(),
        })
    }

    /// The id of what the same request led to before.
    pub(crate) async fn before(&self, tx: &mut Tx) -> Result<Option<Uuid>> {
        let Some(key) = &self.key else {
            return Ok(None);
        };
        match idempotency_by_key(tx, self.account_id, key).await? {
            None => Ok(None),
            Some((before, id)) if before == self.fingerprint => Ok(Some(id)),
            Some(_) => Err(mismatch().into()),
        }
    }

    /// Records what the request led to.
    pub(crate) async fn record(&self, tx: &mut Tx, id: Uuid, now: Timestamp) -> Result<()> {
        let Some(key) = &self.key else { return Ok(()) };
        Ok(idempotency_insert(tx, self.account_id, key, &self.fingerprint, id, now).await?)
    }

    /// Forgets the request: what it led to is gone.
    pub(crate) async fn forget(&self, tx: &mut Tx) -> Result<()> {
        let Some(key) = &self.key else { return Ok(()) };
        Ok(idempotency_delete(tx, self.account_id, key).await?)
    }
}

/// The refusal of a key that was used for another request.
fn mismatch() -> Refusal {
    let text = "This Idempotency-Key was used for another request. Use a new one.";
    Refusal::new(ProblemCode::IdempotencyMismatch, text)
}

fn check_key(key: Option<&str>) -> Result<(), Refusal> {
    let usable = |key: &str| {
        (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
    };
    if key.is_none_or(usable) {
        return Ok(());
    }
    let text = "An Idempotency-Key has 1 to 255 printable ASCII characters.";
    Err(Refusal::new(ProblemCode::InvalidRequest, text))
}
