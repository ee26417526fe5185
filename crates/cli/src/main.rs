//! The `stillpoint` binary: the server, the commands that talk to one, and the rescue commands
//! that need none.
//!
//! The composition root: here, and only here, the crates are put together. Everything a person
//! reads goes through [`output`] (the answer, on stdout) and [`failure`] (what went wrong, on
//! stderr); every command ends with one of the exit codes in [`failure::Exit`].
//!
//! **Invariant:** no rule lives here. What may be done is asked of the server.

mod cli;
mod cmd;
mod config;
mod credentials;
mod failure;
mod output;
mod private_file;
mod prompt;
mod record;
mod remote;
mod server;
mod size;
mod style;
mod target;
mod watch;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::Cli;

fn main() -> ExitCode {
    // Clap reports usage errors itself, in the same shape of colours, with exit code 2.
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report().into(),
    }
}
