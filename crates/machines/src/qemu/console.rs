//! What the guest writes to its serial console.
//!
//! QEMU keeps the last [`RING`] bytes of it in memory and forgets what comes before, so a guest that
//! writes without end fills nothing while no agent runs. Whoever looks at a machine moves what is in
//! the ring to the end of a file, which is cut when it grows, and which is there when the machine is
//! off. What a machine wrote after it was last looked at is lost when it crashes.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use stillpoint_model::ByteCount;

use super::machine::{Machine, lock};
use crate::Error;
use crate::qmp::Qmp;

/// What QEMU keeps: a power of two.
pub(super) const RING: u64 = 256 << 10;
/// How long it may take to hand it out: a console is not worth waiting for.
const DRAIN: Duration = Duration::from_secs(2);

impl Machine {
    /// The end of the console, at most `max` bytes of it.
    pub(super) fn console(&self, max: ByteCount) -> Result<Vec<u8>, Error> {
        if let Ok(Some(qmp)) = self.link() {
            self.drain_console(&qmp);
        }
        self.folder.console(max)
    }

    /// Moves what the guest wrote from the machine to the file, as far as that can be done: nothing
    /// else waits or fails for it.
    pub(super) fn drain_console(&self, qmp: &Qmp) {
        // One at a time: what is taken first stands first.
        let _writes = lock(&self.console_writer);
        let arguments = json!({"device": "console", "size": RING, "format": "base64"});
        let Ok(answer) = qmp.call("ringbuf-read", &arguments, DRAIN) else {
            return;
        };
        let text = STANDARD.decode(answer.as_str().unwrap_or_default());
        let added = self.folder.append_console(&text.unwrap_or_default());
        if let Err(error) = added {
            tracing::warn!(instance = %self.id, %error, "a part of its console is lost");
        }
    }
}
