//! What can go wrong in a vault, with the object it happened to.

use std::io;

use stillpoint_model::ErrorKind;
use stillpoint_model::id::{BackupId, RunId, VaultId};

use crate::collect::Refusal;
use crate::format::KeyId;
use crate::target::{ObjectName, TargetError};

/// An error of the vault.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The target refused or failed.
    #[error("the backup target failed")]
    Target(#[from] TargetError),
    /// An object is not what was written.
    #[error("object {object} is damaged: {what}")]
    Corrupt {
        /// The object.
        object: ObjectName,
        /// What was found.
        what: &'static str,
    },
    /// An object needs a newer version of this software.
    #[error("object {object} needs a newer version: {what}")]
    Unsupported {
        /// The object.
        object: ObjectName,
        /// What is unknown here.
        what: &'static str,
    },
    /// The vault's keys are wrapped under another root key.
    #[error("vault {vault_id} opens with root key {needed}, not with {given}")]
    WrongKey {
        /// The vault.
        vault_id: VaultId,
        /// The root key that it was wrapped under.
        needed: KeyId,
        /// The root key that was offered.
        given: KeyId,
    },
    /// The text is no root key.
    #[error("not a root key: expected one line `stillpoint-root-key-1 <64 hex digits>`")]
    MalformedRootKey,
    /// The root key's file could not be read or written.
    #[error("the root key file {path} cannot be used")]
    RootKeyFile {
        /// Where it is.
        path: std::path::PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no such vault in the target.
    #[error("no vault {0} in this target")]
    VaultNotFound(VaultId),
    /// The vault exists already.
    #[error("vault {0} exists already")]
    VaultExists(VaultId),
    /// There is no such backup.
    #[error("no backup {0} in this vault")]
    BackupNotFound(BackupId),
    /// Another run committed a backup under this id.
    #[error("backup {0} exists already")]
    BackupExists(BackupId),
    /// The backup was deleted.
    #[error("backup {0} was deleted")]
    BackupDeleted(BackupId),
    /// A collection is removing the backup.
    #[error("backup {0} is being removed by a collection")]
    BeingCollected(BackupId),
    /// A collection found a reason not to go on. Nothing was removed because of it.
    #[error("the collection was given up")]
    Refused(#[from] Refusal),
    /// The request makes no sense.
    #[error("invalid request: {0}")]
    Invalid(&'static str),
    /// The volume could not be read.
    #[error("the volume cannot be read at byte {offset}")]
    Source {
        /// Where.
        offset: u64,
        /// What its reader said.
        source: io::Error,
    },
    /// The restored volume could not be written or read back.
    #[error("the restored volume cannot be used at byte {offset}")]
    Sink {
        /// Where.
        offset: u64,
        /// What its writer said.
        source: io::Error,
    },
    /// What was written is not what was backed up.
    #[error("the restored volume differs from backup {0}")]
    Mismatch(BackupId),
    /// A damaged backup cannot be made whole from what there is.
    #[error("backup {backup} cannot be made whole: {what}")]
    Irreparable {
        /// The backup.
        backup: BackupId,
        /// Why not.
        what: &'static str,
    },
    /// The caller did not confirm that the run may still commit.
    #[error("the commit of run {run_id} was not confirmed")]
    NotConfirmed {
        /// The run.
        run_id: RunId,
        /// What the caller said.
        kind: ErrorKind,
    },
    /// Somebody took back this run while it was still going.
    #[error("run {0} was reaped by another")]
    Reaped(RunId),
    /// The compressor gave something that does not decode to its input.
    #[error("the compressor's output does not decode to its input; nothing was stored")]
    Compressor,
    /// The target lacks what the vault's safety rests on.
    #[error("the target cannot hold a vault: {0}")]
    UnfitTarget(&'static str),
    /// Somebody asked for the work to stop.
    #[error("cancelled")]
    Cancelled,
    /// A bug or a fault of the machine.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

impl Error {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Target(error) => error.kind(),
            Self::Corrupt { .. } | Self::Mismatch(_) | Self::Irreparable { .. } => {
                ErrorKind::Corrupt
            }
            Self::Unsupported { .. } | Self::UnfitTarget(_) => ErrorKind::Unsupported,
            Self::WrongKey { .. } | Self::MalformedRootKey | Self::Invalid(_) => ErrorKind::Invalid,
            Self::VaultNotFound(_) | Self::BackupNotFound(_) | Self::BackupDeleted(_) => {
                ErrorKind::NotFound
            }
            Self::VaultExists(_) | Self::BackupExists(_) => ErrorKind::Conflict,
            Self::RootKeyFile { source, .. }
            | Self::Source { source, .. }
            | Self::Sink { source, .. } => kind_of_io(source),
            Self::NotConfirmed { kind, .. } => *kind,
            Self::Reaped(_) => ErrorKind::Fenced,
            Self::BeingCollected(_) => ErrorKind::Retry,
            Self::Refused(refusal) => refusal.kind(),
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Compressor | Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// Whether one object is damaged or missing, so that others may well be readable.
    pub(crate) fn is_of_one_object(&self) -> bool {
        let cut = |error: &TargetError| error.kind() == ErrorKind::Corrupt;
        self.is_missing()
            || matches!(self, Self::Corrupt { .. } | Self::Unsupported { .. })
            || matches!(self, Self::Target(error) if cut(error))
    }

    /// Whether an object is not what was written, or gone: nothing that a newer version could read.
    pub(crate) fn is_damage(&self) -> bool {
        self.is_of_one_object() && !matches!(self, Self::Unsupported { .. })
    }

    /// Whether the object is missing from the target.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Target(error) if error.kind() == ErrorKind::NotFound)
    }
}

/// What an operating system error asks of the caller.
pub(crate) fn kind_of_io(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::AlreadyExists => ErrorKind::Conflict,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            ErrorKind::Full
        }
        io::ErrorKind::Interrupted | io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            ErrorKind::Retry
        }
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => ErrorKind::Corrupt,
        io::ErrorKind::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::Internal,
    }
}
