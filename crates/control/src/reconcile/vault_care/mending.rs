//! Small objects of vaults are looked at, and what rotted of them is made anew.
//!
//! A verification reads what backups are read by. Beside that a vault has keys, and objects that say
//! again, shorter, what others say: indexes, sums, proofs. Rot in those loses no backup, so nobody is told
//! that one is degraded: it is mended, and what came of it is shown on the vault until the next look.

use stillpoint_model::Timestamp;
use stillpoint_model::care::{Mending, VaultCare};
use stillpoint_model::task::TaskSpec;

use super::{TRY_AGAIN, is_due};
use crate::Context;

/// A look, if one is due.
pub(super) fn due_work(cx: &Context, care: &VaultCare, now: Timestamp) -> Option<TaskSpec> {
    let every = cx.settings().care.verify_every();
    is_due(care.mend_due_at, every, now).then(|| TaskSpec::VaultMend {
        vault: care.vault(),
    })
}

/// Notes what a look came to.
pub(super) fn ended(cx: &Context, care: &mut VaultCare, mending: Mending, now: Timestamp) {
    let (vault, target) = (care.vault_id, care.target_id);
    for bad in &mending.mended {
        tracing::warn!(
            %vault, %target, object = bad.object, what = bad.what,
            "a small object was damaged and is made anew"
        );
    }
    for bad in &mending.left {
        tracing::warn!(
            %vault, %target, object = bad.object, what = bad.what,
            "a small object is damaged and stays; no backup needs it"
        );
    }
    care.mend_due_at = now.saturating_add(cx.settings().care.verify_every());
    care.mending = Some(mending);
    care.mended_at = Some(now);
}

/// Has a look that could not be made be made again.
pub(super) fn failed(cx: &Context, care: &mut VaultCare, now: Timestamp) {
    let every = cx.settings().care.verify_every();
    care.mend_due_at = now.saturating_add(TRY_AGAIN.min(every));
}
