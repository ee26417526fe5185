//! Epochs: how writers, those who undelete and collectors learn of one another.
//!
//! ```text
//!  done 6 ─> plan 7 put ─> doom 7 put ─> everything in it removed ─> done 7 put ─> plan 8 ...
//!            condemned     decided       by anybody, any number of times
//! ```
//!
//! At most one epoch is open: the one after the newest that is done. `done` objects stay for ever,
//! so no number is used twice. Which epoch is open is asked by name, never concluded from a
//! listing alone: a listing that lacks something only makes the search longer.

use stillpoint_model::ErrorKind;
use stillpoint_model::id::{BackupId, VolumeId};

use crate::crew::both;
use crate::format::epoch::{Doom, MAX_EPOCH_OBJECT_LEN, Plan};
use crate::format::manifest::Manifest;
use crate::format::names::{IdBytes, Named};
use crate::format::object::{Class, Header};
use crate::target::{ObjectName, list_each};
use crate::vault::damaged;
use crate::{Error, Vault};

/// Which epochs a writer saw before it put its record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visible {
    /// The newest that was over.
    pub done: u32,
    /// The newest that had begun.
    pub begun: u32,
}

impl Vault {
    /// The number of the newest epoch that is done; 0 before the first.
    pub(super) fn newest_done(&self) -> Result<u32, Error> {
        let mut done = self.newest_listed()?;
        while self.is_there(&self.names.done(done + 1))? {
            done += 1;
        }
        Ok(done)
    }

    /// The newest epoch that a listing says to be done.
    fn newest_listed(&self) -> Result<u32, Error> {
        let mut newest = 0;
        list_each(&*self.target, &self.names.prefix("epochs/"), |entry| {
            if let Some(Named::Done(number)) = self.names.parse(&entry.name) {
                newest = newest.max(number);
            }
            Ok::<_, Error>(())
        })?;
        Ok(newest)
    }

    /// Where the epochs are. If one begins or ends meanwhile, one that was just before.
    pub(crate) fn visible_epoch(&self) -> Result<Visible, Error> {
        let mut done = self.newest_listed()?;
        loop {
            let (over, open) = both(
                self.width(),
                || self.is_there(&self.names.done(done + 1)),
                || self.is_there(&self.names.plan(done + 1)),
            );
            match over? {
                true => done += 1,
                false => {
                    let begun = done + u32::from(open?);
                    return Ok(Visible { done, begun });
                }
            }
        }
    }

    /// What the open epoch condemned, if one is open. One that ends just now is not. The epoch
    /// `done` is known to be over.
    pub(crate) fn open_plan(&self, mut done: u32) -> Result<Option<Plan>, Error> {
        loop {
            let (over, plan) = both(
                self.width(),
                || self.is_there(&self.names.done(done + 1)),
                || self.read_plan(done + 1),
            );
            match (over?, plan) {
                (true, _) => done += 1,
                (false, Ok(plan)) => return Ok(Some(plan)),
                (false, Err(error)) if error.is_missing() => return Ok(None),
                (false, Err(error)) => return Err(error),
            }
        }
    }

    /// The manifest of a parent that is neither deleted nor about to be removed: a collection does
    /// not wait for the children that such a one gets.
    pub(crate) fn live_parent(
        &self,
        plan: Option<&Plan>,
        volume: VolumeId,
        parent: BackupId,
    ) -> Result<Manifest, Error> {
        let (line, manifest) = self.live_line(volume, parent)?;
        for needed in line {
            refuse_named(plan, volume, needed)?;
        }
        Ok(manifest)
    }

    /// Refuses a backup that the open epoch is removing.
    pub(crate) fn refuse_collected(&self, volume: VolumeId, backup: BackupId) -> Result<(), Error> {
        let plan = self.open_plan(self.newest_listed()?)?;
        refuse_named(plan.as_ref(), volume, backup)
    }

    pub(crate) fn read_plan(&self, number: u32) -> Result<Plan, Error> {
        let name = self.names.plan(number);
        let body = self.read_epoch_object(&name, Class::Plan, number)?;
        Plan::decode(&body).map_err(|what| damaged(&name, what))
    }

    pub(crate) fn read_doom(&self, number: u32) -> Result<Doom, Error> {
        let name = self.names.doom(number);
        let body = self.read_epoch_object(&name, Class::Doom, number)?;
        Doom::decode(&body).map_err(|what| damaged(&name, what))
    }

    fn read_epoch_object(
        &self,
        name: &ObjectName,
        class: Class,
        number: u32,
    ) -> Result<Vec<u8>, Error> {
        let id = self.names.vault.to_bytes();
        self.read_object(name, class, id, number, MAX_EPOCH_OBJECT_LEN)
    }

    /// Puts one of an epoch's objects; false when another collector was first.
    pub(super) fn put_epoch_object(
        &self,
        name: &ObjectName,
        class: Class,
        number: u32,
        body: Vec<u8>,
    ) -> Result<bool, Error> {
        let header = Header {
            seq: number,
            ..self.header(class, self.names.vault.to_bytes())
        };
        let object = self.seal(name, &header, body)?;
        match self.put_with_reserve(name, &object) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn refuse_named(plan: Option<&Plan>, volume: VolumeId, backup: BackupId) -> Result<(), Error> {
    let is_it = |(key, _): &(_, _)| *key == (volume, backup);
    match plan {
        Some(plan) if plan.backups.iter().any(is_it) => Err(Error::BeingCollected(backup)),
        _ => Ok(()),
    }
}
