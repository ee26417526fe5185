//! Volumes that are in use before they are whole.
//!
//! ```text
//!           begin                         end
//! (nothing) -----> tip                   -----> tip          a volume as any other;
//!                   | (a reader of           |               the base has no name any more
//!                   |  the backup)          base             and is merged like any layer
//!                  base, filled meanwhile
//! ```
//!
//! A volume that is restored at once has two layers from its beginning: a tip, which takes what a guest
//! writes, and a base, which is filled from the backup while the volume is in use. Until the base is
//! whole nobody reads through it: whoever opens the volume has a reader of the backup below the tip
//! instead, which shows what the base will hold. So what a guest writes and what is restored never
//! meet in one file, and the base can be compared with the backup like any restore.
//!
//! Until the record says that it is whole, nothing is sealed, copied or grown. It can be deleted at
//! any time.

use serde::{Deserialize, Serialize};

use super::{FreshLayers, LayerTree, Plan, Refusal, Step, VolumeOrigin, VolumeRecord};
use crate::ByteCount;
use crate::id::{BackupId, LayerId, VolumeId};
use crate::task::VaultRef;

/// The backup that a volume shows until it is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FillSource {
    /// The vault that the backup is in.
    pub vault: VaultRef,
    /// The volume that the backup is of.
    pub source_volume_id: VolumeId,
    /// The backup.
    pub backup_id: BackupId,
}

/// A volume's base that is being filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filling {
    /// The base: what the tip stands on.
    pub base: LayerId,
    /// What it is filled from.
    pub source: FillSource,
}

impl LayerTree {
    /// How a volume is being filled; none when it is whole, or is not there.
    pub fn filling(&self, volume: VolumeId) -> Option<Filling> {
        self.record(volume)?.filling
    }

    /// Makes a volume that shows a backup.
    pub fn plan_begin_fill(
        &self,
        volume: VolumeId,
        size: ByteCount,
        source: FillSource,
        fresh: FreshLayers,
    ) -> Result<Plan, Refusal> {
        let origin = VolumeOrigin::Restore;
        if !self.may_make(volume, origin)? {
            return match self.filling(volume) {
                Some(other) if other.source != source => Err(Refusal::VolumeExists(volume)),
                _ => Ok(Plan::default()),
            };
        }
        let (base, tip) = (fresh.first, fresh.second);
        let layer = |layer, parent| Step::CreateLayer {
            layer,
            owner: volume,
            parent,
            size,
        };
        let record = VolumeRecord {
            filling: Some(Filling { base, source }),
            ..VolumeRecord::new(origin, tip)
        };
        let mut steps = self.steps_to_announce(volume, origin);
        steps.extend([layer(base, None), layer(tip, Some(base))]);
        steps.push(Step::PutRecord { volume, record });
        Ok(Plan { steps })
    }

    /// Records that a volume's base holds all of its backup.
    pub fn plan_end_fill(&self, volume: VolumeId) -> Result<Plan, Refusal> {
        let record = self.known(volume)?.ok_or(Refusal::NoVolume(volume))?;
        let Some(layer) = record.filling.map(|filling| filling.base) else {
            return Ok(Plan::default());
        };
        let record = VolumeRecord {
            filling: None,
            ..record.clone()
        };
        Ok(Plan {
            steps: vec![
                Step::PutRecord { volume, record },
                Step::SealLayer { layer },
            ],
        })
    }

    /// Refuses a volume that is not whole.
    pub fn check_whole(&self, volume: VolumeId) -> Result<(), Refusal> {
        match self.filling(volume) {
            None => Ok(()),
            Some(_) => Err(Refusal::Filling(volume)),
        }
    }
}
