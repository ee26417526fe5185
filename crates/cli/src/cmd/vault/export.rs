//! `stillpoint vault export`: a backup as a disk image, in a file or a pipe.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use anstream::eprintln;
use clap::{Args, ValueEnum};
use stillpoint_model::id::BackupId;
use stillpoint_vault::{Error, Vault, rescue};

use super::{explain, require_new};
use crate::cmd::long_work;
use crate::failure::{Failure, Result, print};

/// What to export, and where to.
#[derive(Args, Debug)]
pub struct ExportArgs {
    /// The backup, by id, as `vault list` shows it
    backup: BackupId,
    /// The file to make, which must not exist; - is stdout
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// The format of the image
    #[arg(long, value_enum, default_value_t = Format::Qcow2)]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Raw,
    Qcow2,
}

impl From<Format> for rescue::DiskFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Raw => Self::Raw,
            Format::Qcow2 => Self::Qcow2,
        }
    }
}

impl ExportArgs {
    /// Exports.
    pub async fn run(self, vaults: &[Vault]) -> Result<()> {
        let piped = self.to == Path::new("-");
        if piped && io::stdout().is_terminal() {
            return Err(Failure::usage("a disk image is nothing for a terminal")
                .hint("name a file with --to, or send stdout elsewhere"));
        }
        if !piped {
            require_new(&self.to)?;
        }
        let found = rescue::find_backup(vaults, self.backup).map_err(|error| explain(&error))?;
        let (vault, info) = (found.0.clone(), found.1);
        let format = self.format.into();
        if piped {
            let sent = long_work::run("export", move |monitor| {
                let mut out = io::stdout().lock();
                rescue::export_to_pipe(&vault, &info, format, &mut out, monitor)
            });
            sent.await?.map_err(reader_or_vault)?;
            eprintln!("Every piece was proven as it was sent; what arrived is not compared.");
            return Ok(());
        }
        let path = self.to.clone();
        let exported = long_work::run("export", move |monitor| {
            rescue::export_to_file(&vault, &info, format, &path, monitor)
        });
        let report = exported.await?.map_err(|error| explain(&error))?;
        eprintln!(
            "Exported {} ({} of data) and compared it whole.",
            report.provisioned, report.written
        );
        print(self.to.display())
    }
}

/// A pipe whose reader has gone is its reader's business.
fn reader_or_vault(error: Error) -> Failure {
    match error {
        Error::Sink { source, .. } => source.into(),
        error => explain(&error),
    }
}
