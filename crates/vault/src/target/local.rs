//! Objects as files in a directory.
//!
//! A put writes an unnamed file (`O_TMPFILE`), fsyncs it, links it to its name, which fails when
//! the name is taken, and fsyncs the directory. A process that dies before the link leaves
//! nothing; after it, the whole object. Where the file system has no unnamed files, a file
//! `.NAME.N.part` in the root takes their place; listings pass over it and
//! [`Target::abandon`] removes what a crash left of it. Directories come with the first object in
//! them and go with the last. Nothing here looks at times or link counts.

#[cfg(test)]
pub(crate) mod power;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use stillpoint_model::{ByteCount, ByteRange, ErrorKind};

use super::walk::{Tree, list_page, names_in};
use super::{ListPage, ObjectName, Target, TargetError};
use crate::buffers::{Aligned, Buffers};
use crate::direct;

/// How often a put starts over because somebody else removed the directory under it.
const PUT_ATTEMPTS: usize = 64;

/// A directory of objects.
#[derive(Debug)]
pub struct LocalTarget {
    root: PathBuf,
    /// Whether to ask for unnamed files.
    unnamed: bool,
    /// Memory for what goes past the page cache.
    spare: Buffers<Aligned>,
    /// What was done to the folder, for those who cut the power.
    #[cfg(test)]
    log: power::Log,
}

impl LocalTarget {
    /// Uses an existing directory.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, TargetError> {
        let root = root.into();
        match fs::metadata(&root) {
            Ok(meta) if meta.is_dir() => Ok(Self {
                root,
                unnamed: true,
                spare: Buffers::default(),
                #[cfg(test)]
                log: power::Log::default(),
            }),
            Ok(_) => Err(TargetError::new(
                "open",
                &root.display(),
                ErrorKind::Invalid,
            )),
            Err(error) => Err(TargetError::from_io("open", &root.display(), error)),
        }
    }

    /// As on a file system that has no unnamed files.
    #[cfg(test)]
    pub(crate) fn with_named_parts(root: impl Into<PathBuf>) -> Result<Self, TargetError> {
        Ok(Self {
            unnamed: false,
            ..Self::open(root)?
        })
    }

    /// What was done to the folder so far.
    #[cfg(test)]
    pub(crate) fn log(&self) -> power::Log {
        self.log.clone()
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(name.as_str());
        let dir = path.parent().unwrap_or(&self.root);
        let written = match self.unnamed {
            true => self.write_unnamed(bytes),
            false => Err(rustix::io::Errno::OPNOTSUPP),
        };
        match written {
            Ok(file) => {
                self.place(dir, || link_unnamed(&file, &path))?;
                #[cfg(test)]
                self.log.linked(&self.root, &path);
            }
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {
                let part = self.write_part(name, bytes)?;
                let placed = self.place(dir, || fs::hard_link(&part, &path));
                #[cfg(test)]
                if placed.is_ok() {
                    self.log.linked(&self.root, &path);
                }
                placed.and(fs::remove_file(&part))?;
                #[cfg(test)]
                self.log.removed(&self.root, &part);
            }
            Err(error) => return Err(error.into()),
        }
        self.sync_up(dir)
    }

    /// Links into a directory that is made if need be. A neighbour's delete may take it away
    /// between the two, so they follow each other at once, and start over.
    fn place(&self, dir: &Path, link: impl Fn() -> io::Result<()>) -> io::Result<()> {
        for _ in 1..PUT_ATTEMPTS {
            match self.make_dirs(dir).and_then(|()| link()) {
                Err(error) if is_lost_directory(&error) && self.root.is_dir() => {}
                other => return other,
            }
        }
        link()
    }

    /// Makes the directories below the root. That one is there already is never a conflict, even
    /// when it is gone again a moment later: only the link may say that a name is taken.
    fn make_dirs(&self, dir: &Path) -> io::Result<()> {
        if dir == self.root || dir.is_dir() {
            return Ok(());
        }
        self.make_dirs(dir.parent().unwrap_or(&self.root))?;
        match fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Ok(()) => {
                #[cfg(test)]
                self.log.made(&self.root, dir);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the entries from the root down to `dir` durable, whoever made them.
    fn sync_up(&self, dir: &Path) -> io::Result<()> {
        let mut dir = dir;
        loop {
            self.sync_dir(dir)?;
            if dir == self.root {
                return Ok(());
            }
            dir = dir.parent().unwrap_or(&self.root);
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()?;
        #[cfg(test)]
        self.log.synced_folder(&self.root, dir);
        Ok(())
    }

    /// Writes a file that has no name yet, durably.
    fn write_unnamed(&self, bytes: &[u8]) -> Result<File, rustix::io::Errno> {
        let (flags, mode) = (OFlags::TMPFILE | OFlags::WRONLY, Mode::from_raw_mode(0o400));
        let opened = rustix::fs::open(&self.root, flags | OFlags::CLOEXEC, mode);
        let file = File::from(opened?);
        let io_errno = |error: io::Error| {
            rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO)
        };
        direct::write_new(&file, bytes, &self.spare).map_err(io_errno)?;
        #[cfg(test)]
        self.log.wrote(&file, bytes);
        file.sync_all().map_err(io_errno)?;
        #[cfg(test)]
        self.log.synced(&file);
        Ok(file)
    }

    /// The way of file systems without unnamed files.
    fn write_part(&self, name: &ObjectName, bytes: &[u8]) -> io::Result<PathBuf> {
        let mut attempt = 0_u64;
        let base = part_base(name.as_str());
        let (part, file) = loop {
            let part = self.root.join(format!("{base}.{attempt}.part"));
            match File::create_new(&part) {
                Ok(file) => break (part, file),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => attempt += 1,
                Err(error) => return Err(error),
            }
        };
        #[cfg(test)]
        {
            self.log.wrote(&file, bytes);
            self.log.linked(&self.root, &part);
        }
        let written = direct::write_new(&file, bytes, &self.spare);
        match written.and_then(|()| file.sync_all()) {
            Ok(()) => {
                #[cfg(test)]
                self.log.synced(&file);
                Ok(part)
            }
            Err(error) => fs::remove_file(&part).and(Err(error)),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        }
        #[cfg(test)]
        self.log.removed(&self.root, path);
        let mut dir = path.parent().unwrap_or(&self.root);
        while dir != self.root && fs::remove_dir(dir).is_ok() {
            #[cfg(test)]
            self.log.removed(&self.root, dir);
            dir = dir.parent().unwrap_or(&self.root);
        }
        match self.sync_dir(dir) {
            // Somebody else's delete took the directory away: its parent was synced by them.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// Whether a put failed as it does when its directory went away meanwhile: mostly with "not
/// found", and on ext4 with "not permitted" when the link comes after the removal.
fn is_lost_directory(error: &io::Error) -> bool {
    let errno = rustix::io::Errno::from_io_error(error);
    matches!(
        errno,
        Some(rustix::io::Errno::NOENT | rustix::io::Errno::PERM)
    )
}

fn link_unnamed(file: &File, path: &Path) -> io::Result<()> {
    let from = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    rustix::fs::linkat(CWD, from, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
    Ok(())
}

/// How the names of an object's parts start: slashes are no part of a file's name.
pub(super) fn part_base(name: &str) -> String {
    format!(".{}", name.replace('/', "+"))
}

impl Target for LocalTarget {
    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), TargetError> {
        self.put(name, bytes)
            .map_err(|error| TargetError::from_io("put", name, error))
    }

    fn get(&self, name: &ObjectName, range: ByteRange) -> Result<Vec<u8>, TargetError> {
        let mut bytes = vec![];
        self.get_into(name, range, &mut bytes)?;
        Ok(bytes)
    }

    fn get_into(
        &self,
        name: &ObjectName,
        range: ByteRange,
        into: &mut Vec<u8>,
    ) -> Result<(), TargetError> {
        let failed = |error| TargetError::from_io("get", name, error);
        let file = File::open(self.path(name.as_str())).map_err(failed)?;
        // The length is checked before anything of that size is allocated.
        if file.metadata().map_err(failed)?.len() < range.end() {
            return Err(TargetError::new("get", name, ErrorKind::Corrupt));
        }
        let len = usize::try_from(range.len)
            .map_err(|_| TargetError::new("get", name, ErrorKind::Invalid))?;
        into.resize(len, 0);
        direct::read(&file, into, range.offset, &self.spare).map_err(failed)
    }

    fn can_fill_up(&self) -> bool {
        true
    }

    fn head(&self, name: &ObjectName) -> Result<ByteCount, TargetError> {
        match fs::symlink_metadata(self.path(name.as_str())) {
            Ok(meta) if meta.is_file() => Ok(ByteCount::new(meta.len())),
            Ok(_) => Err(TargetError::new("head", name, ErrorKind::NotFound)),
            Err(error) => Err(TargetError::from_io("head", name, error)),
        }
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage, TargetError> {
        list_page(self, prefix, after, limit)
            .map_err(|error| TargetError::from_io("list", prefix, error))
    }

    fn delete(&self, name: &ObjectName) -> Result<(), TargetError> {
        self.remove(&self.path(name.as_str()))
            .map_err(|error| TargetError::from_io("delete", name, error))
    }

    fn abandon(&self, prefix: &str) -> Result<(), TargetError> {
        let failed = |error| TargetError::from_io("abandon", prefix, error);
        let base = part_base(prefix);
        for entry in fs::read_dir(&self.root).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(&base) && name.ends_with(".part") {
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        // A put that died between its directory and its object left the directory.
        let dir = self.path(prefix.trim_end_matches('/'));
        let mut dir = dir.as_path();
        while dir != self.root && dir.starts_with(&self.root) && fs::remove_dir(dir).is_ok() {
            dir = dir.parent().unwrap_or(&self.root);
        }
        Ok(())
    }
}

impl Tree for LocalTarget {
    fn children(&self, dir: &str) -> io::Result<Option<Vec<String>>> {
        match names_in(&self.root.join(dir)) {
            // The root is another matter: a missing mount must never look like an empty target.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !dir.is_empty() => {
                fs::metadata(&self.root)?;
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    fn file_len(&self, path: &str) -> io::Result<Option<u64>> {
        match fs::symlink_metadata(self.root.join(path)) {
            Ok(meta) => Ok(meta.is_file().then_some(meta.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
