//! Block graphs: how a machine opens the ones it is given, and what it says it has open.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::DiskIo;

/// A graph with what this host adds: how its files are opened. What stands there already stays.
pub(super) fn for_machine(graph: &Value, io: DiskIo) -> Value {
    let mut graph = graph.clone();
    decorate(&mut graph, io);
    graph
}

/// The nodes to make for a disk, in this order; the last is the disk's own.
///
/// QEMU takes what an image says that it stands on for the name of a file of whatever it is told to put
/// there, unless that has a file. So what is below a tip and is no file, as a reader is, is made by itself and
/// referred to.
pub(super) fn in_order(graph: &Value, io: DiskIo) -> Vec<Value> {
    let mut graph = for_machine(graph, io);
    let below = graph.get_mut("backing");
    let Some(below) = below.filter(|below| below.is_object() && below.get("file").is_none()) else {
        return vec![graph];
    };
    let name = below["node-name"].clone();
    let reader = std::mem::replace(below, name);
    vec![reader, graph]
}

fn decorate(node: &mut Value, io: DiskIo) {
    let Some(fields) = node.as_object_mut() else {
        return;
    };
    if fields.contains_key("driver") {
        let cache = fields.entry("cache").or_insert_with(|| cache(io));
        debug_assert!(cache.is_object());
    }
    if fields.get("driver").is_some_and(|driver| driver == "file") {
        fields
            .entry("aio")
            .or_insert_with(|| json!(if io.io_uring { "io_uring" } else { "threads" }));
    }
    for child in ["file", "backing"] {
        if let Some(child) = fields.get_mut(child) {
            decorate(child, io);
        }
    }
}

/// The `cache` option of every node.
pub(super) fn cache(io: DiskIo) -> Value {
    json!({"direct": io.direct, "no-flush": false})
}

/// What `x-debug-query-block-graph` says: who stands on whom.
pub(super) struct Graph {
    names: BTreeMap<u64, String>,
    /// The ones that are layers, files or filters, not devices or jobs.
    nodes: BTreeSet<u64>,
    /// (parent, how it calls the child, child)
    edges: Vec<(u64, String, u64)>,
}

impl Graph {
    pub(super) fn read(answer: &Value) -> Self {
        let list = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
        let id = |value: &Value| value.as_u64();
        let text = |value: &Value| Some(value.as_str()?.to_owned());
        Self {
            names: list("nodes")
                .iter()
                .filter_map(|node| Some((id(&node["id"])?, text(&node["name"])?)))
                .collect(),
            nodes: list("nodes")
                .iter()
                .filter(|node| node["type"] == "block-driver")
                .filter_map(|node| id(&node["id"]))
                .collect(),
            edges: list("edges")
                .iter()
                .filter_map(|edge| {
                    Some((
                        id(&edge["parent"])?,
                        text(&edge["name"])?,
                        id(&edge["child"])?,
                    ))
                })
                .collect(),
        }
    }

    fn id(&self, name: &str) -> Option<u64> {
        let mut found = self.names.iter().filter(|(_, known)| *known == name);
        found.next().map(|(id, _)| *id)
    }

    fn child(&self, parent: u64, names: &[&str]) -> Option<u64> {
        let mut found = self
            .edges
            .iter()
            .filter(|(from, name, _)| *from == parent && names.contains(&name.as_str()));
        found.next().map(|(_, _, child)| *child)
    }

    /// The node that this one calls its file.
    pub(super) fn file_of(&self, node: &str) -> Option<&str> {
        let child = self.child(self.id(node)?, &["file"])?;
        self.names.get(&child).map(String::as_str)
    }

    /// The nodes that nothing stands on: no device, no job, no other node.
    pub(super) fn roots(&self) -> Vec<String> {
        let used: BTreeSet<u64> = self.edges.iter().map(|(_, _, child)| *child).collect();
        let unused = self.nodes.difference(&used);
        unused
            .filter_map(|id| self.names.get(id).cloned())
            .collect()
    }

    /// The layers that a node goes through, itself among them; filters of jobs are left out.
    pub(super) fn chain(&self, top: &str) -> Vec<String> {
        let mut chain = Vec::new();
        let mut next = self.id(top);
        while let Some(id) = next {
            // Nodes that QEMU named itself are filters: their names begin with a hash.
            let name = self.names.get(&id).map_or("", String::as_str);
            let is_filter = name.starts_with('#');
            if !is_filter {
                chain.push(name.to_owned());
            }
            next = self.child(
                id,
                if is_filter {
                    &["backing", "file"]
                } else {
                    &["backing"]
                },
            );
        }
        chain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_a_tip_and_no_file_is_made_by_itself() {
        let tip = |below: Value| {
            json!({
                "driver": "qcow2", "node-name": "tip",
                "file": {"driver": "file", "node-name": "f", "filename": "/tip"},
                "backing": below,
            })
        };
        let reader = json!({"driver": "nbd", "node-name": "reader"});
        let nodes = in_order(&tip(reader), DiskIo::BEST);
        let names: Vec<_> = nodes.iter().map(|node| &node["node-name"]).collect();
        assert_eq!(names, ["reader", "tip"]);
        assert_eq!(nodes[1]["backing"], "reader");
        let base = json!({"driver": "qcow2", "node-name": "base", "file": {"driver": "file"}});
        for whole in [tip(base), tip(Value::Null)] {
            let nodes = in_order(&whole, DiskIo::BEST);
            assert_eq!(nodes, [for_machine(&whole, DiskIo::BEST)]);
        }
    }
}
