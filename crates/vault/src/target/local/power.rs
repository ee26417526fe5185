//! What a loss of power leaves of a folder of objects: what was synced, and anything of the rest.
//!
//! Every change that the driver makes is noted, in order. [`left_after`] tells what a disk could
//! show if the power had gone after so many of them: the content of a file that was not synced is
//! there, or not, or in part, whatever its name is; each folder has seen some first of the names
//! that were given and taken in it since it was synced.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};

/// One system call that changed something, by its path below the root.
#[derive(Debug)]
enum Change {
    /// A file, by inode, has this content, which is not durable yet.
    Wrote(u64, Vec<u8>),
    /// The content of a file is durable.
    Synced(u64),
    /// A file got a name.
    Linked(PathBuf, u64),
    /// A folder was made.
    Made(PathBuf),
    /// A name of a file or a folder was taken away.
    Removed(PathBuf),
    /// The names in a folder are durable.
    SyncedFolder(PathBuf),
}

/// What was done so far. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Change>>>);

impl Log {
    fn note(&self, change: Change) {
        self.0.lock().unwrap().push(change);
    }

    pub(super) fn wrote(&self, file: &File, bytes: &[u8]) {
        self.note(Change::Wrote(
            file.metadata().unwrap().ino(),
            bytes.to_vec(),
        ));
    }

    pub(super) fn synced(&self, file: &File) {
        self.note(Change::Synced(file.metadata().unwrap().ino()));
    }

    pub(super) fn linked(&self, root: &Path, path: &Path) {
        // Somebody may have deleted it again already.
        if let Ok(meta) = fs::symlink_metadata(path) {
            self.note(Change::Linked(below(root, path), meta.ino()));
        }
    }

    pub(super) fn made(&self, root: &Path, path: &Path) {
        self.note(Change::Made(below(root, path)));
    }

    pub(super) fn removed(&self, root: &Path, path: &Path) {
        self.note(Change::Removed(below(root, path)));
    }

    pub(super) fn synced_folder(&self, root: &Path, path: &Path) {
        self.note(Change::SyncedFolder(below(root, path)));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Fills an empty folder with what is left after `cut` changes.
    pub(crate) fn left_after(&self, cut: usize, chance: impl Fn(u64) -> u64, into: &Path) {
        let mut disk = Disk::default();
        disk.folders.push(Folder::default());
        let changes = self.0.lock().unwrap();
        changes
            .iter()
            .take(cut)
            .for_each(|change| disk.apply(change));
        disk.show(0, &chance, into);
    }
}

fn below(root: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(root).unwrap().to_owned()
}

#[derive(Clone, Copy)]
enum Entry {
    File(usize),
    Folder(usize),
}

enum Naming {
    Given(String, Entry),
    Taken(String),
}

#[derive(Default)]
struct Folder {
    durable: BTreeMap<String, Entry>,
    pending: Vec<Naming>,
}

impl Folder {
    /// What it shows after the first `count` changes that are not durable.
    fn after(&self, count: usize) -> BTreeMap<String, Entry> {
        let mut names = self.durable.clone();
        for naming in &self.pending[..count] {
            match naming {
                Naming::Given(name, entry) => names.insert(name.clone(), *entry),
                Naming::Taken(name) => names.remove(name),
            };
        }
        names
    }

    fn now(&self) -> BTreeMap<String, Entry> {
        self.after(self.pending.len())
    }
}

#[derive(Default)]
struct Disk {
    folders: Vec<Folder>,
    files: Vec<(Vec<u8>, bool)>,
    by_inode: HashMap<u64, usize>,
}

impl Disk {
    fn folder(&self, path: &Path) -> Option<usize> {
        let names = path.components().filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_str().unwrap()),
            _ => None,
        });
        names
            .into_iter()
            .try_fold(0, |at, name| match self.folders[at].now().get(name) {
                Some(Entry::Folder(folder)) => Some(*folder),
                _ => None,
            })
    }

    fn name(&mut self, path: &Path, naming: impl FnOnce(String) -> Naming) {
        let parent = self.folder(path.parent().unwrap()).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        self.folders[parent].pending.push(naming(name));
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Wrote(inode, bytes) => {
                self.by_inode.insert(*inode, self.files.len());
                self.files.push((bytes.clone(), false));
            }
            Change::Synced(inode) => self.files[self.by_inode[inode]].1 = true,
            Change::Linked(path, inode) => {
                let file = Entry::File(self.by_inode[inode]);
                self.name(path, |name| Naming::Given(name, file));
            }
            Change::Made(path) => {
                let folder = Entry::Folder(self.folders.len());
                self.folders.push(Folder::default());
                self.name(path, |name| Naming::Given(name, folder));
            }
            Change::Removed(path) => self.name(path, Naming::Taken),
            // It may have been taken away by then.
            Change::SyncedFolder(path) => {
                if let Some(at) = self.folder(path) {
                    let folder = &mut self.folders[at];
                    folder.durable = folder.now();
                    folder.pending.clear();
                }
            }
        }
    }

    fn show(&self, folder: usize, chance: &impl Fn(u64) -> u64, into: &Path) {
        let folder = &self.folders[folder];
        let seen = chance(folder.pending.len() as u64 + 1);
        for (name, entry) in folder.after(usize::try_from(seen).unwrap()) {
            let path = into.join(name);
            match entry {
                Entry::Folder(below) => {
                    fs::create_dir(&path).unwrap();
                    self.show(below, chance, &path);
                }
                Entry::File(file) => fs::write(&path, self.content(file, chance)).unwrap(),
            }
        }
    }

    /// A file's bytes; in part, when they were not synced: cut anywhere, sectors of zeros in it.
    fn content(&self, file: usize, chance: &impl Fn(u64) -> u64) -> Vec<u8> {
        let (bytes, is_durable) = &self.files[file];
        let mut bytes = bytes.clone();
        if !is_durable {
            bytes.truncate(usize::try_from(chance(bytes.len() as u64 + 1)).unwrap());
            for sector in bytes.chunks_mut(512) {
                if chance(3) == 0 {
                    sector.fill(0);
                }
            }
        }
        bytes
    }
}
