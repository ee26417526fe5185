//! A backup as a network block device: whoever speaks NBD, as QEMU does, reads it as a disk.
//!
//! ```text
//!  QEMU, qemu-img ─> unix socket ─> handshake ─> requests ─> BackupReader ─> cache ─> target
//! ```
//!
//! One backup, for reading, on a unix socket that belongs to whoever made it: mode 0600. It speaks
//! the fixed newstyle handshake, structured replies, and `base:allocation`, which tells where the
//! zeros are, so that whoever copies the disk does not fetch them. Nothing is unpacked anywhere; a
//! read fetches the frames that it touches and proves them.
//!
//! **Bounds.** What clients send is parsed byte by byte against limits: so many connections
//! ([`MAX_CONNECTIONS`]), options of at most 4 KiB and so many of them, a handshake within 30 seconds,
//! reads of at most 32 MiB. A client that breaks the protocol loses its connection, and nobody else
//! notices. Of each connection several reads are under way at once, because a target may be far.
//!
//! **Trouble.** What cannot be read is an I/O error for whoever reads it, and a sentence for whoever
//! serves it, once for each cause. A [patient](Server::patient) server tries again for as long as a
//! client waits where the target is away: a guest whose disk this is should wait for it as well.
//!
//! **Invariant:** nothing is ever written, to the target or anywhere else; a client that asks for it
//! is refused.

mod handshake;
mod transmission;
mod wire;

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::Mode;
use rustix::net::{AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType};
use stillpoint_model::ErrorKind;
use stillpoint_model::error::with_causes;
use stillpoint_vault::BackupReader;

/// How many clients are served at once; what comes then is turned away.
pub const MAX_CONNECTIONS: usize = 16;
/// How many clients may wait to be accepted.
const BACKLOG: i32 = 16;
/// How many different troubles are told; more would help nobody.
const MOST_TROUBLES: usize = 1000;

/// Why a backup is not served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket could not be made.
    #[error("cannot listen at {path}")]
    Listen {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No more clients can be accepted.
    #[error("the socket at {path} broke")]
    Accept {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        let (Self::Listen { source, .. } | Self::Accept { source, .. }) = self;
        match source.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::AddrInUse => ErrorKind::Conflict,
            _ => ErrorKind::Invalid,
        }
    }
}

/// Hears, once for each cause, what could not be read.
pub type OnTrouble = Box<dyn Fn(&str) + Send + Sync>;

/// The disk that clients see.
struct Disk {
    reader: BackupReader,
    on_trouble: OnTrouble,
    /// Whether what cannot be read now is read again.
    is_patient: AtomicBool,
    /// What was told.
    told: Mutex<HashSet<String>>,
}

impl Disk {
    fn size(&self) -> u64 {
        self.reader.size().get()
    }

    /// Tells why something cannot be read, the first time.
    fn tell(&self, offset: u64, error: &stillpoint_vault::Error) {
        let cause = with_causes(error);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < MOST_TROUBLES && told.insert(cause.clone()) {
            (self.on_trouble)(&format!("at byte {offset}: {cause}"));
        }
    }
}

/// A backup on a socket. Dropping it removes the socket; clients that are connected are served on.
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    /// Which file the socket is.
    file: Option<FileId>,
    disk: Arc<Disk>,
    clients: Arc<AtomicUsize>,
    is_ended: AtomicBool,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({})", self.path.display())
    }
}

impl Server {
    /// Listens at a path at which there is nothing yet. From now on clients may connect, and wait.
    pub fn bind(path: &Path, reader: BackupReader, on_trouble: OnTrouble) -> Result<Self, Error> {
        let listener = listen(path).map_err(|source| Error::Listen {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            file: file_at(path),
            disk: Arc::new(Disk {
                reader,
                on_trouble,
                is_patient: AtomicBool::new(false),
                told: Mutex::default(),
            }),
            clients: Arc::default(),
            is_ended: AtomicBool::new(false),
        })
    }

    /// From now on what may be there later ([`ErrorKind::Retry`]) is read until it is, or until the
    /// client leaves.
    #[must_use]
    pub fn patient(self) -> Self {
        self.disk.is_patient.store(true, Ordering::Relaxed);
        self
    }

    /// Whether clients find it: its socket is where it was made.
    pub fn is_there(&self) -> bool {
        self.file.is_some() && self.file == file_at(&self.path)
    }

    /// Serves clients until [`end`](Self::end). Blocks.
    pub fn serve(&self) -> Result<(), Error> {
        loop {
            match self.listener.accept() {
                _ if self.is_ended.load(Ordering::Acquire) => return Ok(()),
                Ok((stream, _)) => self.welcome(stream),
                Err(error) if is_passing(&error) => {}
                Err(source) => {
                    return Err(Error::Accept {
                        path: self.path.clone(),
                        source,
                    });
                }
            }
        }
    }

    /// Accepts nobody any more, from any thread.
    pub fn end(&self) {
        self.is_ended.store(true, Ordering::Release);
        let _closed_already = rustix::net::shutdown(&self.listener, Shutdown::Both);
    }

    /// Serves a client on threads of its own, unless there are too many.
    fn welcome(&self, stream: UnixStream) {
        let place = Place::take(&self.clients);
        let disk = Arc::clone(&self.disk);
        std::thread::spawn(move || {
            let Some(_place) = place else {
                return;
            };
            // Whoever breaks the protocol, or leaves, hears nothing more.
            if let Ok(Some(terms)) = handshake::haggle(&stream, disk.size()) {
                let _left = transmission::serve(&stream, terms, &disk);
            }
        });
    }
}

impl Drop for Server {
    /// Another's socket in its place stays.
    fn drop(&mut self) {
        if self.is_there() {
            let _gone_already = std::fs::remove_file(&self.path);
        }
    }
}

/// A file, whatever its name: its device and its number there.
type FileId = (u64, u64);

fn file_at(path: &Path) -> Option<FileId> {
    let found = std::fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// One of the places that clients take.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(clients: &Arc<AtomicUsize>) -> Option<Self> {
        let place = Self(Arc::clone(clients));
        (clients.fetch_add(1, Ordering::AcqRel) < MAX_CONNECTIONS).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whether the next client may be accepted although this one was not.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
    )
}

/// A socket that only its owner may connect to, from the first moment: Linux takes the mode of the
/// unbound socket.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let address = SocketAddrUnix::new(path)?;
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(socket))
}
