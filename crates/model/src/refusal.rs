//! Refusals: why something cannot be done now, and the ways out.
//!
//! One object in API, CLI and portal alike: a stable code, a sentence that a customer
//! understands, and what can be done about it.

use std::time::Duration;

use crate::id::{InstanceId, InstanceSnapshotId, OperationId, VolumeId};
use crate::words::words;

words! {
    /// The stable code of a problem. Clients may match on it.
    ProblemCode {
        /// Another operation holds the volume.
        VolumeBusy = "volume_busy",
        /// The volume is still being filled from its backup, or the backup is needed for that.
        VolumeFilling = "volume_filling",
        /// Another operation holds the instance.
        InstanceBusy = "instance_busy",
        /// The volume rests after an operation.
        Cooldown = "cooldown",
        /// The plan's cap of snapshots is reached.
        SnapshotLimit = "snapshot_limit",
        /// The plan's cap of backups is reached.
        BackupLimit = "backup_limit",
        /// The plan's cap of images is reached.
        ImageLimit = "image_limit",
        /// The account has as many operations in flight as it may.
        InflightLimit = "inflight_limit",
        /// The volume is attached to an instance that runs.
        AttachedRunning = "attached_running",
        /// The volume's node has no backup target.
        NoBackupTarget = "no_backup_target",
        /// The restore point does not fit the chosen place.
        IncompatibleTarget = "incompatible_target",
        /// The account's credit does not cover the estimate.
        InsufficientCredit = "insufficient_credit",
        /// The account's profile lacks something.
        ProfileIncomplete = "profile_incomplete",
        /// The plan or the state of things does not allow it.
        NotEligible = "not_eligible",
        /// The item is protected.
        Protected = "protected",
        /// The backup was promised to stay until a time that is not over.
        BackupLocked = "backup_locked",
        /// Something else has that name.
        NameTaken = "name_taken",
        /// The text is no name here.
        NameInvalid = "name_invalid",
        /// The pool has no room.
        PoolFull = "pool_full",
        /// The node that holds the volume does not answer.
        NodeOffline = "node_offline",
        /// Stored data is damaged or missing.
        IntegrityError = "integrity_error",
        /// It does not exist, or it belongs to someone else.
        NotFound = "not_found",
        /// The request is malformed; the pointer says where.
        InvalidRequest = "invalid_request",
        /// An uploaded image was refused; the text says why.
        ImageRefused = "image_refused",
        /// No credential, or one that does not work.
        Unauthenticated = "unauthenticated",
        /// The credential does not allow it.
        Forbidden = "forbidden",
        /// It was changed since it was read.
        PreconditionFailed = "precondition_failed",
        /// The idempotency key was used for another request.
        IdempotencyMismatch = "idempotency_mismatch",
        /// The request body is larger than allowed.
        TooLarge = "too_large",
        /// The path exists, the method does not.
        MethodNotAllowed = "method_not_allowed",
        /// The body is not of a type that is read here.
        UnsupportedMediaType = "unsupported_media_type",
        /// Too many requests of this kind at once.
        TooManyRequests = "too_many_requests",
        /// It made no progress for too long and was ended.
        NoProgress = "no_progress",
        /// An operator ended it.
        ReleasedByOperator = "released_by_operator",
        /// It was cancelled.
        Cancelled = "cancelled",
        /// A fault of ours.
        Internal = "internal",
    }
}

impl ProblemCode {
    /// The HTTP status that goes with it.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::InvalidRequest => 400,
            Self::Unauthenticated => 401,
            Self::InsufficientCredit => 402,
            Self::ProfileIncomplete | Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::VolumeBusy
            | Self::VolumeFilling
            | Self::InstanceBusy
            | Self::Cooldown
            | Self::SnapshotLimit
            | Self::BackupLimit
            | Self::ImageLimit
            | Self::AttachedRunning
            | Self::NotEligible
            | Self::Protected
            | Self::BackupLocked
            | Self::NameTaken
            | Self::ReleasedByOperator
            | Self::Cancelled => 409,
            Self::PreconditionFailed => 412,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::NoBackupTarget
            | Self::IncompatibleTarget
            | Self::NameInvalid
            | Self::ImageRefused
            | Self::IdempotencyMismatch => 422,
            Self::InflightLimit | Self::TooManyRequests => 429,
            Self::IntegrityError | Self::Internal => 500,
            Self::NodeOffline => 503,
            Self::NoProgress => 504,
            Self::PoolFull => 507,
        }
    }

    /// A short title, the same for every occurrence.
    pub const fn title(self) -> &'static str {
        match self {
            Self::VolumeBusy => "Volume is busy",
            Self::VolumeFilling => "Volume is being filled",
            Self::InstanceBusy => "Instance is busy",
            Self::Cooldown => "Volume is in cooldown",
            Self::SnapshotLimit => "Snapshot limit reached",
            Self::BackupLimit => "Backup limit reached",
            Self::ImageLimit => "Image limit reached",
            Self::InflightLimit => "Too many operations in flight",
            Self::AttachedRunning => "Attached to a running instance",
            Self::NoBackupTarget => "No backup target",
            Self::IncompatibleTarget => "Incompatible target",
            Self::InsufficientCredit => "Insufficient credit",
            Self::ProfileIncomplete => "Profile incomplete",
            Self::NotEligible => "Not eligible",
            Self::Protected => "Protected",
            Self::BackupLocked => "Backup is locked",
            Self::NameTaken => "Name taken",
            Self::NameInvalid => "Name not allowed",
            Self::PoolFull => "Pool full",
            Self::NodeOffline => "Node offline",
            Self::IntegrityError => "Integrity error",
            Self::NotFound => "Not found",
            Self::InvalidRequest => "Invalid request",
            Self::ImageRefused => "Image refused",
            Self::Unauthenticated => "Not signed in",
            Self::Forbidden => "Not allowed",
            Self::PreconditionFailed => "Changed meanwhile",
            Self::IdempotencyMismatch => "Idempotency key reused",
            Self::TooLarge => "Too large",
            Self::MethodNotAllowed => "Method not allowed",
            Self::UnsupportedMediaType => "Unsupported media type",
            Self::TooManyRequests => "Too many requests",
            Self::NoProgress => "No progress",
            Self::ReleasedByOperator => "Released by an operator",
            Self::Cancelled => "Cancelled",
            Self::Internal => "Internal error",
        }
    }
}

/// What can be done about a refusal. The edges turn it into a link, a command or a hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WayOut {
    /// Wait; then it works.
    Wait(Duration),
    /// Watch the operation that is in the way.
    WatchOperation(OperationId),
    /// Cancel the operation that is in the way.
    CancelOperation(OperationId),
    /// See the account's operations in flight.
    ListOperations,
    /// Stop the instance; none when something else than this installation runs it.
    StopInstance(Option<InstanceId>),
    /// Detach the volume; none when something else attached it, which alone can detach it.
    DetachVolume(Option<VolumeId>),
    /// Restore to a new volume instead.
    RestoreToNewVolume,
    /// Delete a snapshot of the volume.
    DeleteSnapshot(VolumeId),
    /// Delete a backup of the volume.
    DeleteBackup(VolumeId),
    /// Delete an image of the account.
    DeleteImage,
    /// Take off the protection.
    Unprotect,
    /// Choose another name.
    ChooseAnotherName,
    /// See the volume that is in the way.
    ShowVolume(VolumeId),
    /// Ask an operator.
    AskOperator,
    /// See the instance snapshot that it is part of.
    ShowInstanceSnapshot(InstanceSnapshotId),
    /// Make a new instance of it instead.
    RestoreToNewInstance,
}

impl WayOut {
    /// What a person reads on the link or in the hint.
    pub fn label(&self) -> String {
        match self {
            Self::Wait(time) => format!("Try again in {} seconds", time.as_secs()),
            Self::WatchOperation(_) => "Watch the running operation".into(),
            Self::CancelOperation(_) => "Cancel the running operation".into(),
            Self::ListOperations => "See the operations in flight".into(),
            Self::StopInstance(_) => "Stop the instance".into(),
            Self::DetachVolume(_) => "Detach the volume".into(),
            Self::RestoreToNewVolume => "Restore to a new volume".into(),
            Self::DeleteSnapshot(_) => "Delete a snapshot".into(),
            Self::DeleteBackup(_) => "Delete a backup".into(),
            Self::DeleteImage => "Delete an image".into(),
            Self::Unprotect => "Remove the protection".into(),
            Self::ChooseAnotherName => "Choose another name".into(),
            Self::ShowVolume(_) => "See the volume".into(),
            Self::AskOperator => "Ask your operator".into(),
            Self::ShowInstanceSnapshot(_) => "See the instance snapshot".into(),
            Self::RestoreToNewInstance => "Make a new instance of it".into(),
        }
    }
}

/// Why something cannot be done, in one object for API, CLI and portal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// The stable code.
    pub code: ProblemCode,
    /// The sentence that a customer reads.
    pub text: String,
    /// The field of the request that is wrong, as a JSON pointer.
    pub pointer: Option<String>,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// What can be done about it.
    pub ways_out: Vec<WayOut>,
}

impl Refusal {
    /// A refusal without a way out yet.
    pub fn new(code: ProblemCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            pointer: None,
            retry_after: None,
            ways_out: Vec::new(),
        }
    }

    /// Names the field of the request that is wrong.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }

    /// Adds what can be done about it.
    #[must_use]
    pub fn or(mut self, way_out: WayOut) -> Self {
        self.ways_out.push(way_out);
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn after(mut self, time: Duration) -> Self {
        self.retry_after = Some(time);
        self.ways_out.push(WayOut::Wait(time));
        self
    }

    /// Something that does not exist, or belongs to someone else.
    pub fn not_found(what: &str) -> Self {
        Self::new(ProblemCode::NotFound, format!("There is no such {what}."))
    }
}
