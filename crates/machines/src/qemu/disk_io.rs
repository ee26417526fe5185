//! How disks are opened: as well as the place they are in can.
//!
//! Not every file system takes direct I/O, and `io_uring` may be switched off by the kernel or
//! forbidden by a container. A machine that asked for either in vain would not start, so it is
//! tried: QEMU opens a file in that place and ends.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::json;

use super::graph::for_machine;

/// How long opening a file may take.
const TRIAL: Duration = Duration::from_secs(10);
/// The file that is opened.
const TRIED: &str = ".disk-io";

/// How disks are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskIo {
    /// Past the host's page cache.
    pub direct: bool,
    /// By `io_uring`, otherwise by threads.
    pub io_uring: bool,
}

impl DiskIo {
    /// What a machine should have.
    pub const BEST: Self = Self {
        direct: true,
        io_uring: true,
    };

    /// From the best to what always works.
    const ALL: [Self; 4] = [
        Self::BEST,
        Self {
            direct: true,
            io_uring: false,
        },
        Self {
            direct: false,
            io_uring: true,
        },
        Self {
            direct: false,
            io_uring: false,
        },
    ];

    /// The best way that works for this program and files in this folder.
    pub fn find(program: &Path, folder: &Path) -> Self {
        let path = folder.join(TRIED);
        let is_made = File::create(&path).and_then(|file| file.set_len(1 << 20));
        let works = |way: &Self| is_made.is_ok() && way.works(program, &path);
        let [.., last] = Self::ALL;
        let found = Self::ALL.into_iter().find(works).unwrap_or(last);
        let _it_may_stay = std::fs::remove_file(&path);
        tracing::info!(
            direct = found.direct,
            io_uring = found.io_uring,
            "tried how disks are opened"
        );
        found
    }

    fn works(self, program: &Path, path: &Path) -> bool {
        let graph = json!({
            "driver": "raw", "node-name": "tried",
            "file": { "driver": "file", "filename": path },
        });
        let child = Command::new(program)
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-machine", "none", "-S", "-monitor", "stdio"])
            .args(["-blockdev", &for_machine(&graph, self).to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        child.is_ok_and(quits)
    }
}

/// Whether it gets as far as its monitor, and ends there when it is told to.
fn quits(mut child: Child) -> bool {
    if let Some(mut monitor) = child.stdin.take() {
        let _it_may_have_ended = monitor.write_all(b"quit\n");
    }
    let (sender, ended) = channel();
    if let Some(mut output) = child.stdout.take() {
        std::thread::spawn(move || {
            let _all = output.read_to_end(&mut Vec::new());
            let _too_late = sender.send(());
        });
    }
    if ended.recv_timeout(TRIAL).is_err() {
        let _gone_already = child.kill();
    }
    child.wait().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qemu::tests::qemu;

    #[test]
    fn what_is_found_works_where_it_was_tried() {
        let folder = tempfile::tempdir().unwrap();
        let found = DiskIo::find(qemu(), folder.path());
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 0, "nothing is left of the trial");
        let file = folder.path().join("disk");
        File::create(&file).unwrap().set_len(1 << 20).unwrap();
        assert!(found.works(qemu(), &file), "{found:?}");
        assert!(!found.works(qemu(), &folder.path().join("absent")));
    }

    #[test]
    fn a_program_that_is_none_can_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let found = DiskIo::find(Path::new("/bin/false"), folder.path());
        assert_eq!((found.direct, found.io_uring), (false, false));
    }
}
