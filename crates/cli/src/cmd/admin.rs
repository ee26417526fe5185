//! `stillpoint admin`.

use clap::{Args, Subcommand, ValueEnum};
use stillpoint_client::ListQuery;
use stillpoint_wire::volume::{AttachedState, AttachmentReport};

use crate::failure::Result;
use crate::output;
use crate::remote::{Remote, RemoteArgs};

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
    /// What volumes are attached to that something else than Stillpoint runs
    #[command(subcommand)]
    Attachment(AttachmentVerb),
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List them
    List,
}

#[derive(Debug, Subcommand)]
enum AttachmentVerb {
    /// Say which instance has a volume
    Report {
        /// The volume; one of another account by id
        volume: String,
        /// The instance's name
        #[arg(long, value_name = "NAME")]
        instance: String,
        /// Whether the instance runs
        #[arg(long, default_value = "running")]
        state: AttachedStateArg,
    },
    /// Say that the instance no longer has the volume
    End {
        /// The volume; one of another account by id
        volume: String,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AttachedStateArg {
    Running,
    Stopped,
}

impl From<AttachedStateArg> for AttachedState {
    fn from(state: AttachedStateArg) -> Self {
        match state {
            AttachedStateArg::Running => Self::Running,
            AttachedStateArg::Stopped => Self::Stopped,
        }
    }
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
            Noun::Attachment(verb) => attachment(&remote, verb).await,
        }
    }
}

async fn attachment(remote: &Remote, verb: AttachmentVerb) -> Result<()> {
    let answer = match verb {
        AttachmentVerb::Report {
            volume,
            instance,
            state,
        } => {
            let state = state.into();
            let report = AttachmentReport { instance, state };
            remote
                .client
                .volume_attachment_report(&volume, &report)
                .await
        }
        AttachmentVerb::End { volume } => remote.client.volume_attachment_end(&volume).await,
    };
    output::list(remote.format, &[remote.check(answer)?], "")
}
