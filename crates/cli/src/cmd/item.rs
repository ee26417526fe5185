//! What snapshots and backups have in common on the command line.

use std::collections::BTreeMap;

use clap::Args;
use stillpoint_wire::item::ItemPatch;

use crate::failure::{Exit, Failure};
use crate::prompt::quoted;

/// What a new snapshot or backup is called.
#[derive(Args, Debug)]
pub struct NewItemArgs {
    /// Its name; generated when absent, if the plan allows that
    #[arg(long)]
    pub name: Option<String>,
    /// Free text
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// A label; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    labels: Vec<(String, String)>,
}

impl NewItemArgs {
    /// The labels, when there are any.
    pub fn labels(&self) -> Option<BTreeMap<String, String>> {
        (!self.labels.is_empty()).then(|| self.labels.iter().cloned().collect())
    }
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write a label as key=value".into()),
    }
}

/// The change that gives an item a new name.
pub fn renamed(name: String) -> ItemPatch {
    ItemPatch {
        name: Some(name),
        ..ItemPatch::default()
    }
}

/// The change that protects an item, or no longer does.
pub fn protected(protected: bool) -> ItemPatch {
    ItemPatch {
        protected: Some(protected),
        ..ItemPatch::default()
    }
}

/// A volume has no such item.
pub fn not_found(noun: &str, volume: &str, item: &str) -> Failure {
    Failure::new(
        Exit::NotFound,
        "not_found",
        format!("{volume} has no {noun} {item}."),
    )
    .hint(format!(
        "see those it has: stillpoint {noun} list --volume {}",
        quoted(volume)
    ))
}
