//! What can go wrong with a machine.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use stillpoint_model::ErrorKind;
use stillpoint_model::id::{InstanceId, VolumeId};

use crate::{MachineState, SwitchReport};

/// What can go wrong with a machine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The machine is not in the state that this needs.
    #[error("the machine of {id} is {state}")]
    WrongState {
        /// The machine.
        id: InstanceId,
        /// What it does.
        state: MachineState,
    },
    /// The machine does not have this volume.
    #[error("the machine of {id} does not have volume {volume}")]
    NoDisk {
        /// The machine.
        id: InstanceId,
        /// The volume.
        volume: VolumeId,
    },
    /// What was asked for cannot be had of any machine.
    #[error("the machine of {id} cannot be like that: {reason}")]
    BadSpec {
        /// The machine.
        id: InstanceId,
        /// Why not.
        reason: String,
    },
    /// The guest was asked to shut down and did not, within the bound.
    #[error("the guest of {id} did not shut down within {} seconds", bound.as_secs())]
    GuestStays {
        /// The machine.
        id: InstanceId,
        /// How long it was waited for.
        bound: Duration,
    },
    /// The guest did not let go of a volume.
    #[error("the guest of {id} did not let go of {volume}")]
    GuestHolds {
        /// The machine.
        id: InstanceId,
        /// The volume.
        volume: VolumeId,
    },
    /// The guest could not be frozen, and nothing was changed.
    #[error("the file systems of the guest of {id} could not be frozen: {reason}")]
    NotFrozen {
        /// The machine.
        id: InstanceId,
        /// Why not.
        reason: String,
    },
    /// The disks were switched, but the guest is not known to have been frozen all the while: what
    /// was captured is as after a loss of power, and nothing better. The overlays are the tips now.
    #[error(
        "the disks of {id} were switched, but its guest did not stay frozen: {}",
        report.not_frozen_because.as_deref().unwrap_or("no reason is known")
    )]
    FreezeBroke {
        /// The machine.
        id: InstanceId,
        /// What was done; `frozen` is none.
        report: SwitchReport,
    },
    /// Somebody asked to stop.
    #[error("it was cancelled")]
    Cancelled,
    /// The machine refused; nothing was changed.
    #[error("the machine of {id} refuses {command}: {reason}")]
    Refused {
        /// The machine.
        id: InstanceId,
        /// What it was told.
        command: String,
        /// What it said.
        reason: String,
    },
    /// The machine began it and failed; some of it may be done.
    #[error("the machine of {id} failed at {command}: {reason}")]
    Failed {
        /// The machine.
        id: InstanceId,
        /// What it was told.
        command: String,
        /// What it said.
        reason: String,
    },
    /// The machine does not answer, or its connection broke: what it did is not known.
    #[error("the machine of {id} does not answer: {reason}")]
    NoAnswer {
        /// The machine.
        id: InstanceId,
        /// What happened.
        reason: String,
    },
    /// The machine's program did not start.
    #[error("the machine of {id} did not start: {reason}")]
    NotStarted {
        /// The machine.
        id: InstanceId,
        /// What it said.
        reason: String,
    },
    /// A file of the run directory.
    #[error("{doing} {path}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(doing: &'static str, path: &std::path::Path, source: io::Error) -> Self {
        Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn without_memory(id: InstanceId) -> Self {
        let reason = "its driver captures no memory".to_owned();
        Self::BadSpec { id, reason }
    }

    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::WrongState { .. }
            | Self::GuestStays { .. }
            | Self::GuestHolds { .. }
            | Self::NotFrozen { .. }
            | Self::FreezeBroke { .. }
            | Self::Refused { .. } => ErrorKind::Conflict,
            Self::NoDisk { .. } => ErrorKind::NotFound,
            Self::BadSpec { .. } => ErrorKind::Invalid,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::NoAnswer { .. } => ErrorKind::Retry,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                ErrorKind::Full
            }
            Self::NotStarted { .. } | Self::Failed { .. } | Self::Io { .. } => ErrorKind::Internal,
        }
    }
}
