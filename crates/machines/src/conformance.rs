//! What every driver must do, as a suite that each of them runs.
//!
//! [`check_all`] runs every check. A check fails by panicking. A [`Ground`] brings the driver, and
//! disks that a machine can open; a guest with an agent boots from the first of them.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a check fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use stillpoint_model::ByteCount;
use stillpoint_model::id::{InstanceId, VolumeId};

use crate::{
    Direction, DiskSpec, Error, Freeze, Hypervisor, Join, JoinEnd, MachineSpec, MachineState,
    Switch,
};

/// How long a guest under emulation on a busy host may take for anything.
const PATIENCE: Duration = Duration::from_mins(2);
const FREEZE: Duration = Duration::from_secs(30);

/// What a driver is checked on.
pub trait Ground {
    /// The driver.
    fn driver(&self) -> &dyn Hypervisor;

    /// A machine that was never started, with a root disk whose guest boots and has an agent.
    fn machine(&self) -> MachineSpec;

    /// A disk that no machine has.
    fn disk(&self, place: u32) -> DiskSpec;

    /// A new empty overlay for a volume.
    fn overlay(&self, volume: VolumeId) -> Value;

    /// Returns once the guest's agent answers, and fails after a while.
    fn wait_for_agent(&self, id: InstanceId);

    /// Ends the machine as a fault of its host would.
    fn crash(&self, id: InstanceId);
}

/// What a script of this repository says: `qemu` and `small-guest` say where theirs is.
pub fn script(name: &str) -> PathBuf {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts");
    let ran = Command::new(scripts.join(name)).output().unwrap();
    assert!(
        ran.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&ran.stderr)
    );
    PathBuf::from(String::from_utf8(ran.stdout).unwrap().trim())
}

/// Runs every check.
pub fn check_all(ground: &dyn Ground) {
    a_machine_that_never_was_is_stopped(ground);
    what_cannot_be_made_is_refused(ground);
    one_machine_through_its_life(ground);
    a_crash_is_told_from_a_stop(ground);
}

fn state(ground: &dyn Ground, id: InstanceId) -> MachineState {
    ground.driver().inspect(id).expect("inspect").state
}

fn node(graph: &Value) -> String {
    graph["node-name"]
        .as_str()
        .expect("a named node")
        .to_owned()
}

fn chain(ground: &dyn Ground, id: InstanceId, volume: VolumeId) -> Vec<String> {
    ground.driver().open_chain(id, volume).expect("open_chain")
}

/// Puts new overlays on these volumes, all at once; their nodes in the same order.
fn switch(
    ground: &dyn Ground,
    id: InstanceId,
    volumes: &[VolumeId],
    freeze: Freeze,
) -> (Vec<String>, crate::SwitchReport) {
    let switches: Vec<Switch> = volumes
        .iter()
        .map(|volume| Switch {
            volume: *volume,
            tip: chain(ground, id, *volume)[0].clone(),
            graph: ground.overlay(*volume),
        })
        .collect();
    let report = ground
        .driver()
        .switch(id, &switches, freeze)
        .expect("switch");
    (switches.iter().map(|s| node(&s.graph)).collect(), report)
}

fn a_machine_that_never_was_is_stopped(ground: &dyn Ground) {
    let (driver, spec) = (ground.driver(), ground.machine());
    assert_eq!(state(ground, spec.id), MachineState::Stopped);
    driver.kill(spec.id).unwrap();
    driver.delete(spec.id).unwrap();
    driver.shut_down(spec.id, PATIENCE, &|| true).unwrap();
    assert!(
        driver
            .console(spec.id, ByteCount::new(10))
            .unwrap()
            .is_empty()
    );
    assert!(matches!(
        driver.pause(spec.id),
        Err(Error::WrongState { .. })
    ));
    let plugged = driver.plug(spec.id, &ground.disk(1));
    assert!(matches!(plugged, Err(Error::WrongState { .. })));
    assert!(!driver.machines().contains(&spec.id));
}

fn what_cannot_be_made_is_refused(ground: &dyn Ground) {
    let spoilt: [fn(&mut MachineSpec); 5] = [
        |spec| spec.vcpus = 0,
        |spec| spec.memory = ByteCount::new(1),
        |spec| spec.hostname = "a,b".to_owned(),
        |spec| spec.disks.push(spec.disks[0].clone()),
        |spec| spec.forwards.push(crate::Forward { host: 0, guest: 1 }),
    ];
    for spoil in spoilt {
        let mut spec = ground.machine();
        spoil(&mut spec);
        let started = ground.driver().start(&spec);
        assert!(matches!(started, Err(Error::BadSpec { .. })), "{started:?}");
        assert_eq!(state(ground, spec.id), MachineState::Stopped);
    }
}

/// One boot serves many questions: booting is what takes long.
fn one_machine_through_its_life(ground: &dyn Ground) {
    let driver = ground.driver();
    let mut spec = ground.machine();
    spec.disks.push(ground.disk(1));
    let [root, data] = [spec.disks[0].volume, spec.disks[1].volume];
    driver.start(&spec).expect("start");
    driver
        .start(&spec)
        .expect("a start of what runs changes nothing");
    let view = driver.inspect(spec.id).unwrap();
    assert_eq!(view.state, MachineState::Running);
    assert_eq!(view.open.len(), 2);
    assert_eq!(driver.holder(data).unwrap(), Some(spec.id));
    assert!(driver.machines().contains(&spec.id));
    ground.wait_for_agent(spec.id);
    let log = driver.console(spec.id, ByteCount::new(64)).unwrap();
    assert!(!log.is_empty() && log.len() <= 64, "{} bytes", log.len());

    driver.pause(spec.id).unwrap();
    driver.pause(spec.id).unwrap();
    assert_eq!(state(ground, spec.id), MachineState::Paused);
    driver.resume(spec.id).unwrap();
    assert_eq!(state(ground, spec.id), MachineState::Running);

    layers_while_it_runs(ground, spec.id, [root, data]);
    disks_come_and_go(ground, spec.id);

    driver
        .shut_down(spec.id, PATIENCE, &|| true)
        .expect("shut_down");
    assert_eq!(state(ground, spec.id), MachineState::Stopped);
    assert_eq!(driver.holder(data).unwrap(), None);
    driver.delete(spec.id).unwrap();
    assert!(!driver.machines().contains(&spec.id));
}

fn layers_while_it_runs(ground: &dyn Ground, id: InstanceId, volumes: [VolumeId; 2]) {
    let before = volumes.map(|volume| chain(ground, id, volume));
    let (first, report) = switch(ground, id, &volumes, Freeze::Skip);
    assert_eq!(report.frozen, None);
    let (second, report) = switch(ground, id, &volumes, Freeze::Require { bound: FREEZE });
    assert!(report.frozen.is_some(), "{report:?}");
    for (at, volume) in volumes.into_iter().enumerate() {
        let mut wanted = vec![second[at].clone(), first[at].clone()];
        wanted.extend(before[at].clone());
        assert_eq!(chain(ground, id, volume), wanted);
    }

    // Nothing happens to one volume when another cannot be switched.
    let mut halves: Vec<Switch> = volumes
        .iter()
        .zip(&second)
        .map(|(volume, tip)| Switch {
            volume: *volume,
            tip: tip.clone(),
            graph: ground.overlay(*volume),
        })
        .collect();
    halves[1].tip.clone_from(&first[1]);
    assert!(ground.driver().switch(id, &halves, Freeze::Skip).is_err());
    assert_eq!(chain(ground, id, volumes[0])[0], second[0]);

    joins(
        ground,
        id,
        volumes[1],
        [&second[1], &first[1], &before[1][0]],
    );
}

/// Up into the tip, and down into the lowest.
fn joins(ground: &dyn Ground, id: InstanceId, volume: VolumeId, nodes: [&String; 3]) {
    let driver = ground.driver();
    let [tip, middle, lowest] = nodes.map(String::clone);
    let down = Join {
        volume,
        job: "join-down".to_owned(),
        tip: tip.clone(),
        child: middle.clone(),
        parent: lowest.clone(),
        below: None,
        direction: Direction::Commit,
        backing_name: Some(lowest.clone()),
    };
    assert_eq!(
        driver.join(id, &down, &|_, _| false).unwrap(),
        JoinEnd::Stopped
    );
    assert_eq!(
        chain(ground, id, volume),
        [tip.clone(), middle, lowest.clone()]
    );
    assert_eq!(driver.join(id, &down, &|_, _| true).unwrap(), JoinEnd::Done);
    assert_eq!(chain(ground, id, volume), [tip.clone(), lowest.clone()]);
    let up = Join {
        job: "join-up".to_owned(),
        child: tip.clone(),
        parent: lowest,
        direction: Direction::Stream,
        backing_name: None,
        ..down
    };
    assert_eq!(driver.join(id, &up, &|_, _| true).unwrap(), JoinEnd::Done);
    assert_eq!(chain(ground, id, volume), [tip]);
    driver.stop_joins(id, volume).unwrap();
}

fn disks_come_and_go(ground: &dyn Ground, id: InstanceId) {
    let driver = ground.driver();
    let disk = ground.disk(2);
    driver.plug(id, &disk).expect("plug");
    driver
        .plug(id, &disk)
        .expect("a plug of what is there changes nothing");
    assert_eq!(chain(ground, id, disk.volume), [node(&disk.graph)]);
    driver
        .resize(id, disk.volume, ByteCount::new(64 << 20))
        .expect("resize");
    driver.unplug(id, disk.volume, PATIENCE).expect("unplug");
    driver
        .unplug(id, disk.volume, PATIENCE)
        .expect("an unplug of what is gone changes nothing");
    assert_eq!(driver.holder(disk.volume).unwrap(), None);
    let gone = driver.open_chain(id, disk.volume);
    assert!(matches!(gone, Err(Error::NoDisk { .. })), "{gone:?}");
    driver.plug(id, &disk).expect("it comes back");
    driver
        .unplug(id, disk.volume, PATIENCE)
        .expect("and goes again");
}

fn a_crash_is_told_from_a_stop(ground: &dyn Ground) {
    let (driver, spec) = (ground.driver(), ground.machine());
    driver.start(&spec).expect("start");
    ground.crash(spec.id);
    assert_eq!(state(ground, spec.id), MachineState::Crashed);
    assert_eq!(driver.holder(spec.disks[0].volume).unwrap(), None);
    driver.start(&spec).expect("a start after a crash");
    assert_eq!(state(ground, spec.id), MachineState::Running);
    driver.kill(spec.id).expect("kill");
    assert_eq!(state(ground, spec.id), MachineState::Stopped);
    driver.delete(spec.id).expect("delete");
}
