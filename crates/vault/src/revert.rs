//! Taking back what somebody did to the objects of a vault who had the target's credentials.
//!
//! Where objects are locked nothing of value can be deleted; it can be hidden, and something else can
//! be put above it. What is hidden is there all the same for everybody who asks a target that locks;
//! a part of a pack is read in one request and may be the other thing. Whatever was not locked may
//! have been exchanged for good.
//!
//! For each name with more than one version, the version stays that *proves to be ours*: the keys of
//! the vault open it under its name, whole. Of several it is the first, because it is the one that
//! counted when the second came. All others go, as far as their own locks let them; where one above
//! ours cannot go, ours is put anew above that. Nobody's word is taken for it, least of all that of
//! the newest.
//!
//! What is there for the first time is looked at where its name alone counts: a tombstone, a renewal or a
//! proof that the keys do not open was planted, or rotted, and goes.
//!
//! Sums are in the clear, so that of them the first stays that can be read. Nothing rests on them.
//!
//! Crash anywhere: what was put back stays so, and the next call goes on with what is left.

use std::sync::Mutex;

use stillpoint_model::ErrorKind;
use stillpoint_model::progress::Monitor;

use crate::check::Scanner;
use crate::crew::all_of;
use crate::fetch::HeaderCache;
use crate::format::epoch::MAX_EPOCH_OBJECT_LEN;
use crate::format::names::{IdBytes, Named};
use crate::format::object::{Class, Header};
use crate::format::pack::{MAX_PACK_LEN, PackId};
use crate::format::run::MAX_NOTE_OBJECT_LEN;
use crate::format::sums;
use crate::target::{Disturbed, ObjectName, TargetError, list_each};
use crate::{Error, Vault};

/// The longest version of an object that is no pack that is looked at.
const MAX_LEN: u64 = MAX_EPOCH_OBJECT_LEN;
/// How many names are looked at side by side: whoever put something there chose how long it is.
const WIDTH: usize = 2;
/// How many names are put in order between two looks at whether to stop.
const AT_ONCE: usize = 64;

/// What taking back came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reverted {
    /// Objects that are again what they were and nothing else.
    pub restored: Vec<ObjectName>,
    /// Tombstones, renewals and proofs that were planted, and are gone.
    pub removed: Vec<ObjectName>,
    /// Names under which nothing of ours is left, or below something that cannot be removed, and why.
    pub lost: Vec<(ObjectName, String)>,
}

impl Vault {
    /// Takes back what others put over the objects of this vault, or that they hid them. It reads every
    /// version of each such object, and no other.
    ///
    /// With `dry_run` it changes nothing and says what it would do.
    pub fn revert(&self, dry_run: bool, monitor: &dyn Monitor) -> Result<Reverted, Error> {
        self.require_collectable()?;
        let disturbed = self.target.disturbed(&self.names.prefix(""))?;
        let mut reverted = Reverted::default();
        for some in disturbed.chunks(AT_ONCE) {
            if monitor.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let done = all_of(self.width().min(WIDTH), some, |at| {
                self.revert_one(at, dry_run)
            })?;
            for (at, lost) in some.iter().zip(done) {
                match lost {
                    None => reverted.restored.push(at.name.clone()),
                    Some(why) => reverted.lost.push((at.name.clone(), why)),
                }
            }
        }
        self.remove_planted(dry_run, &mut reverted, monitor)?;
        Ok(reverted)
    }

    /// Removes what says something of a backup by its name, and is not ours.
    fn remove_planted(
        &self,
        dry_run: bool,
        reverted: &mut Reverted,
        monitor: &dyn Monitor,
    ) -> Result<(), Error> {
        let mut small = vec![];
        list_each(&*self.target, &self.names.prefix("volumes/"), |entry| {
            match self.names.parse(&entry.name) {
                Some(Named::Tombstone(_, backup)) => {
                    small.push((entry.name, Class::Tombstone, backup));
                }
                Some(Named::Renewal(_, backup)) => small.push((entry.name, Class::Renewal, backup)),
                Some(Named::Proof(_, backup)) => small.push((entry.name, Class::Proof, backup)),
                _ => {}
            }
            Ok::<_, Error>(())
        })?;
        for some in small.chunks(AT_ONCE) {
            if monitor.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let ours = all_of(self.width(), some, |(name, class, backup)| {
                let max = MAX_NOTE_OBJECT_LEN;
                match self.read_object(name, *class, backup.to_bytes(), 0, max) {
                    Err(error) if error.is_missing() => Ok(true),
                    Err(error) if error.is_damage() => Ok(false),
                    other => other.map(|_| true),
                }
            })?;
            for ((name, ..), _) in some.iter().zip(ours).filter(|(_, ours)| !ours) {
                match dry_run || self.delete_unlocked(name)? {
                    true => reverted.removed.push(name.clone()),
                    false => {
                        let why = "it is not ours, and it is locked".to_owned();
                        reverted.lost.push((name.clone(), why));
                    }
                }
            }
        }
        Ok(())
    }

    /// Puts one name in order; gives what is in the way.
    fn revert_one(&self, at: &Disturbed, dry_run: bool) -> Result<Option<String>, Error> {
        let Some(named) = self.names.parse(&at.name) else {
            return Ok(Some("its name is of no class".to_owned()));
        };
        let mut ours = None;
        for version in &at.versions {
            if self.proves(&at.name, version, named)? {
                ours = Some(version);
                break;
            }
        }
        let Some(version) = ours else {
            return Ok(Some("no version of it is what was put".to_owned()));
        };
        if dry_run {
            return Ok(None);
        }
        match self.target.keep_version(&at.name, version) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Conflict => {
                return Ok(Some("something older is locked under its name".to_owned()));
            }
            Err(error) => return Err(error.into()),
        }
        tracing::warn!(name = %at.name, "somebody put something over an object; it is back");
        if let Named::Pack(pack) = named {
            // It was damaged as long as the other one lay above it.
            self.target.delete(&self.names.mark(pack))?;
        }
        Ok(None)
    }

    /// Whether a version is what this vault wrote under a name.
    fn proves(&self, name: &ObjectName, version: &str, named: Named) -> Result<bool, Error> {
        let vault = self.id().to_bytes();
        let (class, id, seq) = match named {
            Named::Pack(pack) => return self.proves_pack(name, version, pack),
            Named::Keys(generation) => return self.proves_keys(name, version, generation),
            Named::Sums(run, seq) => (Class::Sums, run.to_bytes(), seq),
            Named::Index(run, seq) => (Class::Index, run.to_bytes(), seq),
            Named::Run(_, run) => (Class::Run, run.to_bytes(), 0),
            Named::Manifest(_, backup) => (Class::Manifest, backup.to_bytes(), 0),
            Named::Tombstone(_, backup) => (Class::Tombstone, backup.to_bytes(), 0),
            Named::Proof(_, backup) => (Class::Proof, backup.to_bytes(), 0),
            Named::Renewal(_, backup) => (Class::Renewal, backup.to_bytes(), 0),
            Named::Quarantined(pack) => (Class::Mark, pack.run.to_bytes(), pack.seq),
            Named::Plan(number) => (Class::Plan, vault, number),
            Named::Doom(number) => (Class::Doom, vault, number),
            Named::Done(number) => (Class::Done, vault, number),
            Named::Reserve => (Class::Reserve, vault, 0),
        };
        let Some(bytes) = self.version(name, version, MAX_LEN)? else {
            return Ok(false);
        };
        if class == Class::Sums {
            let wanted = Header {
                seq,
                ..Header::new(class, vault, id, [0; 16])
            };
            return Ok(sums::decode(&wanted, &bytes).is_ok());
        }
        let opened = self.open_raw(name, bytes.clone(), class, id, seq);
        let opened = match (opened, named) {
            // A void has the name of a manifest.
            (Err(_), Named::Manifest(..)) => self.open_raw(name, bytes, Class::Void, id, seq),
            (opened, _) => opened,
        };
        match opened {
            Ok(_) => Ok(true),
            Err(error) if error.is_of_one_object() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn proves_pack(&self, name: &ObjectName, version: &str, pack: PackId) -> Result<bool, Error> {
        let Some(bytes) = self.version(name, version, MAX_PACK_LEN)? else {
            return Ok(false);
        };
        let headers = Mutex::new(HeaderCache::with_room(1));
        let damage = Scanner::new(self, &headers)?.bytes(pack, bytes)?;
        Ok(damage.is_none())
    }

    /// The generation that opened this vault is what it was then; another is whole and of this vault.
    fn proves_keys(
        &self,
        name: &ObjectName,
        version: &str,
        generation: u32,
    ) -> Result<bool, Error> {
        let bytes = self.version(name, version, crate::format::KEY_OBJECT_LEN as u64)?;
        Ok(bytes.is_some_and(|bytes| self.is_keys(generation, bytes)))
    }

    /// The bytes of a version; none when it went meanwhile or is longer than anything of ours.
    fn version(
        &self,
        name: &ObjectName,
        version: &str,
        most: u64,
    ) -> Result<Option<Vec<u8>>, Error> {
        let hopeless =
            |error: &TargetError| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt);
        match self.target.get_version(name, version, most) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if hopeless(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
