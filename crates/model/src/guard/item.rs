//! What may be done with a snapshot, a backup or another copy.

use super::{Action, ActiveOperation};
use crate::id::{InstanceSnapshotId, VolumeId};
use crate::item::ItemState;
use crate::refusal::{ProblemCode, Refusal, WayOut};
use crate::time::Timestamp;

/// What the guard needs to know of the snapshot, backup or image that an action is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemFacts {
    /// How far it is.
    pub state: ItemState,
    /// Whether it is protected.
    pub protected: bool,
    /// Until when it was promised to stay, if that is not over.
    pub keep_until: Option<Timestamp>,
    /// An operation that reads it or is about it.
    pub active_operation: Option<ActiveOperation>,
    /// Whether any number of operations may read it at once, as they may an image.
    pub is_shared: bool,
    /// A volume that is still being filled from it.
    pub fills: Option<VolumeId>,
    /// The instance snapshot that it is part of.
    pub part_of: Option<InstanceSnapshotId>,
}

pub(super) fn check(action: Action, item: &ItemFacts) -> Result<(), Refusal> {
    let deletes = matches!(
        action,
        Action::SnapshotDelete
            | Action::BackupDelete
            | Action::ImageDelete
            | Action::InstanceSnapshotDelete
    );
    if let (Action::SnapshotDelete, Some(whole)) = (action, item.part_of) {
        let text = "This snapshot is part of an instance snapshot, and is deleted with it.";
        return Err(
            Refusal::new(ProblemCode::Protected, text).or(WayOut::ShowInstanceSnapshot(whole))
        );
    }
    if deletes && item.protected {
        let text = "This item is protected. Remove the protection first.";
        return Err(Refusal::new(ProblemCode::Protected, text).or(WayOut::Unprotect));
    }
    let has_content = matches!(item.state, ItemState::Available | ItemState::Degraded);
    if let Some(until) = item.keep_until.filter(|_| deletes && has_content) {
        let text = format!("This backup is locked until {until}. Nobody can delete it before.");
        return Err(Refusal::new(ProblemCode::BackupLocked, text));
    }
    if let (true, Some(volume)) = (deletes, item.fills) {
        let text = "A volume is still being filled from this backup. Delete it when that volume is \
                    whole.";
        return Err(Refusal::new(ProblemCode::VolumeFilling, text).or(WayOut::ShowVolume(volume)));
    }
    let in_the_way = item.active_operation.filter(|_| deletes || !item.is_shared);
    if let Some(active) = in_the_way {
        let text = format!("This item is in use by operation: {}", active.kind.word());
        return Err(Refusal::new(ProblemCode::VolumeBusy, text)
            .or(WayOut::WatchOperation(active.id))
            .or(WayOut::CancelOperation(active.id)));
    }
    let usable = if deletes {
        matches!(
            item.state,
            ItemState::Available | ItemState::Degraded | ItemState::Failed | ItemState::Lost
        )
    } else {
        let proves = action == Action::BackupVerify && item.state == ItemState::Degraded;
        proves || item.state == ItemState::Available
    };
    if usable {
        return Ok(());
    }
    let text = format!("This item is {}. It must be available first.", item.state);
    Err(Refusal::new(ProblemCode::NotEligible, text))
}
