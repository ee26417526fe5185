//! What a target asks of a mounted file system, and the kernel's answers.
//!
//! Paths are relative to the root of the target and have no slash at either end; the root is empty.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statfs, statx};
use stillpoint_model::ByteRange;

use crate::target::walk::names_in;

/// What `statfs` calls an NFS.
const NFS_MAGIC: u64 = 0x6969;

/// Which file it is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    pub device: u64,
    pub inode: u64,
}

/// A file system, call by call. Each call may fail as one of a network file system does.
pub(super) trait Mount: Send + Sync {
    /// Whether the root is still where it was when the target was opened.
    fn is_there(&self) -> io::Result<()>;
    /// Writes a new file, durably.
    fn write_new(&self, path: &str, bytes: &[u8]) -> io::Result<FileId>;
    /// Gives a file another name, which must be free.
    fn link(&self, from: &str, to: &str) -> io::Result<()>;
    /// Which file a name leads to, as the server says.
    fn open_id(&self, path: &str) -> io::Result<FileId>;
    /// How long a file is, as the server says. `NotFound` for a directory.
    fn open_len(&self, path: &str) -> io::Result<u64>;
    /// Reads exactly a range; `UnexpectedEof` when the file ends before it does.
    fn read(&self, path: &str, range: ByteRange, into: &mut Vec<u8>) -> io::Result<()>;
    /// Removes the name of a file.
    fn unlink(&self, path: &str) -> io::Result<()>;
    /// Makes a directory.
    fn mkdir(&self, path: &str) -> io::Result<()>;
    /// Removes an empty directory.
    fn rmdir(&self, path: &str) -> io::Result<()>;
    /// Makes what is in a directory durable.
    fn sync_dir(&self, path: &str) -> io::Result<()>;
    /// The names in a directory, those of directories with a slash at their end.
    fn read_dir(&self, path: &str) -> io::Result<Vec<String>>;
    /// Forgets what was remembered of a directory that has changed since.
    fn refresh(&self, path: &str) -> io::Result<()>;
}

/// Why a directory is no mounted NFS that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmounted {
    /// It is of another kind, probably the empty directory below the mount.
    #[error("no NFS is mounted there")]
    NotNfs,
    /// Opening a file does not ask the server.
    #[error("it is mounted with `nocto`, so that this machine does not see what others change")]
    NoCloseToOpen,
}

/// The kernel's file system calls below a directory.
pub(super) struct KernelMount {
    root: PathBuf,
    device: u64,
}

/// Whether a directory is on an NFS.
pub(super) fn is_nfs(root: &Path) -> io::Result<bool> {
    let kind = statfs(root)?.f_type;
    Ok(u64::try_from(kind).is_ok_and(|kind| kind == NFS_MAGIC))
}

impl KernelMount {
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        if !is_nfs(root)? {
            return Err(io::Error::other(Unmounted::NotNfs));
        }
        let device = fs::metadata(root)?.dev();
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        if options_of(&mounts, device).any(|option| option == "nocto") {
            return Err(io::Error::other(Unmounted::NoCloseToOpen));
        }
        Ok(Self::of_any_kind(root, device))
    }

    pub(super) fn of_any_kind(root: &Path, device: u64) -> Self {
        Self {
            root: root.to_owned(),
            device,
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        match path {
            "" => self.root.clone(),
            path => self.root.join(path),
        }
    }
}

/// The options of the file system of a device, per mount and of the file system, out of
/// `/proc/self/mountinfo` (proc(5)).
fn options_of(mounts: &str, device: u64) -> impl Iterator<Item = &str> {
    let device = (rustix::fs::major(device), rustix::fs::minor(device));
    let device = format!("{}:{}", device.0, device.1);
    let of_device = move |line: &&str| line.split(' ').nth(2) == Some(device.as_str());
    let lines = mounts.lines().filter(of_device);
    lines.flat_map(|line| {
        let options = line.split(' ').nth(5).into_iter();
        let (_, rest) = line.split_once(" - ").unwrap_or_default();
        options
            .chain(rest.split(' ').nth(2))
            .flat_map(|list| list.split(','))
    })
}

impl Mount for KernelMount {
    fn is_there(&self) -> io::Result<()> {
        match fs::metadata(&self.root)?.dev() == self.device {
            true => Ok(()),
            false => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "it is not mounted any more",
            )),
        }
    }

    fn write_new(&self, path: &str, bytes: &[u8]) -> io::Result<FileId> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(self.path(path))?;
        file.write_all_at(bytes, 0)?;
        file.sync_all()?;
        id_of(&file)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        fs::hard_link(self.path(from), self.path(to))
    }

    fn open_id(&self, path: &str) -> io::Result<FileId> {
        id_of(&File::open(self.path(path))?)
    }

    fn open_len(&self, path: &str) -> io::Result<u64> {
        let meta = File::open(self.path(path))?.metadata()?;
        match meta.is_file() {
            true => Ok(meta.len()),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn read(&self, path: &str, range: ByteRange, into: &mut Vec<u8>) -> io::Result<()> {
        let file = File::open(self.path(path))?;
        // The length is checked before anything of that size is allocated.
        if file.metadata()?.len() < range.end() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let len = usize::try_from(range.len).map_err(|_| io::ErrorKind::InvalidInput)?;
        into.resize(len, 0);
        file.read_exact_at(into, range.offset)
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.path(path))
    }

    fn mkdir(&self, path: &str) -> io::Result<()> {
        fs::create_dir(self.path(path))
    }

    fn rmdir(&self, path: &str) -> io::Result<()> {
        fs::remove_dir(self.path(path))
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        match File::open(self.path(path)).and_then(|dir| dir.sync_all()) {
            // Some clients cannot, and need not: the server has answered.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            other => other,
        }
    }

    fn read_dir(&self, path: &str) -> io::Result<Vec<String>> {
        names_in(&self.path(path))
    }

    fn refresh(&self, path: &str) -> io::Result<()> {
        let flags = AtFlags::STATX_FORCE_SYNC;
        statx(CWD, self.path(path), flags, StatxFlags::BASIC_STATS)?;
        Ok(())
    }
}

fn id_of(file: &File) -> io::Result<FileId> {
    let meta = file.metadata()?;
    Ok(FileId {
        device: meta.dev(),
        inode: meta.ino(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_those_of_the_device() {
        let mounts = "22 1 8:1 / / rw,noatime - ext4 /dev/sda1 rw\n\
                      97 22 0:52 / /mnt rw,relatime shared:3 - nfs4 a:/x rw,vers=4.1,nocto,hard\n";
        let device = rustix::fs::makedev(0, 52);
        let options: Vec<_> = options_of(mounts, device).collect();
        assert_eq!(
            options,
            ["rw", "relatime", "rw", "vers=4.1", "nocto", "hard"]
        );
        assert_eq!(options_of(mounts, rustix::fs::makedev(8, 1)).count(), 3);
    }

    #[test]
    fn a_directory_that_is_no_mount_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = KernelMount::open(dir.path()).err().unwrap();
        let why = error.downcast::<Unmounted>();
        assert_eq!(why.ok(), Some(Unmounted::NotNfs));
    }

    #[test]
    fn a_mount_that_went_away_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let mount = KernelMount::of_any_kind(dir.path(), u64::MAX);
        assert_eq!(
            mount.is_there().unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
    }
}
