//! Machines of a server, seen from outside: by their process, what their guest wrote, and their
//! monitor while no server speaks to it.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::wait::{PATIENCE, until};

/// A machine's folder.
pub struct Machine {
    folder: PathBuf,
}

impl Machine {
    /// The machine with this folder.
    pub const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Its process, while it lives.
    pub fn process(&self) -> Option<Pid> {
        let pid = fs::read_to_string(self.folder.join("pid")).ok()?;
        let pid = Pid::from_raw(pid.trim().parse().ok()?)?;
        runs(pid).then_some(pid)
    }

    /// Ends its process as a fault of the host would, and waits until it is gone.
    ///
    /// # Panics
    /// When there is none, or it stays.
    #[track_caller]
    pub fn kill(&self) {
        let pid = self.process().expect("a process");
        kill_process(pid, Signal::KILL).expect("kill it");
        until(PATIENCE, "its end", || match self.process() {
            None => Ok(()),
            Some(pid) => Err(format!("{pid:?} lives")),
        });
    }

    /// The lines with this in them that its guest wrote, as far as its server looked: servers do that
    /// every few seconds.
    pub fn lines_with(&self, text: &str) -> Vec<String> {
        let said = self.said();
        let lines = said.lines().filter(|line| line.contains(text));
        lines.map(|line| line.trim().to_owned()).collect()
    }

    /// Waits until its guest has written so many lines with this in them; answers the last.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn wait_for_line(&self, text: &str, count: usize) -> String {
        until(PATIENCE * 3, format_args!("the line {text:?}"), || {
            let mut lines = self.lines_with(text);
            match lines.len() >= count {
                true => Ok(lines.pop().unwrap_or_default()),
                false => Err(format!("{lines:?}, and in all {:?}", self.lines_with(""))),
            }
        })
    }

    /// What the guest wrote to its console until its server looked last: servers do that every few
    /// seconds.
    pub fn said(&self) -> String {
        let text = fs::read(self.folder.join("console")).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Waits until the guest has said a line that begins like this; the rest of the last such line.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn wait_for_rest(&self, start: &str) -> String {
        let line = self.wait_for_line(start, 1);
        let rest = line.split_once(start).map_or("", |(_, rest)| rest);
        rest.trim().to_owned()
    }

    /// How far a guest that writes numbered steps said it was, when its server looked last.
    pub fn steps_said(&self) -> u64 {
        let text = self.said();
        let steps = text.lines().rev().find_map(|line| {
            let (steps, _) = line.trim().strip_prefix("wrote ")?.split_once(" of ")?;
            steps.parse().ok()
        });
        steps.unwrap_or_default()
    }

    /// Waits until the guest has said, to a server that runs, that it wrote more.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn wait_for_more_steps(&self) {
        let before = self.steps_said();
        until(PATIENCE, "more of what the guest writes", || {
            let now = self.steps_said();
            (now > before)
                .then_some(())
                .ok_or(format!("it is at {now}"))
        });
    }

    /// Waits until the guest has written more, while no server runs; it never stands still.
    ///
    /// # Panics
    /// When it does not, or is paused.
    #[track_caller]
    pub fn wait_for_writes(&self) {
        let mut monitor = Monitor::open(&self.folder.join("qmp"));
        let before = monitor.writes();
        until(PATIENCE, "more writes of the guest", || {
            assert_eq!(monitor.ask("query-status")["status"], "running");
            let now = monitor.writes();
            // More than what was under way.
            (now > before + 20)
                .then_some(())
                .ok_or(format!("{now} writes"))
        });
    }

    /// What the guest says of its file systems: `frozen` or `thawed`. Its agent listens to one at a
    /// time.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    pub fn frozen_state(&self) -> String {
        let stream = UnixStream::connect(self.folder.join("agent")).expect("connect to the guest");
        stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
        (&stream)
            .write_all(b"{\"execute\": \"guest-fsfreeze-status\"}\n")
            .expect("ask the guest");
        // What comes first may answer an earlier question.
        let mut answers = BufReader::new(&stream).lines().map_while(Result::ok);
        let state = answers.find_map(|line| {
            let answer: Value = serde_json::from_str(&line).ok()?;
            answer["return"].as_str().map(str::to_owned)
        });
        state.expect("an answer")
    }

    /// The jobs that it knows, while no server runs.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    pub fn jobs(&self) -> Vec<Value> {
        let answer = Monitor::open(&self.folder.join("qmp")).ask("query-jobs");
        answer.as_array().cloned().unwrap_or_default()
    }
}

/// A machine's monitor, which listens to one at a time.
struct Monitor {
    stream: BufReader<UnixStream>,
}

impl Monitor {
    #[track_caller]
    fn open(socket: &std::path::Path) -> Self {
        let stream = UnixStream::connect(socket).expect("connect to the machine");
        stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
        let mut monitor = Self {
            stream: BufReader::new(stream),
        };
        monitor.answer("QMP");
        monitor.ask("qmp_capabilities");
        monitor
    }

    #[track_caller]
    fn ask(&mut self, command: &str) -> Value {
        let line = format!("{{\"execute\": \"{command}\"}}\n");
        let sent = self.stream.get_mut().write_all(line.as_bytes());
        sent.expect("ask the machine");
        self.answer("return")
    }

    /// The next message that has this; events are passed over.
    #[track_caller]
    fn answer(&mut self, name: &str) -> Value {
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("an answer");
            let mut message: Value = serde_json::from_str(&line).expect("an answer is JSON");
            assert!(message.get("error").is_none(), "{message}");
            if message.get(name).is_some() {
                return message[name].take();
            }
        }
    }

    /// Writes and flushes of all disks that ended.
    #[track_caller]
    fn writes(&mut self) -> u64 {
        let stats = self.ask("query-blockstats");
        let disks = stats.as_array().into_iter().flatten();
        let count = |disk: &Value, name: &str| disk["stats"][name].as_u64().unwrap_or(0);
        disks
            .map(|disk| count(disk, "wr_operations") + count(disk, "flush_operations"))
            .sum()
    }
}

/// Whether a process runs: one that ended and was not waited for yet does not.
fn runs(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    // The state stands behind the name, which is in parentheses and may hold anything.
    stat.is_ok_and(|stat| {
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
        state.is_some_and(|state| !state.starts_with(['Z', 'X']))
    })
}
