//! The server that a command talks to, and what it makes of the server's answers.

use std::sync::Arc;

use clap::Args;
use stillpoint_client::{Client, Credential, Error, ListQuery, every_page};
use stillpoint_env::SystemEnv;
use stillpoint_wire::problem::{ProblemCode, Resolution};
use stillpoint_wire::{Page, Problem};

use crate::credentials::{self, Credentials};
use crate::failure::{Exit, Failure, Result};
use crate::output::Format;

/// Which server, as whom, and how answers are printed.
#[derive(Args, Debug)]
#[command(next_help_heading = "Connection and output")]
pub struct RemoteArgs {
    /// The server's address [default: the one of `auth login`, or http://127.0.0.1:8420]
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "STILLPOINT_SERVER",
        hide_env_values = true
    )]
    pub server: Option<String>,
    /// An API token [default: the one of `auth login`]
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        env = "STILLPOINT_TOKEN",
        hide_env_values = true
    )]
    pub token: Option<String>,
    /// How answers are printed: table, wide, json, yaml, csv or name [default: table]
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "table",
        hide_default_value = true,
        hide_possible_values = true
    )]
    output: Format,
}

/// A server, ready to be asked.
pub struct Remote {
    /// The client, with the credential.
    pub client: Client,
    /// How answers are printed.
    pub format: Format,
    /// The clock of this machine.
    pub env: SystemEnv,
    credentials: Credentials,
}

impl RemoteArgs {
    /// Where to go, and as whom.
    pub fn credentials(&self) -> Result<Credentials> {
        let saved = credentials::load()?;
        Ok(Credentials::resolve(
            self.server.as_deref(),
            self.token.as_deref(),
            &saved,
        ))
    }

    /// The server, with a credential: without one nothing is asked at all.
    pub fn connect(&self) -> Result<Remote> {
        let credentials = self.credentials()?;
        let Some(token) = &credentials.token else {
            let text = format!("you are not signed in to {}", credentials.server);
            return Err(Failure::new(Exit::Auth, "unauthenticated", text)
                .hint(format!(
                    "sign in: stillpoint auth login --server {}",
                    credentials.server
                ))
                .hint("or set STILLPOINT_TOKEN"));
        };
        let credential = Credential::Token(token.clone());
        let client = Client::new(&credentials.server, &credential)
            .map_err(explain)?
            .with_keys(Arc::new(SystemEnv::new()));
        Ok(Remote {
            client,
            format: self.output,
            env: SystemEnv::new(),
            credentials,
        })
    }
}

impl Remote {
    /// The token that requests show.
    pub fn token(&self) -> Option<&str> {
        self.credentials.token.as_deref()
    }

    /// The answer, or the failure that it stands for.
    pub fn check<T>(&self, answer: Result<T, Error>) -> Result<T> {
        answer.map_err(|error| {
            let signed_out = error
                .problem()
                .is_some_and(|p| p.code == ProblemCode::Unauthenticated);
            let failure = explain(error);
            match signed_out {
                false => failure,
                true if self.credentials.token_is_saved => failure.hint(format!(
                    "sign in again: stillpoint auth login --server {}",
                    self.credentials.server
                )),
                true => failure.hint("check --token or STILLPOINT_TOKEN"),
            }
        })
    }

    /// Every item of a list, page by page.
    pub async fn all<T, F>(&self, fetch: impl FnMut(ListQuery) -> F) -> Result<Vec<T>>
    where
        F: Future<Output = Result<Page<T>, Error>>,
    {
        self.check(every_page(fetch).await)
    }
}

/// What went wrong, for a person.
pub fn explain(error: Error) -> Failure {
    match error {
        Error::Problem(problem) => refused(&problem),
        Error::Unreachable { address, source } => {
            let reason = root_cause(&source);
            Failure::new(
                Exit::Other,
                "unreachable",
                format!("no answer from {address}: {reason}"),
            )
            .hint("is the server running? start one here: stillpoint server start")
            .hint("name another one with --server or STILLPOINT_SERVER")
        }
        Error::InvalidAddress(_) | Error::InvalidCredential => Failure::usage(error.to_string()),
        Error::UnexpectedAnswer { .. } => {
            Failure::new(Exit::Other, "unexpected_answer", error.to_string())
                .hint("check --server: something else may be listening there")
        }
        Error::UnreadableImage(source) => Failure::file("read the image", &source),
        Error::BrokenStream(_) => Failure::new(Exit::Other, "broken_stream", error.to_string()),
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// A problem document as the CLI prints it.
pub fn refused(problem: &Problem) -> Failure {
    let exit = Exit::of(problem.code.into());
    let mut failure = Failure::new(exit, problem.code.as_str(), problem.detail.clone());
    for error in &problem.errors {
        failure = failure.hint(if error.detail == problem.detail {
            format!("it is about {} of the request", error.pointer)
        } else {
            format!("{}: {}", error.pointer, error.detail)
        });
    }
    for resolution in &problem.resolutions {
        failure = failure.hint(hint(resolution));
    }
    if let Some(noun) = missing_noun(problem) {
        failure = failure.hint(format!("see what there is: stillpoint {noun} list"));
    }
    match &problem.request_id {
        Some(id) => failure.request(id),
        None => failure,
    }
}

/// What there is none of, when it is something that can be listed.
fn missing_noun(problem: &Problem) -> Option<&str> {
    const LISTED: [&str; 7] = [
        "volume",
        "snapshot",
        "backup",
        "operation",
        "instance",
        "flavor",
        "image",
    ];
    let noun = problem
        .detail
        .strip_prefix("There is no such ")?
        .strip_suffix('.')?;
    (problem.code == ProblemCode::NotFound && LISTED.contains(&noun)).then_some(noun)
}

/// A way out as a command to type, or in words. Each is said, also one that the problem's sentence
/// hints at: who looks for what to do reads the hints, and half a list of ways misleads.
fn hint(resolution: &Resolution) -> String {
    let label = &resolution.label;
    match command(resolution) {
        Some(command) => format!("{label}: {command}"),
        None => label.clone(),
    }
}

/// The command that sends a way out's request.
fn command(resolution: &Resolution) -> Option<String> {
    let path = resolution.href.as_deref()?.strip_prefix("/v1/")?;
    let post = resolution.method.as_deref() == Some("POST");
    if path == "restores" {
        return Some("stillpoint restore new --help".into());
    }
    if path == "images" {
        return Some("stillpoint image list".into());
    }
    if path.starts_with("operations?") {
        return Some("stillpoint operation list --in-flight".into());
    }
    if let Some(volume) = path.strip_prefix("snapshots?volume=") {
        return Some(format!("stillpoint snapshot list --volume {volume}"));
    }
    if let Some(volume) = path.strip_prefix("backups?volume=") {
        return Some(format!("stillpoint backup list --volume {volume}"));
    }
    let segments: Vec<_> = path.split('/').collect();
    match (segments.as_slice(), post) {
        (["operations", id, "cancel"], true) => Some(format!("stillpoint operation cancel {id}")),
        (["operations", id], false) => Some(format!("stillpoint operation watch {id}")),
        (["instances", id, "stop"], true) => Some(format!("stillpoint instance stop {id}")),
        (["volumes", id], false) => Some(format!("stillpoint volume show {id}")),
        (["instance-snapshots", id], false) => {
            Some(format!("stillpoint instance snapshot show {id}"))
        }
        (["volumes", id, "detach"], true) => Some(format!("stillpoint volume detach {id}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stillpoint_env::SimEnv;
    use stillpoint_model::id::{InstanceId, InstanceSnapshotId, OperationId, VolumeId};
    use stillpoint_model::refusal::{ProblemCode, Refusal, WayOut};

    use super::*;

    fn printed(refusal: &Refusal) -> String {
        let text = refused(&Problem::from(refusal)).to_string();
        anstream::adapter::strip_str(&text).to_string()
    }

    /// The model's ways out, each as it is printed: a new one must be looked at here.
    #[test]
    fn every_way_out_is_a_command_or_a_sentence() {
        let env = SimEnv::new(1);
        let (operation, volume) = (OperationId::generate(&env), VolumeId::generate(&env));
        let instance = InstanceId::generate(&env);
        let whole = InstanceSnapshotId::generate(&env);
        let ways = [
            WayOut::WatchOperation(operation),
            WayOut::CancelOperation(operation),
            WayOut::ListOperations,
            WayOut::StopInstance(Some(instance)),
            WayOut::DetachVolume(Some(volume)),
            WayOut::RestoreToNewVolume,
            WayOut::DeleteSnapshot(volume),
            WayOut::DeleteBackup(volume),
            WayOut::DeleteImage,
            WayOut::Unprotect,
            WayOut::ChooseAnotherName,
            WayOut::AskOperator,
            WayOut::ShowVolume(volume),
            WayOut::ShowInstanceSnapshot(whole),
            WayOut::RestoreToNewInstance,
        ];
        let mut refusal = Refusal::new(ProblemCode::VolumeBusy, "Volume is busy");
        refusal.ways_out = ways.into();
        insta::assert_snapshot!(printed(&refusal), @r"
        error[volume_busy]: Volume is busy
        hint: Watch the running operation: stillpoint operation watch 019b76da-a800-710d-a48c-ea4c09676b8e
        hint: Cancel the running operation: stillpoint operation cancel 019b76da-a800-710d-a48c-ea4c09676b8e
        hint: See the operations in flight: stillpoint operation list --in-flight
        hint: Stop the instance: stillpoint instance stop 019b76da-a800-720d-8863-dca72538e5cb
        hint: Detach the volume: stillpoint volume detach 019b76da-a800-7806-9414-65060736032b
        hint: Restore to a new volume: stillpoint restore new --help
        hint: Delete a snapshot: stillpoint snapshot list --volume 019b76da-a800-7806-9414-65060736032b
        hint: Delete a backup: stillpoint backup list --volume 019b76da-a800-7806-9414-65060736032b
        hint: Delete an image: stillpoint image list
        hint: Remove the protection
        hint: Choose another name
        hint: Ask your operator
        hint: See the volume: stillpoint volume show 019b76da-a800-7806-9414-65060736032b
        hint: See the instance snapshot: stillpoint instance snapshot show 019b76da-a800-73f2-9f48-5820e2e9368d
        hint: Make a new instance of it
        ");
    }

    #[test]
    fn every_way_out_of_a_volume_that_others_attached_is_told() {
        let text = "Stop the instance or detach the volume first.";
        let refusal = Refusal::new(ProblemCode::AttachedRunning, text)
            .or(WayOut::StopInstance(None))
            .or(WayOut::DetachVolume(None));
        assert_eq!(
            printed(&refusal),
            format!(
                "error[attached_running]: {text}\nhint: Stop the instance\nhint: Detach the volume"
            )
        );
    }

    #[test]
    fn a_cooldown_has_a_hint() {
        let text = "Volume is in cooldown. Try again in 12 seconds.";
        let refusal = Refusal::new(ProblemCode::Cooldown, text).after(Duration::from_secs(12));
        assert_eq!(
            printed(&refusal),
            format!("error[cooldown]: {text}\nhint: Try again in 12 seconds")
        );
    }

    #[test]
    fn a_wrong_field_is_named() {
        let refusal = Refusal::new(ProblemCode::NameInvalid, "Too long.").at("/name");
        assert_eq!(
            printed(&refusal),
            "error[name_invalid]: Too long.\nhint: it is about /name of the request"
        );
    }
}
