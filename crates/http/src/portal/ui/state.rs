//! States as a pictogram and a word; colour only repeats what they say.

use maud::{Markup, html};
use stillpoint_model::instance::{Instance, InstanceState, Power};
use stillpoint_model::item::ItemState;
use stillpoint_model::operation::OperationState;
use stillpoint_model::volume::VolumeState;

use crate::portal::icon::Icon;
use crate::portal::text::capitalized;

fn badge(word: &str, class: &str, icon: Icon) -> Markup {
    html! { span.state.(class) { (icon) (capitalized(word)) } }
}

/// How far a snapshot or a backup is.
pub(in crate::portal) fn item_state(state: ItemState) -> Markup {
    let (class, icon) = match state {
        ItemState::Available => ("ok", Icon::Check),
        ItemState::Failed | ItemState::Lost | ItemState::Degraded => ("bad", Icon::Alert),
        ItemState::Pending | ItemState::Creating | ItemState::Verifying | ItemState::Deleting => {
            ("busy", Icon::Spinner)
        }
    };
    badge(state.as_str(), class, icon)
}

/// What a volume is good for.
pub(in crate::portal) fn volume_state(state: VolumeState) -> Markup {
    let (class, icon) = match state {
        VolumeState::Available | VolumeState::InUse => ("ok", Icon::Check),
        VolumeState::Failed => ("bad", Icon::Alert),
        VolumeState::Creating | VolumeState::Deleting => ("busy", Icon::Spinner),
    };
    badge(&state.as_str().replace('-', " "), class, icon)
}

/// What an instance is good for; of one that is paused, that.
pub(in crate::portal) fn instance_state(instance: &Instance) -> Markup {
    let (class, icon) = match (instance.state, instance.power) {
        (InstanceState::Active, Power::Paused) => {
            return badge(Power::Paused.as_str(), "warn", Icon::Hold);
        }
        (InstanceState::Active, _) => ("ok", Icon::Check),
        (InstanceState::Stopped, _) => ("none", Icon::Power),
        (InstanceState::Failed, _) => ("bad", Icon::Alert),
        (InstanceState::Provisioning | InstanceState::Rebuilding | InstanceState::Deleting, _) => {
            ("busy", Icon::Spinner)
        }
    };
    badge(instance.state.as_str(), class, icon)
}

/// How far an operation is.
pub(in crate::portal) fn operation_state(state: OperationState) -> Markup {
    let (class, icon) = match state {
        OperationState::Succeeded => ("ok", Icon::Check),
        OperationState::Failed => ("bad", Icon::Alert),
        OperationState::Cancelled => ("none", Icon::Pause),
        OperationState::Queued => ("busy", Icon::Clock),
        OperationState::Running | OperationState::Cancelling => ("busy", Icon::Spinner),
    };
    badge(state.as_str(), class, icon)
}
