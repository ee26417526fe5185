//! What may be done now, and why not.

use serde::{Deserialize, Serialize};
use stillpoint_model::guard::{self, Allowed};
use stillpoint_model::refusal::Refusal;
use utoipa::ToSchema;

use crate::item::Consistency;
use crate::problem::Problem;
use crate::words::words;

words! {
    /// What somebody wants to do.
    Action = guard::Action {
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

/// Whether one action may be done now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Permission {
    /// The action.
    pub action: Action,
    /// Whether a request for it would be accepted now.
    pub allowed: bool,
    /// Advice that goes with a yes.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// What a request would answer; null with a yes.
    pub problem: Option<Problem>,
}

impl Permission {
    /// From what the guard rails said.
    pub fn new(action: guard::Action, answer: &Result<Allowed, Refusal>) -> Self {
        let (warnings, problem) = match answer {
            Ok(allowed) => (allowed.warnings.clone(), None),
            Err(refusal) => (Vec::new(), Some(Problem::from(refusal))),
        };
        Self {
            action: action.into(),
            allowed: problem.is_none(),
            warnings,
            problem,
        }
    }
}

/// What a request with `?dry_run=true` would have done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Preview {
    /// Always true: nothing was changed.
    pub dry_run: bool,
    /// The best consistency that a capture would have now.
    pub consistency: Option<Consistency>,
    /// Advice that goes with it.
    #[serde(default)]
    pub warnings: Vec<String>,
}

impl From<Allowed> for Preview {
    fn from(allowed: Allowed) -> Self {
        let Allowed {
            consistency,
            warnings,
        } = allowed;
        Self {
            dry_run: true,
            consistency: consistency.map(Into::into),
            warnings,
        }
    }
}
