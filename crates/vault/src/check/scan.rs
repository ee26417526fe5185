//! Reading packs whole: which frames are sound.

use std::collections::HashSet;

use stillpoint_model::progress::Monitor;
use stillpoint_model::{ByteCount, ByteRange};

use super::{Check, describe};
use crate::Error;
use crate::format::pack::{FrameOpener, MAX_PACK_LEN, PackId, Spot, scan};
use crate::format::tree::scan_nodes;
use crate::format::wire::Malformed;
use crate::vault::damaged;

impl Check<'_> {
    /// Scans every pack that is listed.
    pub(super) fn scan_packs(&mut self, monitor: &dyn Monitor) -> Result<(), Error> {
        let total: u64 = self.packs.values().map(|state| state.len).sum();
        let (mut done, mut bytes) = (0, vec![]);
        let mut opener = FrameOpener::new()?;
        let packs: Vec<(PackId, u64)> = self
            .packs
            .iter()
            .map(|(pack, state)| (*pack, state.len))
            .collect();
        for (pack, len) in packs {
            if monitor.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let sound = self.scan_pack(&mut opener, pack, len, &mut bytes)?;
            if let Some(state) = self.packs.get_mut(&pack) {
                state.sound = Some(sound);
            }
            done += len;
            monitor.progress(ByteCount::new(done), Some(ByteCount::new(total)));
        }
        Ok(())
    }

    fn scan_pack(
        &mut self,
        opener: &mut FrameOpener,
        pack: PackId,
        len: u64,
        bytes: &mut Vec<u8>,
    ) -> Result<HashSet<Spot>, Error> {
        let (vault, name) = (self.vault, self.vault.names.pack(pack));
        if len > MAX_PACK_LEN {
            self.fault(pack, Malformed::Wrong("it is too long"));
            return Ok(HashSet::new());
        }
        let whole = ByteRange::new(0, len);
        if let Err(error) = vault.target.get_into(&name, whole, bytes) {
            self.judge(&name, Err(Error::from(error)))?;
            return Ok(HashSet::new());
        }
        let header = pack.header(vault.keys.vault);
        let key = vault
            .keys
            .object(&header)
            .map_err(|what| damaged(&name, what))?;
        let (sound, verdict) = if pack.is_tree() {
            (HashSet::new(), scan_nodes(&key, &header, bytes))
        } else {
            scan(opener, &key, &vault.keys.hasher, &header, bytes)
        };
        if let Err(what) = verdict {
            self.fault(pack, what);
        }
        Ok(sound)
    }

    /// Notes what is wrong with a pack, and marks it when that is damage.
    fn fault(&mut self, pack: PackId, what: Malformed) {
        let name = self.vault.names.pack(pack);
        let error = damaged(&name, what);
        self.note(name, describe(&error), None);
        if error.is_damage() {
            self.vault.quarantine(pack);
        }
    }
}
