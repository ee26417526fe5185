//! What reads a backup for a guest whose volume is not whole yet: a process of its own that outlives
//! the server, with the target and the key of the server's own settings and data folder. They are
//! read by path, so that no key is in an argument or in the environment because of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use stillpoint_env::SystemEnv;
use stillpoint_model::error::with_causes;
use stillpoint_model::id::TargetId;
use stillpoint_model::task::VaultRef;
use stillpoint_model::{Env, ErrorKind};
use stillpoint_node::{ReaderFault, ReaderProgram, Readers, run_reader};
use stillpoint_vault::{RootKey, Vault};

use super::data_dir::{self, DataDir};
use super::settings;
use crate::failure::{Exit, Failure, Result};

/// The command that a reader is.
pub const READER: &str = "read-backup";

/// Where a reader finds target and key.
#[derive(Args, Debug)]
pub struct ReaderArgs {
    /// The server's data folder
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The server's settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The ids of the targets that the settings name
    #[arg(long, value_name = "ID")]
    target: Option<TargetId>,
    #[arg(long, value_name = "ID")]
    second_target: Option<TargetId>,
}

/// The readers of a server: this program, told of the same folder and the same settings, with the
/// targets that they name.
pub fn readers(
    data: &DataDir,
    config: Option<&Path>,
    [target, second_target]: [Option<TargetId>; 2],
) -> Result<Readers> {
    let own =
        std::env::current_exe().map_err(|error| Failure::file("find this program", &error))?;
    let mut args = vec!["server".to_owned(), READER.to_owned()];
    let mut add = |name: &str, path: &Path| -> Result<()> {
        let Some(path) = path.to_str() else {
            let text = format!("{} is no UTF-8", path.display());
            return Err(Failure::new(Exit::Usage, "config", text));
        };
        args.extend([name.to_owned(), path.to_owned()]);
        Ok(())
    };
    add("--data", data.path())?;
    if let Some(config) = config {
        add("--config", config)?;
    }
    let targets = [("--target", target), ("--second-target", second_target)];
    for (name, id) in targets {
        args.extend(
            id.into_iter()
                .flat_map(|id| [name.to_owned(), id.to_string()]),
        );
    }
    let program = ReaderProgram { program: own, args };
    Readers::open(&data.readers(), program).map_err(|error| {
        Failure::new(Exit::Other, "readers", with_causes(&error))
            .hint("use a data folder with a shorter path, or say --qemu none")
    })
}

/// A reader; what it reads is told on its standard input.
pub fn run(args: &ReaderArgs) -> Result<()> {
    let open = |vault: VaultRef| open_vault(args, vault);
    run_reader(open, std::io::stdin(), std::io::stdout())
        .map_err(|error| Failure::file("read a backup", &error))
}

fn open_vault(args: &ReaderArgs, vault: VaultRef) -> std::result::Result<Vault, ReaderFault> {
    let fault = |detail: String| ReaderFault {
        kind: ErrorKind::Internal,
        detail,
    };
    let of_settings = |failure: Failure| fault(failure.sentence().to_owned());
    let env: Arc<dyn Env> = Arc::new(SystemEnv::new());
    let targets = settings::targets_of(args.config.as_deref()).map_err(of_settings)?;
    let ids = [args.target, args.second_target];
    let mut known = ids.into_iter().zip(&targets);
    let found = known.find(|(id, _)| *id == Some(vault.target_id));
    let (_, place) = found.ok_or_else(|| fault(format!("no target is {}", vault.target_id)))?;
    let own = data_dir::target_in(&args.data);
    let target = place.open(Some(own), &env).map_err(of_settings)?;
    let target = target.ok_or_else(|| fault("there is no backup target any more".to_owned()))?;
    let key = RootKey::load(&data_dir::root_key_in(&args.data));
    let key = key.map_err(|error| fault(with_causes(&error)))?;
    Vault::open(target, vault.vault_id, &key, env).map_err(|error| ReaderFault {
        kind: error.kind(),
        detail: with_causes(&error),
    })
}
