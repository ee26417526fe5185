//! The guard: a process that freezes a guest's file systems and thaws them whatever happens.
//!
//! ```text
//!  agent                          guard                        guest's agent
//!    | starts it; one line: whom,   |                               |
//!    | how long at most             |                               |
//!    |----------------------------->| guest-fsfreeze-freeze ------->|
//!    |<------------------- "frozen" |<------------------------------|
//!    | one QMP transaction          |                               |
//!    | "thaw" ---------------------->| guest-fsfreeze-thaw --------->|
//!    |<------------------- "thawed" |<------------------------------|
//! ```
//!
//! It alone speaks to the guest's agent meanwhile, in a process of its own, so a thaw does not
//! depend on whoever asked for the freeze: it thaws when it is told to, when the pipe to it closes
//! (the agent was killed, with -9 or otherwise), and when the time is up. A freeze that took too
//! long is thawed too, since it may happen yet. It goes on trying for [`STUBBORN`], as long as the
//! machine is there.
//!
//! Should the guard itself be killed, the agent sees its pipe close and thaws; should both be, the
//! next agent thaws when it adopts the machine.

use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stillpoint_model::Env;

use crate::guest_agent::GuestAgent;

/// For how long it goes on trying to thaw.
const STUBBORN: Duration = Duration::from_mins(10);
/// How long one attempt to thaw may take.
const ATTEMPT: Duration = Duration::from_secs(20);
/// How long it waits between two attempts.
const PAUSE: Duration = Duration::from_millis(200);
/// The longest line between agent and guard.
const MAX_LINE: u64 = 64 << 10;

/// How the guard is started. It calls [`run`] and nothing else.
#[derive(Clone, Debug)]
pub struct GuardProgram {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Charge {
    socket: PathBuf,
    bound_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Frozen,
    /// Nothing is frozen, or will be for long.
    Failed(String),
    /// It was told to thaw and has thawed.
    Thawed,
    /// It has thawed before it was told to.
    ThawedEarly,
}

fn say(out: &mut impl Write, word: &Word) {
    // Whoever is gone hears nothing; the guest is thawed all the same.
    let _nobody_listens = serde_json::to_string(word)
        .map_err(io::Error::other)
        .and_then(|line| writeln!(out, "{line}"))
        .and_then(|()| out.flush());
}

/// Thaws a guest, and tries again until it did.
fn thaw(charge: &Charge, env: &dyn Env) -> io::Result<()> {
    let deadline = env.monotonic() + STUBBORN;
    loop {
        let thawed = GuestAgent::connect(&charge.socket, env, ATTEMPT)
            .and_then(|mut agent| agent.call("guest-fsfreeze-thaw", ATTEMPT));
        match thawed {
            Ok(_) => return Ok(()),
            Err(error) if is_gone(&error) || env.monotonic() > deadline => return Err(error),
            Err(_) => std::thread::park_timeout(PAUSE),
        }
    }
}

/// Whether no machine is there any more.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// Why a guest was not frozen.
struct NotFrozen {
    reason: io::Error,
    /// It was told to freeze, and may do so yet.
    is_told: bool,
}

fn freeze(charge: &Charge, env: &dyn Env, bound: Duration) -> Result<(), NotFrozen> {
    let failed = |is_told| move |reason| NotFrozen { reason, is_told };
    let mut agent = GuestAgent::connect(&charge.socket, env, bound).map_err(failed(false))?;
    let frozen = agent
        .call("guest-fsfreeze-freeze", bound)
        .map_err(failed(true))?;
    match frozen.as_u64() {
        Some(1..) => Ok(()),
        _ => {
            Err(io::Error::other("it has no file system that can be frozen")).map_err(failed(true))
        }
    }
}

/// What the guard is, from its first line to its end. `input` and `output` are its standard ones.
pub fn run(
    env: &dyn Env,
    input: impl Read + Send + 'static,
    mut output: impl Write,
) -> io::Result<()> {
    let mut input = io::BufReader::new(input);
    let mut line = String::new();
    input.by_ref().take(MAX_LINE).read_line(&mut line)?;
    let charge: Charge = serde_json::from_str(&line)?;
    let bound = Duration::from_millis(charge.bound_ms);
    if let Err(failed) = freeze(&charge, env, bound) {
        say(&mut output, &Word::Failed(failed.reason.to_string()));
        return if failed.is_told {
            thaw(&charge, env)
        } else {
            Ok(())
        };
    }
    say(&mut output, &Word::Frozen);
    let (sender, told) = channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = input.take(MAX_LINE).read_line(&mut line);
        let _over = sender.send(matches!(read, Ok(1..)));
    });
    let is_told = matches!(told.recv_timeout(bound), Ok(true));
    let thawed = thaw(&charge, env);
    let word = if is_told {
        Word::Thawed
    } else {
        Word::ThawedEarly
    };
    say(&mut output, &word);
    thawed
}

/// A guest whose file systems are frozen. Dropping it thaws them.
pub(crate) struct Frozen {
    child: Option<Child>,
    words: Receiver<Word>,
    socket: PathBuf,
}

impl Frozen {
    /// Freezes the guest behind a socket. The bound is for freezing, and for staying frozen.
    pub(crate) fn begin(
        program: &GuardProgram,
        socket: &Path,
        bound: Duration,
    ) -> Result<Self, String> {
        let text = |error: io::Error| format!("its guard did not start: {error}");
        let mut child = start(program).map_err(text)?;
        let words = hear(&mut child);
        let frozen = Self {
            child: Some(child),
            words,
            socket: socket.to_owned(),
        };
        frozen.charge(bound).map_err(text)?;
        // The guard keeps the bound for each of two steps; what is added is for itself.
        match frozen.words.recv_timeout(bound * 2 + ATTEMPT) {
            Ok(Word::Frozen) => Ok(frozen),
            Ok(Word::Failed(reason)) => Err(reason),
            Ok(Word::Thawed | Word::ThawedEarly) => Err("its guard is confused".to_owned()),
            Err(RecvTimeoutError::Timeout) => Err("its guard does not answer".to_owned()),
            Err(RecvTimeoutError::Disconnected) => Err("its guard ended".to_owned()),
        }
    }

    fn charge(&self, bound: Duration) -> io::Result<()> {
        let charge = Charge {
            socket: self.socket.clone(),
            bound_ms: u64::try_from(bound.as_millis()).unwrap_or(u64::MAX),
        };
        let line = serde_json::to_string(&charge)?;
        self.tell(&line)
    }

    fn tell(&self, line: &str) -> io::Result<()> {
        let stdin = self.child.as_ref().and_then(|child| child.stdin.as_ref());
        let mut stdin = stdin.ok_or(io::ErrorKind::BrokenPipe)?;
        writeln!(stdin, "{line}")
    }

    /// Whether it is frozen as far as is known.
    pub(crate) fn is_frozen(&self) -> bool {
        matches!(
            self.words.try_recv(),
            Err(std::sync::mpsc::TryRecvError::Empty)
        )
    }

    /// Thaws it. True when it was frozen until now.
    pub(crate) fn end(self, env: &dyn Env) -> bool {
        let told = self.tell("thaw");
        let word = self.words.recv_timeout(STUBBORN);
        if word.is_err() {
            // The guard was killed.
            let _tried = thaw_now(&self.socket, env);
        }
        told.is_ok() && word == Ok(Word::Thawed)
    }
}

impl Drop for Frozen {
    /// The guard sees its pipe close, thaws and ends; somebody must take note of its end.
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            std::thread::spawn(move || child.wait());
        }
    }
}

fn start(program: &GuardProgram) -> io::Result<Child> {
    use std::os::unix::process::CommandExt;
    Command::new(&program.program)
        .args(&program.args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

/// What a guard says, as it says it. Other lines, which are not ours, are passed over.
fn hear(child: &mut Child) -> Receiver<Word> {
    let (sender, receiver) = channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let lines = io::BufReader::new(stdout).lines().map_while(Result::ok);
            for word in lines.filter_map(|line| serde_json::from_str(&line).ok()) {
                if sender.send(word).is_err() {
                    break;
                }
            }
        });
    }
    receiver
}

/// Thaws a guest that nobody guards, if it has an agent that answers.
pub(crate) fn thaw_now(socket: &Path, env: &dyn Env) -> io::Result<()> {
    let bound = Duration::from_secs(2);
    let mut agent = GuestAgent::connect(socket, env, bound)?;
    if agent.call("guest-fsfreeze-status", bound)?.as_str() == Some("frozen") {
        agent.call("guest-fsfreeze-thaw", ATTEMPT)?;
    }
    Ok(())
}
