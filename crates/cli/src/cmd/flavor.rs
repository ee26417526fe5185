//! `stillpoint flavor`.

use clap::{Args, Subcommand};

use crate::failure::Result;
use crate::output;
use crate::remote::RemoteArgs;

/// What instances can be made of
#[derive(Args, Debug)]
pub struct Command {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List flavors; the first is taken when none is named
    List,
}

impl Command {
    /// Does what the verb says.
    pub async fn run(self) -> Result<()> {
        let Verb::List = self.verb;
        let remote = self.remote.connect()?;
        let flavors = remote.check(remote.client.flavor_list().await)?.items;
        output::list(remote.format, &flavors, "No flavors are offered here.")
    }
}
