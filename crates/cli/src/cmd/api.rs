//! `stillpoint api`: any request, for what has no command yet.

use clap::Args;
use serde_json::Value;
use stillpoint_client::Method;
use stillpoint_wire::Problem;

use crate::failure::{Exit, Failure, Result, print};
use crate::output::{self, Format};
use crate::remote::{RemoteArgs, refused};

/// Send any request to the API and print its answer
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  stillpoint api GET /v1/volumes
  stillpoint api POST /v1/snapshots -d '{\"volume\": \"db\"}'
  stillpoint api POST /v1/snapshots?dry_run=true -d @request.json")]
pub struct Command {
    /// GET, POST, PUT, PATCH or DELETE
    #[arg(value_parser = parse_method)]
    method: Method,
    /// The path, such as /v1/volumes
    path: String,
    /// The body as JSON; @FILE reads a file
    #[arg(short, long, value_name = "JSON")]
    data: Option<String>,
    #[command(flatten)]
    remote: RemoteArgs,
}

fn parse_method(text: &str) -> Result<Method, String> {
    let upper = text.to_ascii_uppercase();
    match upper.as_str() {
        "GET" | "POST" | "PUT" | "PATCH" | "DELETE" | "HEAD" => {
            upper.parse().map_err(|_| "no method".to_owned())
        }
        _ => Err("write GET, POST, PUT, PATCH or DELETE".into()),
    }
}

impl Command {
    /// Sends the request.
    pub async fn run(self) -> Result<()> {
        if !self.path.starts_with('/') {
            return Err(Failure::usage(format!("{} is no path", self.path))
                .hint(format!("a path starts with a slash: /v1/{}", self.path)));
        }
        let body = self.data.as_deref().map(read_body).transpose()?;
        let remote = self.remote.connect()?;
        let answer = remote
            .client
            .raw(self.method, &self.path, body.as_ref())
            .await;
        let answer = remote.check(answer)?;
        if !(200..300).contains(&answer.status) {
            return Err(failure(answer.status, &answer.body));
        }
        show(remote.format, &answer.body)
    }
}

fn read_body(data: &str) -> Result<Value> {
    let text = match data.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file)
            .map_err(|error| Failure::file(format_args!("read {file}"), &error))?,
        None => data.to_owned(),
    };
    serde_json::from_str(&text).map_err(|error| {
        Failure::usage(format!("the body is no JSON: {error}"))
            .hint("quote it for the shell: -d '{\"volume\": \"db\"}'")
    })
}

fn failure(status: u16, body: &str) -> Failure {
    match serde_json::from_str::<Problem>(body) {
        Ok(problem) => refused(&problem),
        Err(_) => Failure::new(
            Exit::Other,
            "unexpected_answer",
            format!("the server answered {status} with something that is no problem document"),
        ),
    }
}

/// JSON is what this command is for: it is printed as such unless YAML was asked for.
fn show(format: Format, body: &str) -> Result<()> {
    match serde_json::from_str::<Value>(body) {
        Ok(value) if format == Format::Yaml => output::value(format, &value),
        Ok(value) => output::value(Format::Json, &value),
        Err(_) if body.is_empty() => Ok(()),
        Err(_) => print(body.trim_end()),
    }
}
