//! What is done to all volumes of an instance at one instant, or as one: allowed when the instance
//! is in a state for it, and the plan of each volume allows each volume's part.

use crate::item::Consistency;
use crate::plan::Plan;
use crate::refusal::Refusal;

use super::{Action, Allowed, Facts, VolumeFacts, can};

/// A volume that takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its name, for the refusal.
    pub name: &'a str,
    /// Its own plan.
    pub plan: &'a Plan,
    /// What the guard needs to know of it.
    pub volume: VolumeFacts,
}

impl Action {
    /// What happens to each volume of an instance that this is done to.
    const fn part(self) -> Option<Self> {
        match self {
            Self::InstanceSnapshotCreate => Some(Self::SnapshotCreate),
            Self::InstanceRebuild => Some(Self::RestoreInPlace),
            _ => None,
        }
    }
}

/// Whether `action` may be done to an instance and these volumes of it under these facts. The
/// consistency is the least of all; advice that several plans give is given once.
pub fn can_together(
    action: Action,
    facts: &Facts<'_>,
    members: &[Member<'_>],
) -> Result<Allowed, Refusal> {
    let mut allowed = can(action, facts)?;
    let Some(part) = action.part() else {
        return Ok(allowed);
    };
    for member in members {
        let own = Facts {
            plan: member.plan,
            volume: Some(member.volume.clone()),
            item: None,
            instance: None,
            ..*facts
        };
        let one = can(part, &own).map_err(|refusal| of_member(refusal, member.name))?;
        allowed.consistency = least(allowed.consistency, one.consistency);
        for warning in one.warnings {
            if !allowed.warnings.contains(&warning) {
                allowed.warnings.push(warning);
            }
        }
    }
    Ok(allowed)
}

fn of_member(refusal: Refusal, name: &str) -> Refusal {
    Refusal {
        text: format!("Volume {name}: {}", refusal.text),
        ..refusal
    }
}

/// What all of several captures promise: the least of them.
fn least(one: Option<Consistency>, other: Option<Consistency>) -> Option<Consistency> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
