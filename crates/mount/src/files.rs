//! What the kernel asks of the folder, and its answers.
//!
//! The root is inode 1, the disks follow in their order. Nothing ever changes while it is mounted,
//! so the kernel may keep what it was told, and the pages it read.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry, ReplyLseek, ReplyOpen, Request,
};
use stillpoint_model::error::with_causes;
use stillpoint_vault::{BackupInfo, BackupReader, Error, ReadCache, Vault};

use crate::OnTrouble;

/// How long the kernel may keep names and attributes.
const FOREVER: Duration = Duration::from_secs(24 * 3600);
/// How many different troubles are told; more would help nobody.
const MOST_TROUBLES: usize = 1000;
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

/// A backup as a file.
pub(crate) struct Disk {
    name: String,
    vault: Vault,
    info: BackupInfo,
    cache: Arc<ReadCache>,
    /// Opened when it is first read, so that mounting a thousand backups is not reading them.
    reader: Mutex<Option<BackupReader>>,
}

impl Disk {
    pub(crate) fn new(vault: Vault, info: BackupInfo, cache: Arc<ReadCache>) -> Self {
        Self {
            name: format!("{}.raw", info.backup_id),
            vault,
            info,
            cache,
            reader: Mutex::default(),
        }
    }

    fn size(&self) -> u64 {
        self.info.provisioned.get()
    }

    fn reader(&self) -> Result<BackupReader, Error> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reader) = &*reader {
            return Ok(reader.clone());
        }
        let (volume, backup) = (self.info.volume_id, self.info.backup_id);
        let opened = self.vault.open_backup(volume, backup, &self.cache)?;
        Ok(reader.insert(opened).clone())
    }

    /// What is there from `offset`: `size` bytes, fewer at the end.
    fn read(&self, offset: u64, size: u32) -> Result<Vec<u8>, Error> {
        let len = u64::from(size).min(self.size().saturating_sub(offset));
        let mut data = vec![0; usize::try_from(len).unwrap_or(0)];
        self.reader()?.read_at(offset, &mut data)?;
        Ok(data)
    }

    /// As `lseek` has it: where data is from an offset, or where a hole is; none past the end.
    fn seek(&self, offset: u64, whence: i32) -> Result<Option<u64>, Error> {
        if offset >= self.size() {
            return Ok(None);
        }
        let reader = self.reader()?;
        let mut at = offset;
        loop {
            let data = reader.next_data(at)?;
            match (whence, data) {
                (SEEK_DATA, data) => return Ok(data.map(|range| range.offset)),
                (_, Some(range)) if range.offset == at => at = range.end(),
                // The end counts as a hole.
                (_, _) => return Ok(Some(at.min(self.size()))),
            }
        }
    }
}

/// The folder.
pub(crate) struct Files {
    disks: Vec<Disk>,
    on_trouble: OnTrouble,
    /// What was told.
    told: Mutex<HashSet<String>>,
}

impl Files {
    pub(crate) fn new(disks: Vec<Disk>, on_trouble: OnTrouble) -> Self {
        Self {
            disks,
            on_trouble,
            told: Mutex::default(),
        }
    }

    fn disk(&self, ino: INodeNo) -> Option<&Disk> {
        let number = u64::from(ino).checked_sub(2)?;
        self.disks.get(usize::try_from(number).ok()?)
    }

    fn attr(&self, ino: INodeNo) -> Option<FileAttr> {
        if ino == INodeNo::ROOT {
            return Some(attr(ino, FileType::Directory, 0, UNIX_EPOCH));
        }
        let disk = self.disk(ino)?;
        let made = u64::try_from(disk.info.created.as_micros()).unwrap_or(0);
        let made = UNIX_EPOCH + Duration::from_micros(made);
        Some(attr(ino, FileType::RegularFile, disk.size(), made))
    }

    /// Tells why something cannot be read, the first time.
    fn tell(&self, disk: &Disk, offset: u64, error: &Error) {
        let cause = with_causes(error);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < MOST_TROUBLES && told.insert(format!("{} {cause}", disk.name)) {
            (self.on_trouble)(&format!("{} at byte {offset}: {cause}", disk.name));
        }
    }
}

fn attr(ino: INodeNo, kind: FileType, size: u64, at: std::time::SystemTime) -> FileAttr {
    let folder = kind == FileType::Directory;
    FileAttr {
        ino,
        size,
        blocks: size.div_ceil(512),
        atime: at,
        mtime: at,
        ctime: at,
        crtime: at,
        kind,
        perm: if folder { 0o555 } else { 0o444 },
        nlink: if folder { 2 } else { 1 },
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        rdev: 0,
        blksize: 1 << 17,
        flags: 0,
    }
}

/// The inode of a disk.
fn ino_of(number: usize) -> INodeNo {
    INodeNo(number as u64 + 2)
}

impl Filesystem for Files {
    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.disks.iter().position(|disk| *name == *disk.name);
        let found = found.filter(|_| parent == INodeNo::ROOT);
        match found.and_then(|number| self.attr(ino_of(number))) {
            Some(attr) => reply.entry(&FOREVER, &attr, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.attr(ino) {
            Some(attr) => reply.attr(&FOREVER, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // What was read once stays true.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(disk) = self.disk(ino) else {
            return reply.error(Errno::EISDIR);
        };
        match disk.read(offset, size) {
            Ok(data) => reply.data(&data),
            Err(error) => {
                self.tell(disk, offset, &error);
                reply.error(Errno::EIO);
            }
        }
    }

    fn lseek(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let (Some(disk), Ok(from)) = (self.disk(ino), u64::try_from(offset)) else {
            return reply.error(Errno::ENXIO);
        };
        if ![SEEK_DATA, SEEK_HOLE].contains(&whence) {
            return reply.error(Errno::EINVAL);
        }
        match disk.seek(from, whence) {
            Ok(Some(at)) => match i64::try_from(at) {
                Ok(at) => reply.offset(at),
                Err(_) => reply.error(Errno::EOVERFLOW),
            },
            Ok(None) => reply.error(Errno::ENXIO),
            Err(error) => {
                self.tell(disk, from, &error);
                reply.error(Errno::EIO);
            }
        }
    }

    fn readdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        if ino != INodeNo::ROOT {
            return reply.error(Errno::ENOTDIR);
        }
        let dots = [".", ".."].map(|name| (INodeNo::ROOT, FileType::Directory, name));
        let disks = self.disks.iter().enumerate();
        let disks =
            disks.map(|(number, disk)| (ino_of(number), FileType::RegularFile, disk.name.as_str()));
        // Each entry is told where the one after it is.
        for (next, (ino, kind, name)) in (1..).zip(dots.into_iter().chain(disks)) {
            if next > offset && reply.add(ino, next, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}
