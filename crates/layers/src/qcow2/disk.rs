//! The system calls that change the storage, in one place, so that tests can end a run between
//! any two of them.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::FallocateFlags;

pub(super) fn create(options: &OpenOptions, path: &Path) -> io::Result<File> {
    gate()?;
    #[cfg(test)]
    let was_there = path.exists();
    let file = options.open(path)?;
    #[cfg(test)]
    power::note(|disk| disk.opened(&file, path, was_there));
    Ok(file)
}

pub(super) fn write(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    #[cfg(test)]
    stop::tear(file, bytes, offset);
    gate()?;
    file.write_all_at(bytes, offset)?;
    #[cfg(test)]
    power::note(|disk| disk.wrote(file, bytes, offset));
    Ok(())
}

pub(super) fn set_len(file: &File, len: u64) -> io::Result<()> {
    gate()?;
    file.set_len(len)?;
    #[cfg(test)]
    power::note(|disk| disk.set_len(file, len));
    Ok(())
}

/// Gives a stretch within a file's length its blocks, if the file system can. It reads as before.
pub(super) fn allocate(file: &File, offset: u64, len: u64) -> io::Result<()> {
    gate()?;
    match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, offset, len) {
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        other => Ok(other?),
    }
}

pub(super) fn sync_data(file: &File) -> io::Result<()> {
    gate()?;
    file.sync_data()?;
    #[cfg(test)]
    power::note(|disk| disk.synced(file));
    Ok(())
}

pub(super) fn sync_all(file: &File) -> io::Result<()> {
    gate()?;
    file.sync_all()?;
    #[cfg(test)]
    power::note(|disk| disk.synced(file));
    Ok(())
}

pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    gate()?;
    fs::rename(from, to)?;
    #[cfg(test)]
    power::note(|disk| disk.renamed(from, to));
    Ok(())
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    gate()?;
    fs::remove_file(path)?;
    #[cfg(test)]
    power::note(|disk| disk.removed(path));
    Ok(())
}

pub(super) fn set_mode(path: &Path, mode: Permissions) -> io::Result<()> {
    gate()?;
    fs::set_permissions(path, mode)
}

pub(super) fn set_file_mode(file: &File, mode: Permissions) -> io::Result<()> {
    gate()?;
    file.set_permissions(mode)
}

#[cfg(not(test))]
#[inline]
#[expect(clippy::unnecessary_wraps, reason = "tests make it fail")]
const fn gate() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
use stop::gate;

#[cfg(test)]
pub(crate) mod power;

/// Ends a run after a number of calls, as far as the storage can tell: nothing that this thread
/// does reaches it any more.
#[cfg(test)]
pub(crate) mod stop {
    use std::cell::Cell;
    use std::fs::File;
    use std::io;
    use std::os::unix::fs::FileExt;

    thread_local! {
        static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
        static STOPPED: Cell<bool> = const { Cell::new(false) };
    }

    /// Lets so many calls through, and none after them.
    pub(crate) fn after(calls: u64) {
        LEFT.set(Some(calls));
        STOPPED.set(false);
    }

    /// Lets every call through again; whether one was held back.
    pub(crate) fn never() -> bool {
        LEFT.set(None);
        STOPPED.replace(false)
    }

    pub(super) fn gate() -> io::Result<()> {
        match LEFT.get() {
            None => Ok(()),
            Some(0) => Err(io::Error::other("the run is over")),
            Some(left) => {
                LEFT.set(Some(left - 1));
                Ok(())
            }
        }
        .inspect_err(|_| STOPPED.set(true))
    }

    /// What a killed process leaves of a long write: the first half. A sector is never torn.
    pub(super) fn tear(file: &File, bytes: &[u8], offset: u64) {
        if LEFT.get() == Some(0) && !STOPPED.get() {
            let half = bytes.len() / 1024 * 512;
            file.write_all_at(&bytes[..half], offset).expect("tears");
            super::power::note(|disk| disk.wrote(file, &bytes[..half], offset));
        }
    }
}
