//! The processes that read backups for guests: one for each volume that is in use before it is whole.
//!
//! ```text
//!  node                             reader                      QEMU
//!    | starts it; one line: what to   |                           |
//!    | read, and on which socket      |                           |
//!    |------------------------------->| proves the manifest, binds|
//!    |<------------------- "listening"|                           |
//!    |                                |<======== NBD ============>|
//!    | the volume is whole, or gone:  |                           |
//!    | its socket goes, it is killed  x                           |
//! ```
//!
//! A reader outlives the node as machines do: it leads a session of its own, and the next node finds it
//! by its socket. Whoever answers there is used; a socket that nobody listens at is replaced. Which
//! process it is that is ended, the kernel says: the one that listens.
//!
//! **When it is killed**, QEMU connects again for [`RECONNECT`], and what the guest asked for waits. The
//! node looks after its readers every few seconds: one that is gone is started again as long as its
//! volume is being filled, and one whose volume is not is ended. What is in the folder is what was
//! begun, so nothing needs to be remembered.
//!
//! **Under a service manager** readers are in the node's control group, as machines are, and need what
//! those need: see `stillpoint_machines::qemu`.
//!
//! **Keys** reach a reader the way they reach a server, by its settings and key file. What it is told
//! are ids, on its standard input.
//!
//! **When the target is away**, the reader waits for it (`nbd::Server::patient`), and so does the guest.
//! What is damaged is an I/O error in the guest, as on any disk.

mod process;
mod program;

use std::collections::HashMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use stillpoint_model::ErrorKind;
use stillpoint_model::id::VolumeId;
use stillpoint_model::layer_tree::FillSource;

use process::{Found, listening};
use program::{Charge, Word};
pub use program::{ReaderFault, run};

/// For how long QEMU tries to get to a reader again that is gone, in seconds; what its guest asked for
/// waits. A week: as long as there is a node, it is seconds, and without one a guest that waits is
/// better off than one whose disk fails.
pub const RECONNECT: u32 = 7 * 24 * 3600;
/// How long QEMU waits for a reader when it opens a volume, in seconds.
const OPEN: u32 = 30;
/// How long a reader may take to find its backup in the target.
const START: Duration = Duration::from_mins(3);
/// How long one that was killed may take to be gone.
const ENDING: Duration = Duration::from_secs(2);
/// How often a reader is started when another comes up in between.
const ATTEMPTS: usize = 3;
/// A unix socket's path takes no more.
const MAX_SOCKET_PATH: usize = 107;

/// How a reader is started. It calls [`run`] and nothing else.
#[derive(Clone, Debug)]
pub struct ReaderProgram {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
}

/// Why there is no reader.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    /// It found something wrong.
    #[error("the backup cannot be read: {detail}")]
    Failed {
        /// What to do about it.
        kind: ErrorKind,
        /// What an operator reads.
        detail: String,
    },
    /// It did not say within the bound that it listens.
    #[error("the reader of volume {0} does not come up")]
    Late(VolumeId),
    /// The operating system says no.
    #[error("{action} {path}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ReaderError {
    /// What to do about it.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Failed { kind, .. } => *kind,
            Self::Late(_) => ErrorKind::Retry,
            Self::Io { .. } => ErrorKind::Internal,
        }
    }

    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// The readers of a node. Every method blocks.
#[derive(Debug)]
pub struct Readers {
    folder: PathBuf,
    program: ReaderProgram,
    turns: Mutex<HashMap<VolumeId, Arc<Mutex<()>>>>,
}

impl Readers {
    /// The readers whose sockets are in a folder, which is made where it is not there.
    pub fn open(folder: &Path, program: ReaderProgram) -> Result<Self, ReaderError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(ReaderError::io("making", folder))?;
        let real = folder
            .canonicalize()
            .map_err(ReaderError::io("finding", folder))?;
        // An id is 36 characters.
        if real.as_os_str().len() + 1 + 36 > MAX_SOCKET_PATH {
            let too_long = io::Error::new(io::ErrorKind::InvalidInput, "its path is too long");
            return Err(ReaderError::io("using", folder)(too_long));
        }
        Ok(Self {
            folder: real,
            program,
            turns: Mutex::default(),
        })
    }

    /// Where the reader of a volume listens.
    pub fn socket(&self, volume: VolumeId) -> PathBuf {
        self.folder.join(volume.to_string())
    }

    /// What it says of what it cannot read. As long as this is there, a reader is wanted.
    fn log(&self, volume: VolumeId) -> PathBuf {
        self.folder.join(format!("{volume}.log"))
    }

    /// Sees that the reader of a volume listens; the node of QEMU's block graph that reads from it.
    pub fn read(&self, volume: VolumeId, source: FillSource) -> Result<Value, ReaderError> {
        let turn = self.turn(volume);
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = self.socket(volume);
        let is_new = !self.log(volume).exists();
        let mut attempt = 1;
        loop {
            match listening(&socket).map_err(ReaderError::io("connecting to", &socket))? {
                Found::Listening => return Ok(node(volume, &socket)),
                Found::Stale => remove(&socket)?,
                Found::Nothing => {}
            }
            match self.start(volume, source) {
                Ok(()) => return Ok(node(volume, &socket)),
                // One that was started by a node that is gone came up in between.
                Err(error) if error.kind() == ErrorKind::Conflict && attempt < ATTEMPTS => {
                    attempt += 1;
                }
                Err(error) => {
                    // Whoever asked hears of it; one that a guest may wait for stays noted.
                    if is_new {
                        remove(&self.log(volume))?;
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Ends the reader of a volume, and removes its socket and its log. One that is not there is ended
    /// already.
    pub fn end(&self, volume: VolumeId) -> Result<(), ReaderError> {
        let turn = self.turn(volume);
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = self.socket(volume);
        let found = process::of(&socket).map_err(ReaderError::io("looking at", &socket))?;
        if let Some(process) = found {
            process.kill();
            if !process.wait(ENDING) {
                tracing::warn!(%volume, "a reader that was killed is not gone yet");
            }
        }
        remove(&socket)?;
        // Last: until then the next look ends it.
        remove(&self.log(volume))
    }

    /// Looks after the readers that were begun: `filling` says of a volume what it is being filled from,
    /// or none; a volume that it cannot tell about is left as it is.
    pub fn look_after<E: std::fmt::Display>(
        &self,
        filling: impl Fn(VolumeId) -> Result<Option<FillSource>, E>,
    ) {
        let begun = match self.begun() {
            Ok(begun) => begun,
            Err(error) => {
                tracing::warn!(%error, "readers cannot be looked after");
                return;
            }
        };
        for volume in begun {
            let done = match filling(volume) {
                Ok(None) => self.end(volume),
                Ok(Some(source)) => self.read_again(volume, source),
                Err(error) => {
                    tracing::warn!(%volume, %error, "whether it is being filled is not known");
                    Ok(())
                }
            };
            if let Err(error) = done {
                let error = stillpoint_model::error::with_causes(&error);
                tracing::warn!(%volume, error, "its reader cannot be looked after");
            }
        }
    }

    /// Starts a reader again that is gone.
    fn read_again(&self, volume: VolumeId, source: FillSource) -> Result<(), ReaderError> {
        let socket = self.socket(volume);
        if matches!(listening(&socket), Ok(Found::Listening)) {
            return Ok(());
        }
        tracing::warn!(%volume, "the reader of its backup is gone and is started again");
        self.read(volume, source).map(drop)
    }

    /// The volumes whose readers were begun.
    fn begun(&self) -> Result<Vec<VolumeId>, ReaderError> {
        let failed = || ReaderError::io("listing", &self.folder);
        let mut begun = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            let name = name.to_str().unwrap_or_default();
            let id = name.strip_suffix(".log");
            begun.extend(id.and_then(|id| id.parse::<VolumeId>().ok()));
        }
        Ok(begun)
    }

    /// What is done with one volume's reader is done one at a time.
    fn turn(&self, volume: VolumeId) -> Arc<Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|id, turn| *id == volume || Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(volume).or_default())
    }

    fn start(&self, volume: VolumeId, source: FillSource) -> Result<(), ReaderError> {
        let ReaderProgram { program, args } = &self.program;
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(new_log(&self.log(volume))?)
            .spawn()
            .map_err(ReaderError::io("starting", program))?;
        let socket = self.socket(volume);
        let words = hear(&mut child);
        let told = tell(&mut child, &Charge { socket, source });
        let heard = match told {
            Ok(()) => words.recv_timeout(START),
            Err(error) => Ok(Word::Failed(ReaderFault {
                kind: ErrorKind::Internal,
                detail: format!("it was told nothing: {error}"),
            })),
        };
        let ended = match heard {
            Ok(Word::Listening) => {
                tracing::info!(%volume, backup = %source.backup_id, "a reader was started");
                Ok(())
            }
            Ok(Word::Failed(ReaderFault { kind, detail })) => {
                Err(ReaderError::Failed { kind, detail })
            }
            Err(RecvTimeoutError::Timeout) => Err(ReaderError::Late(volume)),
            Err(RecvTimeoutError::Disconnected) => Err(ReaderError::Failed {
                kind: ErrorKind::Internal,
                detail: self.last_words(volume),
            }),
        };
        if ended.is_err() {
            let _gone_already = child.kill();
        }
        // Somebody must take note of its end.
        std::thread::spawn(move || child.wait());
        ended
    }

    /// What a reader said that ended without a word.
    fn last_words(&self, volume: VolumeId) -> String {
        let text = fs::read_to_string(self.log(volume)).unwrap_or_default();
        let said: String = text.trim().chars().take(1000).collect();
        format!("it ended at once: {said}")
    }
}

/// The node of a block graph that reads from a socket. Its name has at most 31 characters and is the
/// volume's, which has one reader; what an id says with its last two is chance enough without them.
fn node(volume: VolumeId, socket: &Path) -> Value {
    let name = volume.as_uuid().as_simple().to_string();
    json!({
        "driver": "nbd",
        "node-name": format!("r{}", name.get(..30).unwrap_or_default()),
        "read-only": true,
        "server": {"type": "unix", "path": socket},
        "reconnect-delay": RECONNECT,
        "open-timeout": OPEN,
    })
}

fn new_log(path: &Path) -> Result<fs::File, ReaderError> {
    let made = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    made.map_err(ReaderError::io("making", path))
}

fn remove(path: &Path) -> Result<(), ReaderError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ReaderError::io("removing", path)(error))
        }
        _ => Ok(()),
    }
}

fn tell(child: &mut Child, charge: &Charge) -> io::Result<()> {
    let mut stdin = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    writeln!(stdin, "{}", serde_json::to_string(charge)?)
}

/// The first word that a reader says. Other lines, which are not ours, are passed over.
fn hear(child: &mut Child) -> Receiver<Word> {
    let (sender, receiver) = channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            let mut words = lines.filter_map(|line| serde_json::from_str(&line).ok());
            if let Some(word) = words.next() {
                let _too_late = sender.send(word);
            }
        });
    }
    receiver
}
