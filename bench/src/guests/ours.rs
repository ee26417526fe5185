//! The contender that is ours: a pool and a machine, as a node has them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use stillpoint_env::SystemEnv;
use stillpoint_layers::live::{HostError, JoinEnd, JoinWatch, LiveHost, LiveJoin, LiveSwitch};
use stillpoint_layers::qcow2::Qcow2Driver;
use stillpoint_layers::{ImageSource, LayerPool, MergeOutcome, Pool};
use stillpoint_machines::guard::GuardProgram;
use stillpoint_machines::qemu::{Accelerator, DiskIo, QemuConfig, QemuDriver};
use stillpoint_machines::{self as machines, DiskSpec, Freeze, Hypervisor, MachineSpec, Switch};
use stillpoint_model::ByteCount;
use stillpoint_model::id::{InstanceId, PoolId, SnapshotId, VolumeId};
use stillpoint_model::item::{Consistency, FreezePolicy};
use stillpoint_model::layer_tree::Direction;
use stillpoint_model::progress::NullMonitor;
use stillpoint_model::task::ImageFormat;

use super::image::Images;
use super::mailbox::Mailbox;
use super::{FREEZE_BOUND, Guest, MEMORY, Mode};

/// The one machine, as the host of its pool.
struct Host {
    driver: QemuDriver,
    id: InstanceId,
}

fn failed(error: &machines::Error) -> HostError {
    HostError::Failed(error.to_string())
}

impl LiveHost for Host {
    fn open_chain(&self, volume: VolumeId) -> Result<Option<Vec<String>>, HostError> {
        if self
            .driver
            .holder(volume)
            .map_err(|error| failed(&error))?
            .is_none()
        {
            return Ok(None);
        }
        let chain = self.driver.open_chain(self.id, volume);
        chain.map(Some).map_err(|error| failed(&error))
    }

    fn switch(
        &self,
        switches: &[LiveSwitch],
        freeze: FreezePolicy,
    ) -> Result<Consistency, HostError> {
        let switch = |switch: &LiveSwitch| Switch {
            volume: switch.volume,
            tip: switch.tip.clone(),
            graph: switch.graph.clone(),
        };
        let switches: Vec<_> = switches.iter().map(switch).collect();
        let bound = FREEZE_BOUND;
        let freeze = match freeze {
            FreezePolicy::Skip => Freeze::Skip,
            FreezePolicy::Try => Freeze::Try { bound },
            FreezePolicy::Require => Freeze::Require { bound },
        };
        let report = self.driver.switch(self.id, &switches, freeze);
        Ok(match report.map_err(|error| failed(&error))?.frozen {
            Some(_) => Consistency::Filesystem,
            None => Consistency::Crash,
        })
    }

    fn can_stream(&self, _: VolumeId) -> bool {
        self.driver.can_stream(self.id).unwrap_or(false)
    }

    fn join(&self, join: &LiveJoin, watch: JoinWatch<'_>) -> Result<JoinEnd, HostError> {
        let LiveJoin {
            volume,
            job,
            tip,
            child,
            parent,
            below,
            direction,
            backing_name,
        } = join.clone();
        let join = machines::Join {
            volume,
            job,
            tip,
            child,
            parent,
            below,
            direction: match direction {
                Direction::Stream => machines::Direction::Stream,
                Direction::Commit => machines::Direction::Commit,
            },
            backing_name,
        };
        let ended = self.driver.join(self.id, &join, watch);
        Ok(match ended.map_err(|error| failed(&error))? {
            machines::JoinEnd::Done => JoinEnd::Done,
            machines::JoinEnd::Stopped => JoinEnd::Stopped,
        })
    }

    fn stop_joins(&self, volume: VolumeId) -> Result<(), HostError> {
        let stopped = self.driver.stop_joins(self.id, volume);
        stopped.map_err(|error| failed(&error))
    }

    fn rebase(&self, volume: VolumeId, tip: &str, below: &Value) -> Result<(), HostError> {
        let rebased = self.driver.rebase(self.id, volume, tip, below);
        rebased.map_err(|error| failed(&error))
    }

    fn resize(&self, volume: VolumeId, _: &str, size: ByteCount) -> Result<(), HostError> {
        let resized = self.driver.resize(self.id, volume, size);
        resized.map_err(|error| failed(&error))
    }
}

/// A machine with three volumes of a pool, and a plain file to compare with.
pub struct Ours {
    env: Arc<SystemEnv>,
    host: Arc<Host>,
    pool: LayerPool<Qcow2Driver>,
    mailbox: Mailbox,
    /// Two whose writes are timed, and one whose speed is measured.
    volumes: [VolumeId; 3],
    /// What keeps layers apart, the last taken last.
    points: Vec<Vec<SnapshotId>>,
}

/// A file as it is.
fn raw(path: &Path, name: &str) -> Value {
    json!({
        "driver": "raw", "node-name": name, "discard": "unmap",
        "file": { "driver": "file", "node-name": format!("{name}-file"), "filename": path },
    })
}

impl Ours {
    /// Starts it. `sockets` is a folder with a short path.
    pub fn start(images: &Images, folder: &Path, sockets: &Path, program: &Path) -> Self {
        let env = Arc::new(SystemEnv::new());
        let path = |name: &str| folder.join(name);
        let pool_id = PoolId::generate(&*env);
        let driver = Qcow2Driver::open(&path("pool"), pool_id).expect("a pool");
        let pool = LayerPool::open(driver, env.clone()).expect("a pool");
        let volumes = [&images.data, &images.data, &images.speed].map(|image| {
            let volume = VolumeId::generate(&*env);
            let source = ImageSource {
                path: image.clone(),
                format: ImageFormat::Raw,
            };
            let made = pool.import(volume, &source, ByteCount::from_gib(1), &NullMonitor);
            made.expect("a volume");
            volume
        });
        let config = QemuConfig {
            run_dir: sockets.to_owned(),
            program: program.to_owned(),
            accelerator: None,
            disk_io: DiskIo::find(program, folder),
            outbound: false,
            guard: GuardProgram {
                program: std::env::current_exe().expect("this program"),
                args: vec!["--guard".into()],
            },
        };
        let host = Arc::new(Host {
            driver: QemuDriver::open(config, env.clone()).expect("QEMU"),
            id: InstanceId::generate(&*env),
        });
        pool.connect(host.clone());
        let mailbox = Mailbox::create(&path("mailbox"));
        for (image, name) in [(&images.root, "root"), (&images.speed, "plain")] {
            fs::copy(image, path(name)).expect("a disk");
        }
        let ours = Self {
            env,
            host,
            pool,
            mailbox,
            volumes,
            points: Vec::new(),
        };
        ours.boot(folder);
        ours
    }

    fn boot(&self, folder: &Path) {
        let [first, second, speed] = self.volumes;
        let layered = |volume| (volume, self.pool.block_graph(volume).expect("its graph"));
        let plain = |name| {
            (
                VolumeId::generate(&*self.env),
                raw(&folder.join(name), name),
            )
        };
        let disks = [
            plain("root"),
            layered(first),
            layered(second),
            plain("mailbox"),
            layered(speed),
            plain("plain"),
        ];
        let disks = (0..).zip(disks).map(|(place, (volume, graph))| DiskSpec {
            volume,
            place,
            graph,
        });
        let spec = MachineSpec {
            id: self.host.id,
            hostname: "ours".to_owned(),
            vcpus: 1,
            memory: MEMORY,
            disks: disks.collect(),
            forwards: Vec::new(),
        };
        self.host.driver.start(&spec).expect("a machine");
    }

    /// What runs the guest's processor.
    pub fn accelerator(&self) -> Accelerator {
        self.host.driver.accelerator()
    }

    /// Whether the guest's agent answers.
    pub fn is_ready(&self) -> bool {
        let seen = self.host.driver.inspect(self.host.id).expect("it is there");
        seen.agent_answered
    }

    fn seal(&self, volumes: &[VolumeId], mode: Mode) -> Vec<SnapshotId> {
        let freeze = match mode {
            Mode::Crash => FreezePolicy::Skip,
            Mode::Frozen => FreezePolicy::Require,
        };
        let named = volumes
            .iter()
            .map(|volume| (*volume, SnapshotId::generate(&*self.env)));
        let set: Vec<_> = named.collect();
        self.pool
            .snapshot_together(&set, freeze)
            .expect("a snapshot");
        set.into_iter().map(|(_, snapshot)| snapshot).collect()
    }

    fn drop_point(&self, snapshots: Vec<SnapshotId>) {
        for snapshot in snapshots {
            self.pool
                .delete_snapshot(snapshot)
                .expect("delete a snapshot");
        }
        while let Some(candidate) = self.pool.merge_candidates().first() {
            let merged = self.pool.merge(candidate, &NullMonitor).expect("a merge");
            assert_eq!(merged, MergeOutcome::Done);
        }
    }

    /// A snapshot of all volumes that stays.
    pub fn deepen_all(&mut self) {
        let point = self.seal(&self.volumes, Mode::Crash);
        self.points.push(point);
    }

    /// Deletes all snapshots.
    pub fn flatten(&mut self) {
        let all = std::mem::take(&mut self.points);
        self.drop_point(all.concat());
    }

    /// How many layers the disk has whose speed is measured.
    pub fn depth(&self) -> usize {
        let chain = self.host.driver.open_chain(self.host.id, self.volumes[2]);
        chain.expect("its chain").len()
    }
}

impl Guest for Ours {
    fn mailbox(&mut self) -> &mut Mailbox {
        &mut self.mailbox
    }

    fn snapshot(&mut self, mode: Mode) {
        let point = self.seal(&self.volumes[..2], mode);
        self.points.push(point);
    }

    fn undo(&mut self) {
        if let Some(point) = self.points.pop() {
            self.drop_point(point);
        }
    }

    fn deepen(&mut self) {
        self.snapshot(Mode::Crash);
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let console = self.host.driver.console(self.host.id, ByteCount::new(2000));
            let console = String::from_utf8_lossy(&console.unwrap_or_default()).into_owned();
            eprintln!("--- the end of our guest's console\n{console}\n---");
        }
        let _it_may_have_ended = self.host.driver.delete(self.host.id);
    }
}
