//! `stillpoint vault`.

use clap::Args;

use crate::failure::Result;

/// Rescue backups with nothing but the target and the key: no server is asked
#[derive(Args, Debug)]
pub struct Command {}

impl Command {
    /// Does what the verb says.
    pub fn run(self) -> Result<()> {
        Ok(())
    }
}
