//! `stillpoint auth`.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use anstream::eprintln;
use clap::{Args, Subcommand};
use stillpoint_client::{Client, Credential};
use stillpoint_env::SystemEnv;
use stillpoint_model::id::TokenId;
use stillpoint_model::{Env as _, Timestamp};
use stillpoint_wire::token::{TokenCreate, TokenCreated};

use super::change::parse_time;
use crate::credentials::{self, Saved};
use crate::failure::{Failure, Result, print};
use crate::output::Format;
use crate::remote::{Remote, RemoteArgs, explain};
use crate::{output, prompt};

/// The longest password that is read from stdin.
const MAX_PASSWORD_BYTES: u64 = 4096;

/// Sign in, sign out, and API tokens
#[derive(Args, Debug)]
pub struct Command {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Sign in with a login and a password, and keep a token for later commands
    Login {
        /// The login
        #[arg(long)]
        login: Option<String>,
        /// Read the password from stdin
        #[arg(long)]
        password_stdin: bool,
    },
    /// End the kept token and forget it
    Logout,
    /// Say who is signed in, and where
    Status,
    /// API tokens
    #[command(subcommand)]
    Token(TokenVerb),
}

#[derive(Debug, Subcommand)]
enum TokenVerb {
    /// Make a token; its secret is printed this once
    Create {
        /// What it is for
        name: String,
        /// It stops working after this time (24h, 2160h); never when absent
        #[arg(long, value_name = "TIME", value_parser = parse_time)]
        expires: Option<Duration>,
    },
    /// List tokens
    List,
    /// End a token
    Revoke {
        /// The token, by id
        token: TokenId,
    },
}

impl Command {
    /// Does what the verb says.
    pub async fn run(self) -> Result<()> {
        match self.verb {
            Verb::Login {
                login,
                password_stdin,
            } => self::login(&self.remote, login, password_stdin).await,
            Verb::Logout => logout(&self.remote).await,
            Verb::Status => {
                let remote = self.remote.connect()?;
                let me = remote.check(remote.client.whoami().await)?;
                eprintln!("Signed in to {}", self.remote.credentials()?.server);
                output::one(remote.format, &me)
            }
            Verb::Token(verb) => token(&self.remote.connect()?, verb).await,
        }
    }
}

async fn login(args: &RemoteArgs, login: Option<String>, password_stdin: bool) -> Result<()> {
    let server = args.credentials()?.server;
    let client = Client::new(&server, &Credential::None)
        .map_err(explain)?
        .with_keys(Arc::new(SystemEnv::new()));
    let login = match login {
        Some(login) => login,
        None => prompt::line("Login", "--login")?,
    };
    let password = match password_stdin {
        true => password_from_stdin()?,
        false => prompt::secret("Password", "--password-stdin")?,
    };
    let signed_in = client.sign_in(&login, &password).await.map_err(explain)?;
    // The session only serves to make a token, and ends at once.
    let session = client
        .with_credential(&signed_in.credential)
        .map_err(explain)?;
    let request = TokenCreate {
        name: token_name(),
        expires_at: None,
    };
    let created = session.token_create(&request).await.map_err(explain);
    let _ = session.sign_out().await;
    let saved = Saved {
        server: Some(server.clone()),
        token: Some(created?.secret),
    };
    let path = credentials::save(&saved)?;
    eprintln!(
        "Signed in to {server} as {login}. The token is kept in {}.",
        path.display()
    );
    Ok(())
}

/// `cli on HOST`, so that its owner knows where a token is kept.
fn token_name() -> String {
    let host = rustix::system::uname();
    format!("cli on {}", host.nodename().to_string_lossy())
}

fn password_from_stdin() -> Result<String> {
    let mut password = String::new();
    std::io::stdin()
        .take(MAX_PASSWORD_BYTES)
        .read_to_string(&mut password)
        .map_err(|error| Failure::file("read the password", &error))?;
    Ok(password.trim_end_matches(['\r', '\n']).to_owned())
}

async fn logout(args: &RemoteArgs) -> Result<()> {
    let credentials = args.credentials()?;
    if credentials.token_is_saved {
        end_kept_token(&args.connect()?).await;
    }
    match credentials::forget()? {
        true => eprintln!("Signed out of {}.", credentials.server),
        false => eprintln!("You were not signed in."),
    }
    Ok(())
}

/// Ends the kept token on the server too. Logging out works without the server; a token that
/// could not be ended there is named.
async fn end_kept_token(remote: &Remote) {
    let tokens = remote
        .all(async |query| remote.client.token_list(&query).await)
        .await;
    let kept = tokens.ok().and_then(|tokens| {
        tokens.into_iter().find(|t| {
            remote
                .token()
                .is_some_and(|secret| secret.starts_with(&t.prefix))
        })
    });
    let ended = match &kept {
        Some(token) => remote.client.token_revoke(token.id).await.is_ok(),
        None => false,
    };
    if !ended {
        eprintln!(
            "The token could not be ended on the server; it stays valid until it is revoked."
        );
    }
}

async fn token(remote: &Remote, verb: TokenVerb) -> Result<()> {
    let client = &remote.client;
    match verb {
        TokenVerb::Create { name, expires } => {
            let expires_at = expires.map(|time| expiry(&remote.env, time));
            let request = TokenCreate { name, expires_at };
            let created = client.token_create(&request).await;
            show_created(remote.format, &remote.check(created)?)
        }
        TokenVerb::List => {
            let tokens = remote
                .all(async |query| client.token_list(&query).await)
                .await?;
            output::list(remote.format, &tokens, "No tokens.")
        }
        TokenVerb::Revoke { token } => {
            remote.check(client.token_revoke(token).await)?;
            eprintln!("The token is ended.");
            Ok(())
        }
    }
}

fn expiry(env: &SystemEnv, after: Duration) -> Timestamp {
    env.now().saturating_add(after)
}

/// People and pipes get the bare secret; it is what they came for.
fn show_created(format: Format, created: &TokenCreated) -> Result<()> {
    match format {
        Format::Json | Format::Yaml => output::value(format, created),
        _ => {
            eprintln!("Keep it safe: it is shown this once.");
            print(&created.secret)
        }
    }
}
