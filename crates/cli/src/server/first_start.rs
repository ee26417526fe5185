//! What the first start makes: the root key, and the passwords of the first two users.
//!
//! Passwords are written down before the database exists, so that a start which is cut off at
//! any point finds them again, and no user is ever made whose password nobody knows. Once the
//! database exists, the file is only a note: its owner may delete it.

use std::fs;
use std::path::Path;

use anstream::eprintln;
use serde::{Deserialize, Serialize};
use stillpoint_model::Env;
use stillpoint_vault::RootKey;

use super::data_dir::DataDir;
use crate::config;
use crate::failure::{Exit, Failure, Result};
use crate::private_file::write_once;

/// The first two users, as they are written down.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FirstUsers {
    /// Runs the installation.
    pub administrator: FirstUser,
    /// Uses it.
    pub tenant: FirstUser,
}

/// One user.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FirstUser {
    /// What they sign in with.
    pub login: String,
    /// Their password, made by chance.
    pub password: String,
}

const NOTE: &str = "\
# The first logins, made by the first start. Keep them somewhere safe and delete this file.
";

/// The first users: those written down, or new ones, written down now.
pub fn first_users(data: &DataDir, env: &dyn Env) -> Result<FirstUsers> {
    let path = data.credentials();
    if path.exists() {
        return config::read(&path);
    }
    let users = FirstUsers {
        administrator: FirstUser {
            login: "admin".into(),
            password: password(env),
        },
        tenant: FirstUser {
            login: "demo".into(),
            password: password(env),
        },
    };
    // With a database, the users exist and the file was deleted on purpose: theirs stay.
    if !data.database().exists() {
        let text = toml::to_string(&users).map_err(|error| {
            Failure::new(
                Exit::Other,
                "internal",
                format!("cannot write the logins: {error}"),
            )
        })?;
        write_once(&path, format!("{NOTE}\n{text}").as_bytes())?;
        eprintln!("The first logins are in {}.", path.display());
    }
    Ok(users)
}

/// The root key: the one that is there, or a new one. Never a new one over old backups.
pub fn root_key(data: &DataDir, env: &dyn Env) -> Result<RootKey> {
    let path = data.root_key();
    if !path.exists() {
        refuse_backups_without_key(data, &path)?;
        write_once(&path, RootKey::generate(env).to_text().as_bytes())?;
        eprintln!(
            "The root key is {}. Keep a copy of it somewhere else:\n\
             without it no backup can be restored, by anybody.",
            path.display()
        );
    }
    RootKey::load(&path).map_err(|error| {
        Failure::new(
            Exit::Other,
            "root_key",
            format!("{}: {error}", path.display()),
        )
        .hint("put the copy that you kept in its place")
    })
}

fn refuse_backups_without_key(data: &DataDir, key: &Path) -> Result<()> {
    let elsewhere = fs::read_to_string(data.target_note()).unwrap_or_default();
    if ["s3 ", "nfs ", "local "]
        .iter()
        .any(|kind| elsewhere.starts_with(kind))
    {
        let text = format!(
            "{} is missing, and the backups in `{}` need it",
            key.display(),
            elsewhere.trim()
        );
        return Err(Failure::new(Exit::Other, "root_key", text)
            .hint("put the copy that you kept in its place"));
    }
    let target = data.target();
    let mut entries = fs::read_dir(&target)
        .map_err(|error| Failure::file(format_args!("list {}", target.display()), &error))?;
    if entries.next().is_none() {
        return Ok(());
    }
    let text = format!(
        "{} is missing, and there are backups that need it",
        key.display()
    );
    Err(Failure::new(Exit::Other, "root_key", text)
        .hint("put the copy that you kept in its place")
        .hint(format!(
            "to begin anew without those backups, move {} away",
            target.display()
        )))
}

/// Twenty letters and digits in groups, none that is mistaken for another: 100 bits.
fn password(env: &dyn Env) -> String {
    const SIGNS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";
    let mut random = [0; 20];
    env.fill_random(&mut random);
    let signs: Vec<char> = random
        .iter()
        .map(|byte| char::from(SIGNS[usize::from(byte % 32)]))
        .collect();
    signs
        .chunks(5)
        .map(String::from_iter)
        .collect::<Vec<_>>()
        .join("-")
}

#[cfg(test)]
mod tests {
    use stillpoint_env::SimEnv;

    use super::*;

    fn data() -> (tempfile::TempDir, DataDir) {
        let folder = tempfile::tempdir().expect("a folder");
        let data = DataDir::open(&folder.path().join("data")).expect("a data folder");
        (folder, data)
    }

    #[test]
    fn a_start_that_was_cut_off_finds_its_passwords_again() {
        let (_folder, data) = data();
        let env = SimEnv::new(1);
        let first = first_users(&data, &env).expect("users");
        let again = first_users(&data, &env).expect("users");
        assert_eq!(first.tenant.password, again.tenant.password);
        assert_ne!(first.tenant.password, first.administrator.password);
    }

    #[test]
    fn a_note_that_was_deleted_is_not_written_again_with_wrong_passwords() {
        let (_folder, data) = data();
        fs::write(data.database(), "").expect("a database");
        first_users(&data, &SimEnv::new(1)).expect("users");
        assert!(!data.credentials().exists());
    }

    #[test]
    fn a_lost_key_is_not_replaced_while_there_are_backups() {
        let (_folder, data) = data();
        let env = SimEnv::new(1);
        let key = root_key(&data, &env).expect("a key").id();
        assert_eq!(root_key(&data, &env).expect("the key").id(), key);
        fs::create_dir(data.target().join("vault")).expect("a backup");
        fs::remove_file(data.root_key()).expect("lost");
        assert!(root_key(&data, &env).is_err());
    }
}
