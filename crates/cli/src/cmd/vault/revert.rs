//! `stillpoint vault revert`: after somebody had the credentials of a bucket with Object Lock.

use std::sync::Arc;

use anstream::eprintln;
use clap::Args;
use stillpoint_vault::Vault;

use super::super::long_work;
use super::{PlaceArgs, explain};
use crate::failure::{Exit, Failure, Result, print};

/// Take back what somebody did to a bucket with Object Lock
///
/// Whoever has the credentials of a bucket can hide every object in it and put something else over it.
/// What was locked is there all the same. For each name this finds the version that the keys of the
/// vault prove to be what was put, makes it the one that everybody reads, and removes the others as far
/// as their locks let it. What was planted goes. The names are printed.
///
/// What was not locked may be gone for good: see `vault check` afterwards, and `vault repair`. Change the
/// credentials of the bucket first, and stop the server.
#[derive(Args, Debug)]
pub struct Revert {
    #[command(flatten)]
    place: PlaceArgs,
    /// Only say what would be taken back
    #[arg(long)]
    dry_run: bool,
}

impl Revert {
    /// Does it, one vault after the other.
    pub async fn run(self) -> Result<()> {
        let opened = self.place.open()?;
        if !opened.target.locks() {
            let text = "nothing is locked in this target, so that nothing can be taken back";
            return Err(Failure::usage(text)
                .hint("say how a bucket with Object Lock is locked: --s3-object-lock MODE"));
        }
        let mut lost = 0;
        for found in opened.vaults()? {
            // Those of a rescue are for reading only.
            let (target, env) = (Arc::clone(&opened.target), Arc::clone(&opened.env));
            let vault = Vault::open(target, found.id(), &opened.key, env);
            let vault = vault.map_err(|error| explain(&error))?;
            let dry_run = self.dry_run;
            let reverted = long_work::run("revert", move |monitor| vault.revert(dry_run, monitor));
            let reverted = reverted.await?.map_err(|error| explain(&error))?;
            for (name, why) in &reverted.lost {
                eprintln!("{name}: {why}");
            }
            lost += reverted.lost.len();
            let done = reverted.restored.iter().chain(&reverted.removed);
            done.into_iter().try_for_each(print)?;
        }
        match lost {
            0 => Ok(()),
            lost => {
                let text = format!("{lost} objects could not be taken back");
                Err(Failure::new(Exit::Other, "integrity_error", text)
                    .hint("see which backups need them: stillpoint vault check")
                    .hint("make damaged backups whole from copies: stillpoint vault repair"))
            }
        }
    }
}
