//! Instances: virtual machines, and the flavors they are made of.
//!
//! ```text
//! provisioning --+--> stopped <--> active --> (active, paused) --> active
//!       |        |       |  ^        |
//!       |        |       |  +--------+  stop; or the guest shut itself down, or its machine died
//!       v        |       v
//!     failed     |   rebuilding --> stopped, active, failed
//!       |        |       |
//!       +--------+-------+--> deleting --> gone   (failed again when deleting did not end)
//! ```
//!
//! The **state** is what the control plane promises of an instance; its **power** is what its
//! machine does, as the node last said. While an operation holds the instance, the operation alone
//! writes both. While none does, power follows what the node sees, and `active` and `stopped`
//! follow power: a guest that shuts itself down is `stopped`, whoever was asked.
//!
//! **Ready** means that the first set-up is over: the guest agent answered once, or the instance
//! has run for longer than a boot takes ([`BOOT_GRACE`]). It stays so until the instance is
//! rebuilt.
//!
//! A volume of an instance has its **place** ([`crate::volume::Place`]): 0 is the root, which the
//! machine boots from; places are never reused while the instance lives, so that a guest finds its
//! disks where they were.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{AccountId, InstanceId, OperationId, PoolId, ProjectId, VolumeId};
use crate::name::Name;
use crate::refusal::{ProblemCode, Refusal};
use crate::volume::AttachedState;
use crate::words::words;
use crate::{ByteCount, Timestamp};

/// How long an instance whose guest has no agent runs before it counts as ready.
pub const BOOT_GRACE: Duration = Duration::from_mins(2);
/// How long a guest may take to shut down when nobody says, in seconds.
pub const SHUTDOWN_BOUND_S: u32 = 60;
/// The longest that a guest may be waited for.
pub const MAX_SHUTDOWN_BOUND: Duration = Duration::from_mins(10);
/// Volumes of one instance at most, the root among them.
pub const MAX_VOLUMES: usize = 16;

words! {
    /// What an instance is good for right now.
    InstanceState {
        /// Its volumes and its machine are being made.
        Provisioning = "provisioning",
        /// Its machine runs, or is paused.
        Active = "active",
        /// Its machine is off.
        Stopped = "stopped",
        /// Its volumes are being put back.
        Rebuilding = "rebuilding",
        /// It could not be made, or its deletion did not end; the reason is recorded.
        Failed = "failed",
        /// On its way out.
        Deleting = "deleting",
    }
}

words! {
    /// What a machine does.
    Power {
        /// No machine has the volumes open.
        Off = "off",
        /// It runs.
        Running = "running",
        /// It stands still, with its volumes open and its memory kept.
        Paused = "paused",
    }
}

impl Power {
    /// Whether the volumes are open.
    pub const fn has_volumes_open(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }

    /// What this makes of the volumes that are attached.
    pub const fn attached_state(self) -> AttachedState {
        if self.has_volumes_open() {
            AttachedState::Running
        } else {
            AttachedState::Stopped
        }
    }

    /// What an instance is that nothing is being done to.
    pub const fn settled_state(self) -> InstanceState {
        if self.has_volumes_open() {
            InstanceState::Active
        } else {
            InstanceState::Stopped
        }
    }
}

/// What an instance is made of, as operators offer it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flavor {
    /// Its name, such as `small`.
    pub name: Name,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory, in bytes: whole MiB.
    pub memory_bytes: ByteCount,
    /// The label of its GPU, such as `H100-SXM5-80GB`.
    #[serde(default)]
    pub gpu: Option<String>,
}

/// The flavors of an installation, in the order in which they are offered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flavors {
    /// The first is taken when none is named.
    #[serde(default, rename = "flavor")]
    pub flavors: Vec<Flavor>,
}

impl Flavors {
    /// The flavor of this name; the first when none is given.
    pub fn find(&self, name: Option<&Name>) -> Result<&Flavor, Refusal> {
        let found = match name {
            Some(name) => self.flavors.iter().find(|f| f.name == *name),
            None => self.flavors.first(),
        };
        found.ok_or_else(|| Refusal::not_found("flavor").at("/flavor"))
    }
}

/// How busy a machine's processors were lately: percent of all of them, 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Load(u8);

impl Load {
    /// So many percent; more than 100 is 100.
    pub const fn percent(percent: u8) -> Self {
        Self(if percent > 100 { 100 } else { percent })
    }

    /// Percent, 0 to 100.
    pub const fn as_percent(self) -> u8 {
        self.0
    }
}

/// A virtual machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// Whose it is.
    pub account_id: AccountId,
    /// The project it is listed in.
    pub project_id: ProjectId,
    /// The pool whose node runs it, and where its new volumes go.
    pub pool_id: PoolId,
    /// Unique among the project's live instances; the guest's host name is made of it.
    pub name: Name,
    /// What it was made of. Later changes of the flavor do not reach it.
    pub flavor: Flavor,
    /// What it is good for.
    pub state: InstanceState,
    /// What its machine does, as far as is known.
    pub power: Power,
    /// Whether its first set-up is over.
    pub ready: bool,
    /// How busy it was lately; known while it runs.
    pub load: Option<Load>,
    /// The place of its next volume.
    pub next_place: u32,
    /// The one operation that may change it now.
    pub active_operation: Option<OperationId>,
    /// Why it failed, or why its machine stopped or stands still without being asked, for its owner
    /// to read.
    pub failure: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Since when its machine runs.
    pub started_at: Option<Timestamp>,
    /// Grows with each change; the strong `ETag`.
    pub version: i64,
}

impl Instance {
    /// Records what its machine does now, and what that makes of its state. For an instance that
    /// nothing else is being done to.
    pub fn settle(&mut self, power: Power, now: Timestamp) {
        if power.has_volumes_open() {
            self.started_at = self.started_at.or(Some(now));
        } else {
            self.started_at = None;
            self.load = None;
        }
        self.power = power;
        self.state = power.settled_state();
    }
}

/// A volume as a machine has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineDisk {
    /// The volume.
    pub volume_id: VolumeId,
    /// The pool that holds it.
    pub pool_id: PoolId,
    /// Its place among the instance's volumes; the machine boots from place 0.
    pub place: u32,
}

/// What a node needs to know to run an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineOrder {
    /// The guest's host name.
    pub hostname: String,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory.
    pub memory: ByteCount,
    /// Its volumes, the root first.
    pub disks: Vec<MachineDisk>,
}

/// How a machine is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum StopMode {
    /// The guest is asked to shut down.
    Graceful {
        /// How long it may take, in seconds.
        bound_s: u32,
        /// Whether its power is cut when it took longer. Otherwise it runs on.
        then_force: bool,
    },
    /// Its power is cut at once.
    Forced,
}

impl StopMode {
    /// Asks the guest, waits as long as is usual, and then cuts the power.
    pub const USUAL: Self = Self::Graceful {
        bound_s: SHUTDOWN_BOUND_S,
        then_force: true,
    };

    /// Refuses a bound that nobody wants to wait for.
    pub fn check(self) -> Result<(), Refusal> {
        let Self::Graceful { bound_s, .. } = self else {
            return Ok(());
        };
        let max = MAX_SHUTDOWN_BOUND.as_secs();
        if (1..=max).contains(&bound_s.into()) {
            return Ok(());
        }
        let text = format!("A guest is waited for 1 to {max} seconds.");
        Err(Refusal::new(ProblemCode::InvalidRequest, text).at("/bound_s"))
    }
}

/// A machine as its node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// Whose machine it is.
    pub instance_id: InstanceId,
    /// What it does.
    pub power: Power,
    /// Whether it ended without being asked, and without its guest shutting down.
    pub crashed: bool,
    /// The volumes whose storage had no room for what the guest wrote. The machine stands still
    /// for that, with these writes kept.
    #[serde(default)]
    pub storage_full: Vec<VolumeId>,
    /// Whether the guest agent answered since the machine started.
    pub agent_answered: bool,
    /// How busy it was lately.
    pub load: Option<Load>,
}

/// The guest's host name that a name gives: letters, digits and single hyphens, at most 63.
pub fn hostname(name: &Name) -> String {
    let mut host = String::new();
    for c in name.as_str().chars() {
        let c = c.to_ascii_lowercase();
        if c.is_ascii_alphanumeric() {
            host.push(c);
        } else if !host.is_empty() && !host.ends_with('-') {
            host.push('-');
        }
        if host.len() == 63 {
            break;
        }
    }
    let host = host.trim_end_matches('-');
    if host.is_empty() {
        "instance".to_owned()
    } else {
        host.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_is_one_whatever_the_name() {
        for (name, host) in [
            ("web-1", "web-1"),
            ("My VM (Berlin)", "my-vm-berlin"),
            ("数据库", "instance"),
            ("--x--", "x"),
        ] {
            assert_eq!(hostname(&name.parse().unwrap()), host);
        }
        assert_eq!(hostname(&"a".repeat(100).parse().unwrap()).len(), 63);
    }

    #[test]
    fn the_shipped_flavors_are_read() {
        let flavors: Flavors =
            toml::from_str(include_str!("../../../presets/flavors.toml")).unwrap();
        assert!(flavors.find(None).is_ok());
        let names: std::collections::BTreeSet<_> =
            flavors.flavors.iter().map(|f| &f.name).collect();
        assert_eq!(names.len(), flavors.flavors.len());
    }

    #[test]
    fn nobody_waits_for_a_guest_for_hours() {
        let bound = |bound_s| StopMode::Graceful {
            bound_s,
            then_force: false,
        };
        assert!(StopMode::USUAL.check().is_ok());
        assert!(StopMode::Forced.check().is_ok());
        for bound_s in [0, 601] {
            assert!(bound(bound_s).check().is_err(), "{bound_s}");
        }
    }
}
