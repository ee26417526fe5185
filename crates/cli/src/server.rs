//! `stillpoint server`.

mod data_dir;
mod settings;

use clap::{Args, Subcommand};

use crate::failure::Result;

/// The server: control plane, node, API and portal in one process
#[derive(Args, Debug)]
pub struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start the server and stay until SIGTERM or Ctrl-C
    Start(settings::SettingsArgs),
}

impl Command {
    /// Does what the verb says.
    pub fn run(self) -> Result<()> {
        match self.verb {
            Verb::Start(_args) => Ok(()),
        }
    }
}
