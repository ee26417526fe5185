//! Looking at the small objects of a vault, and making anew what rotted of them.
//!
//! Beside writers: what is open is left to its writer, and names are given once. Never beside a
//! collection of the same vault: one care is under way per target.

use stillpoint_model::care::{BadObject, Mending};
use stillpoint_model::task::{TaskOutcome, TaskSpec};

use super::{bad_object, count};
use crate::failure::{misdirected, of_vault};
use crate::progress::Watch;
use crate::storage::Storage;
use crate::tasks::TaskResult;

/// Looks, mends, and says what of it is damaged still.
pub fn mend(storage: &Storage, spec: &TaskSpec, watch: &Watch) -> TaskResult {
    let TaskSpec::VaultMend { vault: at } = *spec else {
        return Err(misdirected(spec));
    };
    // A vault that was never made holds nothing.
    let Some(vault) = storage.vault_if_there(at)? else {
        return Ok(outcome(Mending::default()));
    };
    let looked = vault.check_small_objects(watch);
    let report = looked.map_err(|error| of_vault(&error))?;
    let objects = count(report.objects);
    if report.is_sound() {
        return Ok(outcome(Mending {
            objects,
            ..Mending::default()
        }));
    }
    // Without these nobody opens the vault any more.
    let mut done: Vec<_> = storage.mend_keys(at, &vault)?.into_iter().collect();
    let rebuilt = vault.rebuild(&report, watch);
    done.extend(rebuilt.map_err(|error| of_vault(&error))?);
    let (mended, left): (Vec<_>, Vec<_>) = report
        .problems
        .into_iter()
        .partition(|problem| done.contains(&problem.object));
    let all =
        |problems: Vec<_>| -> Vec<BadObject> { problems.into_iter().map(bad_object).collect() };
    Ok(outcome(Mending {
        objects,
        mended: all(mended),
        left: all(left),
    }))
}

const fn outcome(mending: Mending) -> TaskOutcome {
    TaskOutcome::Mended { mending }
}
