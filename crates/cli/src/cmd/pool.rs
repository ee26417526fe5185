//! `stillpoint pool`.

use clap::Args;

use crate::failure::Result;

/// Look into a pool without the server
#[derive(Args, Debug)]
pub struct Command {}

impl Command {
    /// Does what the verb says.
    pub fn run(self) -> Result<()> {
        Ok(())
    }
}
