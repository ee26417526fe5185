//! One machine: its process, its connection, its power.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use serde_json::{Value, json};
use stillpoint_model::id::{InstanceId, VolumeId};

use super::Shared;
use super::command::volume_of;
use super::folder::{ENDING, Folder, Process};
use super::joins::JobEnd;
use crate::guest_agent::GuestAgent;
use crate::qmp::{Qmp, QmpError};
use crate::{Error, MachineSpec, MachineState, MachineView};

/// How long a machine may take to answer.
pub(super) const ANSWER: Duration = Duration::from_secs(60);
/// How long a killed process may take to end: it may wait for storage.
const END: Duration = Duration::from_mins(2);
/// How long the guest's agent may take to say that it is there.
const PING: Duration = Duration::from_millis(300);
/// How often a wait is interrupted to ask whether to go on.
const TICK: Duration = Duration::from_millis(200);
/// How often a guest is told again to shut down: one that boots does not hear it.
const REMIND: Duration = Duration::from_secs(5);

/// One machine.
pub(super) struct Machine {
    pub(super) shared: Arc<Shared>,
    pub(super) folder: Folder,
    pub(super) id: InstanceId,
    /// Itself, for threads that must not keep it.
    pub(super) me: Weak<Self>,
    /// Held by what changes the machine.
    turn: Mutex<()>,
    /// Held by whoever speaks to the guest's agent, which listens to one at a time.
    pub(super) talk: Mutex<()>,
    link: Mutex<Option<Arc<Qmp>>>,
    pub(super) agent_answered: AtomicBool,
    /// Somebody sees to it that the guest is thawed.
    pub(super) is_thawing: AtomicBool,
    /// Held by whoever adds to the console's file.
    pub(super) console_writer: Mutex<()>,
    /// How jobs ended that somebody waits for.
    pub(super) job_ends: Mutex<BTreeMap<String, Weak<JobEnd>>>,
    /// What its processors had computed, and when.
    last_load: Mutex<Option<(Duration, Duration)>>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machine {
    pub(super) fn new(shared: Arc<Shared>, folder: Folder, id: InstanceId) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            shared,
            folder,
            id,
            me: Weak::clone(me),
            turn: Mutex::default(),
            talk: Mutex::default(),
            link: Mutex::default(),
            agent_answered: AtomicBool::new(false),
            is_thawing: AtomicBool::new(false),
            console_writer: Mutex::default(),
            job_ends: Mutex::default(),
            last_load: Mutex::default(),
        })
    }

    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        lock(&self.turn)
    }

    pub(super) fn now(&self) -> Duration {
        self.shared.env.monotonic()
    }

    /// Closes the connection: one agent at a time has it.
    #[cfg(test)]
    pub(super) fn forget(&self) {
        *lock(&self.link) = None;
    }

    fn no_answer(&self, reason: &dyn std::fmt::Display) -> Error {
        Error::NoAnswer {
            id: self.id,
            reason: reason.to_string(),
        }
    }

    /// The connection to a machine that is on; none when no process is there.
    pub(super) fn link(&self) -> Result<Option<Arc<Qmp>>, Error> {
        let mut link = lock(&self.link);
        if let Some(qmp) = link.as_ref().filter(|qmp| qmp.is_alive()) {
            return Ok(Some(Arc::clone(qmp)));
        }
        *link = None;
        match Qmp::connect(&self.folder.qmp()) {
            Ok(qmp) => {
                let qmp = Arc::new(qmp);
                *link = Some(Arc::clone(&qmp));
                Ok(Some(qmp))
            }
            Err(_) if self.folder.process().is_none() => Ok(None),
            Err(error) => Err(self.no_answer(&error)),
        }
    }

    pub(super) fn call_on(&self, qmp: &Qmp, command: &str, args: &Value) -> Result<Value, Error> {
        let id = self.id;
        qmp.call(command, args, ANSWER)
            .map_err(|error| match error {
                QmpError::Refused(reason) => Error::Refused {
                    id,
                    command: command.to_owned(),
                    reason,
                },
                QmpError::NoAnswer(reason) => Error::NoAnswer { id, reason },
            })
    }

    /// The connection to a machine that must be on.
    pub(super) fn on(&self) -> Result<Arc<Qmp>, Error> {
        if let Some(qmp) = self.link()? {
            let state = self.state_of(&qmp)?;
            if state.is_some_and(MachineState::is_on) {
                return Ok(qmp);
            }
        }
        let (id, state) = (self.id, self.state_when_off());
        Err(Error::WrongState { id, state })
    }

    /// What a machine that has a process does; none when its guest shut down or it is broken.
    pub(super) fn state_of(&self, qmp: &Qmp) -> Result<Option<MachineState>, Error> {
        let status = self.call_on(qmp, "query-status", &json!({}))?;
        Ok(match status["status"].as_str().unwrap_or_default() {
            "running" | "suspended" => Some(MachineState::Running),
            "shutdown" | "internal-error" => None,
            _ => Some(MachineState::Paused),
        })
    }

    fn state_when_off(&self) -> MachineState {
        if self.folder.is_running_noted() {
            MachineState::Crashed
        } else {
            MachineState::Stopped
        }
    }

    /// Takes a machine over from an agent that is gone.
    pub(super) fn adopt(&self) {
        if self.folder.process().is_none() {
            return;
        }
        let noted = self.folder.note_running();
        self.end_standing();
        self.keep_thawing();
        tracing::info!(instance = %self.id, ?noted, "adopted a machine");
    }

    /// What can be seen of it. A machine whose guest shut down is ended on the way.
    pub(super) fn inspect(&self) -> Result<MachineView, Error> {
        match self.look() {
            // It ended while it was asked.
            Err(Error::NoAnswer { .. }) if self.is_gone() => self.look(),
            seen => seen,
        }
    }

    /// The volumes that it has open. Quicker than [`inspect`](Self::inspect), and asks no guest.
    pub(super) fn open_volumes(&self) -> Result<Vec<VolumeId>, Error> {
        match self.listed_volumes() {
            Ok(Some(open)) => Ok(open),
            Ok(None) => Ok(self.inspect()?.open),
            // It ended while it was asked.
            Err(Error::NoAnswer { .. }) if self.is_gone() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// The same; none when its guest shut down and its process is still there.
    fn listed_volumes(&self) -> Result<Option<Vec<VolumeId>>, Error> {
        let Some(qmp) = self.link()? else {
            return Ok(Some(Vec::new()));
        };
        match self.state_of(&qmp)? {
            Some(_) => self.volumes(&qmp).map(Some),
            None => Ok(None),
        }
    }

    /// Whether its process is gone; one that just closed its sockets may take a moment.
    fn is_gone(&self) -> bool {
        let gone = (self.folder.process()).is_none_or(|process| process.wait(ENDING));
        if gone {
            *lock(&self.link) = None;
        }
        gone
    }

    fn look(&self) -> Result<MachineView, Error> {
        let mut view = MachineView::absent(self.id);
        let Some(qmp) = self.link()? else {
            view.state = self.state_when_off();
            return Ok(view);
        };
        let Some(state) = self.state_of(&qmp)? else {
            view.state = self.end_what_is_over(&qmp)?;
            return Ok(view);
        };
        view.state = state;
        if state == MachineState::Paused {
            view.storage_full = self.full_volumes(&qmp)?;
        }
        view.open = self.volumes(&qmp)?;
        view.load_percent = self.load();
        view.agent_answered = self.ask_agent(state);
        view.forwards = self
            .folder
            .spec()
            .map(|spec| spec.forwards)
            .unwrap_or_default();
        self.drain_console(&qmp);
        Ok(view)
    }

    /// Whether it has a volume open. What cannot have it is not asked.
    pub(super) fn has_open(&self, volume: VolumeId) -> Result<bool, Error> {
        Ok(self.folder.may_have(volume) && self.open_volumes()?.contains(&volume))
    }

    /// Ends a machine whose guest shut down, or that broke.
    fn end_what_is_over(&self, qmp: &Qmp) -> Result<MachineState, Error> {
        let _turn = self.turn();
        self.drain_console(qmp);
        let status = self.call_on(qmp, "query-status", &json!({}));
        if status.is_ok_and(|status| status["status"] == "shutdown") {
            self.folder.note_ended()?;
        }
        self.end_process()?;
        Ok(self.state_when_off())
    }

    pub(super) fn volumes(&self, qmp: &Qmp) -> Result<Vec<VolumeId>, Error> {
        let listed = self.call_on(qmp, "qom-list", &json!({"path": "/machine/peripheral"}))?;
        let devices = listed.as_array().cloned().unwrap_or_default();
        let names = devices.iter().filter_map(|device| device["name"].as_str());
        Ok(names.filter_map(volume_of).collect())
    }

    fn load(&self) -> Option<u8> {
        let spent = self.folder.process()?.cpu_time()?;
        let now = self.now();
        let (before, at) = lock(&self.last_load).replace((spent, now))?;
        let vcpus = self.folder.spec().map_or(1, |spec| spec.vcpus.max(1));
        let could = now.saturating_sub(at).as_millis() * u128::from(vcpus);
        let did = spent.saturating_sub(before).as_millis() * 100;
        let percent = did.checked_div(could)?.min(100);
        u8::try_from(percent).ok()
    }

    /// Whether the guest's agent answered since the machine started. It is not asked while somebody
    /// speaks to it.
    fn ask_agent(&self, state: MachineState) -> bool {
        if !self.agent_answered.load(Ordering::Relaxed)
            && state == MachineState::Running
            && let Ok(_talk) = self.talk.try_lock()
        {
            let env = self.shared.env.as_ref();
            let answered = GuestAgent::connect(&self.folder.agent(), env, PING).is_ok();
            self.agent_answered.fetch_or(answered, Ordering::Relaxed);
        }
        self.agent_answered.load(Ordering::Relaxed)
    }

    pub(super) fn start(&self, spec: &MachineSpec) -> Result<(), Error> {
        let _turn = self.turn();
        if self.is_on_or_ended()? {
            return Ok(());
        }
        self.launch(spec, None)
    }

    /// Whether it is on. Otherwise nothing is left of how it was, so that it can be started.
    pub(super) fn is_on_or_ended(&self) -> Result<bool, Error> {
        match self.is_on() {
            Ok(true) => return Ok(true),
            // It ended while it was asked.
            Err(Error::NoAnswer { .. }) if self.is_gone() => {}
            Err(error) => return Err(error),
            Ok(false) => {}
        }
        self.end_process()?;
        self.agent_answered.store(false, Ordering::Relaxed);
        *lock(&self.last_load) = None;
        Ok(false)
    }

    fn is_on(&self) -> Result<bool, Error> {
        match self.link()? {
            Some(qmp) => Ok(self.state_of(&qmp)?.is_some()),
            None => Ok(false),
        }
    }

    /// Ends the process, whatever it does, and waits until it is gone and has nothing open.
    pub(super) fn end_process(&self) -> Result<(), Error> {
        *lock(&self.link) = None;
        let deadline = self.now() + END;
        loop {
            // What is forked while the others are ended is found the next time.
            let processes = self.folder.processes();
            if processes.is_empty() {
                return Ok(());
            }
            processes.iter().for_each(Process::kill);
            let left = || deadline.saturating_sub(self.now());
            if !processes.iter().all(|process| process.wait(left())) {
                return Err(self.no_answer(&io::Error::other("its process does not end")));
            }
        }
    }

    pub(super) fn kill(&self) -> Result<(), Error> {
        let _turn = self.turn();
        let connected = lock(&self.link).clone();
        if let Some(qmp) = connected {
            self.drain_console(&qmp);
        }
        self.folder.note_ended()?;
        self.end_process()
    }

    pub(super) fn delete(&self) -> Result<(), Error> {
        let _turn = self.turn();
        self.folder.note_ended()?;
        self.end_process()?;
        self.folder.remove_all()
    }

    pub(super) fn run_or_pause(&self, command: &str) -> Result<(), Error> {
        let _turn = self.turn();
        let qmp = self.on()?;
        self.call_on(&qmp, command, &json!({})).map(drop)
    }

    pub(super) fn shut_down(&self, bound: Duration, go_on: &dyn Fn() -> bool) -> Result<(), Error> {
        let _turn = self.turn();
        let deadline = self.now() + bound;
        let mut remind_at = Duration::ZERO;
        loop {
            let Some(qmp) = self.link()? else {
                return Ok(());
            };
            let events = qmp.listen();
            if self.state_of(&qmp)?.is_none() {
                self.folder.note_ended()?;
                // What the guest wrote before it shut down is in the files when QEMU has closed them.
                self.quit(&qmp)?;
                return Ok(());
            }
            let now = self.now();
            if now >= deadline {
                let id = self.id;
                return Err(Error::GuestStays { id, bound });
            }
            if !go_on() {
                return Err(Error::Cancelled);
            }
            if now >= remind_at {
                self.call_on(&qmp, "system_powerdown", &json!({}))?;
                remind_at = now + REMIND;
            }
            // Woken by anything that happens; what it was is asked above.
            let _woken = events.recv_timeout(TICK.min(deadline - now));
        }
    }

    /// Ends QEMU in good order, and otherwise.
    fn quit(&self, qmp: &Qmp) -> Result<(), Error> {
        self.drain_console(qmp);
        let process = self.folder.process();
        let _ends_meanwhile = self.call_on(qmp, "quit", &json!({}));
        if process.is_none_or(|process| process.wait(END)) {
            *lock(&self.link) = None;
            return Ok(());
        }
        self.end_process()
    }
}
