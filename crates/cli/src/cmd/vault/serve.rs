//! `stillpoint vault serve`: a backup as a network block device, until somebody has had enough.

use std::path::PathBuf;
use std::sync::Arc;

use anstream::eprintln;
use clap::Args;
use stillpoint_model::ByteCount;
use stillpoint_model::error::with_causes;
use stillpoint_model::id::BackupId;
use stillpoint_nbd::{Error, Server};
use stillpoint_vault::{ReadCache, Vault, rescue};
use tokio::sync::oneshot;

use super::explain;
use super::signals::Signals;
use crate::failure::{Exit, Failure, Result, print};
use crate::size;

/// What to serve, and where.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// The backup, by id, as `vault list` shows it
    backup: BackupId,
    /// The socket to make; only your user may connect to it. QEMU opens it as nbd+unix:///?socket=PATH
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// Memory for what was read lately
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size::parse)]
    cache: ByteCount,
}

impl ServeArgs {
    /// Serves until Ctrl-C or a TERM signal.
    pub async fn run(self, vaults: &[Vault]) -> Result<()> {
        let found = rescue::find_backup(vaults, self.backup).map_err(|error| explain(&error))?;
        let (vault, info) = found;
        let cache = ReadCache::new(self.cache);
        let reader = vault.open_backup(info.volume_id, info.backup_id, &cache);
        let reader = reader.map_err(|error| explain(&error))?;
        let tell = Box::new(|trouble: &str| eprintln!("{trouble}"));
        let mut signals = Signals::new()?;
        let server = Server::bind(&self.socket, reader, tell).map_err(|error| unserved(&error))?;
        print(self.socket.display())?;
        eprintln!("The backup is served, for reading. Ctrl-C ends it.");
        let server = Arc::new(server);
        let (ended, mut end) = oneshot::channel();
        let serving = Arc::clone(&server);
        std::thread::spawn(move || {
            let served = serving.serve();
            drop(serving);
            ended.send(served)
        });
        let served = tokio::select! {
            served = &mut end => served,
            () = signals.next() => {
                server.end();
                end.await
            }
        };
        match served {
            Ok(Err(error)) => Err(unserved(&error)),
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }
}

fn unserved(error: &Error) -> Failure {
    Failure::new(Exit::Other, "nbd", with_causes(error))
}
