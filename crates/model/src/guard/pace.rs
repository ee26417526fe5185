//! The guard rails that only take waiting: operations in flight, and the rest of a volume.

use std::time::Duration;

use super::{Action, Facts, VolumeFacts};
use crate::Timestamp;
use crate::operation::OperationKind;
use crate::refusal::{ProblemCode, Refusal, WayOut};

pub(super) fn check_in_flight(action: Action, facts: &Facts<'_>) -> Result<(), Refusal> {
    let counts = action
        .operation()
        .is_some_and(OperationKind::counts_in_flight);
    let limit = facts.plan.pacing.in_flight_per_account;
    if !counts || facts.in_flight < limit {
        return Ok(());
    }
    let noun = if limit == 1 {
        "operation"
    } else {
        "operations"
    };
    let text = format!(
        "Your account has {} {noun} in flight, and {limit} is the limit. Wait for one to finish.",
        facts.in_flight
    );
    Err(Refusal::new(ProblemCode::InflightLimit, text).or(WayOut::ListOperations))
}

pub(super) fn check_cooldown(
    action: Action,
    facts: &Facts<'_>,
    volume: &VolumeFacts,
) -> Result<(), Refusal> {
    if facts.override_cooldown || !action.waits_for_cooldown() {
        return Ok(());
    }
    let left = cooldown_left(volume.cooldown_until, facts.now);
    if left.is_zero() {
        return Ok(());
    }
    let text = format!(
        "Volume is in cooldown. Try again in {} seconds.",
        left.as_secs()
    );
    Err(Refusal::new(ProblemCode::Cooldown, text).after(left))
}

/// What is left of a rest, in whole seconds rounded up, so that a countdown that reached zero
/// is never refused.
pub fn cooldown_left(until: Option<Timestamp>, now: Timestamp) -> Duration {
    let Some(until) = until else {
        return Duration::ZERO;
    };
    let left = until.duration_since(now);
    Duration::from_secs(left.as_secs() + u64::from(left.subsec_nanos() > 0))
}
