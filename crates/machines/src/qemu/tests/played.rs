//! Machines that the test plays, for what a real one cannot be made to do: a process that does
//! nothing, with a QMP socket and a guest's agent that answer as they are told.

mod consistency;
mod console;
mod guard;
mod holder;
mod joins;
mod launch;
mod storage;
mod thawing;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use stillpoint_env::SystemEnv;
use stillpoint_model::id::{InstanceId, VolumeId};
use stillpoint_model::{ByteCount, Env};
use tempfile::TempDir;

use super::super::command::device_of;
use super::super::folder::Folder;
use super::super::{Accelerator, DiskIo, QemuConfig, QemuDriver};
use super::guard_program;
use crate::{DiskSpec, MachineSpec, Switch};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a played machine says to a command.
enum Say {
    Return(Value),
    Refuse(&'static str),
    HangUp,
}

/// Where machines are played.
struct Stage {
    folder: TempDir,
    env: Arc<SystemEnv>,
}

impl Stage {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            env: Arc::new(SystemEnv::new()),
        }
    }

    fn run_dir(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    fn config(&self) -> QemuConfig {
        QemuConfig {
            run_dir: self.run_dir(),
            program: "/bin/false".into(),
            accelerator: Some(Accelerator::Tcg),
            disk_io: DiskIo::BEST,
            outbound: false,
            guard: guard_program(),
        }
    }

    fn open(&self) -> QemuDriver {
        QemuDriver::open(self.config(), self.env.clone()).unwrap()
    }

    /// Waits until nobody thaws this machine's guest any more.
    fn wait_until_left_alone(&self, driver: &QemuDriver, player: &Player) {
        let deadline = self.env.monotonic() + PATIENCE;
        while driver.machine(player.id).is_thawing.load(Ordering::SeqCst) {
            assert!(self.env.monotonic() < deadline, "somebody tries for ever");
            std::thread::yield_now();
        }
    }

    fn volume(&self) -> VolumeId {
        VolumeId::generate(self.env.as_ref())
    }

    /// A machine that runs, with a disk for each of these volumes. Nothing of it answers.
    fn cast(&self, volumes: &[VolumeId]) -> Player {
        let id = InstanceId::generate(self.env.as_ref());
        let disk = |volume: &VolumeId| DiskSpec {
            volume: *volume,
            place: 0,
            graph: json!({"driver": "null-co", "node-name": "tip"}),
        };
        let spec = MachineSpec {
            id,
            hostname: "played".to_owned(),
            vcpus: 1,
            memory: ByteCount::new(1 << 20),
            disks: volumes.iter().map(disk).collect(),
            forwards: Vec::new(),
        };
        let folder = Folder::new(&self.run_dir(), id);
        folder.prepare(&spec).unwrap();
        let pid_file = folder.file("pid");
        let mut process = Command::new("sh")
            .args(["-c", "echo; read line", "-pidfile"])
            .arg(&pid_file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut started = [0];
        let output = process.stdout.as_mut().unwrap();
        output.read_exact(&mut started).unwrap();
        std::fs::write(pid_file, process.id().to_string()).unwrap();
        Player {
            id,
            folder,
            process,
        }
    }
}

/// A played machine; its process ends with it.
struct Player {
    id: InstanceId,
    folder: Folder,
    process: Child,
}

impl Player {
    fn end(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Answers what the machine is told.
    fn qmp(&self, mut answer: impl FnMut(&str, &Value) -> Say + Send + 'static) {
        serve(&self.folder.qmp(), move |stream| {
            machine(stream, &mut answer)
        });
    }

    /// Answers what the guest's agent is told; hangs up where there is no answer.
    fn agent(&self, mut answer: impl FnMut(&str) -> Option<Value> + Send + 'static) {
        serve(&self.folder.agent(), move |stream| {
            agent(stream, &mut answer)
        });
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.end();
    }
}

/// One conversation at a time, as QEMU does.
fn serve(socket: &Path, mut talk: impl FnMut(UnixStream) -> io::Result<()> + Send + 'static) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let _hung_up = talk(stream);
        }
    });
}

fn machine(mut stream: UnixStream, answer: &mut impl FnMut(&str, &Value) -> Say) -> io::Result<()> {
    writeln!(stream, "{}", json!({"QMP": {"version": {}}}))?;
    for line in BufReader::new(stream.try_clone()?).lines() {
        let asked: Value = serde_json::from_str(&line?)?;
        let (command, id) = (asked["execute"].as_str().unwrap(), &asked["id"]);
        let said = match command {
            "qmp_capabilities" => Say::Return(json!({})),
            _ => answer(command, &asked["arguments"]),
        };
        let line = match said {
            Say::Return(value) => json!({"return": value, "id": id}),
            Say::Refuse(reason) => {
                json!({"error": {"class": "GenericError", "desc": reason}, "id": id})
            }
            Say::HangUp => return Ok(()),
        };
        writeln!(stream, "{line}")?;
    }
    Ok(())
}

fn agent(mut stream: UnixStream, answer: &mut impl FnMut(&str) -> Option<Value>) -> io::Result<()> {
    for line in BufReader::new(stream.try_clone()?).split(b'\n') {
        let line = line?;
        let asked: Value = serde_json::from_slice(line.strip_prefix(&[0xff]).unwrap_or(&line))?;
        let command = asked["execute"].as_str().unwrap();
        let Some(value) = answer(command) else {
            return Ok(());
        };
        if command == "guest-sync-delimited" {
            stream.write_all(&[0xff])?;
            writeln!(stream, "{}", json!({"return": asked["arguments"]["id"]}))?;
        } else {
            writeln!(stream, "{}", json!({"return": value}))?;
        }
    }
    Ok(())
}

/// What a running machine says of itself.
fn running(command: &str, volumes: &[VolumeId]) -> Say {
    let devices = volumes.iter().map(|volume| device_of(*volume));
    Say::Return(match command {
        "query-status" => json!({"status": "running"}),
        "qom-list" => devices.map(|name| json!({"name": name})).collect(),
        "query-block" => devices
            .map(|name| {
                let device = format!("/machine/peripheral/{name}/virtio-backend");
                json!({"qdev": device, "inserted": {"node-name": "tip"}})
            })
            .collect(),
        _ => json!({}),
    })
}

/// An overlay for the tip of a played machine's volume.
fn overlay(volume: VolumeId) -> Switch {
    Switch {
        volume,
        tip: "tip".to_owned(),
        graph: json!({"driver": "null-co", "node-name": "overlay"}),
    }
}

/// What a played guest's file systems are.
#[derive(Clone, Default)]
struct FileSystems(Arc<Mutex<u64>>);

impl FileSystems {
    fn set_frozen(&self, count: u64) -> u64 {
        std::mem::replace(&mut *self.0.lock().unwrap(), count)
    }

    fn frozen(&self) -> u64 {
        *self.0.lock().unwrap()
    }

    /// What an agent in good order says.
    fn answer(&self, command: &str) -> Option<Value> {
        Some(match command {
            "guest-fsfreeze-status" if self.frozen() > 0 => json!("frozen"),
            "guest-fsfreeze-status" => json!("thawed"),
            "guest-fsfreeze-freeze" => {
                self.set_frozen(2);
                json!(2)
            }
            "guest-fsfreeze-thaw" => json!(self.set_frozen(0)),
            _ => json!({}),
        })
    }
}
