//! Proving a new backup before anybody is told of it: everything that its manifest reaches is there.
//!
//! The cost follows the change. A subtree that is the parent's node, byte for byte at the same
//! place, is not walked again when the parent was read back itself, which its *proof* says: at
//! that time everything under the node was there, no run deletes what it did not write, and a
//! collection deletes nothing that a manifest reaches. Of such a node only the presence of its
//! pack is asked for. What has rotted or was lost since then is a check's to find; the marks it
//! leaves make the next backup store such parts anew, and while there is any mark, the whole tree
//! is walked.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use stillpoint_model::ErrorKind;
use stillpoint_model::id::{BackupId, VolumeId};
use stillpoint_model::progress::Monitor;

use crate::format::manifest::Manifest;
use crate::format::names::IdBytes;
use crate::format::object::Class;
use crate::format::pack::PackId;
use crate::format::run::Note;
use crate::format::tree::{Interior, LEAF_LEVEL, NodeRef};
use crate::{Error, Vault};

impl Vault {
    /// Reads a backup's manifest back from the target, proves what is new in its tree, and makes
    /// sure that every pack it names is there with its length. Only after this is it available.
    /// Of a backup that was read back before, everything is looked at again.
    pub fn read_back(
        &self,
        volume: VolumeId,
        backup: BackupId,
        monitor: &dyn Monitor,
    ) -> Result<(), Error> {
        let manifest = self.live_manifest(volume, backup)?;
        let again = self.is_proven(volume, backup)?;
        let parent = match manifest.parent {
            Some(parent) if !again => self.proven_manifest(volume, parent)?,
            _ => None,
        };
        let mut walk = ReadBack {
            vault: self,
            packs: HashMap::new(),
            parent: parent.and_then(|parent| Some((parent.level(), parent.root?))),
            monitor,
        };
        match walk.backup(volume, backup, &manifest) {
            Err(Error::Corrupt { object, what }) => {
                tracing::warn!(%object, what, "a backup is damaged");
                return Err(Error::Corrupt {
                    object,
                    what: "a backup cannot be restored because of it",
                });
            }
            other => other?,
        }
        if !again && let Err(error) = self.put_proof(volume, backup, &manifest) {
            tracing::warn!(%backup, %error, "that it was read back is not noted");
        }
        Ok(())
    }

    /// Whether a backup was read back.
    fn is_proven(&self, volume: VolumeId, backup: BackupId) -> Result<bool, Error> {
        match self.target.head(&self.names.proof(volume, backup)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The manifest of a parent whose subtrees need no second look.
    fn proven_manifest(
        &self,
        volume: VolumeId,
        parent: BackupId,
    ) -> Result<Option<Manifest>, Error> {
        if !self.is_proven(volume, parent)? || !self.marked_packs()?.is_empty() {
            return Ok(None);
        }
        match self.current(volume, parent) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(Error::BackupNotFound(_)) => Ok(None),
            Err(error) if error.is_of_one_object() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn put_proof(
        &self,
        volume: VolumeId,
        backup: BackupId,
        manifest: &Manifest,
    ) -> Result<(), Error> {
        self.require_writable()?;
        let name = self.names.proof(volume, backup);
        let header = self.header(Class::Proof, backup.to_bytes());
        let note = Note {
            run_id: manifest.run_id,
            volume_id: volume,
            at: self.env.now(),
            epoch: 0,
        };
        let object = self.seal(&name, &header, note.encode())?;
        match self.target.put_new(&name, &object) {
            Err(error) if error.kind() != ErrorKind::Conflict => Err(error.into()),
            _ => Ok(()),
        }
    }
}

struct ReadBack<'a> {
    vault: &'a Vault,
    /// The lengths of the packs that were asked for.
    packs: HashMap<PackId, u64>,
    /// The level and the root of the parent's tree, if it can be relied on.
    parent: Option<(u8, NodeRef)>,
    monitor: &'a dyn Monitor,
}

impl ReadBack<'_> {
    fn backup(
        &mut self,
        volume: VolumeId,
        backup: BackupId,
        manifest: &Manifest,
    ) -> Result<(), Error> {
        let (hasher, level) = (&self.vault.keys.hasher, manifest.level());
        let top = manifest.root.map_or(hasher.zero(level), |root| root.hash);
        if hasher.content(manifest.size.get(), level, top) != manifest.content_hash {
            return Err(Error::Corrupt {
                object: self.vault.names.manifest(volume, backup),
                what: "its tree is not what its content hash says",
            });
        }
        let old = self.counterpart_of_root(level)?;
        match &manifest.root {
            Some(root) => self.node(level, 0, root, old),
            None => Ok(()),
        }
    }

    /// What the parent has at the root's place, when its tree is as high or higher.
    fn counterpart_of_root(&self, level: u8) -> Result<Option<NodeRef>, Error> {
        let Some((mut from, root)) = self.parent else {
            return Ok(None);
        };
        let mut at = Some(root);
        while let Some(node) = at.filter(|_| from > level) {
            at = self.children(from, 0, &node)?[0];
            from -= 1;
        }
        Ok(at.filter(|_| from == level))
    }

    /// The children of a node of the parent. One that cannot be read helps nobody here.
    fn children(&self, level: u8, index: u64, at: &NodeRef) -> Result<Vec<Option<NodeRef>>, Error> {
        match self.vault.interior(at, level, index) {
            Ok(node) => Ok(node.children),
            Err(error) if error.is_of_one_object() => Ok(Interior::empty().children),
            Err(error) => Err(error),
        }
    }

    fn node(
        &mut self,
        level: u8,
        index: u64,
        at: &NodeRef,
        old: Option<NodeRef>,
    ) -> Result<(), Error> {
        if self.monitor.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let old = match self.parent {
            Some((top, root)) if top == level && index == 0 => Some(root),
            _ => old,
        };
        if old == Some(*at) {
            return self.tree_pack(at);
        }
        if level == LEAF_LEVEL {
            let leaf = self.found(at.pack, |vault| vault.leaf(at, index))?;
            for frame in &leaf.frames {
                self.pack(frame.pack, u64::from(frame.pack_len))?;
            }
            return Ok(());
        }
        let node = self.found(at.pack, |vault| vault.interior(at, level, index))?;
        let before = match &old {
            Some(old) => self.children(level, index, old)?,
            None => Interior::empty().children,
        };
        for ((child, before), number) in node.children.iter().zip(before).zip(0_u64..) {
            if let Some(child) = child {
                self.node(level - 1, index * 64 + number, child, before)?;
            }
        }
        Ok(())
    }

    /// A part of a pack; when it is missing or cut short, the backup is damaged.
    fn found<T>(
        &self,
        pack: PackId,
        read: impl FnOnce(&Vault) -> Result<T, Error>,
    ) -> Result<T, Error> {
        read(self.vault).map_err(|error| match error.is_damage() {
            true => self.damaged(pack, "a node is missing or damaged"),
            false => error,
        })
    }

    fn damaged(&self, pack: PackId, what: &'static str) -> Error {
        Error::Corrupt {
            object: self.vault.names.pack(pack),
            what,
        }
    }

    /// That the pack of a shared node is there.
    fn tree_pack(&mut self, at: &NodeRef) -> Result<(), Error> {
        if self.length(at.pack)? >= at.spot.end() {
            return Ok(());
        }
        self.vault.quarantine(at.pack);
        Err(self.damaged(at.pack, "it is missing or cut short"))
    }

    /// That a pack of chunks is there with its length.
    fn pack(&mut self, pack: PackId, len: u64) -> Result<(), Error> {
        if self.length(pack)? == len {
            return Ok(());
        }
        self.vault.quarantine(pack);
        Err(self.damaged(pack, "it is missing or has the wrong length"))
    }

    /// The length of a pack, asked for once; zero without it.
    fn length(&mut self, pack: PackId) -> Result<u64, Error> {
        let vault = self.vault;
        match self.packs.entry(pack) {
            Entry::Occupied(known) => Ok(*known.get()),
            Entry::Vacant(unknown) => {
                let len = match vault.target.head(&vault.names.pack(pack)) {
                    Ok(len) => len.get(),
                    Err(error) if error.kind() == ErrorKind::NotFound => 0,
                    Err(error) => return Err(error.into()),
                };
                Ok(*unknown.insert(len))
            }
        }
    }
}
