//! Following an operation until it ends.
//!
//! On a terminal a bar moves; elsewhere a line appears whenever there is something new to say. A
//! total that nobody knows gives a spinner, never an invented percentage.
//!
//! Watching and working are apart: Ctrl-C, `--timeout` and a lost connection end the watching,
//! and each says how to take it up again. A server that restarts meanwhile is waited for.

use std::io::IsTerminal as _;
use std::time::Duration;

use anstream::eprintln;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use stillpoint_model::id::OperationId;
use stillpoint_model::{ByteCount, Env as _};
use stillpoint_wire::operation::{Operation, OperationKind, OperationState, Progress};

use crate::failure::{Exit, Failure, Result};
use crate::record::human_duration;
use crate::remote::Remote;

/// Without a terminal: a line at least this often while bytes move.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Follows the operation until it succeeded. Any other end is a failure with its own exit code.
pub async fn to_success(
    remote: &Remote,
    operation: &Operation,
    timeout: Option<Duration>,
) -> Result<Operation> {
    let id = operation.id;
    let mut display = Display::new(operation);
    let watched = tokio::select! {
        watched = remote.client.wait(id, |seen| display.show(seen, remote.env.monotonic())) => watched,
        _ = tokio::signal::ctrl_c() => {
            display.clear();
            eprintln!("Stopped watching; the operation goes on.");
            eprintln!("  watch it   stillpoint operation watch {id}");
            eprintln!("  stop it    stillpoint operation cancel {id}");
            return Err(Failure::interrupted());
        }
        () = after(timeout) => {
            display.clear();
            return Err(timed_out(id, timeout.unwrap_or_default()));
        }
    };
    display.clear();
    let ended = remote.check(watched).map_err(|failure| {
        failure.hint(format!(
            "the operation goes on; watch it: stillpoint operation watch {id}"
        ))
    })?;
    display.sum_up(&ended);
    outcome(ended)
}

async fn after(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout).await,
        None => std::future::pending().await,
    }
}

fn timed_out(id: OperationId, timeout: Duration) -> Failure {
    let text = format!(
        "not finished within {}; it goes on",
        human_duration(timeout)
    );
    Failure::new(Exit::TimedOut, "timeout", text)
        .hint(format!("watch it: stillpoint operation watch {id}"))
        .hint(format!("stop it: stillpoint operation cancel {id}"))
}

/// What an ended operation means for the command that waited for it.
fn outcome(operation: Operation) -> Result<Operation> {
    let id = operation.id;
    match operation.state {
        OperationState::Succeeded => Ok(operation),
        OperationState::Cancelled => {
            let text = format!(
                "{} was cancelled; nothing of it is left",
                subject(&operation)
            );
            Err(Failure::new(Exit::OperationFailed, "cancelled", text))
        }
        _ => {
            let (code, text) = match operation.failure {
                Some(failure) => (failure.code.as_str(), failure.detail),
                None => ("internal", "the operation failed".into()),
            };
            let failure = Failure::new(Exit::OperationFailed, code, text);
            Err(failure.hint(format!("see it: stillpoint operation show {id}")))
        }
    }
}

/// `snapshot of db`, `start of web`.
fn subject(operation: &Operation) -> String {
    let kind = stillpoint_model::operation::OperationKind::from(operation.kind).word();
    match operation
        .volume_name
        .as_ref()
        .or(operation.instance_name.as_ref())
        .or(operation.image_name.as_ref())
    {
        Some(image) if operation.kind == OperationKind::ImageCreate => format!("{kind} {image}"),
        Some(volume) if makes_volume_from_another(operation.kind) => {
            format!("{kind} to {volume}")
        }
        Some(name) => format!("{kind} of {name}"),
        None => kind.to_owned(),
    }
}

/// Whether the operation's volume is what it makes, not what it is made of.
const fn makes_volume_from_another(kind: OperationKind) -> bool {
    matches!(kind, OperationKind::RestoreNew | OperationKind::VolumeClone)
}

/// Where progress goes: a bar, or lines.
struct Display {
    subject: String,
    bar: Option<ProgressBar>,
    said: Said,
}

/// What was said last in lines.
#[derive(Default)]
struct Said {
    phase: Option<String>,
    at: Duration,
    bytes: ByteCount,
}

impl Display {
    fn new(operation: &Operation) -> Self {
        let subject = subject(operation);
        let bar = std::io::stderr().is_terminal().then(|| bar(&subject));
        Self {
            subject,
            bar,
            said: Said::default(),
        }
    }

    fn show(&mut self, operation: &Operation, now: Duration) {
        if operation.state.is_terminal() {
            return;
        }
        match &self.bar {
            Some(bar) => show_bar(bar, operation),
            None => self.show_line(operation, now),
        }
    }

    fn show_line(&mut self, operation: &Operation, now: Duration) {
        let progress = &operation.progress;
        let phase = phase(operation);
        let new_phase = self.said.phase.as_deref() != Some(phase.as_str());
        let moved = progress.bytes_done != self.said.bytes;
        if new_phase || (moved && now.saturating_sub(self.said.at) >= LINE_EVERY) {
            eprintln!("{}: {}", self.subject, sentence(&phase, progress));
            self.said = Said {
                phase: Some(phase),
                at: now,
                bytes: progress.bytes_done,
            };
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// One line stays: what was done, and how long it took.
    fn sum_up(&self, operation: &Operation) {
        if operation.state != OperationState::Succeeded {
            return;
        }
        let took = operation.finished_at.map(|end| {
            format!(
                " in {}",
                human_duration(end.duration_since(operation.created_at))
            )
        });
        eprintln!("{}: done{}", self.subject, took.unwrap_or_default());
    }
}

const SPINNER: &str = "{spinner} {prefix}  {msg}";
/// A bar that works out rate and time left itself.
const BYTES_BAR: &str = "{spinner} {prefix}  {bar:24}  {msg}, {binary_bytes_per_sec}, {eta} left";
const BAR: &str = "{spinner} {prefix}  {bar:24}  {msg}";

/// A bar on stderr, a spinner until there is a total.
fn bar(subject: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
    bar.set_style(style(SPINNER));
    bar.set_prefix(subject.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// A bar for bytes that no operation tells of. Without a terminal it shows nothing.
pub fn bytes_bar(subject: &str) -> ProgressBar {
    let bar = bar(subject);
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar
}

/// Moves such a bar.
pub fn show_bytes(bar: &ProgressBar, done: ByteCount, total: Option<ByteCount>) {
    let Some(total) = total else {
        bar.set_message(done.to_string());
        return;
    };
    if bar.length() != Some(total.get()) {
        bar.set_style(style(BYTES_BAR));
        bar.set_length(total.get());
    }
    bar.set_position(done.get());
    bar.set_message(format!("{done} of {total}"));
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .progress_chars("=> ")
}

fn show_bar(bar: &ProgressBar, operation: &Operation) {
    let progress = &operation.progress;
    match progress.percent {
        Some(percent) => {
            bar.set_style(style(BAR));
            bar.set_length(100);
            bar.set_position(percent.into());
        }
        None => bar.set_style(style(SPINNER)),
    }
    bar.set_message(sentence(&phase(operation), progress));
}

/// The phase, or what the state says better.
fn phase(operation: &Operation) -> String {
    match operation.state {
        OperationState::Queued => "waiting for its turn".into(),
        OperationState::Cancelling => "cancelling".into(),
        _ => operation.progress.phase.to_string(),
    }
}

/// `data capture 45 %, 1.20 GiB of 2.67 GiB, 210 MiB/s, 7 s left`, as far as it is known.
fn sentence(phase: &str, progress: &Progress) -> String {
    let mut parts = vec![match progress.percent {
        Some(percent) => format!("{phase} {percent} %"),
        None => phase.to_owned(),
    }];
    match (progress.bytes_done.get(), progress.bytes_total) {
        (_, Some(total)) => parts.push(format!("{} of {total}", progress.bytes_done)),
        (0, None) => {}
        (_, None) => parts.push(progress.bytes_done.to_string()),
    }
    parts.extend(progress.rate.map(|rate| format!("{rate}/s")));
    parts.extend(
        progress
            .eta_s
            .map(|s| format!("{} left", human_duration(Duration::from_secs(s)))),
    );
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use stillpoint_wire::operation::Phase;

    use super::*;

    const UNKNOWN: Progress = Progress {
        phase: Phase::DataCapture,
        percent: None,
        bytes_done: ByteCount::ZERO,
        bytes_total: None,
        rate: None,
        eta_s: None,
    };

    #[test]
    fn what_is_unknown_is_left_out() {
        assert_eq!(sentence("validation", &UNKNOWN), "validation");
        let some = Progress {
            bytes_done: ByteCount::from_mib(5),
            ..UNKNOWN
        };
        assert_eq!(sentence("data capture", &some), "data capture, 5.00 MiB");
    }

    #[test]
    fn what_is_known_is_said_in_one_line() {
        let progress = Progress {
            percent: Some(45),
            bytes_done: ByteCount::from_mib(1229),
            bytes_total: Some(ByteCount::from_mib(2730)),
            rate: Some(ByteCount::from_mib(210)),
            eta_s: Some(7),
            ..UNKNOWN
        };
        assert_eq!(
            sentence("data capture", &progress),
            "data capture 45 %, 1.20 GiB of 2.66 GiB, 210 MiB/s, 7 s left"
        );
    }
}
