//! Keeping the idle server small.
//!
//! glibc's allocator keeps what it was once given: eight arenas per core, and, after the first
//! large block was freed, every large block since (a login alone takes 19 MiB for a moment).
//! Measured here: 127 MiB idle after four logins and a backup, 30 MiB with these settings. They
//! are read before `main` and can otherwise only be set by unsafe code, so the server starts
//! itself over once, as the same process.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Blocks from 4 MiB on go back to the system at once; the vault's smaller buffers are reused.
const SETTINGS: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "2"),
    ("MALLOC_MMAP_THRESHOLD_", "4194304"),
    ("MALLOC_TRIM_THRESHOLD_", "4194304"),
];

/// Starts the process over with the settings, unless somebody made some already. When that
/// cannot be done, the server is larger and works as well.
pub fn settle() {
    if !cfg!(target_env = "gnu") || SETTINGS.iter().any(|(name, _)| env::var_os(name).is_some()) {
        return;
    }
    let Ok(program) = env::current_exe() else {
        return;
    };
    let error = Command::new(program)
        .args(env::args_os().skip(1))
        .envs(SETTINGS)
        .exec();
    tracing::debug!(%error, "the allocator keeps its defaults");
}
