//! The reader itself: what runs in a process of its own.

use std::io::{self, BufRead as _, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stillpoint_model::error::with_causes;
use stillpoint_model::layer_tree::FillSource;
use stillpoint_model::task::VaultRef;
use stillpoint_model::{ByteCount, ErrorKind};
use stillpoint_nbd::Server;
use stillpoint_vault::{BackupReader, ReadCache, Vault};

/// Memory for what was read lately.
const CACHE: ByteCount = ByteCount::from_mib(64);
/// The longest line that a reader is told.
const MAX_LINE: u64 = 64 << 10;
/// The longest line that a reader logs.
const MAX_TROUBLE: usize = 1000;
/// How often a reader looks whether anybody can find it.
const LOOK: Duration = Duration::from_secs(5);

/// What a reader is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Charge {
    pub(super) socket: PathBuf,
    pub(super) source: FillSource,
}

/// What a reader says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    Listening,
    Failed(ReaderFault),
}

/// Why a backup cannot be read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReaderFault {
    /// What to do about it.
    pub kind: ErrorKind,
    /// What an operator reads.
    pub detail: String,
}

impl ReaderFault {
    fn of_vault(error: &stillpoint_vault::Error) -> Self {
        Self {
            kind: error.kind(),
            detail: with_causes(error),
        }
    }
}

/// What a reader is, from its first line to its end. `open` opens the vault that it is told of, `input`
/// and `output` are the standard ones. What cannot be read is said on the standard error, once for each
/// cause. The process takes a session of its own; it ends when its socket is not where it was made.
pub fn run(
    open: impl FnOnce(VaultRef) -> Result<Vault, ReaderFault>,
    input: impl Read,
    mut output: impl Write,
) -> io::Result<()> {
    // Refused to one that leads a process group of its own already.
    let _leads_a_group = rustix::process::setsid();
    let mut line = String::new();
    io::BufReader::new(input.take(MAX_LINE)).read_line(&mut line)?;
    let charge: Charge = serde_json::from_str(&line)?;
    match bind(open, &charge) {
        Ok(server) => {
            say(&mut output, &Word::Listening);
            serve(server)
        }
        Err(fault) => {
            say(&mut output, &Word::Failed(fault));
            Ok(())
        }
    }
}

fn bind(
    open: impl FnOnce(VaultRef) -> Result<Vault, ReaderFault>,
    charge: &Charge,
) -> Result<Server, ReaderFault> {
    let reader = open_backup(open(charge.source.vault)?, &charge.source)
        .map_err(|error| ReaderFault::of_vault(&error))?;
    let tell = |trouble: &str| {
        let trouble: String = trouble.chars().take(MAX_TROUBLE).collect();
        let _nobody_reads = writeln!(io::stderr(), "{trouble}");
    };
    let bound = Server::bind(&charge.socket, reader, Box::new(tell));
    let bound = bound.map_err(|error| ReaderFault {
        kind: error.kind(),
        detail: with_causes(&error),
    })?;
    Ok(bound.patient())
}

fn open_backup(vault: Vault, source: &FillSource) -> Result<BackupReader, stillpoint_vault::Error> {
    let cache = ReadCache::new(CACHE);
    vault
        .read_only()
        .open_backup(source.source_volume_id, source.backup_id, &cache)
}

fn serve(server: Server) -> io::Result<()> {
    let server = Arc::new(server);
    let watched = Arc::downgrade(&server);
    std::thread::spawn(move || {
        while let Some(server) = watched.upgrade() {
            if !server.is_there() {
                server.end();
                return;
            }
            drop(server);
            std::thread::park_timeout(LOOK);
        }
    });
    server.serve().map_err(io::Error::other)
}

fn say(out: &mut impl Write, word: &Word) {
    // Whoever is gone hears nothing; the next one finds the socket.
    let _nobody_listens = serde_json::to_string(word)
        .map_err(io::Error::other)
        .and_then(|line| writeln!(out, "{line}"))
        .and_then(|()| out.flush());
}
