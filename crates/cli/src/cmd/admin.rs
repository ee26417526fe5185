//! `stillpoint admin`.

use clap::{Args, Subcommand};
use stillpoint_client::ListQuery;

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
        // These lists are short: the API gives each as one page.
        let whole = ListQuery::default();
        match self.noun {
            Noun::Node(Verb::List) => {
                let nodes = remote.check(client.node_list(&whole).await)?.items;
                output::list(remote.format, &nodes, "No nodes.")
            }
            Noun::Pool(Verb::List) => {
                let pools = remote.check(client.pool_list(&whole).await)?.items;
                output::list(remote.format, &pools, "No pools.")
            }
            Noun::Target(Verb::List) => {
                let targets = remote.check(client.target_list(&whole).await)?.items;
                output::list(remote.format, &targets, "No backup targets.")
            }
        }
    }
}
