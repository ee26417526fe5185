//! What went wrong, in two languages: a code and a sentence for the customer, the whole chain of
//! causes for the operator.
//!
//! The customer's sentence never holds a path, and no id of anything that is not the customer's.

use stillpoint_layers as layers;
use stillpoint_model::ErrorKind;
use stillpoint_model::error::with_causes;
use stillpoint_model::layer_tree::Refusal;
use stillpoint_model::refusal::ProblemCode;
use stillpoint_model::task::{TaskFailure, TaskSpec};
use stillpoint_vault as vault;

use crate::readers::ReaderError;

/// A failure whose sentence follows from its kind.
pub fn of_kind(kind: ErrorKind, detail: String) -> TaskFailure {
    let (code, text) = match kind {
        ErrorKind::Retry => (
            ProblemCode::NodeOffline,
            "The storage did not answer in time. Try again later.",
        ),
        ErrorKind::Conflict => (
            ProblemCode::AttachedRunning,
            "Something on the node has the volume open. Stop the instance or detach the volume \
             first.",
        ),
        ErrorKind::NotFound => (
            ProblemCode::IntegrityError,
            "Something that this needs is not in the storage any more.",
        ),
        ErrorKind::Invalid => (
            ProblemCode::InvalidRequest,
            "The storage does not accept that.",
        ),
        ErrorKind::Fenced => (
            ProblemCode::NodeOffline,
            "The node lost its claim to this work.",
        ),
        ErrorKind::Corrupt => (
            ProblemCode::IntegrityError,
            "Stored data is damaged or missing. Nothing was changed.",
        ),
        ErrorKind::Unsupported => (ProblemCode::NotEligible, "This storage cannot do that."),
        ErrorKind::Full => (
            ProblemCode::PoolFull,
            "The storage has no room left. Delete something, or ask your operator for more.",
        ),
        ErrorKind::Cancelled => (ProblemCode::Cancelled, "It was cancelled."),
        ErrorKind::Internal => (
            ProblemCode::Internal,
            "The node had a fault. Try again, and ask your operator if it happens twice.",
        ),
    };
    TaskFailure {
        kind,
        code,
        text: text.to_owned(),
        detail,
    }
}

/// What the control plane hears of a pool's error.
pub fn of_pool(error: &layers::Error) -> TaskFailure {
    let detail = with_causes(error);
    let mut failure = of_kind(error.kind(), detail);
    match error {
        layers::Error::ImageRefused(_) | layers::Error::ImageTooLarge { .. } => {
            failure.code = ProblemCode::ImageRefused;
            failure.text = sentence(&error.to_string());
        }
        layers::Error::ImageUnreadable(_) => {
            failure.code = ProblemCode::ImageRefused;
            failure.text = "The uploaded image cannot be read.".to_owned();
        }
        layers::Error::BadSize { .. } => failure.text = sentence(&error.to_string()),
        layers::Error::HostUnreachable(_) => {
            failure.text =
                "The instance that has the volume open does not answer. Try again later."
                    .to_owned();
        }
        layers::Error::Refused(Refusal::Filling(_)) => {
            failure.code = ProblemCode::NotEligible;
            failure.text =
                "The volume is still being filled from its backup. Wait until it is whole."
                    .to_owned();
        }
        layers::Error::NotFrozen { .. } => return not_frozen(failure.detail),
        layers::Error::HostRefused { .. } => {
            failure.text = "The instance that has the volume open cannot do that now. Try again, \
                            or stop the instance first."
                .to_owned();
        }
        _ => {}
    }
    failure
}

/// A guest that had to be frozen was not, or did not stay so: there is no capture.
pub fn not_frozen(detail: String) -> TaskFailure {
    let mut failure = of_kind(ErrorKind::Conflict, detail);
    failure.code = ProblemCode::NotEligible;
    failure.text = "The file systems of the guest could not be frozen, and the plan takes nothing \
                    less. Check the guest agent, or stop the instance first."
        .to_owned();
    failure
}

/// What the control plane hears of a vault's error.
pub fn of_vault(error: &vault::Error) -> TaskFailure {
    of_target(error.kind(), with_causes(error))
}

/// What the control plane hears when a backup cannot be read for a guest.
pub fn of_reader(error: &ReaderError) -> TaskFailure {
    of_target(error.kind(), with_causes(error))
}

fn of_target(kind: ErrorKind, detail: String) -> TaskFailure {
    let mut failure = of_kind(kind, detail);
    match kind {
        ErrorKind::Full => {
            failure.text = "The backup target has no room left. Delete a backup, or ask your \
                            operator for more."
                .to_owned();
        }
        ErrorKind::Corrupt => {
            failure.text =
                "Data of this backup is damaged or missing in the backup target.".to_owned();
        }
        ErrorKind::Retry => {
            failure.text = "The backup target did not answer in time. Try again later.".to_owned();
        }
        ErrorKind::Conflict => failure.code = ProblemCode::Internal,
        _ => {}
    }
    failure
}

/// A message as a sentence.
fn sentence(message: &str) -> String {
    let mut chars = message.chars();
    let first = chars
        .next()
        .map(|c| c.to_uppercase().to_string())
        .unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

/// A task that names something which this node was not given.
pub fn not_configured(what: &str) -> TaskFailure {
    of_kind(ErrorKind::Internal, format!("this node has no {what}"))
}

/// A task came to the wrong hands: a bug.
pub fn misdirected(spec: &TaskSpec) -> TaskFailure {
    of_kind(ErrorKind::Internal, format!("nobody here does {spec:?}"))
}

/// The work itself broke: a bug.
pub fn panicked(detail: String) -> TaskFailure {
    of_kind(ErrorKind::Internal, detail)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use stillpoint_env::SimEnv;
    use stillpoint_model::id::VolumeId;

    use super::*;

    #[test]
    fn a_customer_reads_no_path_and_an_operator_the_whole_chain() {
        let failure = of_pool(&layers::Error::PoolInUse(PathBuf::from("/srv/secret")));
        assert!(!failure.text.contains("/srv"), "{}", failure.text);
        assert!(failure.detail.contains("/srv/secret"), "{}", failure.detail);
    }

    #[test]
    fn a_machine_that_does_not_do_it_is_told_from_a_slow_storage() {
        let volume = VolumeId::generate(&SimEnv::new(1));
        let reason = "secret".to_owned();
        let refused = of_pool(&layers::Error::HostRefused { volume, reason });
        let unknown = of_pool(&layers::Error::HostUnreachable(volume));
        for failure in [refused, unknown] {
            let text = &failure.text;
            assert!(
                text.starts_with("The instance") && !text.contains("secret"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_volume_that_is_not_whole_yet_is_not_said_to_be_open() {
        let volume = VolumeId::generate(&SimEnv::new(1));
        let failure = of_pool(&layers::Error::Refused(Refusal::Filling(volume)));
        assert_eq!(
            (failure.kind, failure.code),
            (ErrorKind::Conflict, ProblemCode::NotEligible)
        );
        assert!(failure.text.contains("filled"), "{}", failure.text);
    }

    #[test]
    fn a_full_pool_has_its_own_code() {
        let failure = of_pool(&layers::Error::Full);
        assert_eq!(
            (failure.kind, failure.code),
            (ErrorKind::Full, ProblemCode::PoolFull)
        );
    }
}
