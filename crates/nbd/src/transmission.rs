//! Requests and their answers.
//!
//! ```text
//! client ─> one thread reads requests ─> WORKERS threads read the backup ─> client, in any order
//! ```
//!
//! An answer is one write, so the answers of several threads do not mix. Memory is bounded by what
//! the workers hold: one read each.

use std::io::{self, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use stillpoint_model::ErrorKind;
use stillpoint_vault::Error;

use crate::Disk;
use crate::handshake::{ALLOCATION_ID, MAX_READ, Terms};
use crate::wire::{
    self, CHUNK, HOLE_OF_ZEROS, Message, REQUEST, SIMPLE_REPLY, broken, chunk, command, errno,
};

/// How many reads of a connection are under way at once.
const WORKERS: usize = 4;
/// The pause before what could not be read is read again, where the server is patient.
const PAUSE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};
/// The most ranges in one answer about zeros.
const MAX_RANGES: usize = 512;

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
struct Request {
    flags: u16,
    command: u16,
    cookie: u64,
    offset: u64,
    len: u32,
}

impl Request {
    fn read(from: &mut impl io::Read) -> io::Result<Self> {
        if wire::u32(from)? != REQUEST {
            return Err(broken("no request"));
        }
        Ok(Self {
            flags: wire::u16(from)?,
            command: wire::u16(from)?,
            cookie: wire::u64(from)?,
            offset: wire::u64(from)?,
            len: wire::u32(from)?,
        })
    }

    /// Whether it stays inside a disk of this size, and within bounds.
    fn fits(&self, size: u64) -> bool {
        let end = self.offset.checked_add(self.len.into());
        self.len > 0 && end.is_some_and(|end| end <= size)
    }
}

/// Answers a client until it leaves, or breaks the protocol.
pub fn serve(stream: &UnixStream, terms: Terms, disk: &Disk) -> io::Result<()> {
    let connection = Connection {
        to: Mutex::new(stream),
        terms,
        disk,
        stream,
    };
    let (give, take) = sync_channel(0);
    let take = Mutex::new(take);
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| connection.work(&take));
        }
        // Workers end when this ends, and is dropped.
        let give = give;
        let mut from = BufReader::new(stream);
        loop {
            let request = Request::read(&mut from)?;
            match request.command {
                command::DISCONNECT => return Ok(()),
                // What would follow is the data; where it ends is not worth knowing.
                command::WRITE => return Err(broken("a write")),
                _ => {}
            }
            if give.send(request).is_err() {
                return Ok(());
            }
        }
    })
}

/// A client that may ask.
struct Connection<'a> {
    to: Mutex<&'a UnixStream>,
    terms: Terms,
    disk: &'a Disk,
    /// The same, to look at.
    stream: &'a UnixStream,
}

impl Connection<'_> {
    fn work(&self, requests: &Mutex<Receiver<Request>>) {
        let next = || {
            let requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
            requests.recv().ok()
        };
        while let Some(request) = next() {
            let answer = self.answer(&request);
            let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
            if to.write_all(&answer).is_err() {
                // Whoever waits for the next request hears of it, too.
                let _closed_already = to.shutdown(Shutdown::Both);
            }
        }
    }

    fn answer(&self, request: &Request) -> Vec<u8> {
        let refused = |errno| self.refuse(request, errno);
        match request.command {
            command::READ if request.len > MAX_READ => refused(errno::EINVAL),
            command::READ if request.fits(self.disk.size()) => self.read(request),
            command::BLOCK_STATUS if !self.terms.allocation => refused(errno::EINVAL),
            command::BLOCK_STATUS if request.fits(self.disk.size()) => self.status(request),
            command::READ | command::BLOCK_STATUS => refused(errno::EINVAL),
            command::FLUSH | command::TRIM | command::WRITE_ZEROES => refused(errno::EPERM),
            _ => refused(errno::ENOTSUP),
        }
    }

    /// The beginning of an answer of one part.
    fn begin(&self, request: &Request, kind: u16, len: usize) -> Message {
        let message = Message(Vec::with_capacity(len + 32));
        // A read is bounded, and so is everything else.
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let message = message.u32(CHUNK).u16(chunk::DONE).u16(kind);
        message.u64(request.cookie).u32(len)
    }

    fn refuse(&self, request: &Request, errno: u32) -> Vec<u8> {
        match self.terms.structured {
            true => self.begin(request, chunk::ERROR, 6).u32(errno).u16(0).0,
            false => simple(request, errno).0,
        }
    }

    /// Reads something of the backup, where the server is patient until that can be read.
    fn patiently<T>(
        &self,
        request: &Request,
        mut read: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let is_patient = self.disk.is_patient.load(Ordering::Relaxed);
        loop {
            match read() {
                Err(error)
                    if is_patient && error.kind() == ErrorKind::Retry && self.stays(PAUSE) =>
                {
                    self.disk.tell(request.offset, &error);
                }
                ended => return ended,
            }
        }
    }

    /// Waits, and answers whether the client is still there.
    fn stays(&self, pause: Timespec) -> bool {
        let mut watched = [PollFd::new(self.stream, PollFlags::RDHUP)];
        matches!(
            poll(&mut watched, Some(&pause)),
            Ok(0) | Err(rustix::io::Errno::INTR)
        )
    }

    fn failed(&self, request: &Request, error: &Error) -> Vec<u8> {
        self.disk.tell(request.offset, error);
        self.refuse(request, errno::EIO)
    }

    fn read(&self, request: &Request) -> Vec<u8> {
        let end = request.offset + u64::from(request.len);
        let reader = &self.disk.reader;
        let data = match self.patiently(request, || reader.next_data(request.offset)) {
            Ok(data) => data,
            Err(error) => return self.failed(request, &error),
        };
        let is_zeros = data.is_none_or(|data| data.offset >= end);
        if is_zeros && self.terms.structured {
            let message = self.begin(request, chunk::OFFSET_HOLE, 12);
            return message.u64(request.offset).u32(request.len).0;
        }
        let len = usize::try_from(request.len).unwrap_or(0);
        let mut message = match self.terms.structured {
            true => self
                .begin(request, chunk::OFFSET_DATA, len + 8)
                .u64(request.offset),
            false => simple(request, 0),
        };
        let start = message.0.len();
        message.0.resize(start + len, 0);
        let read = self.patiently(request, || {
            reader.read_at(request.offset, &mut message.0[start..])
        });
        match read {
            Ok(()) => message.0,
            Err(error) => self.failed(request, &error),
        }
    }

    fn status(&self, request: &Request) -> Vec<u8> {
        let most = match request.flags & command::FLAG_REQ_ONE {
            0 => MAX_RANGES,
            _ => 1,
        };
        let ranges = match self.patiently(request, || self.ranges(request, most)) {
            Ok(ranges) => ranges,
            Err(error) => return self.failed(request, &error),
        };
        let len = 4 + ranges.len() * 8;
        let message = self.begin(request, chunk::BLOCK_STATUS, len);
        let message = message.u32(ALLOCATION_ID);
        let described = ranges.iter().fold(message, |message, (len, is_data)| {
            message
                .u32(*len)
                .u32(if *is_data { 0 } else { HOLE_OF_ZEROS })
        });
        described.0
    }

    /// The ranges from where the request begins: how long each is, and whether it may hold data.
    /// At least one, at most `most`, and none beyond where the request ends.
    fn ranges(&self, request: &Request, most: usize) -> Result<Vec<(u32, bool)>, Error> {
        let end = request.offset + u64::from(request.len);
        let mut ranges: Vec<(u32, bool)> = Vec::new();
        let mut at = request.offset;
        while at < end {
            let data = self.disk.reader.next_data(at)?;
            let (until, is_data) = match data {
                Some(data) if data.offset <= at => (data.end(), true),
                Some(data) => (data.offset, false),
                None => (end, false),
            };
            let until = until.min(end);
            let len = u32::try_from(until - at).unwrap_or(u32::MAX);
            // Neighbours of one kind are one range; none is longer than the request.
            let last = ranges.last_mut().filter(|last| last.1 == is_data);
            if let Some(last) = last {
                last.0 += len;
            } else if ranges.len() < most {
                ranges.push((len, is_data));
            } else {
                break;
            }
            at = until;
        }
        Ok(ranges)
    }
}

/// The beginning of an answer that is not structured.
fn simple(request: &Request, errno: u32) -> Message {
    let message = Message::default().u32(SIMPLE_REPLY);
    message.u32(errno).u64(request.cookie)
}
