//! Room that is kept so that deleting works when nothing else does.
//!
//! Where a target can fill up, each vault keeps one object that nobody reads. A tombstone or a void
//! that finds no space left gives it up and is put into the room that this makes. A backup starts
//! only once the reserve is there again, so that the room is not eaten by the next one. Two
//! deletions at once may both need it: the second is told that the target is full, and works once
//! the first one's room, or that of a run that was reaped, is there.

use stillpoint_model::ErrorKind;

use crate::format::names::IdBytes;
use crate::format::object::Class;
use crate::target::ObjectName;
use crate::{Error, Vault};

/// Enough for small objects, their directories and what a file system needs to note them.
const RESERVE_LEN: usize = 256 << 10;
/// The longest reserve that is read.
pub(crate) const MAX_RESERVE_LEN: u64 = 1 << 20;

impl Vault {
    /// Makes sure that the reserve is there; `Full` when there is no room for it.
    pub(crate) fn keep_reserve(&self) -> Result<(), Error> {
        if !self.target.can_fill_up() {
            return Ok(());
        }
        let name = self.names.reserve();
        match self.target.head(&name) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        // Sealed, it takes the room that it says even where files are compressed.
        let header = self.header(Class::Reserve, self.names.vault.to_bytes());
        let object = self.seal(&name, &header, vec![0; RESERVE_LEN])?;
        match self.target.put_new(&name, &object) {
            Err(error) if error.kind() != ErrorKind::Conflict => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Puts a small object that makes deleting possible, into the reserve's room if need be.
    pub(crate) fn put_with_reserve(&self, name: &ObjectName, object: &[u8]) -> Result<(), Error> {
        match self.target.put_new(name, object) {
            Err(error) if error.kind() == ErrorKind::Full && self.target.can_fill_up() => {
                self.target.delete(&self.names.reserve())?;
                tracing::warn!(%name, "the target is full: the reserve was given up");
                Ok(self.target.put_new(name, object)?)
            }
            other => Ok(other?),
        }
    }
}
