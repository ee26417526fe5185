//! Who listens at a socket.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// What there is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A socket, and somebody listens.
    Listening,
    /// A socket at which nobody listens.
    Stale,
    /// Nothing.
    Nothing,
}

/// Connects at once or not at all: one that hangs accepts nobody.
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}

/// Whether somebody listens at a path.
pub(super) fn listening(path: &Path) -> io::Result<Found> {
    match connect(path) {
        Ok(_) => Ok(Found::Listening),
        Err(error) => match error.kind() {
            // There is somebody, and many wait.
            io::ErrorKind::WouldBlock => Ok(Found::Listening),
            io::ErrorKind::ConnectionRefused => Ok(Found::Stale),
            io::ErrorKind::NotFound => Ok(Found::Nothing),
            _ => Err(error),
        },
    }
}

/// A process that cannot be mistaken for another.
#[derive(Debug)]
pub(super) struct Process(OwnedFd);

/// The process that listens at a path; none when nobody does.
pub(super) fn of(path: &Path) -> io::Result<Option<Process>> {
    let Some(pid) = listener(path)? else {
        return Ok(None);
    };
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => Process(handle),
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // It listens still, so the number was not anybody else's when the handle was made.
    match listener(path)? {
        Some(again) if again == pid => Ok(Some(process)),
        _ => Ok(None),
    }
}

/// The number of who listens at a path.
fn listener(path: &Path) -> io::Result<Option<Pid>> {
    match connect(path) {
        Ok(stream) => Ok(Some(sockopt::socket_peercred(&stream)?.pid)),
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Ok(None),
            _ => Err(error),
        },
    }
}

impl Process {
    /// Ends it at once.
    pub(super) fn kill(&self) {
        let _gone_already = pidfd_send_signal(&self.0, Signal::KILL);
    }

    /// Whether it ended within the bound.
    pub(super) fn wait(&self, bound: Duration) -> bool {
        let timeout = Timespec::try_from(bound).ok();
        let mut watched = [PollFd::new(&self.0, PollFlags::IN)];
        matches!(poll(&mut watched, timeout.as_ref()), Ok(1..))
    }
}
