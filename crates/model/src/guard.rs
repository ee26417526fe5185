//! Guard rails: one question, one answer, everywhere.
//!
//! [`can`] is asked by the API before it accepts, by the portal to disable a button with its
//! reason, by `--dry-run`, and by the engine inside the transaction that admits an operation.
//! It sees nothing but the [`Facts`] that it is given, so what it says can be tested in full.
//!
//! The order of the checks is the order in which a person can do something about them: what will
//! never work here comes first, what only needs waiting comes last.

use crate::Timestamp;
use crate::id::{OperationId, VolumeId};
use crate::item::{Consistency, FreezePolicy};
use crate::operation::OperationKind;
use crate::plan::{AttachCondition, Circumstances, Plan, RuleAnswer};
use crate::refusal::{ProblemCode, Refusal, WayOut};
use crate::volume::{AttachedState, Attachment, OwnInstance, VolumeRole, VolumeState};
use crate::words::words;

mod instance;
mod item;
mod memory;
mod pace;
mod together;
pub use instance::{InstanceFacts, OtherVolume};
pub use item::ItemFacts;
pub use memory::{can_capture_memory, can_go_on_from, can_go_on_with};
pub use pace::cooldown_left;
pub use together::{Member, can_together};

#[cfg(test)]
mod tests;

words! {
    /// What somebody wants to do.
    Action {
        /// Make an empty volume.
        VolumeCreate = "volume_create",
        /// Make a volume from an uploaded image.
        VolumeImport = "volume_import",
        /// Make a volume from this one as it is now.
        VolumeClone = "volume_clone",
        /// Make a volume larger.
        VolumeResize = "volume_resize",
        /// Rename a volume.
        VolumeRename = "volume_rename",
        /// Delete a volume.
        VolumeDelete = "volume_delete",
        /// Take a snapshot.
        SnapshotCreate = "snapshot_create",
        /// Delete a snapshot.
        SnapshotDelete = "snapshot_delete",
        /// Make a backup.
        BackupCreate = "backup_create",
        /// Delete a backup.
        BackupDelete = "backup_delete",
        /// Prove a backup's data again.
        BackupVerify = "backup_verify",
        /// Make a volume from a snapshot or a backup.
        RestoreNew = "restore_new",
        /// Overwrite a volume with a snapshot or a backup.
        RestoreInPlace = "restore_in_place",
        /// Make an instance.
        InstanceCreate = "instance_create",
        /// Rename an instance.
        InstanceRename = "instance_rename",
        /// Start an instance.
        InstanceStart = "instance_start",
        /// Stop an instance.
        InstanceStop = "instance_stop",
        /// Have an instance stand still, with its memory kept.
        InstancePause = "instance_pause",
        /// Have a paused instance go on.
        InstanceResume = "instance_resume",
        /// Delete an instance.
        InstanceDelete = "instance_delete",
        /// Attach a volume to an instance.
        VolumeAttach = "volume_attach",
        /// Detach a volume from its instance.
        VolumeDetach = "volume_detach",
        /// Make an image.
        ImageCreate = "image_create",
        /// Delete an image.
        ImageDelete = "image_delete",
        /// Take a snapshot of a whole instance.
        InstanceSnapshotCreate = "instance_snapshot_create",
        /// Delete an instance snapshot.
        InstanceSnapshotDelete = "instance_snapshot_delete",
        /// Put an instance back to a snapshot of it.
        InstanceRebuild = "instance_rebuild",
    }
}

impl Action {
    /// The operation that this action starts; none when it is done at once.
    pub const fn operation(self) -> Option<OperationKind> {
        Some(match self {
            Self::VolumeCreate => OperationKind::VolumeCreate,
            Self::VolumeImport => OperationKind::VolumeImport,
            Self::VolumeClone => OperationKind::VolumeClone,
            Self::VolumeResize => OperationKind::VolumeResize,
            Self::VolumeRename => return None,
            Self::VolumeDelete => OperationKind::VolumeDelete,
            Self::SnapshotCreate => OperationKind::SnapshotCreate,
            Self::SnapshotDelete => OperationKind::SnapshotDelete,
            Self::BackupCreate => OperationKind::BackupCreate,
            Self::BackupDelete => OperationKind::BackupDelete,
            Self::BackupVerify => OperationKind::BackupVerify,
            Self::RestoreNew => OperationKind::RestoreNew,
            Self::RestoreInPlace => OperationKind::RestoreInPlace,
            Self::InstanceCreate => OperationKind::InstanceCreate,
            Self::InstanceRename => return None,
            Self::InstanceStart => OperationKind::InstanceStart,
            Self::InstanceStop => OperationKind::InstanceStop,
            Self::InstancePause => OperationKind::InstancePause,
            Self::InstanceResume => OperationKind::InstanceResume,
            Self::InstanceDelete => OperationKind::InstanceDelete,
            Self::VolumeAttach => OperationKind::VolumeAttach,
            Self::VolumeDetach => OperationKind::VolumeDetach,
            Self::ImageCreate => OperationKind::ImageCreate,
            Self::ImageDelete => OperationKind::ImageDelete,
            Self::InstanceSnapshotCreate => OperationKind::InstanceSnapshotCreate,
            Self::InstanceSnapshotDelete => OperationKind::InstanceSnapshotDelete,
            Self::InstanceRebuild => OperationKind::InstanceRebuild,
        })
    }

    /// Whether it changes the volume itself, so that nothing else may change it meanwhile.
    const fn needs_idle_volume(self) -> bool {
        matches!(
            self,
            Self::VolumeClone
                | Self::VolumeResize
                | Self::VolumeDelete
                | Self::SnapshotCreate
                | Self::BackupCreate
                | Self::RestoreInPlace
                | Self::VolumeAttach
                | Self::VolumeDetach
        )
    }

    /// Whether the volume's rest after an operation holds it back. What only takes away, or
    /// leaves the volume alone, never waits.
    const fn waits_for_cooldown(self) -> bool {
        matches!(
            self,
            Self::VolumeClone
                | Self::VolumeResize
                | Self::SnapshotCreate
                | Self::BackupCreate
                | Self::RestoreInPlace
        )
    }

    /// Whether it fails when an instance opens the volume meanwhile.
    fn needs_volume_closed(self, volume: &VolumeFacts) -> bool {
        self == Self::RestoreInPlace || (self.captures_or_overwrites() && !volume.live_capture)
    }

    /// Whether it needs the volume's layers to stand still.
    const fn captures_or_overwrites(self) -> bool {
        self.waits_for_cooldown() || matches!(self, Self::VolumeDelete)
    }
}

/// The operation that holds a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveOperation {
    /// Its id.
    pub id: OperationId,
    /// What it does.
    pub kind: OperationKind,
}

/// What the guard needs to know of the volume that an action is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeFacts {
    /// Its id.
    pub id: VolumeId,
    /// Root or data.
    pub role: VolumeRole,
    /// What it is good for.
    pub state: VolumeState,
    /// The instance that has it.
    pub attachment: Option<Attachment>,
    /// Whether it is still being filled from a backup.
    pub filling: bool,
    /// What holds it.
    pub active_operation: Option<ActiveOperation>,
    /// What holds the instance of ours that has it.
    pub instance_operation: Option<ActiveOperation>,
    /// No new operation before this time.
    pub cooldown_until: Option<Timestamp>,
    /// Snapshots that count toward the cap: manual ones that are not gone or failed.
    pub snapshots: u32,
    /// Backups that count toward the cap.
    pub backups: u32,
    /// Whether its pool can capture it while an instance that runs has it open.
    pub live_capture: bool,
    /// Whether its node has somewhere to put backups.
    pub has_backup_target: bool,
}

/// Everything that a decision rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts<'a> {
    /// The time of the decision.
    pub now: Timestamp,
    /// The rules.
    pub plan: &'a Plan,
    /// The volume it is about; none when one is to be made.
    pub volume: Option<VolumeFacts>,
    /// The item it is about.
    pub item: Option<ItemFacts>,
    /// The instance it is about; none when one is to be made.
    pub instance: Option<InstanceFacts>,
    /// Whether the node that must do the work runs instances.
    pub runs_instances: bool,
    /// The account's images that count toward the cap; asked when one is to be made.
    pub images: u32,
    /// The account's operations in flight.
    pub in_flight: u32,
    /// Whether the node that must do the work answers.
    pub node_online: bool,
    /// An operator's audited word that the cooldown does not matter now.
    pub override_cooldown: bool,
}

/// A yes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// The best consistency that a capture can have now.
    pub consistency: Option<Consistency>,
    /// Advice that the plan gives.
    pub warnings: Vec<String>,
}

/// Whether `action` may be done under these facts.
pub fn can(action: Action, facts: &Facts<'_>) -> Result<Allowed, Refusal> {
    let mut allowed = Allowed::default();
    if let Some(item) = &facts.item {
        item::check(action, item)?;
    }
    instance::check_state(action, facts)?;
    if action == Action::RestoreInPlace && facts.volume.is_none() {
        return Err(source_is_gone());
    }
    if let Some(volume) = &facts.volume {
        check_volume_state(action, volume)?;
        allowed.warnings = check_eligibility(action, facts.plan, volume)?;
        check_attachment(action, volume)?;
        check_backup_target(action, volume)?;
        check_caps(action, facts.plan, volume)?;
        allowed.consistency = Some(capture_consistency(facts.plan, volume));
    }
    check_image_cap(action, facts)?;
    if !facts.node_online && action.operation().is_some() {
        return Err(node_offline());
    }
    instance::check_busy(action, facts)?;
    if let Some(volume) = &facts.volume {
        check_busy(action, volume)?;
        check_filling(action, volume)?;
    }
    pace::check_in_flight(action, facts)?;
    if let Some(volume) = &facts.volume {
        pace::check_cooldown(action, facts, volume)?;
    }
    Ok(allowed)
}

fn check_volume_state(action: Action, volume: &VolumeFacts) -> Result<(), Refusal> {
    // What is about an item alone works whatever became of its volume.
    let about_the_item = matches!(
        action,
        Action::SnapshotDelete
            | Action::BackupDelete
            | Action::BackupVerify
            | Action::RestoreNew
            | Action::ImageCreate
            | Action::ImageDelete
    );
    let usable = match volume.state {
        VolumeState::Available | VolumeState::InUse => true,
        VolumeState::Failed => matches!(action, Action::VolumeDelete | Action::VolumeRename),
        VolumeState::Creating | VolumeState::Deleting => false,
    };
    if about_the_item || usable {
        return Ok(());
    }
    let text = format!("The volume is {}.", volume.state);
    let refusal = Refusal::new(ProblemCode::NotEligible, text);
    Err(match volume.active_operation {
        Some(active) => refusal.or(WayOut::WatchOperation(active.id)),
        None => refusal,
    })
}

fn attach_condition(volume: &VolumeFacts) -> AttachCondition {
    match volume.attachment.as_ref().map(|a| a.state) {
        None => AttachCondition::Detached,
        Some(AttachedState::Stopped) => AttachCondition::Stopped,
        Some(AttachedState::Running) => AttachCondition::Running,
    }
}

fn check_eligibility(
    action: Action,
    plan: &Plan,
    volume: &VolumeFacts,
) -> Result<Vec<String>, Refusal> {
    let seen = Circumstances {
        role: volume.role,
        attach: attach_condition(volume),
        instance: volume.attachment.as_ref().map(instance::condition),
    };
    match plan.answer(action, &seen) {
        Some(RuleAnswer::Allow) => Ok(Vec::new()),
        Some(RuleAnswer::Warn { text }) => Ok(vec![text.clone()]),
        Some(RuleAnswer::Deny { text }) => {
            let refusal = Refusal::new(ProblemCode::NotEligible, text);
            Err(if volume.attachment.is_some() {
                detach_or_stop(refusal, volume)
            } else {
                refusal
            })
        }
        None => {
            let text = "The plan of this volume does not allow it.";
            Err(Refusal::new(ProblemCode::NotEligible, text).or(WayOut::AskOperator))
        }
    }
}

fn detach_or_stop(refusal: Refusal, volume: &VolumeFacts) -> Refusal {
    let refusal = if attach_condition(volume) == AttachCondition::Running {
        refusal.or(stop_instance(volume))
    } else {
        refusal
    };
    refusal.or(detach_volume(volume))
}

/// Stopping what has the volume. Of what something else runs, nobody here knows how.
fn stop_instance(volume: &VolumeFacts) -> WayOut {
    WayOut::StopInstance(own_instance(volume).map(|own| own.id))
}

/// Detaching the volume. What something else attached is detached there.
fn detach_volume(volume: &VolumeFacts) -> WayOut {
    WayOut::DetachVolume(own_instance(volume).map(|_| volume.id))
}

fn own_instance(volume: &VolumeFacts) -> Option<OwnInstance> {
    volume.attachment.as_ref()?.own
}

fn check_attachment(action: Action, volume: &VolumeFacts) -> Result<(), Refusal> {
    if action == Action::VolumeDelete && volume.attachment.is_some() {
        let text = "The volume is attached to an instance. Detach the volume first.";
        return Err(Refusal::new(ProblemCode::NotEligible, text).or(detach_volume(volume)));
    }
    if attach_condition(volume) != AttachCondition::Running {
        return Ok(());
    }
    if action == Action::RestoreInPlace {
        let text = "Cannot restore in-place while attached to a running instance. \
                    Stop the instance or detach the volume first.";
        let refusal = Refusal::new(ProblemCode::AttachedRunning, text);
        return Err(detach_or_stop(refusal, volume).or(WayOut::RestoreToNewVolume));
    }
    if action.captures_or_overwrites() && !volume.live_capture {
        let text = "This pool cannot do that while a running instance has the volume open. \
                    Stop the instance or detach the volume first.";
        let refusal = Refusal::new(ProblemCode::AttachedRunning, text);
        return Err(detach_or_stop(refusal, volume));
    }
    Ok(())
}

fn check_backup_target(action: Action, volume: &VolumeFacts) -> Result<(), Refusal> {
    if action != Action::BackupCreate || volume.has_backup_target {
        return Ok(());
    }
    let text = "Hypervisor has no backup storage configured.";
    Err(Refusal::new(ProblemCode::NoBackupTarget, text).or(WayOut::AskOperator))
}

fn check_caps(action: Action, plan: &Plan, volume: &VolumeFacts) -> Result<(), Refusal> {
    if action == Action::SnapshotCreate && volume.snapshots >= plan.caps.max_snapshots {
        let text = "Snapshot limit reached. Delete an existing snapshot first.";
        return Err(
            Refusal::new(ProblemCode::SnapshotLimit, text).or(WayOut::DeleteSnapshot(volume.id))
        );
    }
    if action == Action::BackupCreate && volume.backups >= plan.caps.max_backups {
        let text = "Backup limit reached. Delete an existing backup first.";
        return Err(
            Refusal::new(ProblemCode::BackupLimit, text).or(WayOut::DeleteBackup(volume.id))
        );
    }
    Ok(())
}

fn check_image_cap(action: Action, facts: &Facts<'_>) -> Result<(), Refusal> {
    if action != Action::ImageCreate || facts.images < facts.plan.caps.max_images {
        return Ok(());
    }
    let text = "Image limit reached. Delete an existing image first.";
    Err(Refusal::new(ProblemCode::ImageLimit, text).or(WayOut::DeleteImage))
}

/// The best that a capture can promise now: whether a guest that is asked to freeze does is known
/// only afterwards.
fn capture_consistency(plan: &Plan, volume: &VolumeFacts) -> Consistency {
    // One that never came up since it was made is not asked.
    let answers = own_instance(volume).is_some_and(|own| own.ready);
    match attach_condition(volume) {
        AttachCondition::Running if answers && plan.freeze != FreezePolicy::Skip => {
            Consistency::Filesystem
        }
        AttachCondition::Running => Consistency::Crash,
        AttachCondition::Detached | AttachCondition::Stopped => Consistency::Stopped,
    }
}

fn source_is_gone() -> Refusal {
    let text = "The volume it was made of is gone. Restore to a new volume instead.";
    Refusal::new(ProblemCode::NotEligible, text).or(WayOut::RestoreToNewVolume)
}

fn node_offline() -> Refusal {
    let text = "The node that holds this storage does not answer. Try again when it is back.";
    Refusal::new(ProblemCode::NodeOffline, text)
        .after(std::time::Duration::from_secs(30))
        .or(WayOut::AskOperator)
}

/// Whether an instance of the orchestrator's may start with a volume: not while an operation holds
/// it, for its layers change hands.
pub fn can_start(active: Option<ActiveOperation>) -> Result<(), Refusal> {
    active.map_or(Ok(()), |active| Err(busy(active)))
}

fn busy(active: ActiveOperation) -> Refusal {
    let text = format!("Volume is busy with operation: {}", active.kind.word());
    Refusal::new(ProblemCode::VolumeBusy, text)
        .or(WayOut::WatchOperation(active.id))
        .or(WayOut::CancelOperation(active.id))
}

/// What is below a volume's tip is not all there while it is filled: nothing can be made of it.
fn check_filling(action: Action, volume: &VolumeFacts) -> Result<(), Refusal> {
    if !volume.filling || !action.waits_for_cooldown() {
        return Ok(());
    }
    let text = "The volume is still being filled from its backup. Wait until it is whole.";
    Err(Refusal::new(ProblemCode::VolumeFilling, text).or(WayOut::ShowVolume(volume.id)))
}

fn check_busy(action: Action, volume: &VolumeFacts) -> Result<(), Refusal> {
    if !action.needs_idle_volume() {
        return Ok(());
    }
    if let Some(active) = volume.active_operation {
        return Err(busy(active));
    }
    // An instance that is starting has its volumes open soon.
    match volume.instance_operation {
        Some(active) if action.needs_volume_closed(volume) => Err(instance::busy(active)),
        _ => Ok(()),
    }
}
