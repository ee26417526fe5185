//! Finds out whether a target keeps the promises of [`Target`] before anything is entrusted to it.

use std::sync::atomic::{AtomicUsize, Ordering};

use stillpoint_model::id::VaultId;
use stillpoint_model::{ByteRange, Env, ErrorKind};

use super::{ObjectName, Target};
use crate::Error;

/// How many threads race for one name.
const RACERS: usize = 8;

/// Tries a target under the prefix `probe/` and cleans up after itself.
///
/// `UnfitTarget` says what it cannot do. A look-alike that ignores the condition of a
/// conditional create is found here, not after it has replaced an object.
pub fn probe(target: &dyn Target, env: &dyn Env) -> Result<(), Error> {
    let prefix = format!("probe/{}/", VaultId::generate(env));
    let name = ObjectName::made(format!("{prefix}race"));
    let verdict = attempt(target, &prefix, &name);
    let cleaned = target.delete(&name);
    verdict?;
    cleaned?;
    match target.head(&name) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err(Error::UnfitTarget("a deleted object is still there")),
    }
}

fn attempt(target: &dyn Target, prefix: &str, name: &ObjectName) -> Result<(), Error> {
    let winner = race(target, name)?;
    let bytes = contents(winner);
    let len = bytes.len() as u64;
    if target.get(name, ByteRange::new(0, len))? != bytes {
        return Err(Error::UnfitTarget(
            "an object does not read back as it was written",
        ));
    }
    if target.get(name, ByteRange::new(1, 3))? != bytes[1..4] {
        return Err(Error::UnfitTarget("a part of an object does not read back"));
    }
    let again = target.put_new(name, &contents(RACERS));
    match again {
        Err(error) if error.kind() == ErrorKind::Conflict => {}
        Err(error) => return Err(error.into()),
        Ok(()) => return Err(Error::UnfitTarget("a second create replaced the first")),
    }
    let page = target.list(prefix, None, 10)?;
    let [entry] = page.entries.as_slice() else {
        return Err(Error::UnfitTarget(
            "a listing does not show what was just written",
        ));
    };
    if entry.name != *name || entry.len.get() != len {
        return Err(Error::UnfitTarget(
            "a listing shows the wrong name or length",
        ));
    }
    Ok(())
}

/// Exactly one of several simultaneous creates may win; gives its number.
fn race(target: &dyn Target, name: &ObjectName) -> Result<usize, Error> {
    let wins = AtomicUsize::new(0);
    let results: Vec<_> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..RACERS)
            .map(|racer| {
                let wins = &wins;
                scope.spawn(move || {
                    let result = target.put_new(name, &contents(racer));
                    if result.is_ok() {
                        wins.store(racer, Ordering::SeqCst);
                    }
                    result
                })
            })
            .collect();
        racers
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect()
    });
    let mut won = 0;
    for result in results {
        match result {
            Ok(Ok(())) => won += 1,
            Ok(Err(error)) if error.kind() == ErrorKind::Conflict => {}
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(Error::Internal("a thread of the probe died")),
        }
    }
    match won {
        1 => Ok(wins.load(Ordering::SeqCst)),
        0 => Err(Error::UnfitTarget("of several creates none succeeded")),
        _ => Err(Error::UnfitTarget("several creates of one name succeeded")),
    }
}

fn contents(racer: usize) -> Vec<u8> {
    format!("probe of racer {racer}").into_bytes()
}
