//! Proving a new backup before anybody is told of it: everything that its manifest reaches is there.
//!
//! The cost follows the change. A subtree that is the parent's node, byte for byte at the same
//! place, is not walked again when the parent was read back itself, which its *proof* says: at
//! that time everything under the node was there, no run deletes what it did not write, and a
//! collection deletes nothing that a manifest reaches. Of such a node only the presence of its
//! pack is asked for. What has rotted or was lost since then is a check's to find; the marks it
//! leaves make the next backup store such parts anew, and while there is any mark, the whole tree
//! is walked.

use std::collections::{BTreeSet, HashMap};

use stillpoint_model::ErrorKind;
use stillpoint_model::id::{BackupId, VolumeId};
use stillpoint_model::progress::Monitor;

use crate::crew::{all_of, both};
use crate::fetch::{Node, Position};
use crate::format::manifest::Manifest;
use crate::format::names::IdBytes;
use crate::format::object::Class;
use crate::format::pack::PackId;
use crate::format::run::Note;
use crate::format::tree::{Interior, Leaf, NodeRef};
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
        let (again, manifest) = both(
            self.width(),
            || self.is_proven(volume, backup),
            || self.live_manifest(volume, backup),
        );
        let (manifest, again) = (manifest?, again?);
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
        self.lock_small(volume, backup, &manifest)?;
        if !again && let Err(error) = self.put_proof(volume, backup, &manifest) {
            tracing::warn!(%backup, %error, "that it was read back is not noted");
        }
        Ok(())
    }

    /// Whether a backup was read back.
    fn is_proven(&self, volume: VolumeId, backup: BackupId) -> Result<bool, Error> {
        self.is_there(&self.names.proof(volume, backup))
    }

    /// The manifest of a parent whose subtrees need no second look.
    fn proven_manifest(
        &self,
        volume: VolumeId,
        parent: BackupId,
    ) -> Result<Option<Manifest>, Error> {
        let ((proven, marked), manifest) = both(
            self.width(),
            || (self.is_proven(volume, parent), self.marked_packs()),
            || self.still(volume, parent),
        );
        if !proven? || !marked?.is_empty() {
            return Ok(None);
        }
        match manifest {
            Err(error) if error.is_of_one_object() => Ok(None),
            other => other,
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
        let Some(top) = manifest.top() else {
            return Ok(());
        };
        match self.counterpart_of_root(level)? {
            Some(old) if old == top.node => self.tree_pack(&old),
            old => {
                let node = self.read(&top)?;
                self.node(&top, node, old)
            }
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

    /// Proves what is new under a node that is not the parent's. What its children need is asked
    /// for together, and of neighbouring children together.
    fn node(&mut self, at: &Position, node: Node, old: Option<NodeRef>) -> Result<(), Error> {
        if self.monitor.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let node = match node {
            Node::Leaf(leaf) => return self.leaf(&leaf),
            Node::Interior(node) => node,
        };
        let before = match &old {
            Some(old) => self.children(at.level, at.index, old)?,
            None => Interior::empty().children,
        };
        let mut new = vec![];
        let mut shared = vec![];
        for child in at.children(&node) {
            let number = usize::try_from(child.index % 64).unwrap_or(0);
            let old = before.get(number).copied().flatten();
            match self.counterpart(&child, old) {
                Some(old) if old == child.node => shared.push(child.node),
                old => new.push((child, old)),
            }
        }
        self.ask_for(shared.iter().map(|node| node.pack))?;
        for node in &shared {
            self.tree_pack(node)?;
        }
        for some in new.chunks(self.vault.width()) {
            let read = all_of(self.vault.width(), some, |(child, _)| self.read(child))?;
            let leaves = read.iter().filter_map(|node| match node {
                Node::Leaf(leaf) => Some(&leaf.frames),
                Node::Interior(_) => None,
            });
            self.ask_for(leaves.flatten().map(|frame| frame.pack))?;
            for ((child, old), node) in some.iter().zip(read) {
                self.node(child, node, *old)?;
            }
        }
        Ok(())
    }

    /// What the parent has in a node's place.
    fn counterpart(&self, at: &Position, old: Option<NodeRef>) -> Option<NodeRef> {
        match self.parent {
            Some((top, root)) if top == at.level && at.index == 0 => Some(root),
            _ => old,
        }
    }

    /// That the packs of a leaf are there.
    fn leaf(&mut self, leaf: &Leaf) -> Result<(), Error> {
        self.ask_for(leaf.frames.iter().map(|frame| frame.pack))?;
        for frame in &leaf.frames {
            self.pack(frame.pack, u64::from(frame.pack_len))?;
        }
        Ok(())
    }

    /// A node; when it is missing or cut short, the backup is damaged.
    fn read(&self, at: &Position) -> Result<Node, Error> {
        self.vault
            .node(at)
            .map_err(|error| match error.is_damage() {
                true => self.damaged(at.node.pack, "a node is missing or damaged"),
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

    /// Asks for the lengths of packs that were not asked for.
    fn ask_for(&mut self, packs: impl Iterator<Item = PackId>) -> Result<(), Error> {
        let unknown = packs.filter(|pack| !self.packs.contains_key(pack));
        let unknown: Vec<PackId> = unknown.collect::<BTreeSet<_>>().into_iter().collect();
        let vault = self.vault;
        let lengths = all_of(vault.width(), &unknown, |pack| vault.pack_len(*pack))?;
        let lengths = lengths.into_iter().map(Option::unwrap_or_default);
        self.packs.extend(unknown.into_iter().zip(lengths));
        Ok(())
    }

    /// The length of a pack, asked for once; zero without it.
    fn length(&mut self, pack: PackId) -> Result<u64, Error> {
        self.ask_for([pack].into_iter())?;
        Ok(self.packs.get(&pack).copied().unwrap_or_default())
    }
}
