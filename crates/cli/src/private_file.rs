//! Small files that are written once: keys, passwords, notes.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};

/// Only the owner may read it.
pub const PRIVATE_FILE: u32 = 0o600;

/// Writes a file that must not exist yet, so that only its owner can read it, and makes sure
/// that it is on the disk. Answers false, and changes nothing, when it exists.
pub fn write_once(path: &Path, content: &[u8]) -> Result<bool> {
    if path.exists() {
        return Ok(false);
    }
    match write(path, content) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(Failure::file(
            format_args!("write {}", path.display()),
            &error,
        )),
    }
}

/// Complete under another name first: a key that was cut by a power loss would be worse than none.
fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let temporary = unfinished(folder, path);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(PRIVATE_FILE)
        .open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    linked?;
    File::open(folder)?.sync_all()
}

fn unfinished(folder: &Path, path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".unfinished");
    folder.join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = folder.path().join("root.key");
        assert!(write_once(&key, b"first").expect("written"));
        assert!(!write_once(&key, b"second").expect("kept"));
        assert_eq!(fs::read(&key).expect("the key"), b"first");
    }
}
