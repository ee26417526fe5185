//! The machines of this server: QEMU processes that outlive it, found again by their sockets.
//!
//! A QEMU that was named must work, or the server does not start. One that is only installed is
//! used where it can be; without it everything but instances works.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use stillpoint_env::SystemEnv;
use stillpoint_machines::guard::{self, GuardProgram};
use stillpoint_machines::qemu::{DiskIo, QemuConfig, QemuDriver};
use stillpoint_model::Env;
use stillpoint_model::error::with_causes;

use super::data_dir::DataDir;
use super::settings::Qemu;
use crate::failure::{Exit, Failure, Result};

/// What is looked for when nobody says.
const INSTALLED: &str = "qemu-system-x86_64";
/// The command that the guard is; see [`guard`].
pub const GUARD: &str = "freeze-guard";

/// A QEMU that was found.
pub struct Program {
    path: PathBuf,
    is_asked_for: bool,
}

/// Finds the QEMU; none where instances are not wanted, or nobody asked and there is none.
pub fn program(qemu: &Qemu) -> Result<Option<Program>> {
    let (wanted, is_asked_for) = match qemu {
        Qemu::None => return Ok(None),
        Qemu::Installed => (Path::new(INSTALLED), false),
        Qemu::Named(program) => (program.as_path(), true),
    };
    match find(wanted) {
        Some(path) => Ok(Some(Program { path, is_asked_for })),
        None if is_asked_for => Err(Failure::new(
            Exit::Usage,
            "config",
            format!("there is no {} to run instances", wanted.display()),
        )
        .hint("install qemu-system-x86, name another with --qemu, or say --qemu none")),
        None => Ok(None),
    }
}

/// Opens the driver and adopts the machines that run.
pub fn open(program: Program, data: &DataDir, env: &Arc<dyn Env>) -> Result<Option<QemuDriver>> {
    let is_asked_for = program.is_asked_for;
    match driver(program.path, data, env) {
        Ok(driver) => Ok(Some(driver)),
        Err(failure) if is_asked_for => Err(failure),
        Err(failure) => {
            let reason = failure.sentence();
            tracing::warn!(reason, "this server runs no instances");
            Ok(None)
        }
    }
}

fn driver(program: PathBuf, data: &DataDir, env: &Arc<dyn Env>) -> Result<QemuDriver> {
    let own =
        std::env::current_exe().map_err(|error| Failure::file("find this program", &error))?;
    let config = QemuConfig {
        run_dir: data.machines(),
        disk_io: DiskIo::find(&program, &data.pool()),
        program,
        accelerator: None,
        outbound: false,
        guard: GuardProgram {
            program: own,
            args: vec!["server".into(), GUARD.into()],
        },
    };
    QemuDriver::open(config, Arc::clone(env)).map_err(|error| {
        Failure::new(Exit::Other, "machines", with_causes(&error))
            .hint("use a data folder with a shorter path, or say --qemu none")
    })
}

/// The program's path: names are looked for where commands are.
fn find(program: &Path) -> Option<PathBuf> {
    let is_name = program.components().count() == 1;
    if !is_name {
        return program.canonicalize().ok();
    }
    let folders = std::env::var_os("PATH")?;
    let mut places = std::env::split_paths(&folders).map(|folder| folder.join(program));
    places.find(|place| place.is_file())
}

/// The guard of a frozen guest; what it does is told on its standard input.
pub fn run_guard() -> Result<()> {
    let env = SystemEnv::new();
    guard::run(&env, std::io::stdin(), std::io::stdout())
        .map_err(|error| Failure::file("guard a frozen guest", &error))
}
