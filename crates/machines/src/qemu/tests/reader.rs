//! Disks that are read from elsewhere until what they stand on is here: a node that speaks
//! NBD stands below the tip, only while the machine has it open, until the base is there.
//!
//! `qemu-nbd` serves here; what happens to it happens to any reader.

use std::fs::{self, File};
use std::io::Write;

use rustix::process::kill_process;

use super::*;

/// A process that serves a raw disk.
struct Reader {
    process: Child,
    socket: PathBuf,
    disk: PathBuf,
}

impl Reader {
    fn serve(socket: PathBuf, disk: PathBuf) -> Self {
        let process = Self::start(&socket, &disk);
        let reader = Self {
            process,
            socket,
            disk,
        };
        reader.wait_until_it_listens();
        reader
    }

    fn start(socket: &Path, disk: &Path) -> Child {
        Command::new("qemu-nbd")
            .args([
                "--read-only",
                "--persistent",
                "--shared=8",
                "-f",
                "raw",
                "-k",
            ])
            .args([socket, disk])
            .spawn()
            .expect("qemu-nbd")
    }

    fn wait_until_it_listens(&self) {
        let env = SystemEnv::new();
        let deadline = env.monotonic() + PATIENCE;
        while std::os::unix::net::UnixStream::connect(&self.socket).is_err() {
            assert!(env.monotonic() < deadline, "it does not listen");
            std::thread::yield_now();
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn restart(&mut self) {
        self.kill();
        let _gone_already = fs::remove_file(&self.socket);
        self.process = Self::start(&self.socket, &self.disk);
        self.wait_until_it_listens();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _reaped_already = self.process.wait();
    }
}

/// A machine whose disks are read from elsewhere: the root has the small guest, the other one noise.
struct Instant {
    root: Reader,
    data: Reader,
    spec: MachineSpec,
    // Its machines end before their readers do.
    host: Host,
}

const DATA: u64 = 16 << 20;

impl Instant {
    fn new() -> Self {
        let host = Host::new();
        let path = |name: &str| host.folder.path().join(name);
        let mut noise = vec![0; usize::try_from(DATA).unwrap()];
        host.env.fill_random(&mut noise[4 << 20..12 << 20]);
        File::create(path("noise"))
            .unwrap()
            .write_all(&noise)
            .unwrap();
        let root = Reader::serve(path("root.nbd"), script("small-guest"));
        let data = Reader::serve(path("data.nbd"), path("noise"));
        let mut spec = host.machine();
        spec.disks = (0..)
            .zip([(&root, 128 << 20), (&data, DATA)])
            .map(|(place, (reader, size))| DiskSpec {
                volume: VolumeId::generate(host.env.as_ref()),
                place,
                graph: host.layer(&below(place, &reader.socket), size),
            })
            .inspect(|disk| name_base(file_of(disk)))
            .collect();
        Self {
            root,
            data,
            spec,
            host,
        }
    }

    /// Has the machine go on with the whole disk instead of its reader.
    fn end(&self, place: usize) -> Result<(), Error> {
        let disk = &self.spec.disks[place];
        let tip = disk.graph["node-name"].as_str().unwrap();
        let driver = &self.host.driver;
        driver.rebase(self.spec.id, disk.volume, tip, &self.base(place))
    }

    /// What a disk stands on when it is whole.
    fn base(&self, place: usize) -> Value {
        let reader = [&self.root, &self.data][place];
        json!({
            "driver": "raw", "node-name": format!("b{place}"), "read-only": true,
            "file": {
                "driver": "file", "node-name": format!("c{place}"), "filename": reader.disk,
                "read-only": true,
            },
        })
    }

    fn chain(&self, place: usize) -> Vec<String> {
        let volume = self.spec.disks[place].volume;
        self.host.driver.open_chain(self.spec.id, volume).unwrap()
    }

    /// The nodes that a machine has for a disk when it is whole, and no others.
    fn check_ended(&self, place: usize) {
        let tip = self.spec.disks[place].graph["node-name"].as_str().unwrap();
        assert_eq!(self.chain(place), [tip.to_owned(), format!("b{place}")]);
        let machine = self.host.driver.machine(self.spec.id);
        let qmp = machine.on().unwrap();
        let nodes = machine
            .call_on(&qmp, "query-named-block-nodes", &json!({"flat": true}))
            .unwrap();
        let reader = format!("r{place}");
        let mut nodes = nodes.as_array().unwrap().iter();
        assert!(
            !nodes.any(|node| node["node-name"] == *reader),
            "it is closed"
        );
    }
}

/// What is in the header of a tip from its beginning.
const BASE: &str = "base.qcow2";

fn name_base(file: &str) {
    let named = Command::new("qemu-img")
        .args([
            "rebase", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", BASE, file,
        ])
        .status();
    assert!(named.unwrap().success());
}

fn file_of(disk: &DiskSpec) -> &str {
    disk.graph["file"]["filename"].as_str().unwrap()
}

/// What stands below a tip until its base is whole.
fn below(place: u32, socket: &Path) -> Value {
    json!({
        "driver": "nbd", "node-name": format!("r{place}"), "read-only": true,
        "server": {"type": "unix", "path": socket},
        "reconnect-delay": 120, "open-timeout": 30,
    })
}

#[test]
fn a_guest_boots_from_what_is_elsewhere_and_goes_on_with_what_is_here() {
    let mut instant = Instant::new();
    let id = instant.spec.id;
    instant.host.driver.start(&instant.spec).unwrap();
    // Whatever it waits for, it goes on with the next reader.
    instant.root.restart();
    instant.host.wait_for_agent(id);
    instant.data.restart();
    for place in [0, 1] {
        for _again in 0..2 {
            instant.end(place).unwrap();
            instant.check_ended(place);
        }
    }
    // Nobody needs them any more.
    instant.root.kill();
    instant.data.kill();
    instant
        .host
        .driver
        .shut_down(id, PATIENCE, &|| true)
        .unwrap();
    // The file says of what is below it what it said before.
    let told = Command::new("qemu-img")
        .args(["info", "--output=json", file_of(&instant.spec.disks[0])])
        .output();
    let told: Value = serde_json::from_slice(&told.unwrap().stdout).unwrap();
    assert_eq!(told["backing-filename"], BASE, "{told}");
    let mut whole = instant.spec.clone();
    for (place, disk) in whole.disks.iter_mut().enumerate() {
        disk.graph["backing"] = instant.base(place);
    }
    instant.host.driver.start(&whole).unwrap();
    instant.host.wait_for_agent(id);
}

#[test]
fn a_machine_whose_reader_hangs_can_be_killed_and_started_again() {
    let instant = Instant::new();
    let id = instant.spec.id;
    let driver = &instant.host.driver;
    driver.start(&instant.spec).unwrap();
    instant.root.signal(Signal::STOP);
    driver.kill(id).unwrap();
    instant.root.signal(Signal::CONT);
    driver.start(&instant.spec).unwrap();
    instant.host.wait_for_agent(id);
}
