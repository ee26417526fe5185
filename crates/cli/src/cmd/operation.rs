//! `stillpoint operation`.

use std::time::Duration;

use clap::{Args, Subcommand};
use stillpoint_client::OperationFilter;
use stillpoint_model::id::OperationId;
use stillpoint_wire::operation::{Operation, Reason};

use super::change::parse_time;
use crate::failure::Result;
use crate::remote::{Remote, RemoteArgs};
use crate::{output, watch};

const NONE: &str = "No operations.";

/// Accepted requests that take time: watch them, cancel them
#[derive(Args, Debug)]
pub struct Command {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List operations, the latest first
    List {
        /// Those of this volume, by name or id
        #[arg(long)]
        volume: Option<String>,
        /// Those of this instance, by name or id
        #[arg(long)]
        instance: Option<String>,
        /// Only those that are not over
        #[arg(long)]
        in_flight: bool,
        /// Only those that are over
        #[arg(long, conflicts_with = "in_flight")]
        finished: bool,
        /// Those of every account (administrators)
        #[arg(long)]
        all_accounts: bool,
    },
    /// Show one operation
    Show {
        #[command(flatten)]
        which: WhichArgs,
    },
    /// Follow an operation until it ends
    Watch {
        #[command(flatten)]
        which: WhichArgs,
        /// Stop watching after this time (90s, 10m, 2h)
        #[arg(long, value_name = "TIME", value_parser = parse_time)]
        timeout: Option<Duration>,
    },
    /// Ask an operation to stop; what it did is undone
    Cancel {
        #[command(flatten)]
        which: WhichArgs,
    },
    /// End a stuck operation and release what it holds (administrators)
    Release {
        #[command(flatten)]
        which: WhichArgs,
        #[command(flatten)]
        why: ReasonArgs,
    },
    /// Ask again for what a failed or cancelled operation was to do (administrators)
    Retry {
        #[command(flatten)]
        which: WhichArgs,
        #[command(flatten)]
        why: ReasonArgs,
    },
}

#[derive(Args, Debug)]
struct WhichArgs {
    /// The operation's id
    #[arg(value_name = "OPERATION")]
    id: OperationId,
}

#[derive(Args, Debug)]
struct ReasonArgs {
    /// Why, for the audit
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

impl Command {
    /// Does what the verb says.
    pub async fn run(self) -> Result<()> {
        let remote = &self.remote.connect()?;
        let client = &remote.client;
        let answer = match self.verb {
            Verb::List {
                volume,
                instance,
                in_flight,
                finished,
                all_accounts,
            } => {
                let in_flight = (in_flight || finished).then_some(in_flight);
                return list(
                    remote,
                    &OperationFilter {
                        volume,
                        instance,
                        in_flight,
                        all_accounts,
                    },
                )
                .await;
            }
            Verb::Show { which } => {
                let operation = remote.check(client.operation_show(which.id).await)?;
                return output::one(remote.format, &operation);
            }
            Verb::Watch { which, timeout } => {
                let operation = remote.check(client.operation_show(which.id).await)?;
                Ok(watch::to_success(remote, &operation, timeout).await?)
            }
            Verb::Cancel { which } => client.operation_cancel(which.id).await,
            Verb::Release { which, why } => {
                client
                    .operation_release(which.id, &Reason { reason: why.reason })
                    .await
            }
            Verb::Retry { which, why } => {
                client
                    .operation_retry(which.id, &Reason { reason: why.reason })
                    .await
            }
        };
        show_row(remote, remote.check(answer)?)
    }
}

fn show_row(remote: &Remote, operation: Operation) -> Result<()> {
    output::list(remote.format, &[operation], NONE)
}

async fn list(remote: &Remote, filter: &OperationFilter) -> Result<()> {
    let client = &remote.client;
    let operations = remote
        .all(async |query| client.operation_list(filter, &query).await)
        .await?;
    output::list(remote.format, &operations, NONE)
}
