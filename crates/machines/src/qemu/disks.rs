//! A machine's disks: which it has, plugging, growing, and going on in overlays.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use stillpoint_model::ByteCount;
use stillpoint_model::id::VolumeId;

use super::command::{device_of, disk_device, port, volume_of};
use super::graph::{Graph, for_machine, in_order};
use super::machine::{Machine, lock};
use crate::guard::{Ended, Frozen};
use crate::qmp::Qmp;
use crate::{DiskSpec, Error, Freeze, MAX_DISKS, Switch, SwitchReport};

/// How often a guest is told again to let go of a disk: one that boots does not hear it.
const REMIND: Duration = Duration::from_secs(3);

/// Where QEMU keeps the devices that have a name.
pub(super) const PERIPHERAL: &str = "/machine/peripheral/";

pub(super) fn name_of(graph: &Value) -> String {
    graph["node-name"].as_str().unwrap_or_default().to_owned()
}

impl Machine {
    fn no_disk(&self, volume: VolumeId) -> Error {
        let id = self.id;
        Error::NoDisk { id, volume }
    }

    /// The node that a volume's device writes to; none when there is no such device.
    pub(super) fn tip(&self, qmp: &Qmp, volume: VolumeId) -> Result<Option<String>, Error> {
        let blocks = self.call_on(qmp, "query-block", &json!({}))?;
        let device = format!("{PERIPHERAL}{}/", device_of(volume));
        let blocks = blocks.as_array().cloned().unwrap_or_default();
        let mut found = blocks.iter().filter(|block| {
            block["qdev"]
                .as_str()
                .is_some_and(|d| d.starts_with(&device))
        });
        let node = found
            .next()
            .and_then(|block| block["inserted"]["node-name"].as_str());
        Ok(node.map(str::to_owned))
    }

    /// The volumes whose storage had no room for a write; cleared when the machine goes on.
    pub(super) fn full_volumes(&self, qmp: &Qmp) -> Result<Vec<VolumeId>, Error> {
        let blocks = self.call_on(qmp, "query-block", &json!({}))?;
        let blocks = blocks.as_array().cloned().unwrap_or_default();
        let full = blocks
            .iter()
            .filter(|block| block["io-status"] == "nospace");
        let volume = |block: &Value| {
            let path = block["qdev"].as_str()?.strip_prefix(PERIPHERAL)?;
            volume_of(path.split('/').next()?)
        };
        Ok(full.filter_map(volume).collect())
    }

    pub(super) fn graph(&self, qmp: &Qmp) -> Result<Graph, Error> {
        let answer = self.call_on(qmp, "x-debug-query-block-graph", &json!({}))?;
        Ok(Graph::read(&answer))
    }

    pub(super) fn chain(&self, qmp: &Qmp, volume: VolumeId) -> Result<Vec<String>, Error> {
        let tip = self.tip(qmp, volume)?.ok_or_else(|| self.no_disk(volume))?;
        Ok(self.graph(qmp)?.chain(&tip))
    }

    pub(super) fn open_chain(&self, volume: VolumeId) -> Result<Vec<String>, Error> {
        self.chain(&*self.on()?, volume)
    }

    /// A node that is still used goes with whoever uses it.
    pub(super) fn delete_node(&self, qmp: &Qmp, node: &str) {
        let _goes_with_its_user = self.call_on(qmp, "blockdev-del", &json!({"node-name": node}));
    }

    /// Closes the nodes that nothing stands on, which an agent left that was killed between two
    /// commands, or a merge that ended when nobody waited for it. Within a turn nobody else makes
    /// any.
    pub(super) fn close_what_is_left(&self, qmp: &Qmp) -> Result<(), Error> {
        let mut tried = BTreeSet::new();
        loop {
            // What was below one that went may be left by now.
            let mut left = self.graph(qmp)?.roots();
            left.retain(|node| tried.insert(node.clone()));
            if left.is_empty() {
                return Ok(());
            }
            for node in left {
                self.delete_node(qmp, &node);
            }
        }
    }

    fn free_port(&self, qmp: &Qmp) -> Result<String, Error> {
        let mut taken = Vec::new();
        for volume in self.volumes(qmp)? {
            let path = format!("{PERIPHERAL}{}", device_of(volume));
            let property = json!({"path": path, "property": "parent_bus"});
            let bus = self.call_on(qmp, "qom-get", &property)?;
            taken.extend(bus.as_str().map(str::to_owned));
        }
        let is_free = |port: &String| !taken.iter().any(|bus| bus.ends_with(&format!("/{port}")));
        let mut free = (0..=MAX_DISKS).map(port).filter(is_free);
        free.next().ok_or_else(|| Error::BadSpec {
            id: self.id,
            reason: "it has as many disks as it takes".to_owned(),
        })
    }

    pub(super) fn plug(&self, disk: &DiskSpec) -> Result<(), Error> {
        let _turn = self.turn();
        let qmp = self.on()?;
        if self.volumes(&qmp)?.contains(&disk.volume) {
            return Ok(());
        }
        let port = self.free_port(&qmp)?;
        self.folder.note_disk(disk)?;
        let nodes = in_order(&disk.graph, self.shared.config.disk_io);
        self.close_what_is_left(&qmp)?;
        let device = disk_device(disk, &name_of(&disk.graph), &port);
        let made = nodes.iter().map(|node| ("blockdev-add", node));
        let mut commands = made.chain([("device_add", &device)]);
        let added = commands.try_for_each(|(name, what)| self.call_on(&qmp, name, what).map(drop));
        if matches!(added, Err(Error::Refused { .. })) {
            for node in nodes.iter().rev() {
                self.delete_node(&qmp, &name_of(node));
            }
            self.folder.forget_disk(disk.volume)?;
        }
        added
    }

    pub(super) fn unplug(&self, volume: VolumeId, bound: Duration) -> Result<(), Error> {
        let _turn = self.turn();
        let qmp = self.on()?;
        // A merge would keep the files open when the device is gone.
        self.stop_jobs(&qmp, volume)?;
        let nodes = match self.tip(&qmp, volume)? {
            Some(tip) => self.graph(&qmp)?.chain(&tip),
            None => Vec::new(),
        };
        self.remove_device(&qmp, volume, bound)?;
        for node in nodes {
            self.delete_node(&qmp, &node);
        }
        self.folder.forget_disk(volume)
    }

    fn remove_device(
        &self,
        qmp: &Arc<Qmp>,
        volume: VolumeId,
        bound: Duration,
    ) -> Result<(), Error> {
        let deadline = self.now() + bound;
        let device = device_of(volume);
        loop {
            let events = qmp.listen();
            if !self.volumes(qmp)?.contains(&volume) {
                return Ok(());
            }
            // Refused while an earlier request is under way.
            match self.call_on(qmp, "device_del", &json!({"id": device})) {
                Ok(_) | Err(Error::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
            let remind_at = (self.now() + REMIND).min(deadline);
            loop {
                let left = remind_at.saturating_sub(self.now());
                match events.recv_timeout(left) {
                    Ok(event) if event.name == "DEVICE_DELETED" => break,
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
            if self.now() >= deadline && self.volumes(qmp)?.contains(&volume) {
                let id = self.id;
                return Err(Error::GuestHolds { id, volume });
            }
        }
    }

    pub(super) fn resize(&self, volume: VolumeId, size: ByteCount) -> Result<(), Error> {
        let _turn = self.turn();
        let qmp = self.on()?;
        let tip = self
            .tip(&qmp, volume)?
            .ok_or_else(|| self.no_disk(volume))?;
        let arguments = json!({"node-name": tip, "size": size.get()});
        self.call_on(&qmp, "block_resize", &arguments).map(drop)
    }

    pub(super) fn switch(
        &self,
        switches: &[Switch],
        freeze: Freeze,
    ) -> Result<SwitchReport, Error> {
        let _turn = self.turn();
        let qmp = self.on()?;
        self.check_tips(&qmp, switches)?;
        let done = self
            .add_overlays(&qmp, switches)
            .and_then(|()| self.switch_frozen(&qmp, switches, freeze));
        if matches!(done, Err(Error::Refused { .. } | Error::NotFrozen { .. })) {
            self.delete_overlays(&qmp, switches);
        }
        done
    }

    /// Refuses a switch from something that is not a tip.
    pub(super) fn check_tips(&self, qmp: &Qmp, switches: &[Switch]) -> Result<(), Error> {
        for switch in switches {
            if self.tip(qmp, switch.volume)?.as_ref() != Some(&switch.tip) {
                return Err(Error::Refused {
                    id: self.id,
                    command: "a switch".to_owned(),
                    reason: format!("{} is not the tip of {}", switch.tip, switch.volume),
                });
            }
        }
        Ok(())
    }

    /// Closes overlays that nothing switched to.
    pub(super) fn delete_overlays(&self, qmp: &Qmp, switches: &[Switch]) {
        for switch in switches {
            self.delete_node(qmp, &name_of(&switch.graph));
        }
    }

    pub(super) fn add_overlays(&self, qmp: &Qmp, switches: &[Switch]) -> Result<(), Error> {
        self.close_what_is_left(qmp)?;
        for switch in switches {
            let graph = for_machine(&switch.graph, self.shared.config.disk_io);
            self.call_on(qmp, "blockdev-add", &graph)?;
        }
        Ok(())
    }

    /// Freezes if that is wanted, switches, thaws.
    fn switch_frozen(
        &self,
        qmp: &Qmp,
        switches: &[Switch],
        freeze: Freeze,
    ) -> Result<SwitchReport, Error> {
        let _talk = lock(&self.talk);
        let (frozen, not_frozen_because) = match self.freeze(freeze) {
            Ok(frozen) => (frozen, None),
            Err(reason) if matches!(freeze, Freeze::Require { .. }) => {
                let id = self.id;
                return Err(Error::NotFrozen { id, reason });
            }
            Err(reason) => (None, Some(reason)),
        };
        let frozen_at = self.now();
        let switched = self.transact(qmp, switches);
        let mut report = SwitchReport {
            frozen: None,
            not_frozen_because,
            stall: self.now() - frozen_at,
        };
        if let Some(frozen) = frozen {
            match self.thaw(frozen) {
                Ok(()) => report.frozen = Some(self.now() - frozen_at),
                Err(reason) => report.not_frozen_because = Some(reason),
            }
        }
        switched?;
        if matches!(freeze, Freeze::Require { .. }) && report.frozen.is_none() {
            let id = self.id;
            return Err(Error::FreezeBroke { id, report });
        }
        Ok(report)
    }

    /// Freezes the guest if that is wanted; why it is not frozen although it is.
    fn freeze(&self, freeze: Freeze) -> Result<Option<Frozen>, String> {
        let (Freeze::Try { bound } | Freeze::Require { bound }) = freeze else {
            return Ok(None);
        };
        let guard = &self.shared.config.guard;
        let frozen = Frozen::begin(guard, &self.folder.agent(), bound).map_err(|failed| {
            if failed.may_freeze {
                self.keep_thawing();
            }
            failed.reason
        })?;
        if frozen.is_frozen() {
            return Ok(Some(frozen));
        }
        self.keep_thawing();
        Err("it was thawed before the capture".to_owned())
    }

    /// Thaws the guest, if need be later; why it may not have been frozen until now.
    fn thaw(&self, frozen: Frozen) -> Result<(), String> {
        match frozen.end() {
            Ended::Held => Ok(()),
            Ended::Early => Err("it was thawed before the capture was over".to_owned()),
            Ended::Unknown => {
                self.keep_thawing();
                Err("its guard does not say that it stayed frozen".to_owned())
            }
        }
    }

    pub(super) fn transact(&self, qmp: &Qmp, switches: &[Switch]) -> Result<(), Error> {
        let actions: Vec<Value> = switches
            .iter()
            .map(|switch| {
                let data = json!({"node": switch.tip, "overlay": name_of(&switch.graph)});
                json!({"type": "blockdev-snapshot", "data": data})
            })
            .collect();
        self.call_on(qmp, "transaction", &json!({"actions": actions}))
            .map(drop)
    }
}
