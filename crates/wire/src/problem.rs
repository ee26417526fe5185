//! Problem documents (RFC 9457): the one shape of every error.

use serde::{Deserialize, Serialize};
use stillpoint_model::id::RequestId;
use stillpoint_model::refusal::{self, Refusal, WayOut};
use utoipa::ToSchema;

use crate::words::words;

words! {
    /// The stable code of a problem. Clients may match on it.
    ProblemCode = refusal::ProblemCode {
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

/// Why something was not done, and what can be done about it (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A URI that names this kind of problem.
    #[serde(rename = "type")]
    #[schema(example = "urn:stillpoint:problem:cooldown")]
    pub type_uri: String,
    /// A short title, the same for every problem of this kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened, in a sentence or two for the customer.
    pub detail: String,
    /// The stable code.
    pub code: ProblemCode,
    /// What to tell support.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub request_id: Option<RequestId>,
    /// Seconds after which the same request may work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
    /// The parts of the request that are wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// What can be done about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolutions: Vec<Resolution>,
}

/// One part of a request that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// Where: a JSON pointer (RFC 6901) into the body, or `?name` for a query parameter.
    #[schema(example = "/size_bytes")]
    pub pointer: String,
    /// The stable code.
    pub code: ProblemCode,
    /// What is wrong with it.
    pub detail: String,
}

/// One way out of a problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Resolution {
    /// What a person reads.
    pub label: String,
    /// The method of the request that does it, when the API can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Where that request goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub href: Option<String>,
}

impl From<&WayOut> for Resolution {
    fn from(way_out: &WayOut) -> Self {
        let request = match way_out {
            WayOut::WatchOperation(id) => Some(("GET", format!("/v1/operations/{id}"))),
            WayOut::CancelOperation(id) => Some(("POST", format!("/v1/operations/{id}/cancel"))),
            WayOut::ListOperations => Some(("GET", "/v1/operations?in_flight=true".to_owned())),
            WayOut::StopInstance(Some(id)) => Some(("POST", format!("/v1/instances/{id}/stop"))),
            WayOut::DetachVolume(Some(id)) => Some(("POST", format!("/v1/volumes/{id}/detach"))),
            WayOut::RestoreToNewVolume => Some(("POST", "/v1/restores".to_owned())),
            WayOut::DeleteSnapshot(volume) => {
                Some(("GET", format!("/v1/snapshots?volume={volume}")))
            }
            WayOut::DeleteImage => Some(("GET", "/v1/images".to_owned())),
            WayOut::DeleteBackup(volume) => Some(("GET", format!("/v1/backups?volume={volume}"))),
            WayOut::ShowVolume(id) => Some(("GET", format!("/v1/volumes/{id}"))),
            WayOut::ShowInstanceSnapshot(id) => {
                Some(("GET", format!("/v1/instance-snapshots/{id}")))
            }
            // Done in the provider's own panel, or by waiting or asking.
            WayOut::Wait(_)
            | WayOut::StopInstance(None)
            | WayOut::DetachVolume(None)
            | WayOut::Unprotect
            | WayOut::ChooseAnotherName
            | WayOut::AskOperator
            | WayOut::RestoreToNewInstance => None,
        };
        let (method, href) = request.map(|(m, h)| (m.to_owned(), h)).unzip();
        Self {
            label: way_out.label(),
            method,
            href,
        }
    }
}

impl From<&Refusal> for Problem {
    fn from(refusal: &Refusal) -> Self {
        let Refusal {
            code,
            text,
            pointer,
            retry_after,
            ways_out,
        } = refusal;
        let field = |pointer: &String| FieldError {
            pointer: pointer.clone(),
            code: (*code).into(),
            detail: text.clone(),
        };
        Self {
            type_uri: format!("urn:stillpoint:problem:{code}"),
            title: code.title().to_owned(),
            status: code.http_status(),
            detail: text.clone(),
            code: (*code).into(),
            request_id: None,
            retry_after_s: retry_after.map(|time| time.as_secs()),
            errors: pointer.iter().map(field).collect(),
            resolutions: ways_out.iter().map(Resolution::from).collect(),
        }
    }
}
