//! `stillpoint completion`.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::failure::{Result, print};

/// Print the completion script of a shell
#[derive(Args, Debug)]
#[command(after_help = "Try it: source <(stillpoint completion bash)")]
pub struct Command {
    /// The shell.
    shell: Shell,
}

impl Command {
    /// Prints the script.
    pub fn run(self) -> Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "stillpoint", &mut script);
        print(String::from_utf8_lossy(&script).trim_end())
    }
}
