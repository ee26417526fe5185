//! Real machines: QEMU under emulation, with the small guest of `scripts/small-guest`.
//!
//! Two of the tests here are no tests: they are what child processes of the others run, and do
//! nothing unless they are told to by the environment.

mod memory;
mod played;
mod reader;

use std::cell::Cell;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use stillpoint_env::SystemEnv;
use stillpoint_model::id::{InstanceId, VolumeId};
use stillpoint_model::{ByteCount, Env};
use tempfile::TempDir;

use super::{Accelerator, DiskIo, QemuConfig, QemuDriver};
use crate::conformance::{Ground, check_all, script};
use crate::guard::{Ended, Frozen, GuardProgram};
use crate::guest_agent::GuestAgent;
use crate::{
    Direction, DiskSpec, Error, Freeze, Hypervisor, Join, JoinEnd, MachineSpec, MachineState,
};

const PATIENCE: Duration = Duration::from_mins(2);
const CHILD: &str = "STILLPOINT_MACHINES_CHILD";

pub(super) fn qemu() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| script("qemu"))
}

fn config(run_dir: &Path) -> QemuConfig {
    QemuConfig {
        run_dir: run_dir.to_owned(),
        program: qemu().to_owned(),
        accelerator: Some(Accelerator::Tcg),
        disk_io: DiskIo::BEST,
        outbound: false,
        guard: guard_program(),
    }
}

/// This test program as the guard.
fn guard_program() -> GuardProgram {
    let program = std::env::current_exe().unwrap();
    let test = "qemu::tests::the_guard_itself";
    GuardProgram {
        program: "env".into(),
        args: [&format!("{CHILD}=guard"), program.to_str().unwrap()]
            .map(|word| word.to_owned())
            .into_iter()
            .chain(["--exact", test, "--nocapture"].map(String::from))
            .collect(),
    }
}

#[test]
fn the_guard_itself() {
    if std::env::var(CHILD).is_ok_and(|role| role == "guard") {
        crate::guard::run(&SystemEnv::new(), std::io::stdin(), std::io::stdout()).unwrap();
    }
}

/// A run directory with machines in it; none is left when this is dropped.
struct Host {
    folder: TempDir,
    driver: QemuDriver,
    env: Arc<SystemEnv>,
    made: Cell<u32>,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let env = Arc::new(SystemEnv::new());
        let driver = QemuDriver::open(config(&folder.path().join("run")), env.clone()).unwrap();
        Self {
            folder,
            driver,
            env,
            made: Cell::new(0),
        }
    }

    /// An empty qcow2 file and its graph, with something below it or nothing.
    fn layer(&self, backing: &Value, size: u64) -> Value {
        self.made.set(self.made.get() + 1);
        let number = self.made.get();
        let file = self.folder.path().join(format!("{number}.qcow2"));
        let made = Command::new("qemu-img")
            .args([
                "create",
                "-q",
                "-f",
                "qcow2",
                "-o",
                "extended_l2=on,cluster_size=128k",
            ])
            .arg(&file)
            .arg(size.to_string())
            .status();
        assert!(made.unwrap().success());
        json!({
            "driver": "qcow2", "node-name": format!("q{number}"), "read-only": false,
            "discard": "unmap",
            "file": {
                "driver": "file", "node-name": format!("f{number}"), "discard": "unmap",
                "filename": file, "auto-read-only": false,
            },
            "backing": backing,
        })
    }

    /// A layer over the small guest's disk.
    fn root(&self) -> DiskSpec {
        static IMAGE: OnceLock<PathBuf> = OnceLock::new();
        let image = IMAGE.get_or_init(|| script("small-guest"));
        self.made.set(self.made.get() + 1);
        let number = self.made.get();
        let base = json!({
            "driver": "raw", "node-name": format!("q{number}"), "read-only": true,
            "file": {
                "driver": "file", "node-name": format!("f{number}"), "filename": image,
                "read-only": true,
            },
        });
        DiskSpec {
            volume: VolumeId::generate(self.env.as_ref()),
            place: 0,
            graph: self.layer(&base, 128 << 20),
        }
    }

    fn boot(&self) -> MachineSpec {
        let spec = self.machine();
        self.driver.start(&spec).unwrap();
        self.wait_for_agent(spec.id);
        spec
    }

    fn agent_socket(&self, id: InstanceId) -> PathBuf {
        self.folder
            .path()
            .join("run")
            .join(id.to_string())
            .join("agent")
    }

    /// What the guest says of its file systems.
    fn frozen_state(&self, id: InstanceId) -> String {
        let socket = self.agent_socket(id);
        let mut agent = GuestAgent::connect(&socket, self.env.as_ref(), PATIENCE).unwrap();
        let state = agent.call("guest-fsfreeze-status", PATIENCE).unwrap();
        state.as_str().unwrap().to_owned()
    }

    /// Waits until the guest is thawed.
    fn wait_until_thawed(&self, id: InstanceId) {
        let deadline = self.env.monotonic() + PATIENCE;
        while self.frozen_state(id) != "thawed" {
            assert!(self.env.monotonic() < deadline, "the guest stays frozen");
        }
    }

    fn process(&self, id: InstanceId) -> super::folder::Process {
        self.driver.machine(id).folder.process().unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for id in self.driver.machines() {
            let _tried = self.driver.delete(id);
        }
    }
}

impl Ground for Host {
    fn driver(&self) -> &dyn Hypervisor {
        &self.driver
    }

    fn machine(&self) -> MachineSpec {
        MachineSpec {
            id: InstanceId::generate(self.env.as_ref()),
            hostname: "still-1".to_owned(),
            vcpus: 1,
            memory: ByteCount::new(256 << 20),
            disks: vec![self.root()],
            forwards: Vec::new(),
        }
    }

    fn disk(&self, place: u32) -> DiskSpec {
        DiskSpec {
            volume: VolumeId::generate(self.env.as_ref()),
            place,
            graph: self.layer(&Value::Null, 32 << 20),
        }
    }

    fn overlay(&self, volume: VolumeId) -> Value {
        let _any_volume = volume;
        self.layer(&Value::Null, 128 << 20)
    }

    fn wait_for_agent(&self, id: InstanceId) {
        let deadline = self.env.monotonic() + PATIENCE;
        while !self.driver.inspect(id).unwrap().agent_answered {
            let console = self.driver.console(id, ByteCount::new(2000)).unwrap();
            let console = String::from_utf8_lossy(&console);
            assert!(
                self.env.monotonic() < deadline,
                "no agent answers: {console}"
            );
        }
    }

    fn crash(&self, id: InstanceId) {
        let process = self.process(id);
        process.kill();
        assert!(process.wait(PATIENCE));
    }
}

#[test]
fn it_passes_the_suite() {
    check_all(&Host::new());
}

#[test]
fn a_machine_that_dies_while_it_is_looked_at_has_crashed() {
    let host = Host::new();
    let spec = host.machine();
    for _ in 0..5 {
        host.driver.start(&spec).unwrap();
        host.process(spec.id).kill();
        let deadline = host.env.monotonic() + PATIENCE;
        loop {
            match host.driver.inspect(spec.id).unwrap().state {
                MachineState::Crashed => break,
                MachineState::Running => assert!(host.env.monotonic() < deadline),
                state => panic!("{state}"),
            }
        }
    }
}

#[test]
fn a_guest_that_shuts_itself_down_is_stopped_not_crashed() {
    let host = Host::new();
    let spec = host.boot();
    let console = host.driver.console(spec.id, ByteCount::new(4000)).unwrap();
    let console = String::from_utf8_lossy(&console).into_owned();
    // The host name came from the machine.
    assert!(console.contains("still-1 is up"), "{console}");
    let mut agent =
        GuestAgent::connect(&host.agent_socket(spec.id), host.env.as_ref(), PATIENCE).unwrap();
    // It does not answer, it shuts down.
    let _no_answer = agent.call("guest-shutdown", Duration::from_millis(100));
    drop(agent);
    let deadline = host.env.monotonic() + PATIENCE;
    loop {
        match host.driver.inspect(spec.id).unwrap().state {
            MachineState::Stopped => break,
            MachineState::Running => assert!(host.env.monotonic() < deadline),
            state => panic!("{state}"),
        }
    }
    assert!(host.driver.machine(spec.id).folder.process().is_none());
}

/// An agent that is killed with -9: it froze the guest of the machine that it was told and waits
/// for its end.
#[test]
fn an_agent_that_freezes_and_waits() {
    let Ok(socket) = std::env::var(CHILD) else {
        return;
    };
    if socket == "guard" {
        return;
    }
    let frozen = Frozen::begin(&guard_program(), Path::new(&socket), PATIENCE).unwrap();
    println!("frozen");
    std::io::Read::read(&mut std::io::stdin(), &mut [0]).unwrap();
    drop(frozen);
}

fn agent_that_froze(socket: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .process_group(0)
        .args([
            "--exact",
            "qemu::tests::an_agent_that_freezes_and_waits",
            "--nocapture",
        ])
        .env(CHILD, socket)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = std::io::BufReader::new(child.stdout.as_mut().unwrap());
    let mut lines = std::io::BufRead::lines(output).map_while(Result::ok);
    assert!(
        lines.any(|line| line.ends_with("frozen")),
        "it did not freeze"
    );
    child
}

#[test]
fn a_guest_is_thawed_whoever_is_killed_and_its_machine_is_adopted() {
    let host = Host::new();
    let spec = host.boot();
    let mut agent = agent_that_froze(&host.agent_socket(spec.id));
    // With its whole process group, as a terminal or a shell would.
    kill_process_group(Pid::from_child(&agent), Signal::KILL).unwrap();
    agent.wait().unwrap();
    host.wait_until_thawed(spec.id);

    // A guest that nobody guards is thawed by the next agent, which finds everything again.
    GuestAgent::connect(&host.agent_socket(spec.id), host.env.as_ref(), PATIENCE)
        .unwrap()
        .call("guest-fsfreeze-freeze", PATIENCE)
        .unwrap();
    assert_eq!(host.frozen_state(spec.id), "frozen");
    host.driver.machine(spec.id).forget();
    let next = QemuDriver::open(host.driver.shared.config.clone(), host.env.clone()).unwrap();
    host.wait_until_thawed(spec.id);
    let view = next.inspect(spec.id).unwrap();
    assert_eq!(view.state, MachineState::Running);
    assert_eq!(view.open, [spec.disks[0].volume]);

    // A guest that stays frozen too long is thawed before anybody says so.
    drop(next);
    let socket = host.agent_socket(spec.id);
    let brief = Duration::from_secs(5);
    let frozen = Frozen::begin(&guard_program(), &socket, brief).unwrap();
    host.wait_until_thawed(spec.id);
    assert_eq!(frozen.end(), Ended::Early);
}

#[test]
fn a_guest_without_an_agent_is_captured_unfrozen_or_not_at_all() {
    let host = Host::new();
    let spec = host.machine();
    host.driver.start(&spec).unwrap();
    let volume = spec.disks[0].volume;
    let bound = Duration::from_millis(100);
    let capture = |freeze| {
        let tip = host.driver.open_chain(spec.id, volume).unwrap()[0].clone();
        let graph = host.overlay(volume);
        let switch = crate::Switch { volume, tip, graph };
        host.driver.switch(spec.id, &[switch], freeze)
    };
    // It is still in its firmware.
    let refused = capture(Freeze::Require { bound });
    assert!(
        matches!(refused, Err(Error::NotFrozen { .. })),
        "{refused:?}"
    );
    assert_eq!(host.driver.open_chain(spec.id, volume).unwrap().len(), 2);
    let report = capture(Freeze::Try { bound }).unwrap();
    assert_eq!(report.frozen, None);
    assert!(report.not_frozen_because.is_some());
    assert_eq!(host.driver.open_chain(spec.id, volume).unwrap().len(), 3);
}

/// A machine in its firmware whose second disk has three layers: the two below the tip are sealed,
/// and the middle one holds a mebibyte. The lowest one's file may fail when it is written to.
struct Layered {
    host: Host,
    id: InstanceId,
    volume: VolumeId,
    tip: String,
    middle: String,
    lowest: String,
}

impl Layered {
    fn new(is_broken: bool) -> Self {
        let host = Host::new();
        let mut below = Value::Null;
        for (number, is_tip) in [false, false, true].into_iter().enumerate() {
            let mut layer = host.layer(&Value::Null, 8 << 20);
            layer["backing"] = below;
            if number == 1 {
                let file = layer["file"]["filename"].as_str().unwrap();
                let wrote = Command::new("qemu-io")
                    .args(["-f", "qcow2", "-c", "write -P 7 1M 1M", file])
                    .stdout(Stdio::null())
                    .status();
                assert!(wrote.unwrap().success());
            }
            if !is_tip {
                layer["read-only"] = json!(true);
                layer["file"]["auto-read-only"] = json!(true);
            }
            if number == 0 && is_broken {
                let mut file = layer["file"].take();
                let name = file["node-name"].take();
                file.as_object_mut().unwrap().remove("node-name");
                layer["file"] = json!({
                    "driver": "blkdebug", "node-name": name, "image": file,
                    "inject-error": [{"event": "write_aio", "errno": 5, "once": true}],
                });
            }
            below = layer;
        }
        let name = |graph: &Value| graph["node-name"].as_str().unwrap().to_owned();
        let volume = VolumeId::generate(host.env.as_ref());
        let [tip, middle, lowest] = [
            name(&below),
            name(&below["backing"]),
            name(&below["backing"]["backing"]),
        ];
        let mut spec = host.machine();
        let (place, graph) = (1, below);
        spec.disks.push(DiskSpec {
            volume,
            place,
            graph,
        });
        host.driver.start(&spec).unwrap();
        Self {
            id: spec.id,
            host,
            volume,
            tip,
            middle,
            lowest,
        }
    }

    /// The middle one down into the lowest.
    fn down(&self) -> Join {
        Join {
            volume: self.volume,
            job: "join".to_owned(),
            tip: self.tip.clone(),
            child: self.middle.clone(),
            parent: self.lowest.clone(),
            below: None,
            direction: Direction::Commit,
            backing_name: Some("lowest".to_owned()),
        }
    }

    /// The same one up into the tip.
    fn up(&self) -> Join {
        Join {
            child: self.tip.clone(),
            parent: self.middle.clone(),
            below: Some(self.lowest.clone()),
            direction: Direction::Stream,
            ..self.down()
        }
    }

    fn join(&self, join: &Join) -> Result<JoinEnd, Error> {
        self.host.driver.join(self.id, join, &|_, _| true)
    }

    fn ask(&self, command: &str, arguments: &Value) -> Value {
        let machine = self.host.driver.machine(self.id);
        let qmp = machine.on().unwrap();
        machine.call_on(&qmp, command, arguments).unwrap()
    }

    /// Whether a node can be written to; none when there is no such node.
    fn is_writable(&self, node: &str) -> Option<bool> {
        let nodes = self.ask("query-named-block-nodes", &json!({"flat": true}));
        let mut nodes = nodes.as_array().unwrap().iter();
        let found = nodes.find(|known| known["node-name"] == node)?;
        Some(found["ro"] == false)
    }

    fn chain(&self) -> Vec<String> {
        self.host.driver.open_chain(self.id, self.volume).unwrap()
    }
}

#[test]
fn a_join_that_is_refused_leaves_no_layer_writable() {
    let disk = Layered::new(false);
    let unknown = Join {
        tip: "nobody".to_owned(),
        ..disk.down()
    };
    let refused = disk.join(&unknown);
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    assert_eq!(disk.is_writable(&disk.lowest), Some(false));
}

#[test]
fn a_join_that_ends_with_an_error_has_failed() {
    let disk = Layered::new(true);
    let failed = disk.join(&disk.down());
    assert!(matches!(failed, Err(Error::Failed { .. })), "{failed:?}");
    assert_eq!(
        disk.chain(),
        [disk.tip.clone(), disk.middle.clone(), disk.lowest.clone()]
    );
    assert_eq!(disk.is_writable(&disk.lowest), Some(false));
}

#[test]
fn a_join_that_ended_when_nobody_waited_leaves_no_file_open() {
    let disk = Layered::new(false);
    let overlay = disk.host.overlay(disk.volume);
    let switch = crate::Switch {
        volume: disk.volume,
        tip: disk.tip.clone(),
        graph: overlay.clone(),
    };
    disk.host
        .driver
        .switch(disk.id, &[switch], Freeze::Skip)
        .unwrap();
    // The agent that begins it is killed.
    let id = format!("j{}.join", disk.volume);
    disk.ask(
        "block-commit",
        &json!({
            "device": overlay["node-name"], "top-node": disk.tip, "base-node": disk.middle,
            "job-id": id, "auto-dismiss": false,
        }),
    );
    let deadline = disk.host.env.monotonic() + PATIENCE;
    while disk.ask("query-jobs", &json!({}))[0]["status"] != "concluded" {
        assert!(disk.host.env.monotonic() < deadline, "it does not end");
    }
    disk.host.driver.stop_joins(disk.id, disk.volume).unwrap();
    let top = overlay["node-name"].as_str().unwrap().to_owned();
    assert_eq!(
        disk.chain(),
        [top, disk.middle.clone(), disk.lowest.clone()]
    );
    assert_eq!(disk.is_writable(&disk.tip), None, "it is closed");
}

#[test]
fn a_disk_goes_with_its_merge_and_leaves_no_file_open() {
    let disk = Layered::new(false);
    disk.host.wait_for_agent(disk.id);
    disk.ask(
        "block-stream",
        &json!({
            "device": disk.tip, "base-node": disk.lowest, "speed": 1 << 10,
            "job-id": format!("j{}.join", disk.volume), "auto-dismiss": false,
        }),
    );
    let driver = &disk.host.driver;
    driver.unplug(disk.id, disk.volume, PATIENCE).unwrap();
    let nodes = [&disk.tip, &disk.middle, &disk.lowest];
    assert_eq!(nodes.map(|node| disk.is_writable(node)), [None; 3]);
    assert_eq!(disk.ask("query-jobs", &json!({})), json!([]));
}

/// The guest wrote the first 4 KiB of a cluster whose rest is in the layer below.
#[test]
fn a_machine_that_says_it_can_stream_survives_it() {
    let disk = Layered::new(false);
    let device = format!("/machine/peripheral/d{}/virtio-backend", disk.volume);
    let write = format!("qemu-io -d {device} \"write 1M 4k\"");
    let written = disk.ask("human-monitor-command", &json!({"command-line": write}));
    assert_eq!(written, json!(""));
    let driver = &disk.host.driver;
    let join = match driver.can_stream(disk.id).unwrap() {
        true => disk.up(),
        false => disk.down(),
    };
    assert_eq!(disk.join(&join).unwrap(), JoinEnd::Done);
    let view = driver.inspect(disk.id).unwrap();
    assert_eq!(view.state, MachineState::Running);
}

#[test]
fn what_was_merged_into_the_tip_is_in_its_file() {
    let disk = Layered::new(false);
    assert_eq!(disk.join(&disk.up()).unwrap(), JoinEnd::Done);
    let nodes = disk.ask("query-named-block-nodes", &json!({"flat": true}));
    let tip = nodes.as_array().unwrap().iter();
    let tip = tip.filter(|node| node["node-name"] == disk.tip.as_str());
    let file = tip.map(|node| node["file"].as_str().unwrap().to_owned());
    let file = file.collect::<Vec<_>>().join("");
    let file = serde_json::from_str::<Value>(file.trim_start_matches("json:"))
        .ok()
        .and_then(|graph| Some(graph["file"]["filename"].as_str()?.to_owned()))
        .unwrap_or(file);
    // Whoever reads the file by itself, while it is open.
    let graph = json!({
        "driver": "qcow2", "file": {"driver": "file", "filename": file}, "backing": null,
    });
    let mapped = Command::new("qemu-img")
        .args(["map", "--force-share", "--output=json"])
        .arg(format!("json:{graph}"))
        .output()
        .unwrap();
    let runs: Value = serde_json::from_slice(&mapped.stdout).unwrap();
    let runs = runs.as_array().unwrap().iter();
    let held: u64 = runs
        .filter(|run| run["data"] == true)
        .map(|run| run["length"].as_u64().unwrap())
        .sum();
    assert_eq!(held, 1 << 20);
}

/// Its first write finds no room, the next ones do.
#[test]
fn a_guest_whose_storage_is_full_stands_still_and_goes_on_where_it_was() {
    let host = Host::new();
    let mut spec = host.machine();
    let root = &mut spec.disks[0];
    root.graph["file"] = json!({
        "driver": "blkdebug", "node-name": "narrow", "image": root.graph["file"],
        "inject-error": [{"event": "none", "iotype": "write", "errno": 28, "once": true}],
    });
    host.driver.start(&spec).unwrap();
    let deadline = host.env.monotonic() + PATIENCE;
    let view = loop {
        let view = host.driver.inspect(spec.id).unwrap();
        if view.state != MachineState::Running {
            break view;
        }
        assert!(host.env.monotonic() < deadline, "it writes nothing");
    };
    assert_eq!(view.state, MachineState::Paused);
    assert_eq!(view.storage_full, [spec.disks[0].volume]);
    host.driver.resume(spec.id).unwrap();
    host.wait_for_agent(spec.id);
    let view = host.driver.inspect(spec.id).unwrap();
    assert_eq!(view.state, MachineState::Running);
    assert_eq!(view.storage_full, []);
    let console = host.driver.console(spec.id, ByteCount::new(4000)).unwrap();
    let console = String::from_utf8_lossy(&console).into_owned();
    assert!(!console.contains("I/O error"), "{console}");
}

#[test]
fn what_qemu_says_when_it_does_not_start_is_told() {
    let host = Host::new();
    let mut spec = host.machine();
    spec.disks[0].graph["file"]["filename"] = json!("/nowhere/at-all");
    let Err(error) = host.driver.start(&spec) else {
        panic!("it started");
    };
    assert!(error.to_string().contains("/nowhere/at-all"), "{error}");
    let view = host.driver.inspect(spec.id).unwrap();
    assert_eq!(view.state, MachineState::Stopped);
}

#[test]
fn an_accelerator_is_tried_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    assert!(super::accelerator::runs(&config, Accelerator::Tcg));
    let broken = QemuConfig {
        program: "/bin/true".into(),
        ..config
    };
    assert!(!super::accelerator::runs(&broken, Accelerator::Tcg));
    assert_eq!(super::accelerator::find(&broken), Accelerator::Tcg);
}
