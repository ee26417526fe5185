//! The agent in a guest, as much of it as is needed.
//!
//! Whoever speaks to a guest speaks to a stranger: answers are bounded in length and in time, and
//! nothing of them is believed but that they came. A conversation begins with
//! `guest-sync-delimited`, so that answers to earlier questions are told from answers to ours.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use stillpoint_model::Env;

use crate::socket::connect_now;

/// The longest answer that is read.
const MAX_ANSWER: usize = 64 << 10;
/// How long it waits before it connects again where too many wait.
const CROWDED: Duration = Duration::from_millis(20);
/// Says where an answer begins.
const DELIMITER: u8 = 0xff;

/// A conversation with a guest's agent.
pub(crate) struct GuestAgent<'a> {
    stream: UnixStream,
    env: &'a dyn Env,
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "its agent does not answer")
}

impl<'a> GuestAgent<'a> {
    /// Connects and makes sure that the agent answers, all within the bound.
    pub(crate) fn connect(socket: &Path, env: &'a dyn Env, bound: Duration) -> io::Result<Self> {
        let deadline = env.monotonic() + bound;
        let stream = loop {
            match connect_now(socket) {
                // Others wait for it too.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if env.monotonic() >= deadline {
                        return Err(timed_out());
                    }
                    std::thread::park_timeout(CROWDED);
                }
                connected => break connected?,
            }
        };
        let mut agent = Self { stream, env };
        agent.sync(deadline.saturating_sub(env.monotonic()))?;
        Ok(agent)
    }

    /// Makes sure that what is answered from now on answers what is asked from now on.
    pub(crate) fn sync(&mut self, bound: Duration) -> io::Result<()> {
        let deadline = self.env.monotonic() + bound;
        let mut random = [0; 4];
        self.env.fill_random(&mut random);
        let id = u32::from_le_bytes(random);
        self.send(
            true,
            &json!({"execute": "guest-sync-delimited", "arguments": {"id": id}}),
            bound,
        )?;
        loop {
            while self.byte(deadline)? != DELIMITER {}
            let answer = self.line(deadline)?;
            if answer["return"].as_u64() == Some(id.into()) {
                return Ok(());
            }
        }
    }

    /// Has the agent do something.
    pub(crate) fn call(&mut self, command: &str, bound: Duration) -> io::Result<Value> {
        let deadline = self.env.monotonic() + bound;
        self.send(false, &json!({"execute": command}), bound)?;
        let mut answer = self.line(deadline)?;
        match answer.get("error") {
            None => Ok(answer["return"].take()),
            Some(error) => {
                let text = error["desc"].as_str().unwrap_or("it gave no reason");
                let text: String = text.chars().take(200).collect();
                Err(io::Error::other(text))
            }
        }
    }

    fn send(&mut self, delimited: bool, message: &Value, bound: Duration) -> io::Result<()> {
        let mut bytes = Vec::new();
        if delimited {
            bytes.push(DELIMITER);
        }
        bytes.extend(message.to_string().as_bytes());
        bytes.push(b'\n');
        self.stream
            .set_write_timeout(Some(bound.max(Duration::from_millis(1))))?;
        self.stream.write_all(&bytes)
    }

    fn byte(&mut self, deadline: Duration) -> io::Result<u8> {
        let left = deadline.saturating_sub(self.env.monotonic());
        if left.is_zero() {
            return Err(timed_out());
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(timed_out()),
            Err(error) => Err(error),
        }
    }

    fn line(&mut self, deadline: Duration) -> io::Result<Value> {
        let mut line = Vec::new();
        loop {
            match self.byte(deadline)? {
                b'\n' => return serde_json::from_slice(&line).map_err(io::Error::other),
                DELIMITER => line.clear(),
                byte if line.len() < MAX_ANSWER => line.push(byte),
                _ => return Err(io::Error::other("its agent answers without end")),
            }
        }
    }
}

#[cfg(test)]
mod tests;
