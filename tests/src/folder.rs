//! Looking into folders.

use std::fs;
use std::path::{Path, PathBuf};

/// Every file below a folder, in no order.
///
/// # Panics
/// When a folder cannot be read.
pub fn files_under(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries
        .map(|entry| entry.expect("an entry").path())
        .flat_map(|path| match path.is_dir() {
            true => files_under(&path),
            false => vec![path],
        })
        .collect()
}
