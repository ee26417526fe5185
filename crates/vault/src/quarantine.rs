//! Packs that failed verification: marked once, shared never again.
//!
//! Whatever reads a part of a pack and finds it damaged or missing leaves a mark beside the vault's
//! objects: a restore, a check, a backup that looks at its parent. Writers list the marks before
//! they share anything. A chunk in a marked pack is no deduplication hit and no part of a parent,
//! so the next backup of a volume that still has it stores it again. A mark says nothing about the
//! backups that use the pack: they are read as ever. A mark that cannot be put is a warning; the
//! next reader tries again.

use std::collections::HashSet;
use std::sync::PoisonError;

use stillpoint_model::ErrorKind;
use stillpoint_model::id::VolumeId;

use crate::format::names::{IdBytes, Named};
use crate::format::object::{Class, Header};
use crate::format::pack::PackId;
use crate::format::run::Note;
use crate::target::list_each;
use crate::{Error, Vault};

impl Vault {
    /// Passes on what reading a part of a pack gave, and marks the pack if it is damaged.
    pub(crate) fn watched<T>(&self, pack: PackId, read: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &read
            && error.is_damage()
        {
            self.quarantine(pack);
        }
        read
    }

    /// Marks a pack as not to be shared.
    pub(crate) fn quarantine(&self, pack: PackId) {
        let known = || self.marked.lock().unwrap_or_else(PoisonError::into_inner);
        if self.require_writable().is_err() || known().contains(&pack) {
            return;
        }
        let name = self.names.mark(pack);
        match self.put_mark(pack) {
            Ok(()) => {
                tracing::warn!(pack = %self.names.pack(pack), "marked as damaged");
                known().insert(pack);
            }
            Err(error) => tracing::warn!(%name, %error, "a damaged pack was not marked"),
        }
    }

    fn put_mark(&self, pack: PackId) -> Result<(), Error> {
        let name = self.names.mark(pack);
        let header = Header {
            seq: pack.seq,
            ..self.header(Class::Mark, pack.run.to_bytes())
        };
        let note = Note {
            run_id: pack.run,
            volume_id: VolumeId::of_bytes([0; 16]),
            at: self.env.now(),
            epoch: 0,
        };
        let object = self.seal(&name, &header, note.encode())?;
        match self.target.put_new(&name, &object) {
            Err(error) if error.kind() != ErrorKind::Conflict => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The packs that are marked: a writer shares nothing in them. The names alone count.
    pub(crate) fn marked_packs(&self) -> Result<HashSet<PackId>, Error> {
        let mut packs = HashSet::new();
        list_each(&*self.target, &self.names.prefix("quarantine/"), |entry| {
            if let Some(Named::Quarantined(pack)) = self.names.parse(&entry.name) {
                packs.insert(pack);
            }
            Ok::<_, Error>(())
        })?;
        Ok(packs)
    }
}
