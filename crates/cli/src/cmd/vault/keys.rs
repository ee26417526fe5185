//! `stillpoint vault keys`: another root key, a copy of the wrapped keys, and their end.

use std::fs;
use std::path::{Path, PathBuf};

use anstream::eprintln;
use clap::Subcommand;
use stillpoint_env::SystemEnv;
use stillpoint_model::id::{AccountId, VaultId};
use stillpoint_vault::{RootKey, Vault, keys, rescue};

use super::{Opened, PlaceArgs, explain};
use crate::failure::{Exit, Failure, Result, print};
use crate::private_file::write_once;
use crate::prompt::confirm_name;

/// Change, keep or destroy the keys in a target
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Wrap the keys under a new root key, so that the old one opens nothing any more
    ///
    /// No data is read or written. Stop the server before, and put the new key in the place of its
    /// root.key before it starts again. When it was interrupted, run it again.
    Rotate {
        #[command(flatten)]
        place: PlaceArgs,
        /// The new root key; made when there is no such file
        #[arg(long, value_name = "FILE")]
        new_key: PathBuf,
    },
    /// Write a copy of the wrapped keys, to keep apart from the target
    Export {
        #[command(flatten)]
        place: PlaceArgs,
        /// The file to make; it must not exist
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Put keys that the target lost back from a copy
    Import {
        #[command(flatten)]
        place: PlaceArgs,
        /// The copy
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
    },
    /// Destroy the keys of an account, so that none of its backups can ever be read again
    Destroy {
        #[command(flatten)]
        place: PlaceArgs,
        /// The account, as `vault list -o wide` shows it
        account: AccountId,
        /// The account again, instead of being asked
        #[arg(long, value_name = "ACCOUNT")]
        yes: Option<String>,
    },
}

impl Keys {
    /// Does what the verb says.
    pub fn run(self) -> Result<()> {
        match self {
            Self::Rotate { place, new_key } => rotate(place, &new_key),
            Self::Export { place, to } => export(place, &to),
            Self::Import { place, from } => import(place, &from),
            Self::Destroy {
                place,
                account,
                yes,
            } => destroy(place, account, yes.as_deref()),
        }
    }
}

fn rotate(place: PlaceArgs, new_key: &Path) -> Result<()> {
    let Opened {
        target, key: old, ..
    } = &place.open()?;
    let env = SystemEnv::new();
    let new = if new_key.exists() {
        RootKey::load(new_key)
    } else {
        RootKey::create(new_key, &env)
    };
    let new = new.map_err(|error| explain(&error))?;
    let (mut rotated, mut locked) = (0, 0);
    for vault in rescue::vault_ids(&**target).map_err(|error| explain(&error))? {
        let rotation = keys::rotate(&**target, vault, old, &new, &env);
        let rotation = rotation.map_err(|error| explain(&error))?;
        rotated += usize::from(rotation.wrapped || rotation.removed > 0);
        locked += usize::from(rotation.locked > 0);
    }
    if locked > 0 {
        eprintln!(
            "The old keys of {} are locked in the target: root key {} opens them, too, until their \
             locks are over and this was done again.",
            count(locked, "vault"),
            old.id()
        );
    }
    eprintln!(
        "{} moved from root key {} to {}.",
        count(rotated, "vault"),
        old.id(),
        new.id()
    );
    print(new_key.display())
}

fn export(place: PlaceArgs, to: &Path) -> Result<()> {
    let opened = place.open()?;
    let vaults: Vec<VaultId> = opened.vaults()?.iter().map(Vault::id).collect();
    let copy = keys::export(&*opened.target, &vaults, &opened.key);
    let copy = copy.map_err(|error| explain(&error))?;
    if !write_once(to, copy.as_bytes())? {
        let text = format!("{} exists; it is left as it is", to.display());
        return Err(Failure::usage(text).hint("name a file that does not exist with --to"));
    }
    eprintln!(
        "The keys of {}, of use only with root key {}. Keep the two apart.",
        count(vaults.len(), "vault"),
        opened.key.id()
    );
    print(to.display())
}

fn import(place: PlaceArgs, from: &Path) -> Result<()> {
    let failed = |error| Failure::file(format_args!("read {}", from.display()), &error);
    if fs::metadata(from).map_err(failed)?.len() > keys::MAX_COPY_LEN {
        return Err(Failure::usage(format!(
            "{} is too long for a copy of keys",
            from.display()
        )));
    }
    let copy = fs::read_to_string(from).map_err(failed)?;
    let Opened { target, key, .. } = &place.open()?;
    let put = keys::import(&**target, &copy, key).map_err(|error| explain(&error))?;
    eprintln!("Put back the keys of {}.", count(put.len(), "vault"));
    put.iter().try_for_each(print)
}

fn destroy(place: PlaceArgs, account: AccountId, yes: Option<&str>) -> Result<()> {
    let opened = place.open()?;
    let vaults = opened.vaults()?;
    let theirs: Vec<_> = vaults
        .iter()
        .filter(|vault| vault.account_id() == account)
        .collect();
    if theirs.is_empty() {
        let text = format!("no vault in this target is of account {account}");
        let failure = Failure::new(Exit::NotFound, "not_found", text);
        return Err(failure.hint("see whose backups are there: stillpoint vault list -o wide"));
    }
    let mut backups = 0;
    for vault in &theirs {
        let found = vault.list_backups(None).map_err(|error| explain(&error))?;
        backups += found.len();
    }
    let loss = format!(
        "{} of account {account} can never be read again.",
        count(backups, "backup")
    );
    confirm_name(&account.to_string(), yes, &loss)?;
    for vault in theirs {
        keys::destroy(&*opened.target, vault.id()).map_err(|error| explain(&error))?;
    }
    eprintln!(
        "{loss} Copies of the keys, and old versions that the target keeps, are yours to remove."
    );
    Ok(())
}

fn count(number: usize, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}
