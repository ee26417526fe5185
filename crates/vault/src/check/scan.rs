//! Reading packs whole: which frames are sound.
//!
//! Workers read and prove a pack each, in turn; where packs are mostly waited for there are more of
//! them than cores. Of a pack that is as it was written the ids of its chunks are kept, as far as
//! there is room: which of its frames a tree names, the tree's proof of those ids shows.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use stillpoint_model::progress::Monitor;
use stillpoint_model::{ByteCount, ByteRange};

use super::{Check, Scan, describe};
use crate::buffers::Aligned;
use crate::crew::work_on;
use crate::fetch::HeaderCache;
use crate::format::pack::{FrameOpener, MAX_PACK_LEN, PackId, Spot, scan};
use crate::format::tree::scan_nodes;
use crate::format::wire::Malformed;
use crate::vault::damaged;
use crate::{Error, Vault};

/// The most packs that are read at once where they are mostly waited for: 5 MiB for each.
const MAX_WAITING: usize = 6;

/// A pack with something wrong: what, and the frames that are sound.
pub(crate) type Damage = (PackId, Error, HashSet<Spot>);

impl Check<'_> {
    /// Scans every pack that is listed.
    pub(super) fn scan_packs(&mut self, monitor: &dyn Monitor) -> Result<(), Error> {
        let vault = self.vault;
        let total: u64 = self.packs.values().map(|state| state.len).sum();
        let (done, found) = (Mutex::new(0), Mutex::new(Vec::<Damage>::new()));
        let headers = Mutex::new(std::mem::replace(
            &mut self.headers,
            HeaderCache::with_room(0),
        ));
        let make = || {
            let (mut scanner, done, found) = (Scanner::new(vault, &headers)?, &done, &found);
            Ok(move |(pack, len): (PackId, u64)| {
                if let Some(damage) = scanner.pack(pack, len)? {
                    found
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(damage);
                }
                let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                *done += len;
                monitor.progress(ByteCount::new(*done), Some(ByteCount::new(total)));
                if monitor.is_cancelled() {
                    return Err(Error::Cancelled);
                }
                Ok(())
            })
        };
        let workers = vault.width().min(MAX_WAITING);
        work_on(workers.max(vault.tuning.provers()), make, |jobs| {
            self.packs
                .iter()
                .try_for_each(|(pack, state)| jobs.send((*pack, state.len)))
        })?;
        self.headers = headers.into_inner().unwrap_or_else(PoisonError::into_inner);
        for state in self.packs.values_mut() {
            state.scan = Scan::Sound;
        }
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.sort_by_key(|(pack, ..)| *pack);
        for (pack, error, sound) in found {
            self.fault(pack, error, sound)?;
        }
        Ok(())
    }

    /// Notes what is wrong with a pack, and marks it when that is damage.
    pub(super) fn fault(
        &mut self,
        pack: PackId,
        error: Error,
        sound: HashSet<Spot>,
    ) -> Result<(), Error> {
        if let Some(state) = self.packs.get_mut(&pack) {
            state.scan = Scan::Damaged(sound);
        }
        let name = self.vault.names.pack(pack);
        if matches!(error, Error::Target(_)) {
            return self.judge(&name, Err(error));
        }
        self.note(name, describe(&error), None);
        if error.is_damage() {
            self.vault.quarantine(pack);
        }
        Ok(())
    }
}

/// What one worker has.
pub(crate) struct Scanner<'a> {
    vault: &'a Vault,
    headers: &'a Mutex<HeaderCache>,
    opener: FrameOpener,
    bytes: Vec<u8>,
    plain: Aligned,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(vault: &'a Vault, headers: &'a Mutex<HeaderCache>) -> Result<Self, Error> {
        Ok(Self {
            vault,
            headers,
            opener: FrameOpener::new()?,
            bytes: vec![],
            plain: Aligned::default(),
        })
    }

    /// Reads a pack whole and gives what is wrong with it. An error is of the target.
    pub(crate) fn pack(&mut self, pack: PackId, len: u64) -> Result<Option<Damage>, Error> {
        let (vault, name) = (self.vault, self.vault.names.pack(pack));
        if len > MAX_PACK_LEN {
            let error = damaged(&name, Malformed::Wrong("it is too long"));
            return Ok(Some((pack, error, HashSet::new())));
        }
        let whole = ByteRange::new(0, len);
        if let Err(error) = vault.target.get_into(&name, whole, &mut self.bytes) {
            let error = Error::from(error);
            return match error.is_of_one_object() {
                true => Ok(Some((pack, error, HashSet::new()))),
                false => Err(error),
            };
        }
        self.judge(pack)
    }

    /// As [`Scanner::pack`] of a pack that was read.
    pub(crate) fn bytes(&mut self, pack: PackId, bytes: Vec<u8>) -> Result<Option<Damage>, Error> {
        self.bytes = bytes;
        self.judge(pack)
    }

    fn judge(&mut self, pack: PackId) -> Result<Option<Damage>, Error> {
        let (vault, name) = (self.vault, self.vault.names.pack(pack));
        let header = pack.header(vault.keys.vault);
        let key = vault
            .keys
            .object(&header)
            .map_err(|what| damaged(&name, what))?;
        let (frames, verdict) = if pack.is_tree() {
            let verdict = scan_nodes(&key, &header, &mut self.bytes);
            (HashMap::new(), verdict)
        } else {
            let hasher = &vault.keys.hasher;
            let (opener, bytes) = (&mut self.opener, &mut self.bytes);
            scan(opener, &key, hasher, &header, bytes, &mut self.plain)
        };
        let damage = verdict.err().map(|what| {
            let sound = frames.keys().copied().collect();
            (pack, damaged(&name, what), sound)
        });
        let mut headers = self.headers.lock().unwrap_or_else(PoisonError::into_inner);
        for (spot, ids) in frames {
            headers.keep(pack, spot, Arc::new(ids));
        }
        Ok(damage)
    }
}
