//! Plans: versioned sets of rules, attached to volumes, as data.
//!
//! The first eligibility rule that matches wins; when none does, the answer is no. Every field
//! has one place where it is asked: [`crate::guard`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::compression::CompressionLevel;
use crate::guard::Action;
use crate::id::PlanId;
use crate::instance::{InstanceState, Load};
use crate::item::FreezePolicy;
use crate::keep_for::KeepFor;
use crate::volume::VolumeRole;
use crate::words::words;

words! {
    /// Whether and how a volume is attached.
    AttachCondition {
        /// Attached to nothing.
        Detached = "detached",
        /// Attached to an instance that is shut off.
        Stopped = "stopped",
        /// Attached to an instance that runs.
        Running = "running",
    }
}

words! {
    /// Where names must differ.
    UniqueWithin {
        /// Names may repeat.
        None = "none",
        /// Among the items of one volume.
        Volume = "volume",
        /// Among the items of one account, per kind.
        Account = "account",
    }
}

words! {
    /// What a person does before something is lost.
    Confirmation {
        /// Press a button.
        Click = "click",
        /// Type the name.
        TypeName = "type_name",
    }
}

/// What an eligibility rule answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case", deny_unknown_fields)]
pub enum RuleAnswer {
    /// Yes.
    Allow,
    /// Yes, with advice.
    Warn {
        /// The advice.
        text: String,
    },
    /// No.
    Deny {
        /// Why, and what to do.
        text: String,
    },
}

/// One eligibility rule. Empty conditions match everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EligibilityRule {
    /// The actions it is about; empty means every action.
    #[serde(default)]
    pub actions: Vec<Action>,
    /// The role it is about.
    #[serde(default)]
    pub role: Option<VolumeRole>,
    /// The attachment it is about; empty means every attachment.
    #[serde(default)]
    pub attach: Vec<AttachCondition>,
    /// The states of the instance that it is about; empty means every state, and no instance.
    #[serde(default)]
    pub instance_state: Vec<InstanceState>,
    /// Whether the instance's first set-up must be over, or not; none means either, and no
    /// instance.
    #[serde(default)]
    pub ready: Option<bool>,
    /// Only when the instance is busier than this, in percent of its processors.
    #[serde(default)]
    pub load_above: Option<u8>,
    /// What it answers.
    #[serde(flatten)]
    pub answer: RuleAnswer,
}

/// What the eligibility rules see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// What the volume is for.
    pub role: VolumeRole,
    /// Whether and how it is attached.
    pub attach: AttachCondition,
    /// The instance that has it.
    pub instance: Option<InstanceCondition>,
}

/// What the eligibility rules see of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstanceCondition {
    /// What it is good for.
    pub state: InstanceState,
    /// Whether its first set-up is over.
    pub ready: bool,
    /// How busy it was lately, when that is known.
    pub load: Option<Load>,
}

impl EligibilityRule {
    fn matches(&self, action: Action, seen: &Circumstances) -> bool {
        (self.actions.is_empty() || self.actions.contains(&action))
            && self.role.is_none_or(|role| role == seen.role)
            && (self.attach.is_empty() || self.attach.contains(&seen.attach))
            && self.matches_instance(seen.instance)
    }

    fn matches_instance(&self, seen: Option<InstanceCondition>) -> bool {
        let asks =
            !self.instance_state.is_empty() || self.ready.is_some() || self.load_above.is_some();
        let Some(seen) = seen else { return !asks };
        (self.instance_state.is_empty() || self.instance_state.contains(&seen.state))
            && self.ready.is_none_or(|ready| ready == seen.ready)
            && self
                .load_above
                .is_none_or(|above| seen.load.is_some_and(|load| load.as_percent() > above))
    }
}

/// How many images an account may keep when a plan does not say.
const MAX_IMAGES: u32 = 20;

const fn max_images() -> u32 {
    MAX_IMAGES
}

/// How many items may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caps {
    /// Snapshots kept per volume.
    pub max_snapshots: u32,
    /// Backups kept per volume.
    pub max_backups: u32,
    /// Images kept per account.
    #[serde(default = "max_images")]
    pub max_images: u32,
}

/// How fast operations may follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pacing {
    /// Rest of a volume after an operation, in seconds.
    pub cooldown_s: u32,
    /// Operations in flight per account.
    pub in_flight_per_account: u32,
}

/// When an operation is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// Seconds without progress.
    pub no_progress_s: u32,
    /// Seconds in all; none means no limit.
    #[serde(default)]
    pub max_runtime_s: Option<u32>,
}

/// How items are named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Naming {
    /// Whether a name must be given.
    pub required: bool,
    /// The longest name.
    pub max_chars: u32,
    /// Where names must differ.
    pub unique_within: UniqueWithin,
}

/// What a person does before something is lost, per action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmations {
    /// Before a volume is overwritten.
    pub restore_in_place: Confirmation,
    /// Before an item or a volume is deleted.
    pub delete: Confirmation,
}

/// A versioned set of rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Its name, such as `stillpoint`.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// First match wins; no match is a no.
    pub eligibility: Vec<EligibilityRule>,
    /// How many items may be kept.
    pub caps: Caps,
    /// How fast operations may follow each other.
    pub pacing: Pacing,
    /// When an operation is given up.
    pub timeouts: Timeouts,
    /// How items are named.
    pub naming: Naming,
    /// What a person does before something is lost.
    pub confirm: Confirmations,
    /// How long the safety snapshot of a roll back is kept, in seconds.
    pub safety_snapshot_s: u32,
    /// What is asked of a guest that has a volume open while it is captured; nothing when absent.
    #[serde(default)]
    pub freeze: FreezePolicy,
    /// How hard backups are compressed.
    #[serde(default)]
    pub compression_level: CompressionLevel,
    /// For how long, in seconds, a backup cannot be deleted; nothing is promised when absent. Where the
    /// backup target locks objects, it holds to that by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_backups_s: Option<KeepFor>,
}

/// A plan as it is attached to volumes: a version of it never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanVersion {
    /// Its id.
    pub id: PlanId,
    /// The rules.
    pub plan: Plan,
}

impl Plan {
    /// The rest of a volume after an operation.
    pub fn cooldown(&self) -> Duration {
        Duration::from_secs(self.pacing.cooldown_s.into())
    }

    /// How long an operation may go without progress.
    pub fn no_progress(&self) -> Duration {
        Duration::from_secs(self.timeouts.no_progress_s.into())
    }

    /// How long the safety snapshot of a roll back is kept.
    pub fn safety_snapshot(&self) -> Duration {
        Duration::from_secs(self.safety_snapshot_s.into())
    }

    /// What the eligibility rules say of an action; none when no rule matches.
    pub fn answer(&self, action: Action, seen: &Circumstances) -> Option<&RuleAnswer> {
        self.eligibility
            .iter()
            .find(|rule| rule.matches(action, seen))
            .map(|rule| &rule.answer)
    }
}
