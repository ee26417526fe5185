//! A guest whose volumes are not whole yet: it runs from readers of their backups, whatever of agent,
//! machine and readers is killed meanwhile, and goes on with what they were filled with.
//!
//! Two of the tests here are none: they are a reader, and an agent that fills, in processes of their own,
//! and do nothing unless they are told to by the environment.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde::{Deserialize, Serialize};
use stillpoint_env::SystemEnv;
use stillpoint_layers::Pool;
use stillpoint_layers::live::LiveHost as _;
use stillpoint_machines::Freeze;
use stillpoint_model::id::{BackupId, PoolId, VolumeId};
use stillpoint_model::instance::MachineDisk;
use stillpoint_model::item::FreezePolicy;
use stillpoint_model::layer_tree::FillSource;
use stillpoint_model::operation::Phase;
use stillpoint_model::task::{TaskOutcome, TaskSpec, VaultRef};
use stillpoint_model::{ByteCount, Env as _, ErrorKind};
use stillpoint_node::{
    Machines as _, ReaderFault, ReaderProgram, Readers, Watch, perform, run_reader,
};
use stillpoint_vault::target::LocalTarget;
use stillpoint_vault::{RootKey, Vault};

use super::freezing::ENDS_AFTER_REBASE;
use super::{Agent, BLOCK, Free, Host, PATIENCE, SIZE, Scene, Work, pause};

/// Tells a process of this test that it is a reader, and where its target is.
const READER: &str = "STILLPOINT_NODE_READER";
/// Tells a process of this test what to fill.
const CHARGE: &str = "STILLPOINT_NODE_FILL";
/// Tells it to end without a word in the middle.
const ENDS_HALFWAY: &str = "STILLPOINT_NODE_ENDS_HALFWAY";
/// So many blocks are in the backups of both data disks.
const BACKED_UP: u64 = 300;

pub fn open_target(folder: &Path) -> Arc<LocalTarget> {
    Arc::new(LocalTarget::open(folder.join("target")).unwrap())
}

pub fn root_key() -> RootKey {
    RootKey::from_bytes([7; 32])
}

/// The readers of this test: this program.
pub fn readers(folder: &Path) -> Readers {
    let script = folder.join("reader");
    let text = format!(
        "#!/bin/sh\n{READER}='{}' exec '{}' --exact filling::the_reader_itself --nocapture\n",
        folder.display(),
        std::env::current_exe().unwrap().display(),
    );
    fs::write(&script, text).unwrap();
    let program = ReaderProgram {
        program: "sh".into(),
        args: vec![script.to_string_lossy().into_owned()],
    };
    Readers::open(&folder.join("readers"), program).unwrap()
}

#[test]
fn the_reader_itself() {
    let Some(folder) = std::env::var_os(READER) else {
        return;
    };
    let open = |vault: VaultRef| {
        let (target, env) = (open_target(Path::new(&folder)), Arc::new(SystemEnv::new()));
        let opened = Vault::open(target, vault.vault_id, &root_key(), env);
        opened.map_err(|error| ReaderFault {
            kind: error.kind(),
            detail: error.to_string(),
        })
    };
    run_reader(open, std::io::stdin(), std::io::stdout()).unwrap();
}

#[derive(Serialize, Deserialize)]
struct Charge {
    folder: PathBuf,
    pool_id: PoolId,
    vault: VaultRef,
    volume_id: VolumeId,
}

#[test]
fn the_agent_that_fills() {
    let Ok(charge) = std::env::var(CHARGE) else {
        return;
    };
    let charge: Charge = serde_json::from_str(&charge).unwrap();
    let mut host = Host::new(&charge.folder, charge.pool_id, Freeze::Skip);
    host.vault = charge.vault;
    let agent = Agent::open(&host);
    let hooks = Arc::new(Free(Watch::new(Phase::Restoring)));
    if std::env::var_os(ENDS_HALFWAY).is_some() {
        let hooks = Arc::clone(&hooks);
        std::thread::spawn(move || {
            while hooks.0.read().bytes_done == ByteCount::ZERO {
                std::thread::yield_now();
            }
            std::process::abort();
        });
    }
    let volume_id = charge.volume_id;
    let spec = TaskSpec::VolumeFill { volume_id };
    let filled = perform(&agent.storage, charge.pool_id, &spec, &*hooks);
    panic!("nobody killed it: {filled:?}");
}

impl Scene {
    /// A machine that runs from backups.
    fn instant() -> Self {
        let mut scene = Self::prepare(Work::Blocks, Freeze::Skip);
        for place in [1, 2] {
            let volume = scene.volume_id();
            scene.import(volume, write_blocks);
            scene.volumes[place] = volume;
        }
        scene.volumes = scene.volumes.map(|volume| scene.begun(volume));
        scene.start();
        scene
    }

    /// A volume that shows a backup of this one.
    fn begun(&self, source_volume_id: VolumeId) -> VolumeId {
        let (vault, volume_id) = (self.host.vault, self.volume_id());
        let backup_id = BackupId::generate(&*self.host.env);
        self.perform(&TaskSpec::BackupCapture {
            volume_id: source_volume_id,
            backup_id,
            snapshot_id: None,
            freeze: FreezePolicy::Skip,
        });
        self.perform(&TaskSpec::BackupUpload {
            volume_id: source_volume_id,
            backup_id,
            vault,
            parent: None,
            level: Default::default(),
            keep_until: None,
            notes: BTreeMap::new(),
        });
        self.perform(&TaskSpec::VolumeFillBegin {
            volume_id,
            backup_id,
            source_volume_id,
            vault,
        });
        volume_id
    }

    fn readers(&self) -> Readers {
        readers(&self.host.folder)
    }

    /// The node looks after its readers.
    fn look(&self) {
        let filling = |volume| {
            let filling = self.pool().filling(volume);
            filling.map(|filling| filling.map(|filling| filling.source))
        };
        self.readers().look_after(filling);
    }

    /// The process that reads for a volume.
    fn reader(&self, volume: VolumeId) -> Pid {
        let socket = UnixStream::connect(self.readers().socket(volume)).unwrap();
        socket_peercred(socket).unwrap().pid
    }

    /// Another agent that fills a volume, and ends without a word.
    fn fill_in_vain(&self, volume_id: VolumeId, ends: &str) {
        let charge = Charge {
            folder: self.host.folder.clone(),
            pool_id: self.host.pool_id,
            vault: self.host.vault,
            volume_id,
        };
        let ended = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "filling::the_agent_that_fills", "--nocapture"])
            .env(CHARGE, serde_json::to_string(&charge).unwrap())
            .env(ends, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(!said.contains("nobody killed it"), "{said}");
        assert!(!ended.status.success());
    }

    fn fill(&self, volume_id: VolumeId) {
        let filled = self.perform(&TaskSpec::VolumeFill { volume_id });
        assert!(matches!(filled, TaskOutcome::Volume { .. }), "{filled:?}");
    }

    /// Kills the machine and starts it; its guest begins anew.
    fn start_again(&self) {
        self.wait_until(|(written, _)| written >= 20);
        let pid = fs::read_to_string(self.machine_file("pid")).unwrap();
        kill(Pid::from_raw(pid.trim().parse().unwrap()).unwrap());
        self.start();
        self.wait_until(|(written, _)| written < 20);
    }

    /// The nodes that the machine has for a volume.
    fn nodes(&self, volume: VolumeId) -> Vec<String> {
        let chain = self.agent().machines.open_chain(volume);
        chain.unwrap().unwrap()
    }

    /// Everything that was backed up is there, and all that the guest wrote since.
    fn check_all(&self) {
        let later = self.snapshot();
        assert!(self.written_together(self.layers_of(later)) >= BACKED_UP);
        assert_eq!(self.pool().damage().unwrap(), Vec::<String>::new());
    }
}

/// What the guest of another time wrote, on each disk.
fn write_blocks(disk: &Path) {
    let mut file = fs::File::create(disk).unwrap();
    file.set_len(SIZE.get()).unwrap();
    let block = |number: u64| match number {
        0 => "\0".repeat(BLOCK),
        _ => format!("{number:07}\n").repeat(BLOCK / 8),
    };
    for number in 0..=BACKED_UP {
        file.write_all(block(number).as_bytes()).unwrap();
    }
}

/// Ends a process as a fault would, and waits until it is gone.
fn kill(pid: Pid) {
    let handle = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    let timeout = Timespec::try_from(PATIENCE).unwrap();
    let ended = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&timeout));
    assert_eq!(ended, Ok(1));
}

/// Waits until a process is gone.
fn wait_until_gone(pid: Pid) {
    let env = SystemEnv::new();
    let deadline = env.monotonic() + PATIENCE;
    while rustix::process::test_kill_process(pid).is_ok() {
        assert!(env.monotonic() < deadline, "it stays");
        pause();
    }
}

#[test]
fn a_guest_runs_from_its_backups_whatever_is_killed_and_goes_on_with_its_volumes() {
    let mut scene = Scene::instant();
    let [root, first, second] = scene.volumes;

    // Its readers are killed while it boots: what it asked for waits.
    for volume in scene.volumes {
        kill(scene.reader(volume));
    }
    scene.look();
    scene.wait_for_more();
    let of_agent = scene.volumes.map(|volume| scene.reader(volume));

    // The agent is killed in the middle of filling. Its readers and its machine are found again.
    scene.agent = None;
    scene.fill_in_vain(root, ENDS_HALFWAY);
    scene.restart_agent();
    scene.wait_for_more();
    scene.look();
    assert_eq!(scene.volumes.map(|volume| scene.reader(volume)), of_agent);

    // The machine is killed, and started from the same: its guest begins anew.
    scene.start_again();
    assert_eq!(scene.nodes(root).len(), 2);
    let before = scene.nodes(root);

    // The root becomes whole under it. Its agent is killed before that is noted.
    scene.agent = None;
    scene.fill_in_vain(root, ENDS_AFTER_REBASE);
    scene.restart_agent();
    assert_ne!(scene.nodes(root), before, "it has gone over");
    scene.wait_for_more();
    scene.fill(root);
    wait_until_gone(of_agent[0]);

    // And so do the others, the ordinary way.
    for volume in [first, second] {
        scene.fill(volume);
    }
    for pid in of_agent {
        wait_until_gone(pid);
    }
    let left = fs::read_dir(scene.host.folder.join("readers")).unwrap();
    assert_eq!(left.count(), 0, "nothing is left of readers");
    scene.wait_for_more();
    scene.check_all();

    // It is a machine as any other: killed, and started from its volumes alone.
    scene.start_again();
    scene.check_all();
}

#[test]
fn a_volume_that_is_not_whole_is_plugged_and_unplugged() {
    let scene = Scene::prepare(Work::Blocks, Freeze::Skip);
    scene.start();
    scene.wait_for_more();
    let volume_id = scene.begun(scene.volumes[1]);
    let (instance_id, pool_id) = (scene.instance, scene.host.pool_id);
    let disk = MachineDisk {
        volume_id,
        pool_id,
        place: 3,
    };
    let plug = TaskSpec::VolumePlug { instance_id, disk };
    let unplug = TaskSpec::VolumeUnplug {
        instance_id,
        volume_id,
    };
    // Nothing of it is left in the machine, or it could not be plugged again.
    for _ in 0..2 {
        scene.perform(&plug);
        assert_eq!(scene.nodes(volume_id).len(), 2);
        scene.perform(&unplug);
    }
    scene.perform(&plug);
    scene.fill(volume_id);
    assert_eq!(scene.nodes(volume_id).len(), 2);
    scene.perform(&unplug);
    scene.perform(&TaskSpec::VolumeDelete { volume_id });
}

#[test]
fn a_volume_that_is_not_whole_is_deleted_with_its_reader() {
    let scene = Scene::instant();
    let [_, volume_id, _] = scene.volumes;
    let pid = scene.reader(volume_id);
    scene.agent().machines.remove(scene.instance).unwrap();
    scene.perform(&TaskSpec::VolumeDelete { volume_id });
    wait_until_gone(pid);
    assert!(!scene.readers().socket(volume_id).exists());
    let ended = scene.perform(&TaskSpec::VolumeFill { volume_id });
    assert_eq!(ended, TaskOutcome::Done);

    // What an agent left behind that was killed between the two is ended by the next look.
    let [root, ..] = scene.volumes;
    let pid = scene.reader(root);
    scene.pool().delete_volume(root).unwrap();
    scene.look();
    wait_until_gone(pid);
}

#[test]
fn one_reader_is_used_until_it_is_gone_and_its_socket_is_replaced() {
    let scene = Scene::prepare(Work::Blocks, Freeze::Skip);
    let volume = scene.begun(scene.volumes[1]);
    let source = scene.pool().filling(volume).unwrap().unwrap().source;
    let readers = scene.readers();
    let node = readers.read(volume, source).unwrap();
    let first = scene.reader(volume);
    assert_eq!(readers.read(volume, source).unwrap(), node);
    assert_eq!(scene.reader(volume), first);
    // What was killed leaves its socket.
    kill(first);
    assert!(readers.socket(volume).exists());
    readers.read(volume, source).unwrap();
    let second = scene.reader(volume);
    assert_ne!(second, first);
    // One whose socket is not there any more is found by nobody, and ends.
    fs::remove_file(readers.socket(volume)).unwrap();
    wait_until_gone(second);
    readers.read(volume, source).unwrap();
    readers.end(volume).unwrap();
    readers.end(volume).unwrap();
}

#[test]
fn a_reader_says_what_is_wrong_with_its_backup_and_is_not_started_again() {
    let scene = Scene::prepare(Work::Blocks, Freeze::Skip);
    let volume = scene.begun(scene.volumes[1]);
    let source = scene.pool().filling(volume).unwrap().unwrap().source;
    let absent = FillSource {
        backup_id: BackupId::generate(&*scene.host.env),
        ..source
    };
    let failed = scene.readers().read(volume, absent).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::NotFound, "{failed}");
    let left = fs::read_dir(scene.host.folder.join("readers")).unwrap();
    assert_eq!(left.count(), 0);
}
