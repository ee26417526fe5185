//! What a loss of power leaves of a folder: what was synced, and anything of the rest.
//!
//! Every change that goes through [`super`] is noted. [`lose`] then rewrites the folder as a disk
//! could show it afterwards: each write that was not synced is there, or not, or in part, whatever
//! came of those after it; each folder has seen some first of the names that were given and taken
//! since it was synced.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A change of a file's content.
enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

/// A file as it is durably, and what is not durable yet.
#[derive(Default)]
struct Content {
    durable: Vec<u8>,
    pending: Vec<Change>,
}

/// A change of a folder.
enum Naming {
    Made(String, usize),
    Renamed(String, String),
    Removed(String),
}

#[derive(Default)]
struct Names {
    durable: BTreeMap<String, usize>,
    pending: Vec<Naming>,
}

struct Disk {
    files: Vec<Content>,
    by_inode: HashMap<u64, usize>,
    folders: BTreeMap<PathBuf, Names>,
    by_folder_inode: HashMap<u64, PathBuf>,
}

thread_local! {
    static DISK: RefCell<Option<Disk>> = const { RefCell::new(None) };
}

/// Takes what these folders hold for durable, and notes what this thread changes from now on.
pub(crate) fn begin(folders: &[PathBuf]) {
    let mut disk = Disk {
        files: Vec::new(),
        by_inode: HashMap::new(),
        folders: BTreeMap::new(),
        by_folder_inode: HashMap::new(),
    };
    for folder in folders {
        let inode = fs::metadata(folder).unwrap().ino();
        disk.by_folder_inode.insert(inode, folder.clone());
        let mut names = Names::default();
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let durable = fs::read(entry.path()).unwrap();
            let id = disk.add(entry.metadata().unwrap().ino(), durable);
            names.durable.insert(name_of(&entry.path()), id);
        }
        disk.folders.insert(folder.clone(), names);
    }
    DISK.set(Some(disk));
}

/// Rewrites the folders as they may be after the power was lost, chosen by `seed`.
pub(crate) fn lose(seed: u64) {
    let Some(disk) = DISK.take() else {
        return;
    };
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for (folder, names) in disk.folders {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            fs::remove_file(entry.path()).unwrap();
        }
        let seen = chance.below(names.pending.len() as u64 + 1);
        let mut left = names.durable;
        let seen = usize::try_from(seen).unwrap();
        names
            .pending
            .iter()
            .take(seen)
            .for_each(|n| n.apply(&mut left));
        for (name, id) in left {
            let content = disk.files[id].after_loss(&mut chance);
            fs::write(folder.join(name), content).unwrap();
        }
    }
}

/// Notes one change, if any are noted.
pub(super) fn note(change: impl FnOnce(&mut Note<'_>)) {
    DISK.with_borrow_mut(|disk| {
        if let Some(disk) = disk {
            change(&mut Note(disk));
        }
    });
}

/// What can be noted.
pub(super) struct Note<'a>(&'a mut Disk);

impl Note<'_> {
    /// A file was opened that may be new.
    pub(super) fn opened(&mut self, file: &File, path: &Path, was_there: bool) {
        let metadata = file.metadata().unwrap();
        if was_there {
            if metadata.len() == 0 {
                self.change(file, Change::SetLen(0));
            }
            return;
        }
        let id = self.0.add(metadata.ino(), Vec::new());
        self.name(path, Naming::Made(name_of(path), id));
    }

    pub(super) fn wrote(&mut self, file: &File, bytes: &[u8], offset: u64) {
        self.change(file, Change::Write(offset, bytes.to_vec()));
    }

    pub(super) fn set_len(&mut self, file: &File, len: u64) {
        self.change(file, Change::SetLen(len));
    }

    /// A file or a folder was synced.
    pub(super) fn synced(&mut self, file: &File) {
        let inode = file.metadata().unwrap().ino();
        let folder = self.0.by_folder_inode.get(&inode);
        if let Some(names) = folder.and_then(|folder| self.0.folders.get_mut(folder)) {
            for naming in names.pending.drain(..) {
                naming.apply(&mut names.durable);
            }
        } else if let Some(id) = self.0.by_inode.get(&inode) {
            let content = &mut self.0.files[*id];
            for change in content.pending.drain(..) {
                change.apply(&mut content.durable);
            }
        }
    }

    pub(super) fn renamed(&mut self, from: &Path, to: &Path) {
        self.name(to, Naming::Renamed(name_of(from), name_of(to)));
    }

    pub(super) fn removed(&mut self, path: &Path) {
        self.name(path, Naming::Removed(name_of(path)));
    }

    fn name(&mut self, path: &Path, naming: Naming) {
        if let Some(names) = self.0.folders.get_mut(path.parent().unwrap()) {
            names.pending.push(naming);
        }
    }

    fn change(&mut self, file: &File, change: Change) {
        let inode = file.metadata().unwrap().ino();
        if let Some(id) = self.0.by_inode.get(&inode) {
            self.0.files[*id].pending.push(change);
        }
    }
}

impl Disk {
    fn add(&mut self, inode: u64, durable: Vec<u8>) -> usize {
        self.files.push(Content {
            durable,
            pending: Vec::new(),
        });
        let id = self.files.len() - 1;
        self.by_inode.insert(inode, id);
        id
    }
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Made(name, id) => drop(names.insert(name.clone(), *id)),
            Self::Renamed(from, to) => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
            Self::Removed(name) => drop(names.remove(name)),
        }
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::SetLen(len) => content.resize(usize::try_from(*len).unwrap(), 0),
            Self::Write(offset, bytes) => {
                let start = usize::try_from(*offset).unwrap();
                let end = start + bytes.len();
                content.resize(content.len().max(end), 0);
                content[start..end].copy_from_slice(bytes);
            }
        }
    }
}

impl Content {
    fn after_loss(&self, chance: &mut Chance) -> Vec<u8> {
        let mut content = self.durable.clone();
        for change in &self.pending {
            match (chance.below(3), change) {
                (0, _) => {}
                // A sector is never torn.
                (1, Change::Write(offset, bytes)) => {
                    let sectors = bytes.len() as u64 / 512;
                    let kept = usize::try_from(chance.below(sectors + 1) * 512).unwrap();
                    Change::Write(*offset, bytes[..kept].to_vec()).apply(&mut content);
                }
                _ => change.apply(&mut content),
            }
        }
        content
    }
}

/// Small numbers from a seed.
struct Chance(u64);

impl Chance {
    const fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}
