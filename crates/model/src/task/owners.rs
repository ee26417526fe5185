//! What tasks own: the things that one of them changes at a time.

use super::{CloneSource, TaskSpec};
use crate::id::{InstanceId, VolumeId};
use crate::instance::MachineOrder;

impl TaskSpec {
    /// The things that it changes. Two tasks that share one never run at the same time.
    ///
    /// A machine that starts owns the volumes that it opens, and a volume that is plugged belongs
    /// to both, so that a capture sees either none of it or all.
    pub fn owners(&self) -> Vec<uuid::Uuid> {
        match *self {
            Self::InstanceStart {
                instance_id,
                ref machine,
                ..
            } => owners_with(instance_id, machine),
            Self::InstanceStop { instance_id, .. }
            | Self::InstancePause { instance_id }
            | Self::InstanceResume { instance_id }
            | Self::InstanceRemove { instance_id }
            | Self::InstanceInspect { instance_id } => vec![instance_id.as_uuid()],
            Self::VolumePlug { instance_id, disk } => {
                vec![instance_id.as_uuid(), disk.volume_id.as_uuid()]
            }
            Self::VolumeUnplug {
                instance_id,
                volume_id,
            } => vec![instance_id.as_uuid(), volume_id.as_uuid()],
            Self::All { ref tasks } => tasks.iter().flat_map(Self::owners).collect(),
            Self::VolumeCreate { volume_id, .. }
            | Self::VolumeImport { volume_id, .. }
            | Self::VolumeFromImage { volume_id, .. }
            | Self::VolumeResize { volume_id, .. }
            | Self::VolumeDelete { volume_id }
            | Self::VolumeRollBack { volume_id, .. }
            | Self::VolumeInspect { volume_id, .. }
            | Self::VolumeFillBegin { volume_id, .. }
            | Self::BackupRestore { volume_id, .. } => vec![volume_id.as_uuid()],
            Self::VolumeFill { volume_id } => vec![fill_of(volume_id)],
            Self::VolumeClone { volume_id, source } => match source {
                CloneSource::Snapshot(_) => vec![volume_id.as_uuid()],
                CloneSource::Volume(source) => vec![volume_id.as_uuid(), source.as_uuid()],
            },
            Self::SnapshotSeal { .. }
            | Self::SnapshotSealTogether { .. }
            | Self::SnapshotSealWithMemory { .. }
            | Self::SnapshotVerify { .. }
            | Self::SnapshotDrop { .. }
            | Self::MemoryVerify { .. }
            | Self::MemoryDrop { .. } => self.owners_of_capture(),
            Self::BackupCapture {
                volume_id,
                backup_id,
                ..
            }
            | Self::BackupSettle {
                volume_id,
                backup_id,
            } => {
                vec![volume_id.as_uuid(), backup_id.as_uuid()]
            }
            Self::BackupUpload { backup_id, .. }
            | Self::BackupVerify { backup_id, .. }
            | Self::BackupReap { backup_id, .. }
            | Self::BackupDelete { backup_id, .. } => vec![backup_id.as_uuid()],
            Self::VolumeSwitch {
                volume_id,
                staged_id,
                ..
            } => {
                vec![volume_id.as_uuid(), staged_id.as_uuid()]
            }
            Self::VaultCollect { vault, .. }
            | Self::VaultVerify { vault, .. }
            | Self::VaultMend { vault }
            | Self::VaultCopy { to: vault, .. } => vec![vault.vault_id.as_uuid()],
            Self::PoolTidy => Vec::new(),
        }
    }

    /// What a task of snapshots, or of the memory that belongs to them, changes.
    fn owners_of_capture(&self) -> Vec<uuid::Uuid> {
        match *self {
            Self::SnapshotSeal {
                volume_id,
                snapshot_id,
                ..
            } => vec![volume_id.as_uuid(), snapshot_id.as_uuid()],
            Self::SnapshotSealTogether { ref points, .. } => super::seal::owners_of(points),
            Self::SnapshotSealWithMemory {
                ref points,
                instance_snapshot_id,
            } => {
                let mut owners = super::seal::owners_of(points);
                owners.push(instance_snapshot_id.as_uuid());
                owners
            }
            Self::SnapshotVerify { snapshot_id } | Self::SnapshotDrop { snapshot_id } => {
                vec![snapshot_id.as_uuid()]
            }
            Self::MemoryVerify {
                instance_snapshot_id,
            }
            | Self::MemoryDrop {
                instance_snapshot_id,
            } => vec![instance_snapshot_id.as_uuid()],
            _ => Vec::new(),
        }
    }
}

/// The fill of a volume, as a thing that one task owns: not the volume, which others change
/// meanwhile. No id that is ever made equals it, since it has another version of UUID.
const fn fill_of(volume: VolumeId) -> uuid::Uuid {
    /// From version 7, which all ids have, to version 8.
    const VERSION: u128 = 0xf << 76;
    uuid::Uuid::from_u128(volume.as_uuid().as_u128() ^ VERSION)
}

/// An instance, and the volumes that its machine opens.
fn owners_with(instance: InstanceId, machine: &MachineOrder) -> Vec<uuid::Uuid> {
    let disks = machine.disks.iter().map(|disk| disk.volume_id.as_uuid());
    std::iter::once(instance.as_uuid()).chain(disks).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fill_owns_itself_and_not_its_volume() {
        let volume_id = VolumeId::from_uuid(uuid::Uuid::from_u128(7));
        let of_fill = TaskSpec::VolumeFill { volume_id }.owners();
        let of_delete = TaskSpec::VolumeDelete { volume_id }.owners();
        assert_eq!(of_fill.len(), 1);
        assert_ne!(of_fill, of_delete);
        // What is made has version 7, so nothing that is made is the fill of another volume.
        let made = uuid::Builder::from_unix_timestamp_millis(1, &[7; 10]).into_uuid();
        assert_eq!(made.get_version_num(), 7);
        let fill = fill_of(VolumeId::from_uuid(made));
        assert_eq!(fill.get_version_num(), 8);
    }
}
