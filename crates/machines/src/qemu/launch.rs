//! Starting a machine's process.
//!
//! QEMU says that it is up by ending: what was started ends once the machine's own process, which it
//! forked, has its disks open and its sockets listening. When storage hangs, that may never be. So
//! there is a bound, and one for the first answer; a machine that keeps to neither is ended, with
//! whatever was forked for it, and nothing is left but what it said.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::command::arguments;
use super::folder::Process;
use super::machine::Machine;
use crate::{Error, MachineLayout, MachineSpec};

/// How long a machine may take to start.
pub(super) const START: Duration = Duration::from_mins(2);

impl Machine {
    /// Runs a machine that has no process. One that does not start leaves none.
    pub(super) fn launch(
        &self,
        spec: &MachineSpec,
        resumed: Option<&MachineLayout>,
    ) -> Result<(), Error> {
        // What an agent left half started that was killed meanwhile.
        self.end_process()?;
        self.folder.prepare(spec)?;
        let launched = self
            .run(spec, resumed)
            .and_then(|()| self.folder.note_running())
            .and_then(|()| self.first_answer());
        if launched.is_err() {
            self.end_process()?;
            self.folder.note_ended()?;
        }
        launched
    }

    fn run(&self, spec: &MachineSpec, resumed: Option<&MachineLayout>) -> Result<(), Error> {
        let accelerator = self.shared.accelerator();
        let config = &self.shared.config;
        let child = Command::new(&config.program)
            .args(arguments(spec, &self.folder, config, accelerator, resumed))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(self.folder.new_log()?)
            .spawn()
            .map_err(|error| self.not_started(&error.to_string()))?;
        let bound = self.shared.start_bound;
        match ended_within(child, bound) {
            Some(status) if status.success() => Ok(()),
            Some(_) => Err(self.not_started(self.folder.log().trim())),
            None => {
                let late = format!("it was not up within {} seconds", bound.as_secs());
                Err(self.not_started(&late))
            }
        }
    }

    /// The connection has a bound of its own.
    fn first_answer(&self) -> Result<(), Error> {
        match self.link() {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(self.not_started("it ended at once")),
            Err(Error::NoAnswer { reason, .. }) => {
                Err(self.not_started(&format!("it does not answer: {reason}")))
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn not_started(&self, reason: &str) -> Error {
        Error::NotStarted {
            id: self.id,
            reason: reason.chars().take(1000).collect(),
        }
    }
}

/// How a child ended. One that does not within the bound is killed.
fn ended_within(mut child: Child, bound: Duration) -> Option<ExitStatus> {
    if Process::of(&child).is_some_and(|process| process.wait(bound)) {
        return child.wait().ok();
    }
    let _gone_already = child.kill();
    // It may wait for storage, and somebody must take note of its end.
    std::thread::spawn(move || child.wait());
    None
}
