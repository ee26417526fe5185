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
//! machine is there. It leads a session of its own, so what is sent to the agent's process group or
//! comes from its terminal does not reach it; what a service manager must be told is said in
//! [`qemu`](crate::qemu).
//!
//! **Whether the freeze held** is said by the guest: a thaw thaws as many file systems as the freeze
//! froze, at the first attempt, after the guard was told to. Anything else is not known to have
//! held: the bound passed, the guest restarted, somebody in it thawed.
//!
//! Should the guard itself be killed, the agent sees its pipe close and thaws; should both be, the
//! next agent thaws when it adopts the machine. The same for a guest that does not answer for longer
//! than the guard tries, one that stands still: it would freeze once it goes on.

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
/// How long the guest may take to say, when nobody guards it, whether it is frozen.
const LOOK: Duration = Duration::from_secs(2);
/// How long the agent waits for the guard to have thawed: its first attempt, both steps of it.
const THAW: Duration = Duration::from_secs(45);
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
    /// Nothing is frozen.
    Failed(String),
    /// Nothing is known to be frozen, but the guest was told to freeze and may do so yet, perhaps
    /// once it was resumed. The guard thaws for as long as it does that.
    ToldInVain(String),
    /// It was told to thaw and has thawed what it froze.
    Thawed,
    /// It has thawed; whether everything was frozen until it was told to is not known.
    ThawedEarly,
    /// It could not thaw.
    Stays(String),
}

fn say(out: &mut impl Write, word: &Word) {
    // Whoever is gone hears nothing; the guest is thawed all the same.
    let _nobody_listens = serde_json::to_string(word)
        .map_err(io::Error::other)
        .and_then(|line| writeln!(out, "{line}"))
        .and_then(|()| out.flush());
}

/// Thaws a guest, and tries again until it did. How many file systems were frozen until then; none
/// when that cannot be told, since an earlier attempt may have thawed some.
fn thaw(charge: &Charge, env: &dyn Env) -> io::Result<Option<u64>> {
    let deadline = env.monotonic() + STUBBORN;
    let mut is_first = true;
    loop {
        let thawed = GuestAgent::connect(&charge.socket, env, ATTEMPT)
            .and_then(|mut agent| agent.call("guest-fsfreeze-thaw", ATTEMPT));
        match thawed {
            Ok(count) => return Ok(count.as_u64().filter(|_| is_first)),
            Err(error) if is_gone(&error) || env.monotonic() > deadline => return Err(error),
            Err(_) => std::thread::park_timeout(PAUSE),
        }
        is_first = false;
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

/// Freezes a guest; how many of its file systems.
fn freeze(charge: &Charge, env: &dyn Env, bound: Duration) -> Result<u64, NotFrozen> {
    let failed = |is_told| move |reason| NotFrozen { reason, is_told };
    let mut agent = GuestAgent::connect(&charge.socket, env, bound).map_err(failed(false))?;
    let frozen = agent
        .call("guest-fsfreeze-freeze", bound)
        .map_err(failed(true))?;
    match frozen.as_u64() {
        Some(count @ 1..) => Ok(count),
        _ => {
            Err(io::Error::other("it has no file system that can be frozen")).map_err(failed(true))
        }
    }
}

/// What the guard is, from its first line to its end. `input` and `output` are its standard ones.
/// The process takes a session of its own.
pub fn run(
    env: &dyn Env,
    input: impl Read + Send + 'static,
    mut output: impl Write,
) -> io::Result<()> {
    // Before anything is frozen. Refused to one that leads a process group of its own already.
    let _leads_a_group = rustix::process::setsid();
    let mut input = io::BufReader::new(input);
    let mut line = String::new();
    input.by_ref().take(MAX_LINE).read_line(&mut line)?;
    let charge: Charge = serde_json::from_str(&line)?;
    let bound = Duration::from_millis(charge.bound_ms);
    let frozen = match freeze(&charge, env, bound) {
        Ok(frozen) => frozen,
        Err(failed) => {
            let reason = failed.reason.to_string();
            if !failed.is_told {
                say(&mut output, &Word::Failed(reason));
                return Ok(());
            }
            say(&mut output, &Word::ToldInVain(reason));
            return thaw(&charge, env).map(drop);
        }
    };
    say(&mut output, &Word::Frozen);
    let (sender, told) = channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = input.take(MAX_LINE).read_line(&mut line);
        let _over = sender.send(matches!(read, Ok(1..)));
    });
    let is_told = matches!(told.recv_timeout(bound), Ok(true));
    let thawed = thaw(&charge, env);
    let word = match &thawed {
        Ok(Some(count)) if is_told && *count >= frozen => Word::Thawed,
        Ok(_) => Word::ThawedEarly,
        Err(error) => Word::Stays(error.to_string()),
    };
    say(&mut output, &word);
    thawed.map(drop)
}

/// Why a guest is not frozen for the agent.
#[derive(Debug)]
pub(crate) struct NotBegun {
    /// What happened.
    pub(crate) reason: String,
    /// It may be frozen, or become so, and its guard is gone or will not try for ever.
    pub(crate) may_freeze: bool,
}

/// How a freeze ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Everything was frozen until the guard was told to thaw.
    Held,
    /// It is thawed, and was perhaps before.
    Early,
    /// Its guard did not say. It may still be frozen.
    Unknown,
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
    ) -> Result<Self, NotBegun> {
        let failed = |may_freeze, reason: &dyn std::fmt::Display| NotBegun {
            reason: reason.to_string(),
            may_freeze,
        };
        let not_started = |error| failed(false, &format!("its guard did not start: {error}"));
        let mut child = start(program).map_err(not_started)?;
        let words = hear(&mut child);
        let frozen = Self {
            child: Some(child),
            words,
            socket: socket.to_owned(),
        };
        frozen.charge(bound).map_err(not_started)?;
        // The guard keeps the bound for each of two steps; what is added is for itself.
        match frozen.words.recv_timeout(bound * 2 + ATTEMPT) {
            Ok(Word::Frozen) => Ok(frozen),
            Ok(Word::Failed(reason)) => Err(failed(false, &reason)),
            Ok(Word::ToldInVain(reason)) => Err(failed(true, &reason)),
            Ok(Word::Thawed | Word::ThawedEarly | Word::Stays(_)) => {
                Err(failed(true, &"its guard is confused"))
            }
            Err(RecvTimeoutError::Timeout) => Err(failed(true, &"its guard does not answer")),
            Err(RecvTimeoutError::Disconnected) => Err(failed(true, &"its guard ended")),
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

    /// Thaws it.
    pub(crate) fn end(self) -> Ended {
        let told = self.tell("thaw");
        match self.words.recv_timeout(THAW) {
            Ok(Word::Thawed) if told.is_ok() => Ended::Held,
            Ok(Word::Thawed | Word::ThawedEarly) => Ended::Early,
            _ => Ended::Unknown,
        }
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
    Command::new(&program.program)
        .args(&program.args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
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

/// One attempt to thaw a guest that nobody guards. Good only when its agent says that it is thawed.
pub(crate) fn thaw_once(socket: &Path, env: &dyn Env) -> io::Result<()> {
    let mut agent = GuestAgent::connect(socket, env, LOOK)?;
    if agent.call("guest-fsfreeze-status", LOOK)? == "thawed" {
        return Ok(());
    }
    agent.call("guest-fsfreeze-thaw", ATTEMPT)?;
    match agent.call("guest-fsfreeze-status", LOOK)?.as_str() {
        Some("thawed") => Ok(()),
        _ => Err(io::Error::other("it says that it is not thawed")),
    }
}
