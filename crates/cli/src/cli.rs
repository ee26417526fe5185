//! The command line as a tree: `stillpoint <noun> <verb>`.

use clap::{Parser, Subcommand};

use crate::cmd;
use crate::failure::{Failure, Result};
use crate::server;

const EXIT_CODES: &str = "\
Exit codes:
  0 ok                       5 not found
  1 other                    6 busy, in cooldown, too much in flight: try again later
  2 usage or configuration   7 a cap or the credit is used up
  3 the operation failed     8 not finished within --timeout
  4 not signed in            130 interrupted (the operation goes on)";

/// Snapshots and backups of cloud volumes and virtual machines, and back again.
#[derive(Debug, Parser)]
#[command(
    name = "stillpoint",
    version,
    after_help = EXIT_CODES,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(subcommand)]
    noun: Noun,
}

#[derive(Debug, Subcommand)]
enum Noun {
    Volume(cmd::volume::Command),
    Snapshot(cmd::snapshot::Command),
    Backup(cmd::backup::Command),
    Image(cmd::image::Command),
    Restore(cmd::restore::Command),
    Instance(cmd::instance::Command),
    Flavor(cmd::flavor::Command),
    Operation(cmd::operation::Command),
    Auth(cmd::auth::Command),
    Admin(cmd::admin::Command),
    Api(cmd::api::Command),
    Server(server::Command),
    Vault(cmd::vault::Command),
    Pool(cmd::pool::Command),
    Completion(cmd::completion::Command),
}

impl Cli {
    /// Does what the command line asks for.
    pub fn run(self) -> Result<()> {
        match self.noun {
            Noun::Volume(command) => talk(command.run()),
            Noun::Snapshot(command) => talk(command.run()),
            Noun::Backup(command) => talk(command.run()),
            Noun::Image(command) => talk(command.run()),
            Noun::Restore(command) => talk(command.run()),
            Noun::Instance(command) => talk(command.run()),
            Noun::Flavor(command) => talk(command.run()),
            Noun::Operation(command) => talk(command.run()),
            Noun::Auth(command) => talk(command.run()),
            Noun::Admin(command) => talk(command.run()),
            Noun::Api(command) => talk(command.run()),
            Noun::Server(command) => command.run(),
            Noun::Vault(command) => talk(command.run()),
            Noun::Pool(command) => command.run(),
            Noun::Completion(command) => command.run(),
        }
    }
}

/// Runs a command that talks to a server: one thread is enough for one conversation.
fn talk(conversation: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::file("start", &error))?
        .block_on(conversation)
}
