//! `stillpoint server`.

mod backup_target;
mod data_dir;
mod first_start;
mod machines;
mod memory;
mod node_link;
mod reader;
mod recover;
mod run;
mod self_backup;
mod settings;

use clap::{Args, Subcommand};
use tracing_subscriber::EnvFilter;

use self::reader::ReaderArgs;
use self::recover::RecoverArgs;
use self::settings::{Settings, SettingsArgs};
use crate::failure::{Exit, Failure, Result};

/// Threads that carry the conversations; what blocks has threads of its own.
const WORKERS: usize = 2;
/// Threads for what blocks: tasks, files, passwords. They end when they are not needed.
const BLOCKING_THREADS: usize = 32;

/// The server: control plane, node, API and portal in one process
#[derive(Args, Debug)]
pub struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start the server and stay until SIGTERM or Ctrl-C
    ///
    /// Says `listening on http://…` on stdout when it answers, and logs on stderr. The first
    /// start makes the data folder with everything in it, an administrator and a tenant; their
    /// passwords are in DIR/credentials.
    Start(SettingsArgs),
    /// Rebuild a server's data folder from its backup target and the root key
    ///
    /// The newest copy of the server's database is restored into DIR, which must have none. The
    /// server can then be started on it: with its accounts, plans, items and backups. Volumes are
    /// where their pool was; those that are gone are restored from their backups.
    Recover(RecoverArgs),
    /// Thaws a guest whatever happens to whoever froze it
    #[command(name = machines::GUARD, hide = true)]
    FreezeGuard,
    /// Reads a backup for a guest whose volume is not whole yet
    #[command(name = reader::READER, hide = true)]
    ReadBackup(ReaderArgs),
}

impl Command {
    /// Does what the verb says.
    pub fn run(self) -> Result<()> {
        match self.verb {
            Verb::Start(args) => start(args),
            Verb::Recover(args) => rebuild(args),
            Verb::FreezeGuard => machines::run_guard(),
            Verb::ReadBackup(args) => reader::run(&args),
        }
    }
}

fn start(args: SettingsArgs) -> Result<()> {
    memory::settle();
    let settings = Settings::load(args)?;
    log_to_stderr(&settings.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .map_err(|error| Failure::file("start", &error))?;
    let ended = runtime.block_on(run::serve(settings));
    // After the second signal, what blocks is not waited for.
    runtime.shutdown_background();
    ended
}

fn rebuild(args: RecoverArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::file("start", &error))?;
    runtime.block_on(recover::recover(args))
}

fn log_to_stderr(filter: &str) -> Result<()> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::new(Exit::Usage, "config", format!("--log {filter}: {error}"))
            .hint("write error, warn, info, debug, or a filter such as info,sqlx=debug")
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    Ok(())
}
