//! `stillpoint admin`.

use clap::{Args, Subcommand};

use crate::failure::Result;
use crate::output;
use crate::remote::RemoteArgs;

/// What operators see of the installation
#[derive(Args, Debug)]
pub struct Command {
    #[command(subcommand)]
    noun: Noun,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Subcommand)]
enum Noun {
    /// Hypervisor hosts
    #[command(subcommand)]
    Node(Verb),
    /// Storage that holds volumes
    #[command(subcommand)]
    Pool(Verb),
    /// Places where backups go
    #[command(subcommand)]
    Target(Verb),
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List them
    List,
}

impl Command {
    /// Does what the verb says.
    pub async fn run(self) -> Result<()> {
        let remote = self.remote.connect()?;
        let client = &remote.client;
        match self.noun {
            Noun::Node(Verb::List) => {
                let nodes = remote
                    .all(async |query| client.node_list(&query).await)
                    .await?;
                output::list(remote.format, &nodes, "No nodes.")
            }
            Noun::Pool(Verb::List) => {
                let pools = remote
                    .all(async |query| client.pool_list(&query).await)
                    .await?;
                output::list(remote.format, &pools, "No pools.")
            }
            Noun::Target(Verb::List) => {
                let targets = remote
                    .all(async |query| client.target_list(&query).await)
                    .await?;
                output::list(remote.format, &targets, "No backup targets.")
            }
        }
    }
}
