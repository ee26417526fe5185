//! What runs the guests' processors.
//!
//! `/dev/kvm` may be there and still fail every guest, so it is tried: a machine without a disk
//! whose firmware must get through its work, which it does in the processor's oldest modes, and say
//! so.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use super::QemuConfig;

/// How long the firmware may take.
const TRIAL: Duration = Duration::from_secs(10);
/// What the firmware says at its end, when there is nothing to boot from.
const DONE: &str = "No bootable device";

/// What runs the guests' processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor itself.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

impl Accelerator {
    pub(super) const fn argument(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg,thread=multi",
        }
    }

    pub(super) const fn processor(self) -> &'static str {
        match self {
            Self::Kvm => "host",
            Self::Tcg => "max",
        }
    }
}

/// KVM if a guest runs in it, otherwise TCG.
pub(super) fn find(config: &QemuConfig) -> Accelerator {
    let found = if runs(config, Accelerator::Kvm) {
        Accelerator::Kvm
    } else {
        Accelerator::Tcg
    };
    tracing::info!(accelerator = ?found, "tried what runs guests here");
    found
}

/// Whether firmware runs to its end.
pub(super) fn runs(config: &QemuConfig, accelerator: Accelerator) -> bool {
    let child = Command::new(&config.program)
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-m",
            "64",
        ])
        .args(["-machine", "q35", "-accel", accelerator.argument()])
        .args(["-cpu", accelerator.processor(), "-no-reboot"])
        .args(["-chardev", "stdio,id=firmware"])
        .args(["-device", "isa-debugcon,iobase=0x402,chardev=firmware"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else {
        return false;
    };
    let (sender, ended) = channel();
    if let Some(output) = child.stdout.take() {
        std::thread::spawn(move || {
            let lines = BufReader::new(output.take(1 << 20)).split(b'\n');
            let mut lines = lines.map_while(Result::ok);
            let is_done = lines.any(|line| String::from_utf8_lossy(&line).contains(DONE));
            let _too_late = sender.send(is_done);
        });
    }
    let is_done = ended.recv_timeout(TRIAL).unwrap_or(false);
    let _gone_already = child.kill();
    let _reaped = child.wait();
    is_done
}
