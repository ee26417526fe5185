//! Memory: captured at the instant of the disks while the guest goes on, and going on from it.
//!
//! ```text
//!  room for all of it is allocated; the file goes to QEMU as a descriptor
//!  noted: standing
//!  stop ---- transaction: disks ---- migrate in the background: devices are saved, every page is
//!                                    protected, and QEMU has the guest go on by itself
//!  note gone                         pages are written; one that the guest changes goes first
//! ```
//!
//! **Whatever happens to us.** QEMU writes the file itself, so it needs nobody. An agent that is killed
//! in the short time between `stop` and `migrate` leaves a machine that stands still; the note in its
//! folder says so, and the next agent has it go on as it adopts it.
//!
//! **Never cancelled.** QEMU 7.2 leaves pages protected when such a migration fails or is cancelled,
//! and the guest then waits for ever at its next write to one of them. So nobody cancels it, the
//! file's room is there beforehand, and it is no socket that could be closed. Who does not want the
//! result any more throws it away when it is whole.

use std::fs::File;
use std::io::Seek;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate};
use serde_json::{Value, json};
use stillpoint_model::ByteCount;

use super::command::device_of;
use super::disks::PERIPHERAL;
use super::machine::{ANSWER, Machine};
use crate::qmp::{Qmp, QmpError};
use crate::{Error, MachineLayout, MachineSpec, MachineState, MemoryReport, Switch};

/// The name under which QEMU is given the file.
const FILE: &str = "memory";
/// How often it is looked how far QEMU is.
const LOOK: Duration = Duration::from_millis(10);
/// How long a machine may take to go on that an agent left standing: QEMU may be about to do it.
const GO_ON: Duration = Duration::from_secs(10);
/// What is allocated beside the memory: devices, firmware, and eight bytes for each page.
const BESIDE: u64 = 64 << 20;

/// How a migration is, as far as QEMU says.
enum Migration {
    None,
    UnderWay,
    Completed,
    Failed(String),
}

impl Machine {
    fn io(doing: &'static str, source: std::io::Error) -> Error {
        Error::io(doing, Path::new("the memory's file"), source)
    }

    pub(super) fn switch_with_memory(
        &self,
        switches: &[Switch],
        into: &File,
    ) -> Result<MemoryReport, Error> {
        let _turn = self.turn();
        let qmp = self.on()?;
        if self.state_of(&qmp)? != Some(MachineState::Running) {
            let (id, state) = (self.id, MachineState::Paused);
            return Err(Error::WrongState { id, state });
        }
        self.check_tips(&qmp, switches)?;
        let layout = self.layout(&qmp)?;
        let room = layout.memory.get() + layout.memory.get() / 256 + BESIDE;
        fallocate(into, FallocateFlags::empty(), 0, room)
            .map_err(|e| Self::io("allocating", e.into()))?;
        self.prepare_memory(&qmp, into)?;
        let switched = self
            .add_overlays(&qmp, switches)
            .and_then(|()| self.stand_still(&qmp, switches));
        if matches!(switched, Err(Error::Refused { .. })) {
            self.delete_overlays(&qmp, switches);
        }
        let stall = switched?;
        let size = self.end_of_memory(&qmp, into)?;
        Ok(MemoryReport {
            layout,
            size,
            stall,
        })
    }

    /// What the machine is like for its guest.
    fn layout(&self, qmp: &Qmp) -> Result<MachineLayout, Error> {
        let bad = |reason: &str| Error::BadSpec {
            id: self.id,
            reason: reason.to_owned(),
        };
        let spec = (self.folder.spec()).ok_or_else(|| bad("it is not known what it is made of"))?;
        let question = json!({"path": "/machine", "property": "type"});
        let named = self.call_on(qmp, "qom-get", &question)?;
        let machine_type = named
            .as_str()
            .and_then(|name| name.strip_suffix("-machine"));
        let machine_type = machine_type.ok_or_else(|| bad("its type is not known"))?;
        let mut layout = MachineLayout {
            machine_type: machine_type.to_owned(),
            accelerator: self.shared.accelerator().argument().to_owned(),
            vcpus: spec.vcpus,
            memory: spec.memory,
            ports: std::collections::BTreeMap::new(),
        };
        let plugged = self.volumes(qmp)?;
        for disk in spec.disks.iter().filter(|d| plugged.contains(&d.volume)) {
            let path = format!("{PERIPHERAL}{}", device_of(disk.volume));
            let question = json!({"path": path, "property": "parent_bus"});
            let bus = self.call_on(qmp, "qom-get", &question)?;
            let port = bus.as_str().and_then(|bus| bus.rsplit('/').next());
            let port = port.ok_or_else(|| bad("it is not known where a disk is plugged"))?;
            layout.ports.insert(disk.place, port.to_owned());
        }
        if layout.ports.len() != plugged.len() {
            return Err(bad("two of its disks have one place"));
        }
        Ok(layout)
    }

    /// Gives QEMU the file, and says how it is to be written. Nothing has happened to the guest.
    fn prepare_memory(&self, qmp: &Qmp, file: &File) -> Result<(), Error> {
        let capability = json!({"capability": "background-snapshot", "state": true});
        let arguments = json!({"capabilities": [capability]});
        self.call_on(qmp, "migrate-set-capabilities", &arguments)?;
        // As fast as the storage takes it.
        let arguments = json!({"max-bandwidth": i64::MAX / 8});
        self.call_on(qmp, "migrate-set-parameters", &arguments)?;
        self.give(qmp, file)
    }

    fn give(&self, qmp: &Qmp, file: &File) -> Result<(), Error> {
        let id = self.id;
        let given = qmp.give(FILE, file.as_fd(), ANSWER);
        given.map_err(|error| match error {
            QmpError::Refused(reason) => Error::Refused {
                id,
                command: "getfd".to_owned(),
                reason,
            },
            QmpError::NoAnswer(reason) => Error::NoAnswer { id, reason },
        })
    }

    /// Captures the disks and begins to write the memory of that instant; how long the machine stood
    /// still.
    fn stand_still(&self, qmp: &Qmp, switches: &[Switch]) -> Result<Duration, Error> {
        self.folder.note_standing()?;
        let stopped_at = self.now();
        let begun = self
            .call_on(qmp, "stop", &json!({}))
            .and_then(|_| self.transact(qmp, switches))
            .and_then(|()| {
                let uri = format!("fd:{FILE}");
                self.call_on(qmp, "migrate", &json!({"uri": uri}))
            });
        let gone_on = self.see_it_go_on(qmp);
        begun?;
        gone_on?;
        Ok(self.now() - stopped_at)
    }

    /// Has a machine go on that stands still for a capture, unless QEMU is about to.
    fn see_it_go_on(&self, qmp: &Qmp) -> Result<(), Error> {
        let deadline = self.now() + GO_ON;
        loop {
            if self.state_of(qmp)? != Some(MachineState::Paused) {
                return self.folder.note_not_standing();
            }
            let is_qemu_at_it = matches!(self.migration(qmp)?, Migration::UnderWay);
            if !is_qemu_at_it || self.now() >= deadline {
                self.call_on(qmp, "cont", &json!({}))?;
                return self.folder.note_not_standing();
            }
            std::thread::park_timeout(LOOK);
        }
    }

    /// Has a machine go on that an agent which was killed left standing.
    pub(super) fn end_standing(&self) {
        if !self.folder.is_standing_noted() {
            return;
        }
        let gone_on = self.link().and_then(|qmp| match qmp {
            Some(qmp) => self.see_it_go_on(&qmp),
            None => self.folder.note_not_standing(),
        });
        tracing::info!(instance = %self.id, ?gone_on, "a machine was left standing");
    }

    fn migration(&self, qmp: &Qmp) -> Result<Migration, Error> {
        let answer = self.call_on(qmp, "query-migrate", &json!({}))?;
        Ok(match answer["status"].as_str() {
            None | Some("none") => Migration::None,
            Some("completed") => Migration::Completed,
            Some("failed" | "cancelled") => {
                let why = answer["error-desc"].as_str().unwrap_or("it gave no reason");
                Migration::Failed(why.to_owned())
            }
            Some(_) => Migration::UnderWay,
        })
    }

    fn wait_for_migration(&self, qmp: &Qmp, what: &str) -> Result<(), Error> {
        loop {
            match self.migration(qmp)? {
                Migration::Completed => return Ok(()),
                Migration::UnderWay => std::thread::park_timeout(LOOK),
                Migration::None => return Err(self.failed(what, "it forgot about it".to_owned())),
                Migration::Failed(reason) => return Err(self.failed(what, reason)),
            }
        }
    }

    /// Waits until the memory is written, and makes the file as long as that is.
    fn end_of_memory(&self, qmp: &Qmp, file: &File) -> Result<ByteCount, Error> {
        self.wait_for_migration(qmp, "capturing memory")?;
        // The descriptor that QEMU has shares its place with ours.
        let mut place = file;
        let size = place
            .stream_position()
            .map_err(|e| Self::io("measuring", e))?;
        file.set_len(size).map_err(|e| Self::io("cutting", e))?;
        Ok(ByteCount::new(size))
    }

    pub(super) fn start_from_memory(
        &self,
        spec: &MachineSpec,
        layout: &MachineLayout,
        from: &File,
    ) -> Result<(), Error> {
        let _turn = self.turn();
        if self.is_on_or_ended()? {
            return Ok(());
        }
        let accelerator = self.shared.accelerator().argument();
        if let Some(why) = layout.differs_from(spec, accelerator) {
            return Err(Error::BadSpec {
                id: self.id,
                reason: format!("it cannot go on from this memory: {why}"),
            });
        }
        self.launch(spec, Some(layout))?;
        let gone_on = self.go_on_from(from);
        if gone_on.is_err() {
            self.end_process()?;
            self.folder.note_ended()?;
        }
        gone_on
    }

    fn go_on_from(&self, from: &File) -> Result<(), Error> {
        let qmp: Arc<Qmp> = (self.link()?).ok_or_else(|| self.not_started("it ended at once"))?;
        self.give(&qmp, from)?;
        let uri = format!("fd:{FILE}");
        self.call_on(&qmp, "migrate-incoming", &json!({"uri": uri}))?;
        let loaded = self.wait_for_migration(&qmp, "reading memory");
        if let Err(Error::NoAnswer { .. }) = loaded {
            // What it cannot make sense of ends it.
            return Err(self.not_started(self.folder.log().trim()));
        }
        loaded?;
        // It stood still when its memory was captured.
        self.call_on(&qmp, "cont", &json!({})).map(|_: Value| ())
    }
}
