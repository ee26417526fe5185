//! Machines as QEMU processes.
//!
//! A machine is a process of its own session that knows nothing of us. Its folder in the run
//! directory holds what it was made of, its sockets, its console and its process id, so that an
//! agent that was restarted finds it again (see [`folder`]).
//!
//! ```text
//! RUN/<instance id>/  spec.json   what it is made of: noted before it gets a disk, until after it
//!                                 has lost it
//!                     standing    stands while it stands still for a capture of its memory
//!                     running     stands while it runs, goes when it ends as it should
//!                     qmp  agent  sockets
//!                     pid         locked by QEMU
//!                     console     what the guest wrote until it was last looked at, cut when it
//!                                 grows
//!                     log         what QEMU said while it started
//! ```
//!
//! **How it ended.** QEMU is told not to end when its guest shuts down. Whoever sees that the guest
//! did (here: [`inspect`](Hypervisor::inspect), [`shut_down`](Hypervisor::shut_down)) removes
//! `running` and ends it. So a process that is gone while `running` stands has crashed.
//!
//! **The agent's death.** A process, a job, a plugged disk outlive it and are found again. A frozen
//! guest is thawed by the [guard](crate::guard).
//!
//! **Under a service manager** machines and guards are in the agent's control group, although they are
//! in sessions of their own. A systemd unit needs
//!
//! - `KillMode=process`: a stop or restart ends the agent alone. The default ends every machine.
//! - `OOMPolicy=continue`: a machine that the kernel ends does not take the agent with it.
//! - `RuntimeDirectoryPreserve=yes` where the run directory is its `RuntimeDirectory=`, and no
//!   `PrivateTmp=yes` where it is under `/tmp`: what is removed there is not found again.
//!
//! **Invariant:** QEMU is never given an image without an explicit graph, and its guests reach
//! nothing on the host but through what their machine was given.

mod accelerator;
mod command;
mod console;
mod disk_io;
mod disks;
mod folder;
mod graph;
mod joins;
mod launch;
mod machine;
mod memory;
#[cfg(test)]
mod tests;
mod thaw;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::Value;
use stillpoint_model::id::{InstanceId, VolumeId};
use stillpoint_model::{ByteCount, Env};

pub use accelerator::Accelerator;
pub use disk_io::DiskIo;
use folder::Folder;
use machine::Machine;

use crate::guard::GuardProgram;
use crate::{
    DiskSpec, Error, Freeze, Hypervisor, Join, JoinEnd, JoinWatch, MachineLayout, MachineSpec,
    MachineView, MemoryReport, Switch, SwitchReport,
};

/// What the driver works with.
#[derive(Clone, Debug)]
pub struct QemuConfig {
    /// Where machines have their folders. Short: a socket's path takes at most 107 bytes.
    pub run_dir: PathBuf,
    /// `qemu-system-x86_64`.
    pub program: PathBuf,
    /// What runs the guests' processors. None: KVM if a guest runs in it, otherwise TCG.
    pub accelerator: Option<Accelerator>,
    /// How disks are opened.
    pub disk_io: DiskIo,
    /// Whether guests reach networks outside, and with them what listens on the host.
    pub outbound: bool,
    /// How the guard is started.
    pub guard: GuardProgram,
}

/// What all machines of a driver share.
struct Shared {
    config: QemuConfig,
    env: Arc<dyn Env>,
    accelerator: OnceLock<Accelerator>,
    /// How long a machine may take to start.
    start_bound: Duration,
}

impl Shared {
    fn accelerator(&self) -> Accelerator {
        let chosen = self.config.accelerator;
        *self
            .accelerator
            .get_or_init(|| chosen.unwrap_or_else(|| accelerator::find(&self.config)))
    }
}

/// Machines as QEMU processes.
pub struct QemuDriver {
    shared: Arc<Shared>,
    machines: Mutex<BTreeMap<InstanceId, Arc<Machine>>>,
}

impl QemuDriver {
    /// Opens the run directory, making it if need be, and adopts every machine in it. A guest that
    /// was left frozen is thawed as soon as it answers; this does not wait for it.
    pub fn open(config: QemuConfig, env: Arc<dyn Env>) -> Result<Self, Error> {
        Self::open_within(config, env, launch::START)
    }

    fn open_within(
        config: QemuConfig,
        env: Arc<dyn Env>,
        start_bound: Duration,
    ) -> Result<Self, Error> {
        let config = QemuConfig {
            run_dir: folder::open_run_dir(&config.run_dir)?,
            ..config
        };
        let ids = folder::list(&config.run_dir)?;
        let driver = Self {
            shared: Arc::new(Shared {
                config,
                env,
                accelerator: OnceLock::new(),
                start_bound,
            }),
            machines: Mutex::default(),
        };
        for id in ids {
            driver.machine(id).adopt();
        }
        Ok(driver)
    }

    /// What runs the guests' processors.
    pub fn accelerator(&self) -> Accelerator {
        self.shared.accelerator()
    }

    fn machine(&self, id: InstanceId) -> Arc<Machine> {
        let mut machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        let machine = machines.entry(id).or_insert_with(|| {
            let folder = Folder::new(&self.shared.config.run_dir, id);
            Machine::new(Arc::clone(&self.shared), folder, id)
        });
        Arc::clone(machine)
    }
}

impl Hypervisor for QemuDriver {
    fn machines(&self) -> Vec<InstanceId> {
        folder::list(&self.shared.config.run_dir).unwrap_or_default()
    }

    fn inspect(&self, id: InstanceId) -> Result<MachineView, Error> {
        self.machine(id).inspect()
    }

    fn start(&self, spec: &MachineSpec) -> Result<(), Error> {
        spec.check()?;
        self.machine(spec.id).start(spec)
    }

    fn shut_down(
        &self,
        id: InstanceId,
        bound: Duration,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        self.machine(id).shut_down(bound, go_on)
    }

    fn kill(&self, id: InstanceId) -> Result<(), Error> {
        self.machine(id).kill()
    }

    fn pause(&self, id: InstanceId) -> Result<(), Error> {
        self.machine(id).run_or_pause("stop")
    }

    fn resume(&self, id: InstanceId) -> Result<(), Error> {
        self.machine(id).run_or_pause("cont")
    }

    fn delete(&self, id: InstanceId) -> Result<(), Error> {
        self.machine(id).delete()?;
        let mut machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        machines.remove(&id);
        Ok(())
    }

    fn plug(&self, id: InstanceId, disk: &DiskSpec) -> Result<(), Error> {
        self.machine(id).plug(disk)
    }

    fn unplug(&self, id: InstanceId, volume: VolumeId, bound: Duration) -> Result<(), Error> {
        self.machine(id).unplug(volume, bound)
    }

    fn resize(&self, id: InstanceId, volume: VolumeId, size: ByteCount) -> Result<(), Error> {
        self.machine(id).resize(volume, size)
    }

    fn rebase(
        &self,
        id: InstanceId,
        volume: VolumeId,
        tip: &str,
        below: &Value,
    ) -> Result<(), Error> {
        self.machine(id).rebase(volume, tip, below)
    }

    fn console(&self, id: InstanceId, max: ByteCount) -> Result<Vec<u8>, Error> {
        self.machine(id).console(max)
    }

    fn holder(&self, volume: VolumeId) -> Result<Option<InstanceId>, Error> {
        let mut silent = None;
        for id in folder::list(&self.shared.config.run_dir)? {
            match self.machine(id).has_open(volume) {
                Ok(true) => return Ok(Some(id)),
                Ok(false) => {}
                Err(error) => silent = Some(error),
            }
        }
        silent.map_or(Ok(None), Err)
    }

    fn open_chain(&self, id: InstanceId, volume: VolumeId) -> Result<Vec<String>, Error> {
        self.machine(id).open_chain(volume)
    }

    fn switch(
        &self,
        id: InstanceId,
        switches: &[Switch],
        freeze: Freeze,
    ) -> Result<SwitchReport, Error> {
        self.machine(id).switch(switches, freeze)
    }

    fn switch_with_memory(
        &self,
        id: InstanceId,
        switches: &[Switch],
        into: &File,
    ) -> Result<MemoryReport, Error> {
        self.machine(id).switch_with_memory(switches, into)
    }

    fn start_from_memory(
        &self,
        spec: &MachineSpec,
        layout: &MachineLayout,
        from: &File,
    ) -> Result<(), Error> {
        spec.check()?;
        self.machine(spec.id).start_from_memory(spec, layout, from)
    }

    fn can_stream(&self, id: InstanceId) -> Result<bool, Error> {
        self.machine(id).can_stream()
    }

    fn join(&self, id: InstanceId, join: &Join, watch: JoinWatch<'_>) -> Result<JoinEnd, Error> {
        self.machine(id).join(join, watch)
    }

    fn stop_joins(&self, id: InstanceId, volume: VolumeId) -> Result<(), Error> {
        self.machine(id).stop_joins(volume)
    }
}
