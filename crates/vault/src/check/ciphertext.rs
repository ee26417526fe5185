//! Comparing packs with their sums: whether they are still what was put, without decrypting them.
//!
//! A pack that differs is then opened, which says what of it is lost: the sum alone degrades no
//! backup. If it opens whole, the sum was wrong, and that is said.

use std::sync::Mutex;

use stillpoint_model::progress::Monitor;

use super::Check;
use super::scan::Scanner;
use crate::Error;
use crate::fetch::HeaderCache;
use crate::format::pack::PackId;
use crate::scrub::KnownSums;

impl Check<'_> {
    /// Compares every pack that is listed and has a sum; counts those that have none.
    pub(super) fn compare_packs(&mut self, monitor: &dyn Monitor) -> Result<(), Error> {
        let (vault, target) = (self.vault, &*self.vault.target);
        let packs: Vec<(PackId, u64)> = self
            .packs
            .iter()
            .map(|(pack, state)| (*pack, state.len))
            .collect();
        let runs: std::collections::HashSet<_> = packs.iter().map(|(pack, _)| pack.run).collect();
        let known = KnownSums::read(target, vault.names, |run| runs.contains(&run))?;
        for (object, what) in &known.damaged {
            self.note(object.clone(), what.clone(), None);
        }
        self.uncovered += known.uncovered(&packs).len();
        let workers = vault.tuning.provers();
        let compared = known.compare(target, vault.names, &packs, workers, monitor)?;
        if compared.wrong.is_empty() {
            return Ok(());
        }
        let headers = Mutex::new(HeaderCache::with_room(1));
        let mut scanner = Scanner::new(vault, &headers)?;
        for (pack, what) in compared.wrong {
            let len = self.packs.get(&pack).map_or(0, |state| state.len);
            match scanner.pack(pack, len)? {
                Some((pack, error, sound)) => self.fault(pack, error, sound)?,
                None => {
                    let name = vault.names.pack(pack);
                    self.note(name, format!("{what}, and opens all the same"), None);
                }
            }
        }
        Ok(())
    }
}
