//! What every command that changes something has in common: ask, wait, show.

use std::time::Duration;

use clap::Args;
use stillpoint_client::{Answer, Change};
use stillpoint_wire::operation::Operation;
use stillpoint_wire::permission::Preview;

use crate::failure::{Result, print};
use crate::output::{self, Format};
use crate::remote::Remote;
use crate::style::printable;
use crate::watch;

/// How a change is asked for.
#[derive(Args, Debug)]
#[command(next_help_heading = "Change")]
pub struct ChangeArgs {
    /// Ask what would happen, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the operation and do not wait for its end
    #[arg(long, conflicts_with_all = ["dry_run", "timeout"])]
    no_wait: bool,
    /// Stop waiting after this time (90s, 10m, 2h); the operation goes on
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    timeout: Option<Duration>,
    /// The same key asked again gives the same operation, not a second one
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Do not wait for the cooldown (administrators; it is audited)
    #[arg(long)]
    override_cooldown: bool,
}

/// Reads `90s`, `10m`, `1h 30m`.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = "write a time as 90s, 10m or 2h".to_owned();
    let duration: jiff::SignedDuration = text.parse().map_err(|_| wrong.clone())?;
    Duration::try_from(duration).map_err(|_| wrong)
}

impl ChangeArgs {
    /// What goes with the request.
    pub fn change(&self) -> Change {
        Change {
            dry_run: self.dry_run,
            idempotency_key: self.idempotency_key.clone(),
            override_cooldown: self.override_cooldown,
            if_match: None,
        }
    }

    /// Whether nothing will be lost by this, so that nobody needs to confirm.
    pub const fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// Waits for what was accepted. Answers the operation when it succeeded and its result is
    /// still to be shown; none when there is nothing more to say.
    pub async fn settle(&self, remote: &Remote, answer: Answer) -> Result<Option<Operation>> {
        match answer {
            Answer::Preview(preview) => show_preview(remote.format, &preview).map(|()| None),
            Answer::Accepted(operation) if self.no_wait => {
                output::list(remote.format, &[*operation], "").map(|()| None)
            }
            Answer::Accepted(operation) => watch::to_success(remote, &operation, self.timeout)
                .await
                .map(Some),
        }
    }

    /// [`ChangeArgs::settle`] for what leaves nothing behind to show, such as a delete: programs
    /// get the operation, people have read the line on stderr.
    pub async fn settle_quietly(&self, remote: &Remote, answer: Answer) -> Result<()> {
        let Some(operation) = self.settle(remote, answer).await? else {
            return Ok(());
        };
        match remote.format {
            Format::Table | Format::Wide | Format::Name => Ok(()),
            format => output::one(format, &operation),
        }
    }
}

fn show_preview(format: Format, preview: &Preview) -> Result<()> {
    match format {
        Format::Table | Format::Wide | Format::Name => print(preview_text(preview)),
        _ => output::value(format, preview),
    }
}

fn preview_text(preview: &Preview) -> String {
    let mut lines = vec!["This would be accepted now. Nothing was changed.".to_owned()];
    lines.extend(preview.consistency.map(|c| format!("consistency: {c}")));
    lines.extend(
        preview
            .warnings
            .iter()
            .map(|w| format!("warning: {}", printable(w))),
    );
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times_as_people_type_them() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("2h", 7200), ("1h30m", 5400)] {
            assert_eq!(parse_time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "ten", "-5s", "10"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
