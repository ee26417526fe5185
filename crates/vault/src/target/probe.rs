//! Finds out whether a target keeps the promises of [`Target`] before anything is entrusted to it.
//!
//! Documentation is not asked, the target is: servers that answer 200 to a conditional create and
//! ignore the condition are common, and a vault on one would lose data without a word. So are servers
//! that accept a lock and delete what is locked.

use std::sync::Barrier;
use std::time::Duration;

use stillpoint_model::id::VaultId;
use stillpoint_model::{ByteRange, Env, ErrorKind};

use super::{ListEntry, ObjectLock, ObjectName, Target, TargetError, list_each};
use crate::Error;

/// How many threads race for one name.
const RACERS: usize = 16;
/// How many objects the listings are tried on, and in pages of how many.
const LISTED: usize = 5;
const PAGE: usize = 2;
/// How long the racers' objects are: more than a server keeps in one packet.
const OBJECT_LEN: usize = 64 << 10;

/// How long an object is locked on trial. A clock that is off by more fails the trial.
const LOCKED_FOR: Duration = Duration::from_secs(60);
/// The last part of the name of an object that was locked on trial. It stays until its time is over and
/// another trial takes it away.
const LOCKED: &str = "locked";

/// What a target is like, beyond what every one must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fitness {
    /// Whether its objects can be locked.
    pub object_lock: ObjectLock,
    /// Whether it turns down a body that was altered on its way; none where nothing lies between.
    /// A vault does not need it, because every backup is read back before it counts.
    pub refuses_altered_bodies: Option<bool>,
}

/// Tries a target under the prefix `probe/` and cleans up after itself.
///
/// `UnfitTarget` says what it cannot do, in words for an operator.
pub fn probe(target: &dyn Target, env: &dyn Env) -> Result<Fitness, Error> {
    let ground = Ground::new(target, env);
    if target.locks() {
        ground.can_lock()?;
    }
    let verdict = ground.attempt().map_err(|error| ground.unfit(error));
    let cleaned = ground.clean();
    let fitness = verdict?;
    cleaned?;
    if target.locks() {
        ground.locks(env).map_err(|error| ground.unfit(error))?;
    }
    Ok(fitness)
}

/// Tries, under the prefix `probe/`, whether a target that was asked to lock objects enforces it. What
/// it locks stays for a minute.
///
/// `UnfitTarget` says what it does instead, in words for an operator.
pub fn probe_locks(target: &dyn Target, env: &dyn Env) -> Result<(), Error> {
    let ground = Ground::new(target, env);
    ground.can_lock()?;
    ground.locks(env).map_err(|error| ground.unfit(error))
}

/// Where the trials are made.
struct Ground<'a> {
    target: &'a dyn Target,
    prefix: String,
}

impl<'a> Ground<'a> {
    fn new(target: &'a dyn Target, env: &dyn Env) -> Self {
        let prefix = format!("probe/{}/", VaultId::generate(env));
        Self { target, prefix }
    }
}

impl Ground<'_> {
    fn name(&self, last: &str) -> ObjectName {
        ObjectName::made(format!("{}{last}", self.prefix))
    }

    fn attempt(&self) -> Result<Fitness, Error> {
        let name = self.name("first");
        self.target.put_new(&name, &contents(0))?;
        self.reads_back(&name, &contents(0))?;
        let name = self.name("race");
        let winner = self.race(&name)?;
        self.reads_back(&name, &contents(winner))?;
        self.never_replaces(&name, &contents(winner))?;
        self.lists()?;
        self.deletes(&name)?;
        let altered = self.name("altered");
        Ok(Fitness {
            object_lock: self.target.object_lock()?,
            refuses_altered_bodies: self.target.refuses_altered_bodies(&altered)?,
        })
    }

    /// Exactly one of several simultaneous creates may win; gives its number.
    fn race(&self, name: &ObjectName) -> Result<usize, Error> {
        let start = Barrier::new(RACERS);
        let results: Vec<_> = std::thread::scope(|scope| {
            let run = |racer| {
                let start = &start;
                scope.spawn(move || {
                    let bytes = contents(racer);
                    start.wait();
                    self.target.put_new(name, &bytes)
                })
            };
            let racers: Vec<_> = (0..RACERS).map(run).collect();
            racers.into_iter().map(|racer| racer.join()).collect()
        });
        let mut winners = vec![];
        for (racer, result) in results.into_iter().enumerate() {
            match result {
                Ok(Ok(())) => winners.push(racer),
                Ok(Err(error)) if error.kind() == ErrorKind::Conflict => {}
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(Error::Internal("a thread of the probe died")),
            }
        }
        match winners[..] {
            [winner] => Ok(winner),
            [] => Err(Error::UnfitTarget(
                "when several create one object at once, none of them succeeds",
            )),
            _ => Err(Error::UnfitTarget(
                "when several create one object at once, more than one is told that it did: the \
                 server ignores the condition of a create (If-None-Match) or checks it too late, \
                 so that backups could overwrite each other",
            )),
        }
    }

    /// What the winner put is there at once, whole and in part.
    fn reads_back(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), Error> {
        let len = bytes.len() as u64;
        let read = |range: ByteRange| match self.target.get(name, range) {
            Ok(found) => Ok(Some(found)),
            Err(error) if is_no_answer(&error) => Ok(None),
            Err(error) => Err(Error::from(error)),
        };
        if read(ByteRange::new(1, 3))?.as_deref() != Some(&bytes[1..4]) {
            return Err(Error::UnfitTarget(
                "a part of an object does not read back: the server ignores ranges or misreads them",
            ));
        }
        if read(ByteRange::new(0, len))?.as_deref() != Some(bytes) {
            return Err(Error::UnfitTarget(
                "an object does not read back as it was written a moment ago",
            ));
        }
        match self.target.head(name)?.get() == len {
            true => Ok(()),
            false => Err(Error::UnfitTarget("it tells the wrong length of an object")),
        }
    }

    /// A create of what is there is refused, and what is there stays.
    fn never_replaces(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), Error> {
        match self.target.put_new(name, &contents(RACERS)) {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => return Err(error.into()),
            Ok(()) => {
                return Err(Error::UnfitTarget(
                    "a second create replaced the first: the server ignores the condition of a \
                     create (If-None-Match)",
                ));
            }
        }
        let there = self.target.get(name, ByteRange::new(0, bytes.len() as u64));
        match there? == bytes {
            true => Ok(()),
            false => Err(Error::UnfitTarget(
                "a create that was refused replaced the object all the same",
            )),
        }
    }

    /// Listings name what was just written, and all of it, in order and in pages.
    fn lists(&self) -> Result<(), Error> {
        let prefix = format!("{}list/", self.prefix);
        let names: Vec<_> = (0..LISTED)
            .map(|number| ObjectName::made(format!("{prefix}{number}")))
            .collect();
        for (len, name) in names.iter().enumerate() {
            self.target.put_new(name, &vec![b'x'; len])?;
        }
        let wanted: Vec<_> = (0..).zip(names).map(|(len, name)| (name, len)).collect();
        for page in [LISTED * PAGE, PAGE] {
            match self.listing(&prefix, page) {
                Ok(found) if found == wanted => {}
                Err(Error::Target(error)) if is_no_answer(&error) => return Err(unlisted()),
                Ok(_) => return Err(unlisted()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn listing(&self, prefix: &str, page: usize) -> Result<Vec<(ObjectName, u64)>, Error> {
        let mut found: Vec<(ObjectName, u64)> = vec![];
        loop {
            let after = found.last().map(|(name, _)| name.to_string());
            let listed = self.target.list(prefix, after.as_deref(), page)?;
            let entry = |entry: ListEntry| (entry.name, entry.len.get());
            let more = listed.more && !listed.entries.is_empty();
            found.extend(listed.entries.into_iter().map(entry));
            if !more {
                return Ok(found);
            }
        }
    }

    /// What was deleted is gone at once, and its name is free again.
    fn deletes(&self, name: &ObjectName) -> Result<(), Error> {
        self.target.delete(name)?;
        match self.target.head(name) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Err(Error::UnfitTarget("a deleted object is still there")),
        }
        let page = self.target.list(&self.prefix, None, LISTED * PAGE)?;
        match page.entries.iter().any(|entry| entry.name == *name) {
            true => Err(Error::UnfitTarget("a deleted object is still listed")),
            false => Ok(()),
        }
    }

    /// What a server that cannot do what locks rest on says, in words for an operator.
    fn unfit(&self, error: Error) -> Error {
        match error {
            Error::Target(error)
                if self.target.locks() && error.kind() == ErrorKind::Unsupported =>
            {
                tracing::warn!(%error, "a backup target cannot lock objects");
                Error::UnfitTarget(
                    "the bucket keeps no versions, or the server lists them in no known way. Choose \
                     another one, or take `object_lock` out of the settings",
                )
            }
            other => other,
        }
    }

    /// What the target says of itself.
    fn can_lock(&self) -> Result<(), Error> {
        match self.target.object_lock()? {
            ObjectLock::Available | ObjectLock::Unknown => Ok(()),
            ObjectLock::Absent => Err(Error::UnfitTarget(
                "objects cannot be locked in this bucket: it has no Object Lock. Make one with \
                     Object Lock, or take `object_lock` out of the settings",
            )),
            ObjectLock::Always => Err(Error::UnfitTarget(
                "the bucket has a default retention, so that nothing could be tidied in it. Take \
                     the default away: what is to stay is locked one by one",
            )),
        }
    }

    /// A locked object refuses to go and stays as it is.
    fn locks(&self, env: &dyn Env) -> Result<(), Error> {
        self.sweep()?;
        let (name, bytes) = (self.name(LOCKED), contents(0));
        self.target.put_new(&name, &bytes)?;
        let until = env.now().saturating_add(LOCKED_FOR);
        match self.target.lock_until(&name, until) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                if let Err(error) = self.target.delete(&name) {
                    tracing::debug!(%name, %error, "what was tried to be locked stays");
                }
                return Err(Error::UnfitTarget(
                    "the server does not lock objects, whatever it says about the bucket. Choose \
                     another one, or take `object_lock` out of the settings",
                ));
            }
            Err(error) => return Err(error.into()),
        }
        match self.target.delete(&name) {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => return Err(error.into()),
            Ok(()) => {
                return Err(Error::UnfitTarget(
                    "the server deleted a locked object: it accepts locks and ignores them. Choose \
                     another one, or take `object_lock` out of the settings",
                ));
            }
        }
        self.never_replaces(&name, &bytes)?;
        self.reads_back(&name, &bytes)
    }

    /// Removes what earlier trials locked, where its time is over.
    fn sweep(&self) -> Result<(), Error> {
        let mut over = vec![];
        list_each(self.target, "probe/", |entry| {
            if entry.name.as_str().ends_with(LOCKED) {
                over.push(entry.name);
            }
            Ok::<_, TargetError>(())
        })?;
        for name in over {
            match self.target.delete(&name) {
                Err(error) if error.kind() != ErrorKind::Conflict => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes what the trials left, whether a listing names it or not.
    fn clean(&self) -> Result<(), TargetError> {
        let single = ["first", "race", "altered"].map(|last| self.name(last));
        let listed = (0..LISTED).map(|number| self.name(&format!("list/{number}")));
        for name in single.into_iter().chain(listed) {
            self.target.delete(&name)?;
        }
        Ok(())
    }
}

/// Whether an error says something about what a target can do, and not about this moment.
fn is_no_answer(error: &TargetError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unsupported | ErrorKind::Corrupt | ErrorKind::NotFound
    )
}

fn unlisted() -> Error {
    Error::UnfitTarget(
        "a listing does not show what was just written, or not all of it in the order of names",
    )
}

/// An object that says whose it is.
fn contents(racer: usize) -> Vec<u8> {
    let mut bytes = format!("probe of racer {racer} ").into_bytes();
    bytes.resize(OBJECT_LEN, b'.');
    bytes
}
