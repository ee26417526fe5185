//! A machine's memory, captured at the instant of its disks, and what can go on from it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stillpoint_model::ByteCount;

use crate::MachineSpec;

/// What a machine must be like to go on from captured memory: its guest knows these, and would not
/// survive a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineLayout {
    /// The machine's type with its version, in the driver's words.
    pub machine_type: String,
    /// What ran its processors, in the driver's words.
    pub accelerator: String,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory, in bytes.
    pub memory: ByteCount,
    /// Where each disk is plugged, by its place.
    pub ports: BTreeMap<u32, String>,
}

impl MachineLayout {
    /// Why a machine cannot go on from memory of this layout; none when it can.
    pub fn differs_from(&self, spec: &MachineSpec, accelerator: &str) -> Option<String> {
        let places: Vec<u32> = self.ports.keys().copied().collect();
        let mut wanted: Vec<u32> = spec.disks.iter().map(|disk| disk.place).collect();
        wanted.sort_unstable();
        if self.vcpus != spec.vcpus {
            let (had, has) = (self.vcpus, spec.vcpus);
            Some(format!("it had {had} processors and has {has}"))
        } else if self.memory != spec.memory {
            let (had, has) = (self.memory, spec.memory);
            Some(format!("it had {had} of memory and has {has}"))
        } else if places != wanted {
            Some(format!(
                "it had disks in the places {places:?} and has them in {wanted:?}"
            ))
        } else if self.accelerator != accelerator {
            let had = &self.accelerator;
            Some(format!(
                "its processors were run by {had}, not {accelerator}"
            ))
        } else {
            None
        }
    }
}

/// How a capture with memory went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryReport {
    /// What the machine was like.
    pub layout: MachineLayout,
    /// How long the file is.
    pub size: ByteCount,
    /// How long the machine stood still.
    pub stall: Duration,
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use stillpoint_env::SimEnv;
    use stillpoint_model::id::{InstanceId, VolumeId};

    use super::*;
    use crate::DiskSpec;

    #[test]
    fn a_machine_that_is_not_as_it_was_is_told_why() {
        let env = SimEnv::new(1);
        let disk = |place| DiskSpec {
            volume: VolumeId::generate(&env),
            place,
            graph: Value::Null,
        };
        let spec = MachineSpec {
            id: InstanceId::generate(&env),
            hostname: "web".to_owned(),
            vcpus: 2,
            memory: ByteCount::from_mib(256),
            disks: vec![disk(1), disk(0)],
            forwards: Vec::new(),
        };
        let layout = MachineLayout {
            machine_type: "one".to_owned(),
            accelerator: "slow".to_owned(),
            vcpus: 2,
            memory: ByteCount::from_mib(256),
            ports: [(0, "a".to_owned()), (1, "b".to_owned())].into(),
        };
        let why = |change: &dyn Fn(&mut MachineSpec), accelerator| {
            let mut spec = spec.clone();
            change(&mut spec);
            layout.differs_from(&spec, accelerator).unwrap_or_default()
        };
        assert_eq!(why(&|_| (), "slow"), "");
        assert!(why(&|_| (), "fast").contains("run by slow"));
        assert!(why(&|spec| spec.vcpus = 1, "slow").contains("2 processors"));
        assert!(why(&|spec| spec.memory = ByteCount::from_mib(1), "slow").contains("memory"));
        assert!(why(&|spec| spec.disks.truncate(1), "slow").contains("places"));
    }
}
