//! The simulated driver passes the suite, and its guests can be ill-mannered.

use std::cell::Cell;
use std::time::Duration;

use serde_json::{Value, json};
use stillpoint_env::SimEnv;
use stillpoint_model::ByteCount;
use stillpoint_model::id::{InstanceId, VolumeId};

use super::{GuestManners, Simulated};
use crate::conformance::{Ground, check_all};
use crate::{DiskSpec, Error, Freeze, Hypervisor, MachineSpec, MachineState, Switch};

struct Memory {
    driver: Simulated,
    env: SimEnv,
    made: Cell<u32>,
}

impl Memory {
    fn new() -> Self {
        Self {
            driver: Simulated::new(),
            env: SimEnv::new(1),
            made: Cell::new(0),
        }
    }

    fn layer(&self) -> Value {
        self.made.set(self.made.get() + 1);
        json!({"driver": "qcow2", "node-name": format!("q{}", self.made.get()), "backing": null})
    }
}

impl Ground for Memory {
    fn driver(&self) -> &dyn Hypervisor {
        &self.driver
    }

    fn machine(&self) -> MachineSpec {
        MachineSpec {
            id: InstanceId::generate(&self.env),
            hostname: "still".to_owned(),
            vcpus: 1,
            memory: ByteCount::new(256 << 20),
            disks: vec![self.disk(0)],
            forwards: Vec::new(),
        }
    }

    fn disk(&self, place: u32) -> DiskSpec {
        DiskSpec {
            volume: VolumeId::generate(&self.env),
            place,
            graph: self.layer(),
        }
    }

    fn overlay(&self, _volume: VolumeId) -> Value {
        self.layer()
    }

    fn wait_for_agent(&self, id: InstanceId) {
        assert!(self.driver.inspect(id).unwrap().agent_answered);
    }

    fn crash(&self, id: InstanceId) {
        self.driver.crash(id);
    }
}

#[test]
fn it_passes_the_suite() {
    check_all(&Memory::new());
}

#[test]
fn a_guest_that_does_not_listen_runs_on() {
    let ground = Memory::new();
    let spec = ground.machine();
    ground.driver.start(&spec).unwrap();
    let manners = GuestManners {
        shuts_down: false,
        ..GuestManners::default()
    };
    ground.driver.set_guest(spec.id, manners);
    let asked = ground
        .driver
        .shut_down(spec.id, Duration::from_secs(1), &|| true);
    assert!(matches!(asked, Err(Error::GuestStays { .. })));
    let view = ground.driver.inspect(spec.id).unwrap();
    assert_eq!(view.state, MachineState::Running);
}

#[test]
fn a_guest_without_an_agent_is_captured_unfrozen_or_not_at_all() {
    let ground = Memory::new();
    let spec = ground.machine();
    ground.driver.start(&spec).unwrap();
    let manners = GuestManners {
        has_agent: false,
        ..GuestManners::default()
    };
    ground.driver.set_guest(spec.id, manners);
    let bound = Duration::from_secs(1);
    let capture = |freeze| {
        let volume = spec.disks[0].volume;
        let tip = ground.driver.open_chain(spec.id, volume).unwrap()[0].clone();
        let graph = ground.layer();
        let switch = Switch { volume, tip, graph };
        ground.driver.switch(spec.id, &[switch], freeze)
    };
    let refused = capture(Freeze::Require { bound });
    assert!(matches!(refused, Err(Error::NotFrozen { .. })));
    let report = capture(Freeze::Try { bound }).unwrap();
    assert_eq!(report.frozen, None);
    assert!(report.not_frozen_because.is_some());
}
