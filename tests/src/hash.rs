//! What proves that a volume holds the bytes it should.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use blake3::{Hash, Hasher};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::process::run;

/// How much is read at once, in bytes.
const PIECE: usize = 1 << 20;

/// The BLAKE3 hash of everything in a raw file or device, holes taken for the zeros they are.
///
/// # Panics
/// When it cannot be read.
#[track_caller]
pub fn file_hash(path: &Path) -> Hash {
    let hash = || -> std::io::Result<Hash> {
        let file = File::open(path)?;
        let end = seek(&file, SeekFrom::End(0))?;
        let mut hasher = Hasher::new();
        let mut at = 0;
        while at < end {
            let data = match seek(&file, SeekFrom::Data(at)) {
                Ok(data) => data,
                Err(Errno::NXIO) => end,
                // No such thing as holes here.
                Err(_) => at,
            };
            let hole = seek(&file, SeekFrom::Hole(data)).unwrap_or(end);
            add_zeros(&mut hasher, data - at);
            add_data(&mut hasher, &file, data, hole)?;
            at = hole;
        }
        Ok(hasher.finalize())
    };
    hash().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn add_zeros(hasher: &mut Hasher, mut len: u64) {
    static ZEROS: [u8; PIECE] = [0; PIECE];
    while len > 0 {
        let here = len.min(PIECE as u64);
        hasher.update(&ZEROS[..usize::try_from(here).expect("a small number")]);
        len -= here;
    }
}

fn add_data(hasher: &mut Hasher, file: &File, mut at: u64, end: u64) -> std::io::Result<()> {
    let mut buffer = vec![0; PIECE];
    while at < end {
        let len = usize::try_from((end - at).min(PIECE as u64)).expect("a small number");
        file.read_exact_at(&mut buffer[..len], at)?;
        hasher.update(&buffer[..len]);
        at += len as u64;
    }
    Ok(())
}

/// Checks the ext4 file system in a raw file or device, changing nothing: every structure, even
/// when the file system says it is clean.
///
/// # Panics
/// With what e2fsck found.
#[track_caller]
pub fn check_ext4(path: &Path) {
    run(Command::new("e2fsck").args(["-f", "-n"]).arg(path));
}

/// Whether the ext4 file system in a raw file or device is in order.
///
/// # Panics
/// When it cannot be looked at.
#[track_caller]
pub fn is_sound_ext4(path: &Path) -> bool {
    let status = Command::new("e2fsck")
        .args(["-f", "-n"])
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.expect("start e2fsck").success()
}
