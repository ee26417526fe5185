//! What can go wrong in a pool.

use std::io;
use std::path::PathBuf;

use stillpoint_model::id::{BackupId, LayerId, VolumeId};
use stillpoint_model::layer_tree::Refusal;
use stillpoint_model::{ByteCount, ErrorKind};

use crate::live::HostError;
use crate::qcow2::FormatError;

/// What can go wrong in a pool.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was asked does not fit the tree.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No such layer.
    #[error("there is no layer {0}")]
    NoLayer(LayerId),
    /// No such capture.
    #[error("volume {volume} has no capture for backup {backup}")]
    NoCapture {
        /// The volume.
        volume: VolumeId,
        /// The backup.
        backup: BackupId,
    },
    /// A size that no volume of this pool can have.
    #[error("a volume of {size} bytes is not possible: {reason}", size = size.get())]
    BadSize {
        /// The size.
        size: ByteCount,
        /// Why not.
        reason: &'static str,
    },
    /// An access outside the volume, or not aligned.
    #[error("{len} bytes at {offset} are outside the volume of {size} bytes, or not aligned", size = size.get())]
    OutOfBounds {
        /// Where.
        offset: u64,
        /// How many bytes.
        len: u64,
        /// The volume's size.
        size: ByteCount,
    },
    /// Another process has a layer open.
    #[error("layer {0} is open in another process")]
    LayerInUse(LayerId),
    /// A guest has the volume open.
    #[error("volume {0} is open")]
    VolumeOpen(VolumeId),
    /// Whoever has the volume open did not do what it should.
    #[error("whoever has volume {volume} open did not do it: {reason}")]
    Host {
        /// The volume.
        volume: VolumeId,
        /// What it said.
        reason: String,
    },
    /// Whoever has the volume open will not do it.
    #[error("whoever has volume {volume} open refuses: {reason}")]
    HostRefused {
        /// The volume.
        volume: VolumeId,
        /// Why.
        reason: String,
    },
    /// The guest that has the volume open was required to be frozen, and could not be.
    #[error("the guest that has volume {volume} open cannot be frozen: {reason}")]
    NotFrozen {
        /// The volume.
        volume: VolumeId,
        /// Why not.
        reason: String,
    },
    /// Nobody can say now who has the volume open.
    #[error("who has volume {0} open cannot be found out now")]
    HostUnreachable(VolumeId),
    /// The volume is whole.
    #[error("volume {0} is not being filled")]
    NotFilling(VolumeId),
    /// Another process has the pool open.
    #[error("the pool at {0} is open in another process")]
    PoolInUse(PathBuf),
    /// The volume is being made right now.
    #[error("volume {0} is being made")]
    InTheMaking(VolumeId),
    /// The image cannot be imported.
    #[error("the image is refused: {0}")]
    ImageRefused(FormatError),
    /// The image's virtual size is larger than allowed.
    #[error("the image holds a disk of {size}, allowed are {max}")]
    ImageTooLarge {
        /// The disk's size.
        size: ByteCount,
        /// The largest allowed.
        max: ByteCount,
    },
    /// The image cannot be read.
    #[error("the image cannot be read")]
    ImageUnreadable(#[source] io::Error),
    /// A layer's file is not there.
    #[error("the file of layer {0} is missing")]
    LayerMissing(LayerId),
    /// A layer's file is damaged.
    #[error("layer {layer} is damaged: {reason}")]
    LayerDamaged {
        /// The layer.
        layer: LayerId,
        /// What is wrong with it.
        reason: FormatError,
    },
    /// A file has a layer's name, but is something else.
    #[error("the file of layer {layer} is not that layer: {reason}")]
    ForeignLayer {
        /// The layer.
        layer: LayerId,
        /// What gave it away.
        reason: &'static str,
    },
    /// A volume's record cannot be trusted.
    #[error("the record of volume {volume} is damaged: {reason}")]
    RecordDamaged {
        /// The volume.
        volume: VolumeId,
        /// What is wrong with it.
        reason: String,
    },
    /// The folder is no pool, or of a later version.
    #[error("{path} is no pool that this version can open: {reason}")]
    NotAPool {
        /// The folder.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// This driver cannot do it.
    #[error("this pool cannot {0}")]
    Unsupported(&'static str),
    /// The storage is full.
    #[error("the pool is full")]
    Full,
    /// Somebody asked for the work to stop.
    #[error("cancelled")]
    Cancelled,
    /// An injected fault ended the run as a crash would.
    #[error("crashed on purpose at step {0}")]
    Crashed(u64),
    /// The operating system says no.
    #[error("{action} failed")]
    Io {
        /// What was being done.
        action: String,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// What a caller must do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(refusal) => refusal.kind(),
            Self::NoLayer(_) | Self::NoCapture { .. } => ErrorKind::NotFound,
            Self::NotFilling(_)
            | Self::BadSize { .. }
            | Self::OutOfBounds { .. }
            | Self::ImageRefused(_)
            | Self::ImageTooLarge { .. }
            | Self::ImageUnreadable(_) => ErrorKind::Invalid,
            Self::LayerInUse(_)
            | Self::PoolInUse(_)
            | Self::VolumeOpen(_)
            | Self::HostRefused { .. }
            | Self::NotFrozen { .. } => ErrorKind::Conflict,
            Self::InTheMaking(_) | Self::HostUnreachable(_) => ErrorKind::Retry,
            Self::LayerMissing(_)
            | Self::LayerDamaged { .. }
            | Self::ForeignLayer { .. }
            | Self::RecordDamaged { .. } => ErrorKind::Corrupt,
            Self::NotAPool { .. } | Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::Full => ErrorKind::Full,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Crashed(_) | Self::Io { .. } | Self::Host { .. } => ErrorKind::Internal,
        }
    }

    /// From what the host of a volume said.
    pub(crate) fn host(volume: VolumeId, error: HostError) -> Self {
        match error {
            HostError::Unreachable => Self::HostUnreachable(volume),
            HostError::Refused(reason) => Self::HostRefused { volume, reason },
            HostError::NotFrozen(reason) => Self::NotFrozen { volume, reason },
            HostError::Failed(reason) => Self::Host { volume, reason },
        }
    }

    /// From what the system said while `action` was being done. No space is [`Error::Full`].
    pub(crate) fn io(action: impl Into<String>, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::Full,
            _ => Self::Io {
                action: action.into(),
                source,
            },
        }
    }
}
