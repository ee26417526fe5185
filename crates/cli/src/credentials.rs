//! Who this person is, and to which server: options, then `STILLPOINT_SERVER` and
//! `STILLPOINT_TOKEN`, then what `auth login` saved.
//!
//! ```text
//! ~/.config/stillpoint/config.toml (0600)
//!   server = "https://stillpoint.example.net"
//!   token = "stp_…"
//! ```
//!
//! **Invariant:** a saved token goes to the server it was made by and to no other.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config;
use crate::failure::{Failure, Result};

/// Where an embedded server listens when nobody says otherwise.
const DEFAULT_SERVER: &str = "http://127.0.0.1:8420";

/// What `auth login` saves.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// The server's address.
    pub server: Option<String>,
    /// A token of that server.
    pub token: Option<String>,
}

/// Where to go, and as whom.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The server's address, without a slash at the end.
    pub server: String,
    /// The token, when there is one.
    pub token: Option<String>,
    /// Whether the token is the saved one.
    pub token_is_saved: bool,
}

impl Credentials {
    /// What was given, completed by what is saved.
    pub fn resolve(server: Option<&str>, token: Option<&str>, saved: &Saved) -> Self {
        let saved_server = saved.server.as_deref().map(without_slash);
        let server = server
            .map(without_slash)
            .or(saved_server)
            .unwrap_or(DEFAULT_SERVER);
        let saved_token = saved.token.clone().filter(|_| saved_server == Some(server));
        let token_is_saved = token.is_none() && saved_token.is_some();
        let token = token.map(str::to_owned).or(saved_token);
        Self {
            server: server.to_owned(),
            token,
            token_is_saved,
        }
    }
}

fn without_slash(server: &str) -> &str {
    server.trim_end_matches('/')
}

/// Where it is saved.
pub fn path() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CONFIG_HOME")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".config")));
    match base {
        Some(base) => Ok(base.join("stillpoint/config.toml")),
        None => Err(
            Failure::usage("there is no home folder to keep the login in")
                .hint("set STILLPOINT_SERVER and STILLPOINT_TOKEN instead"),
        ),
    }
}

/// What is saved; nothing when nobody logged in.
pub fn load() -> Result<Saved> {
    match path() {
        Ok(path) if path.exists() => config::read(&path),
        _ => Ok(Saved::default()),
    }
}

/// Saves a login, readable by its owner alone.
pub fn save(saved: &Saved) -> Result<PathBuf> {
    let path = path()?;
    let text = toml::to_string(saved).map_err(|error| {
        Failure::usage(format!("this login cannot be written as TOML: {error}"))
    })?;
    write_private(&path, &text)
        .map_err(|error| Failure::file(format_args!("write {}", path.display()), &error))?;
    Ok(path)
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    // Whole or not at all: a half-written token helps nobody.
    let temporary = path.with_extension("new");
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

/// Forgets the login. Answers whether there was one.
pub fn forget() -> Result<bool> {
    let path = path()?;
    match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::file(
            format_args!("remove {}", path.display()),
            &error,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> Saved {
        Saved {
            server: Some("https://a.example/".into()),
            token: Some("stp_a".into()),
        }
    }

    #[test]
    fn a_saved_token_goes_to_its_own_server() {
        let same = Credentials::resolve(Some("https://a.example"), None, &saved());
        assert_eq!(same.token.as_deref(), Some("stp_a"));
        let other = Credentials::resolve(Some("https://b.example"), None, &saved());
        assert_eq!(other.token, None);
    }

    #[test]
    fn what_is_given_comes_before_what_is_saved() {
        let given = Credentials::resolve(None, Some("stp_b"), &saved());
        assert_eq!(given.server, "https://a.example");
        assert_eq!(given.token.as_deref(), Some("stp_b"));
        assert!(!given.token_is_saved);
    }
}
