//! The QEMU Machine Protocol, as much of it as is needed: one JSON object a line, over a unix
//! socket.
//!
//! A thread reads the socket for as long as the connection lives. It gives each answer to whoever
//! asked, by the id of the question, and each event to everyone who listens. Lines are bounded: an
//! answer of a busy machine can be over 100 kB, one of more than [`MAX_LINE`] ends the connection.
//!
//! When the connection ends, everyone who waits is told; what was asked may have been done. It ends
//! too when a command cannot be sent whole: what is sent next would be taken for the rest of it.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};

use crate::socket::connect_now;

/// The longest line that is read.
const MAX_LINE: u64 = 16 << 20;
/// How long a machine may take to greet.
const GREETING: Duration = Duration::from_secs(10);

/// How long it may take to take a command, at most.
const TAKE: Duration = Duration::from_secs(10);

/// Why a command was not done, or is not known to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QmpError {
    /// The machine said no, for this reason.
    #[error("{0}")]
    Refused(String),
    /// The connection ended, or no answer came.
    #[error("{0}")]
    NoAnswer(String),
}

/// Something that happened to a machine.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    /// What, in the protocol's words.
    pub(crate) name: String,
    /// To whom.
    pub(crate) data: Value,
}

type Reply = Result<Value, QmpError>;

#[derive(Default)]
struct Waiting {
    replies: BTreeMap<u64, SyncSender<Reply>>,
    listeners: Vec<Sender<Event>>,
    /// Why the connection ended.
    ended: Option<String>,
}

/// A connection to one machine.
pub(crate) struct Qmp {
    writer: Mutex<UnixStream>,
    waiting: Arc<Mutex<Waiting>>,
    next_id: AtomicU64,
    version: Version,
}

/// Major and minor version of the process at the other end. What does not say it is older than any.
pub(crate) type Version = (u64, u64);

fn version_of(greeting: &Value) -> Version {
    let version = &greeting["QMP"]["version"]["qemu"];
    let part = |name: &str| version[name].as_u64().unwrap_or(0);
    (part("major"), part("minor"))
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One line, or none at the end.
fn read_line(reader: &mut impl BufRead) -> io::Result<Option<Value>> {
    let mut line = Vec::new();
    let read = reader
        .by_ref()
        .take(MAX_LINE)
        .read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(None);
    }
    if !line.ends_with(b"\n") {
        return Err(io::Error::other("a line is too long or cut off"));
    }
    serde_json::from_slice(&line)
        .map(Some)
        .map_err(io::Error::other)
}

impl Waiting {
    fn take(&mut self, message: &Value) {
        if let Some(name) = message["event"].as_str() {
            let (name, data) = (name.to_owned(), message["data"].clone());
            let event = Event { name, data };
            self.listeners
                .retain(|listener| listener.send(event.clone()).is_ok());
            return;
        }
        let Some(reply) = message["id"]
            .as_u64()
            .and_then(|id| self.replies.remove(&id))
        else {
            return;
        };
        let answer = match message.get("error") {
            None => Ok(message["return"].clone()),
            Some(error) => {
                let text = error["desc"].as_str().unwrap_or("no reason given");
                Err(QmpError::Refused(text.to_owned()))
            }
        };
        // Who asked may have given up.
        let _gave_up = reply.try_send(answer);
    }

    /// The first reason is the one that is told.
    fn end(&mut self, reason: String) {
        self.ended.get_or_insert(reason);
        self.replies.clear();
        self.listeners.clear();
    }
}

fn read_all(reader: &mut impl BufRead, waiting: &Mutex<Waiting>) {
    let reason = loop {
        match read_line(reader) {
            Ok(Some(message)) => lock(waiting).take(&message),
            Ok(None) => break "it closed the connection".to_owned(),
            Err(error) => break error.to_string(),
        }
    };
    lock(waiting).end(reason);
}

/// Sends the beginning of a line, at least a byte, with a file; how much of it.
fn send_with(writer: &UnixStream, line: &[u8], file: BorrowedFd<'_>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = [file];
    if !control.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(io::Error::other("no room for a file"));
    }
    let parts = [IoSlice::new(line)];
    Ok(sendmsg(writer, &parts, &mut control, SendFlags::NOSIGNAL)?)
}

impl Qmp {
    /// Connects and negotiates. Fails when nobody listens, or when somebody else is connected.
    pub(crate) fn connect(socket: &Path) -> io::Result<Self> {
        let stream = connect_now(socket)?;
        stream.set_read_timeout(Some(GREETING))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let closed = || io::Error::other("it closed the connection");
        let greeting = read_line(&mut reader)?.ok_or_else(closed)?;
        if greeting.get("QMP").is_none() {
            return Err(io::Error::other("it does not speak QMP"));
        }
        let waiting = Arc::<Mutex<Waiting>>::default();
        let qmp = Self {
            writer: Mutex::new(stream.try_clone()?),
            waiting: Arc::clone(&waiting),
            next_id: AtomicU64::new(1),
            version: version_of(&greeting),
        };
        stream.set_read_timeout(None)?;
        std::thread::Builder::new()
            .name("qmp".to_owned())
            .spawn(move || read_all(&mut reader, &waiting))?;
        qmp.call("qmp_capabilities", &json!({}), GREETING)
            .map_err(io::Error::other)?;
        Ok(qmp)
    }

    /// What the other end said it is. It may be older than the program that would be started now.
    pub(crate) const fn version(&self) -> Version {
        self.version
    }

    /// Whether the connection lives.
    pub(crate) fn is_alive(&self) -> bool {
        lock(&self.waiting).ended.is_none()
    }

    /// Everything that happens from now on.
    pub(crate) fn listen(&self) -> Receiver<Event> {
        let (sender, receiver) = channel();
        let mut waiting = lock(&self.waiting);
        if waiting.ended.is_none() {
            waiting.listeners.push(sender);
        }
        receiver
    }

    /// Has the machine do something.
    pub(crate) fn call(&self, command: &str, arguments: &Value, bound: Duration) -> Reply {
        self.call_with(command, arguments, None, bound)
    }

    /// Gives the machine a file, under a name.
    pub(crate) fn give(
        &self,
        name: &str,
        file: BorrowedFd<'_>,
        bound: Duration,
    ) -> Result<(), QmpError> {
        let arguments = json!({"fdname": name});
        self.call_with("getfd", &arguments, Some(file), bound)
            .map(drop)
    }

    fn call_with(
        &self,
        command: &str,
        arguments: &Value,
        file: Option<BorrowedFd<'_>>,
        bound: Duration,
    ) -> Reply {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = sync_channel(1);
        {
            let mut waiting = lock(&self.waiting);
            if let Some(reason) = &waiting.ended {
                return Err(QmpError::NoAnswer(reason.clone()));
            }
            waiting.replies.insert(id, sender);
        }
        let mut line = json!({"execute": command, "arguments": arguments, "id": id}).to_string();
        line.push('\n');
        let answer = match self.send(line.as_bytes(), file, bound) {
            Err(error) => Err(QmpError::NoAnswer(error.to_string())),
            Ok(()) => receiver.recv_timeout(bound).unwrap_or_else(|_| {
                let ended = lock(&self.waiting).ended.clone();
                let silent = || format!("no answer within {} seconds", bound.as_secs());
                Err(QmpError::NoAnswer(ended.unwrap_or_else(silent)))
            }),
        };
        lock(&self.waiting).replies.remove(&id);
        answer
    }

    /// Sends a whole line, or ends the connection: after half a line the machine would take
    /// whatever comes next for the other half.
    fn send(&self, line: &[u8], file: Option<BorrowedFd<'_>>, bound: Duration) -> io::Result<()> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let bound = bound.clamp(Duration::from_millis(1), TAKE);
        let sent = writer
            .set_write_timeout(Some(bound))
            .and_then(|()| match file {
                Some(file) => send_with(&writer, line, file),
                None => Ok(0),
            })
            .and_then(|sent| writer.write_all(line.get(sent..).unwrap_or_default()));
        if let Err(error) = &sent {
            lock(&self.waiting).end(format!("a command was not sent whole: {error}"));
            let _closed_already = writer.shutdown(Shutdown::Both);
        }
        sent
    }
}

impl Drop for Qmp {
    fn drop(&mut self) {
        let writer = self
            .writer
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let _closed_already = writer.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests;
