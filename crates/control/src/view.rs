//! What goes with a volume or an item when it is shown: what may be done with it, and why not.

use stillpoint_model::guard::{Action, Allowed};
use stillpoint_model::refusal::Refusal;

/// Whether one action may be done now, from [`stillpoint_model::guard::can`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The action.
    pub action: Action,
    /// Yes with advice, or why not and the ways out.
    pub answer: Result<Allowed, Refusal>,
}
