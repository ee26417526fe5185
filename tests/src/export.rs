//! A real NFS server, from `scripts/nfs-server`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::debian::script;
use crate::process::Dialogue;

/// How long it may take to come up on a busy machine.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// nfs-ganesha, on a port of this machine. Dropping it ends it.
pub struct ExportServer {
    script: Dialogue,
    port: u16,
    _folder: TempDir,
}

impl ExportServer {
    /// Starts it with these exports: names, folders, and `:rw` or `:ro`; or `:new` and a size, for
    /// a file system of its own in memory.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start(exports: &[(&str, &Path, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(script("nfs-server"));
        command.arg(folder.path().join("server"));
        for (name, path, end) in exports {
            command.arg(format!("{name}={}{end}", path.display()));
        }
        let mut script = Dialogue::start("the NFS server", command, b'\n');
        let ready = script
            .receive(START_PATIENCE)
            .unwrap_or_else(|error| panic!("{error}"));
        let port = ready
            .strip_prefix("ready ")
            .and_then(|port| port.parse().ok());
        Self {
            script,
            port: port.unwrap_or_else(|| panic!("the NFS server says {ready}")),
            _folder: folder,
        }
    }

    /// Where it answers.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Kills it, without warning. What is exported stays.
    #[track_caller]
    pub fn kill(&mut self) {
        self.tell("kill");
    }

    /// Starts it again.
    #[track_caller]
    pub fn resume(&mut self) {
        self.tell("start");
    }

    #[track_caller]
    fn tell(&mut self, command: &str) {
        let sent = self.script.send(command);
        let answer = sent.and_then(|()| self.script.receive(START_PATIENCE));
        let answer = answer.unwrap_or_else(|error| panic!("{command}: {error}"));
        assert_eq!(answer, "ok", "{command}");
    }
}
