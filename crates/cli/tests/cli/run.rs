//! Running the binary, apart from whoever runs the tests.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::stub::Stub;

/// The binary, in an environment that holds nothing of this machine's user.
pub fn command(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stillpoint"));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("XDG_CONFIG_HOME", home.join("config"))
        .stdin(Stdio::null());
    command
}

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    /// The exit code.
    pub code: i32,
    /// The answer.
    pub stdout: String,
    /// Everything else.
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("UTF-8 on stdout"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8 on stderr"),
        }
    }
}

impl Ended {
    /// All of it, for golden files.
    pub fn shown(&self) -> String {
        format!(
            "exit {}\n--- stdout\n{}--- stderr\n{}",
            self.code, self.stdout, self.stderr
        )
    }
}

/// Runs a command that needs no server.
pub fn run(args: &[&str]) -> Ended {
    let home = TempDir::new().expect("a home");
    command(home.path())
        .args(args)
        .output()
        .expect("started")
        .into()
}

/// Runs a command against the stub.
pub fn run_at(stub: &Stub, args: &[&str]) -> Ended {
    let home = TempDir::new().expect("a home");
    command(home.path())
        .args(args)
        .env("STILLPOINT_SERVER", stub.url())
        .env("STILLPOINT_TOKEN", "stp_test")
        .output()
        .expect("started")
        .into()
}
