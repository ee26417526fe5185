//! `stillpoint admin`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use stillpoint_client::ListQuery;
use stillpoint_model::ByteCount;
use stillpoint_model::id::VaultId;
use stillpoint_wire::admin::{CollectionConfirm, CopiesSet};
use stillpoint_wire::volume::{AttachedState, AttachmentReport};

use super::change::parse_time;
use crate::failure::Result;
use crate::output::{self, Format};
use crate::remote::{Remote, RemoteArgs};
use crate::size;

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
    /// Places where backups go, and how the vaults in them are
    #[command(subcommand)]
    Target(TargetVerb),
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
enum TargetVerb {
    /// List them
    List,
    /// Show what was collected and verified in the vaults of a target, and what is damaged
    Show {
        /// The target, by name or id
        target: String,
    },
    /// Have its backups copied into a second target, or no longer
    ///
    /// What is new is looked for again and again, copied as increments, and read back. A copy is deleted
    /// long after its backup was: see `keep_copies_s` in the server's settings. Copies that there are
    /// when the copying ends stay.
    Copy {
        /// The target whose backups are copied, by name or id
        target: String,
        /// The target that gets the copies, by name or id
        #[arg(long, value_name = "TARGET", required_unless_present = "off")]
        to: Option<String>,
        /// How often what is new is looked for, such as 6h
        #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "24h")]
        every: Duration,
        /// Copy them no longer
        #[arg(long, conflicts_with_all = ["to", "every"])]
        off: bool,
    },
    /// Let the next collection of a vault remove as much as it asked for
    Confirm {
        /// The target, by name or id
        target: String,
        /// The vault, as `show` names it
        #[arg(long, value_name = "ID")]
        vault: VaultId,
        /// How much may go: what `show` says is to confirm, or more
        #[arg(long, value_name = "SIZE", value_parser = size::parse)]
        bytes: ByteCount,
    },
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
            Noun::Target(verb) => target(&remote, verb).await,
            Noun::Attachment(verb) => attachment(&remote, verb).await,
        }
    }
}

async fn target(remote: &Remote, verb: TargetVerb) -> Result<()> {
    let client = &remote.client;
    let answer = match verb {
        TargetVerb::List => {
            let targets = remote.check(client.target_list(&ListQuery::default()).await)?;
            return output::list(remote.format, &targets.items, "No backup targets.");
        }
        TargetVerb::Show { target } => client.target_show(&target).await,
        TargetVerb::Confirm {
            target,
            vault,
            bytes,
        } => {
            let confirm = CollectionConfirm {
                vault_id: vault,
                bytes,
            };
            client.collection_confirm(&target, &confirm).await
        }
        TargetVerb::Copy {
            target,
            to,
            every,
            off: _,
        } => {
            let every_s = u32::try_from(every.as_secs()).unwrap_or(u32::MAX);
            let copies = CopiesSet { to, every_s };
            client.target_copies_set(&target, &copies).await
        }
    };
    let detail = remote.check(answer)?;
    match remote.format {
        Format::Json | Format::Yaml => output::value(remote.format, &detail),
        Format::Table | Format::Wide | Format::Csv | Format::Name => {
            output::list(remote.format, &detail.vaults, "No vaults yet.")?;
            let bad = detail.vaults.into_iter().flat_map(|vault| {
                let left = vault.mending.map(|last| last.left);
                vault.damage.into_iter().chain(left.unwrap_or_default())
            });
            let bad: Vec<_> = bad.collect();
            match bad.is_empty() || matches!(remote.format, Format::Csv | Format::Name) {
                true => Ok(()),
                false => output::list(remote.format, &bad, ""),
            }
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
