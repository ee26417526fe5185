//! `stillpoint pool`: a pool's folder, without the server.
//!
//! Nothing is locked and nothing is changed, so that it may be looked at while a server has it
//! open.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anstream::eprintln;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use stillpoint_layers::Error;
use stillpoint_layers::qcow2::Inspection;
use stillpoint_model::ErrorKind;
use stillpoint_model::error::with_causes;
use stillpoint_model::id::{LayerId, VolumeId};
use stillpoint_model::layer_tree::{LayerName, LayerTree};

use super::vault::FormatArgs;
use crate::failure::{Exit, Failure, Result, print};
use crate::output::{self, Format};

/// Look into a pool's folder: no server is asked, nothing is changed
#[derive(Args, Debug)]
pub struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the layers, what stands on what, and who needs it
    Tree {
        #[command(flatten)]
        place: PlaceArgs,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Print a volume's block graph for QEMU: one --blockdev argument as JSON per line
    Graph {
        #[command(flatten)]
        place: PlaceArgs,
        /// The volume, by id
        #[arg(long, value_name = "ID")]
        volume: VolumeId,
    },
}

#[derive(Args, Debug)]
struct PlaceArgs {
    /// The folder of the pool
    #[arg(long, value_name = "DIR")]
    pool: PathBuf,
}

impl Command {
    /// Does what the verb says.
    pub fn run(self) -> Result<()> {
        match self.verb {
            Verb::Tree { place, format } => tree(&place.look()?, format.output),
            Verb::Graph { place, volume } => graph(&place.look()?, volume),
        }
    }
}

impl PlaceArgs {
    fn look(&self) -> Result<Inspection> {
        let pool = Inspection::of(&self.pool).map_err(|error| explain(&error, &self.pool))?;
        for damage in pool.damage() {
            eprintln!("damaged: {damage}");
        }
        Ok(pool)
    }
}

fn explain(error: &Error, pool: &Path) -> Failure {
    let exit = match error.kind() {
        ErrorKind::NotFound => Exit::NotFound,
        _ => Exit::Other,
    };
    let failure = Failure::new(exit, "pool", with_causes(error));
    match error {
        Error::NotAPool { .. } => failure.hint("the embedded server keeps its pool in DATA/pool"),
        _ => failure.hint(format!(
            "see what is there: stillpoint pool tree --pool {}",
            pool.display()
        )),
    }
}

fn graph(pool: &Inspection, volume: VolumeId) -> Result<()> {
    let graph = pool.block_graph(volume).map_err(|error| {
        Failure::new(Exit::NotFound, "not_found", with_causes(&error))
            .hint("see its volumes: stillpoint pool tree --pool DIR")
    })?;
    match graph {
        Value::Array(nodes) => nodes.iter().try_for_each(print),
        node => print(node),
    }
}

fn tree(pool: &Inspection, format: Format) -> Result<()> {
    match format {
        Format::Table | Format::Wide => print(drawn(pool).trim_end()),
        Format::Name | Format::Csv => {
            Err(Failure::usage("a tree has no such form")
                .hint("write -o table, -o json or -o yaml"))
        }
        Format::Json | Format::Yaml => output::value(format, &described(pool)),
    }
}

/// The whole tree as data.
fn described(pool: &Inspection) -> Value {
    let tree = pool.tree();
    let layers = tree.layers().map(|(id, layer)| {
        json!({
            "id": id,
            "parent": layer.parent,
            "size_bytes": layer.size,
            "allocated_bytes": layer.allocated,
            "sealed": tree.is_sealed(id),
            "names": tree.names(id).collect::<Vec<_>>(),
        })
    });
    json!({
        "pool": pool.id(),
        "layers": layers.collect::<Vec<_>>(),
        "volumes": tree.records().map(|(id, record)| json!({"id": id, "record": record})).collect::<Vec<_>>(),
        "damage": pool.damage(),
    })
}

/// The whole tree for people, roots at the left.
fn drawn(pool: &Inspection) -> String {
    let tree = pool.tree();
    let volumes = tree
        .records()
        .filter(|(_, record)| record.tip.is_some())
        .count();
    let mut text = format!(
        "pool {}: {} layers, {volumes} volumes\n",
        pool.id(),
        tree.layers().count(),
    );
    let is_root = |parent: Option<LayerId>| parent.is_none_or(|id| tree.layer(id).is_none());
    let roots = tree
        .layers()
        .filter(|(_, layer)| is_root(layer.parent))
        .map(|(id, _)| id);
    draw_all(tree, roots.collect(), &mut String::new(), &mut text);
    text
}

fn draw_all(tree: &LayerTree, layers: Vec<LayerId>, margin: &mut String, text: &mut String) {
    let count = layers.len();
    for (n, layer) in layers.into_iter().enumerate() {
        let last = n + 1 == count;
        let branch = if last { "└─ " } else { "├─ " };
        let _ = writeln!(text, "{margin}{branch}{}", line(tree, layer));
        let kept = margin.len();
        margin.push_str(if last { "   " } else { "│  " });
        draw_all(tree, tree.children(layer).collect(), margin, text);
        margin.truncate(kept);
    }
}

/// One layer: what it occupies, and who needs it.
fn line(tree: &LayerTree, id: LayerId) -> String {
    let names: Vec<String> = tree.names(id).map(described_name).collect();
    let needed = if names.is_empty() {
        "needed by the layers above".into()
    } else {
        names.join(", ")
    };
    let allocated = tree
        .layer(id)
        .map(|layer| layer.allocated)
        .unwrap_or_default();
    format!("{id}  {allocated}  {needed}")
}

fn described_name(name: LayerName) -> String {
    match name {
        LayerName::Tip(volume) => format!("volume {volume}"),
        LayerName::Snapshot(snapshot) => format!("snapshot {snapshot}"),
        LayerName::Safety(snapshot) => format!("safety snapshot {snapshot}"),
        LayerName::Capture(_, backup) => format!("base of backup {backup}"),
        LayerName::Pending(volume) => format!("next of volume {volume}"),
        LayerName::Filling(volume) => format!("base of volume {volume}, being filled"),
    }
}
