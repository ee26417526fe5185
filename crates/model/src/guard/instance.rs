//! The guard rails of instances: what may be done with one, and what may be attached to it.
//!
//! An operation holds its instance alone. It does not hold the volumes that the instance has: a
//! backup of one may take hours, and the instance must stop, start and pause meanwhile. So a start
//! looks at what holds its volumes ([`OtherVolume`]), and what overwrites a volume looks at what
//! holds its instance. A deletion takes the volumes along, and needs each of them idle.

use crate::instance::{InstanceState, MAX_VOLUMES, Power};
use crate::operation::OperationKind;
use crate::refusal::{ProblemCode, Refusal, WayOut};
use crate::volume::{AttachedState, Attachment, VolumeRole};

use super::{Action, ActiveOperation, Facts, VolumeFacts, attach_condition};
use crate::id::{InstanceId, PoolId, VolumeId};
use crate::plan::{AttachCondition, InstanceCondition};

/// What the guard needs to know of the instance that an action is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceFacts {
    /// Its id.
    pub id: InstanceId,
    /// What it is good for.
    pub state: InstanceState,
    /// What its machine does.
    pub power: Power,
    /// What holds it.
    pub active_operation: Option<ActiveOperation>,
    /// The volumes that it has, the root first.
    pub volumes: Vec<OtherVolume>,
}

/// A volume of an instance that an action is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherVolume {
    /// Its id.
    pub id: VolumeId,
    /// Its place; 0 is the root.
    pub place: u32,
    /// The pool that holds it.
    pub pool_id: PoolId,
    /// What holds it.
    pub active_operation: Option<ActiveOperation>,
    /// Whether its pool can capture it while the instance runs.
    pub live_capture: bool,
}

impl OtherVolume {
    /// What keeps an instance from opening it: whatever changes it, or needs it to stand still.
    /// What was captured already is read from sealed layers, which nobody minds.
    fn in_the_way_of_a_start(&self) -> Option<ActiveOperation> {
        let captures = |active: &ActiveOperation| {
            matches!(
                active.kind,
                OperationKind::SnapshotCreate | OperationKind::BackupCreate
            )
        };
        self.active_operation
            .filter(|active| !(self.live_capture && captures(active)))
    }
}

/// Whether the instance, and the volume beside it, are in a state for this.
pub(super) fn check_state(action: Action, facts: &Facts<'_>) -> Result<(), Refusal> {
    if action == Action::InstanceCreate && !facts.runs_instances {
        let text = "The node of this pool runs no instances.";
        return Err(Refusal::new(ProblemCode::NotEligible, text).or(WayOut::AskOperator));
    }
    if let Some(instance) = &facts.instance {
        check_instance(action, instance)?;
        check_room(action, instance)?;
    }
    let Some(volume) = &facts.volume else {
        return Ok(());
    };
    match action {
        Action::VolumeAttach => check_attach(facts.instance.as_ref(), volume),
        Action::VolumeDetach => check_detach(volume),
        _ => Ok(()),
    }
}

/// What the plan's rules see of an instance. Of one that the orchestrator reported no more is known
/// than whether it runs.
pub(super) const fn condition(attachment: &Attachment) -> InstanceCondition {
    match (attachment.own, attachment.state) {
        (Some(own), _) => InstanceCondition {
            state: own.state,
            ready: own.ready,
            load: own.load,
        },
        (None, AttachedState::Running) => InstanceCondition {
            state: InstanceState::Active,
            ready: true,
            load: None,
        },
        (None, AttachedState::Stopped) => InstanceCondition {
            state: InstanceState::Stopped,
            ready: true,
            load: None,
        },
    }
}

fn not_eligible(text: &str) -> Refusal {
    Refusal::new(ProblemCode::NotEligible, text)
}

fn check_instance(action: Action, instance: &InstanceFacts) -> Result<(), Refusal> {
    let works = match instance.state {
        InstanceState::Active | InstanceState::Stopped => true,
        InstanceState::Failed => {
            matches!(action, Action::InstanceDelete | Action::InstanceRename)
        }
        InstanceState::Provisioning | InstanceState::Rebuilding | InstanceState::Deleting => {
            action == Action::InstanceRename && instance.state != InstanceState::Deleting
        }
    };
    if !works {
        let refusal = not_eligible(&format!("The instance is {}.", instance.state));
        return Err(match instance.active_operation {
            Some(active) => refusal.or(WayOut::WatchOperation(active.id)),
            None => refusal,
        });
    }
    match (action, instance.power) {
        (Action::InstanceStart, Power::Running | Power::Paused) => {
            Err(not_eligible("The instance runs already."))
        }
        (Action::InstanceStart, Power::Off) if !has_root(instance) => Err(not_eligible(
            "The instance has no root volume. Attach one first.",
        )),
        (Action::InstanceStop | Action::InstancePause | Action::InstanceResume, Power::Off) => {
            Err(not_eligible("The instance is stopped."))
        }
        (Action::InstancePause, Power::Paused) => {
            Err(not_eligible("The instance is paused already."))
        }
        (Action::InstanceResume, Power::Running) => {
            Err(not_eligible("The instance is not paused."))
        }
        (Action::InstanceSnapshotCreate, _) => check_one_instant(instance),
        (Action::InstanceRebuild, Power::Running | Power::Paused) => {
            let text = "Cannot rebuild a running instance. Stop the instance first.";
            let refusal = Refusal::new(ProblemCode::AttachedRunning, text);
            Err(refusal
                .or(WayOut::StopInstance(Some(instance.id)))
                .or(WayOut::RestoreToNewInstance))
        }
        _ => Ok(()),
    }
}

/// Whether the volumes of an instance have an instant in common: each pool switches its own.
fn check_one_instant(instance: &InstanceFacts) -> Result<(), Refusal> {
    let Some(first) = instance.volumes.first() else {
        return Err(not_eligible("The instance has no volume."));
    };
    if instance.volumes.iter().all(|v| v.pool_id == first.pool_id) {
        return Ok(());
    }
    Err(not_eligible(
        "The volumes of the instance are in several pools, which have no instant in common. Take \
         a snapshot of each volume.",
    ))
}

fn has_root(instance: &InstanceFacts) -> bool {
    instance.volumes.iter().any(|volume| volume.place == 0)
}

/// Whether the instance can have one more volume, whichever it is.
fn check_room(action: Action, instance: &InstanceFacts) -> Result<(), Refusal> {
    if action == Action::VolumeAttach && instance.volumes.len() >= MAX_VOLUMES {
        let text = format!("An instance has at most {MAX_VOLUMES} volumes.");
        return Err(not_eligible(&text));
    }
    Ok(())
}

fn check_attach(instance: Option<&InstanceFacts>, volume: &VolumeFacts) -> Result<(), Refusal> {
    if volume.attachment.is_some() {
        let text = "The volume is attached to an instance. Detach the volume first.";
        return Err(not_eligible(text).or(super::detach_volume(volume)));
    }
    let Some(instance) = instance else {
        return Ok(());
    };
    let is_root = volume.role == VolumeRole::Root;
    if is_root && !has_root(instance) && instance.power != Power::Off {
        return Err(not_eligible(
            "An instance gets its root volume while it is stopped.",
        ));
    }
    Ok(())
}

fn check_detach(volume: &VolumeFacts) -> Result<(), Refusal> {
    let Some(attachment) = &volume.attachment else {
        return Err(not_eligible("The volume is attached to nothing."));
    };
    let Some(own) = attachment.own else {
        let text = "The provider's orchestrator attached the volume; it is detached there.";
        return Err(not_eligible(text).or(WayOut::AskOperator));
    };
    if own.place == 0 && attach_condition(volume) == AttachCondition::Running {
        let text = "The root volume of a running instance cannot be detached. Stop the instance \
                    first.";
        let refusal = Refusal::new(ProblemCode::AttachedRunning, text);
        return Err(refusal.or(super::stop_instance(volume)));
    }
    Ok(())
}

/// Whether nothing is in the way of an action that is about an instance.
pub(super) fn check_busy(action: Action, facts: &Facts<'_>) -> Result<(), Refusal> {
    let Some(instance) = &facts.instance else {
        return Ok(());
    };
    if action.operation().is_none() {
        return Ok(());
    }
    if let Some(active) = instance.active_operation {
        return Err(busy(active));
    }
    let in_the_way = match action {
        Action::InstanceStart => instance
            .volumes
            .iter()
            .find_map(OtherVolume::in_the_way_of_a_start),
        Action::InstanceDelete => instance.volumes.iter().find_map(|v| v.active_operation),
        _ => None,
    };
    in_the_way.map_or(Ok(()), |active| Err(super::busy(active)))
}

/// The instance is held.
pub(super) fn busy(active: ActiveOperation) -> Refusal {
    let text = format!("Instance is busy with operation: {}", active.kind.word());
    Refusal::new(ProblemCode::InstanceBusy, text)
        .or(WayOut::WatchOperation(active.id))
        .or(WayOut::CancelOperation(active.id))
}
