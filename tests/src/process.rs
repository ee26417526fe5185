//! Commands that must succeed, and processes that end with their test.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Runs `command` to its end and panics, with what it printed, unless it succeeded.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} ended with {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    output
}

/// A command that the kernel kills when the thread that starts it ends, so that a test which
/// is itself killed leaves no process behind.
pub fn bound_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// A process that is spoken with in lines (or other `separator`ed messages) over its standard
/// input and output. Dropping it kills it.
pub struct Dialogue {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    messages: Receiver<String>,
    separator: u8,
}

impl Dialogue {
    /// Starts `command`; `name` is what panics call it. Its standard error stays as configured.
    #[track_caller]
    pub fn start(name: &str, mut command: Command, separator: u8) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let output = child.stdout.take().expect("stdout is piped");
        let (sender, messages) = mpsc::channel();
        thread::spawn(move || {
            for message in BufReader::new(output).split(separator) {
                let Ok(message) = message else { return };
                let text = String::from_utf8_lossy(&message).into_owned();
                if sender.send(text).is_err() {
                    return;
                }
            }
        });
        let input = child.stdin.take();
        Self {
            name: name.into(),
            child,
            input,
            messages,
            separator,
        }
    }

    /// Sends one message.
    ///
    /// # Errors
    /// The process has ended or closed its input.
    pub fn send(&mut self, message: &str) -> Result<(), String> {
        let mut bytes = message.as_bytes().to_vec();
        bytes.push(self.separator);
        let input = self
            .input
            .as_mut()
            .ok_or_else(|| format!("{}: input closed", self.name))?;
        input
            .write_all(&bytes)
            .and_then(|()| input.flush())
            .map_err(|error| format!("{}: {error}", self.name))
    }

    /// The next message.
    ///
    /// # Errors
    /// None came within `patience`, or the process closed its output.
    pub fn receive(&mut self, patience: Duration) -> Result<String, String> {
        self.messages
            .recv_timeout(patience)
            .map_err(|error| match error {
                RecvTimeoutError::Timeout => format!("{} said nothing for {patience:?}", self.name),
                RecvTimeoutError::Disconnected => format!("{} closed its output", self.name),
            })
    }

    /// Sends a signal; one that comes too late is no error.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, signal);
        }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the process has closed its output and ended.
    ///
    /// # Errors
    /// It did not within `patience`.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus, String> {
        self.input = None;
        loop {
            match self.messages.recv_timeout(patience) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("{} did not end within {patience:?}", self.name));
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.child
            .wait()
            .map_err(|error| format!("{}: {error}", self.name))
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
