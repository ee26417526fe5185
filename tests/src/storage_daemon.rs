//! `qemu-storage-daemon` with an explicit block graph, spoken with over its monitor.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::process::{Dialogue, bound_command};
use crate::wait::PATIENCE;

/// A running storage daemon. Dropping it kills it; [`StorageDaemon::quit`] ends it in order.
pub struct StorageDaemon {
    process: Dialogue,
}

impl StorageDaemon {
    /// Opens the nodes of `graph`, each one `--blockdev` argument as JSON, children first.
    ///
    /// # Panics
    /// When a node cannot be opened.
    #[track_caller]
    pub fn start<S: AsRef<str>>(graph: &[S]) -> Self {
        Self::try_start(graph, Stdio::inherit()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// [`StorageDaemon::start`], saying why not on `complaints`.
    ///
    /// # Errors
    /// A node cannot be opened.
    pub fn try_start<S: AsRef<str>>(graph: &[S], complaints: Stdio) -> Result<Self, String> {
        let mut command = bound_command("qemu-storage-daemon");
        command.stderr(complaints).args([
            "--chardev",
            "stdio,id=monitor",
            "--monitor",
            "chardev=monitor",
        ]);
        for node in graph {
            command.args(["--blockdev", node.as_ref()]);
        }
        let process = Dialogue::start("qemu-storage-daemon", command, b'\n');
        let mut daemon = Self { process };
        daemon.reply("QMP")?;
        daemon.process.send(r#"{"execute":"qmp_capabilities"}"#)?;
        daemon.reply("return")?;
        Ok(daemon)
    }

    /// Shows `node` as the raw file `path`, which must exist.
    ///
    /// # Panics
    /// When the export is refused.
    #[track_caller]
    pub fn export_file(&mut self, node: &str, path: &Path, writable: bool) {
        let export = json!({
            "type": "fuse", "id": node, "node-name": node, "mountpoint": path, "writable": writable,
        });
        self.execute("block-export-add", &export);
    }

    /// Runs a monitor command and gives what it returns.
    ///
    /// # Panics
    /// When it answers with an error, or not at all.
    #[track_caller]
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Value {
        let request = json!({ "execute": command, "arguments": arguments });
        self.process
            .send(&request.to_string())
            .unwrap_or_else(|error| panic!("{error}"));
        self.reply("return")
            .unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// Ends the daemon: exports are taken down, everything is flushed, images are closed.
    ///
    /// # Panics
    /// When it fails or does not end.
    #[track_caller]
    pub fn quit(mut self) {
        self.execute("quit", &json!({}));
        let status = self
            .process
            .wait(PATIENCE)
            .unwrap_or_else(|error| panic!("{error}"));
        assert!(status.success(), "qemu-storage-daemon ended with {status}");
    }

    /// The value under `key` of the next message that is no event.
    fn reply(&mut self, key: &str) -> Result<Value, String> {
        loop {
            let line = self.process.receive(PATIENCE)?;
            let mut message: Value = serde_json::from_str(&line).map_err(|e| e.to_string())?;
            if let Some(value) = message.get_mut(key) {
                return Ok(value.take());
            }
            if message.get("event").is_none() {
                return Err(line);
            }
        }
    }
}
