//! `qemu-storage-daemon` as whoever has volumes open: the block layer of a real machine, its
//! exports in the guest's place.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};

use serde_json::{Value, json};
use stillpoint_model::ByteCount;
use stillpoint_model::id::VolumeId;
use stillpoint_model::item::{Consistency, FreezePolicy};
use stillpoint_model::layer_tree::Direction;
use tempfile::TempDir;

use super::nbd::Nbd;
use crate::live::{HostError, JoinEnd, JoinWatch, LiveHost, LiveJoin, LiveSwitch};
use crate::tests::quick_folder;

/// A running daemon; nothing of it is left when this is dropped.
pub(super) struct Daemon {
    path: PathBuf,
    /// None where the process that started the daemon is another.
    own: Option<(TempDir, Mutex<Child>)>,
    /// Open while it is used; it takes one at a time.
    qmp: Mutex<Option<Qmp>>,
    /// The nodes that were added by name for each open volume, the first one first.
    open: Mutex<BTreeMap<VolumeId, Vec<String>>>,
}

impl Daemon {
    pub(super) fn start() -> Self {
        let folder = quick_folder();
        let socket = folder.path().join("qmp");
        let nbd = folder.path().join("nbd");
        let mut child = Command::new("qemu-storage-daemon")
            .arg("--chardev")
            .arg(format!(
                "socket,id=c,server=on,wait=on,path={}",
                socket.display()
            ))
            .args(["--monitor", "c"])
            .arg("--nbd-server")
            .arg(format!(
                "addr.type=unix,addr.path={},max-connections=0",
                nbd.display()
            ))
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        // It waits for this connection before it sets its monitor up. One that came while it does
        // would be taken by one thread or the other, and hang or end the daemon (QEMU 10.0).
        let stream = loop {
            if let Ok(stream) = UnixStream::connect(&socket) {
                break stream;
            }
            assert_eq!(child.try_wait().unwrap(), None, "the daemon is over");
            std::thread::yield_now();
        };
        let qmp = Qmp::greet(stream).unwrap();
        Self {
            path: folder.path().to_owned(),
            own: Some((folder, Mutex::new(child))),
            qmp: Mutex::new(Some(qmp)),
            open: Mutex::default(),
        }
    }

    /// The daemon of another process, which has these volumes open.
    pub(super) fn of(path: PathBuf, volumes: &[VolumeId]) -> Self {
        let daemon = Self {
            path,
            own: None,
            qmp: Mutex::default(),
            open: Mutex::default(),
        };
        for volume in volumes {
            let mut nodes = daemon.exported_chain(*volume).unwrap().unwrap();
            nodes.reverse();
            daemon.open().insert(*volume, nodes);
        }
        daemon
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Lets another process talk to it, until this one does again.
    pub(super) fn hang_up(&self) {
        *self.qmp.lock().unwrap() = None;
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<VolumeId, Vec<String>>> {
        self.open.lock().unwrap()
    }

    fn call(&self, command: &str, arguments: &Value) -> Result<Value, HostError> {
        let mut qmp = self.qmp.lock().unwrap();
        if qmp.is_none() {
            let stream = UnixStream::connect(self.path.join("qmp"));
            *qmp = Some(
                stream
                    .and_then(Qmp::greet)
                    .map_err(|_| HostError::Unreachable)?,
            );
        }
        let qmp = qmp.as_mut().ok_or(HostError::Unreachable)?;
        qmp.call(command, arguments)
    }

    /// Opens a volume and lets a guest write to it.
    pub(super) fn attach(&self, volume: VolumeId, graph: &Value) {
        self.call("blockdev-add", graph).unwrap();
        let node = graph["node-name"].as_str().unwrap().to_owned();
        self.export(volume, &node).unwrap();
        self.open().insert(volume, vec![node]);
    }

    fn export(&self, volume: VolumeId, node: &str) -> Result<(), HostError> {
        let name = export_of(volume);
        let export = json!({
            "type": "nbd", "id": name, "node-name": node, "name": name, "writable": true,
        });
        self.call("block-export-add", &export).map(drop)
    }

    fn unexport(&self, volume: VolumeId) -> Result<(), HostError> {
        let export = json!({"id": export_of(volume), "mode": "hard"});
        self.call("block-export-del", &export)?;
        while self.export_node(volume)?.is_some() {
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Closes a volume properly.
    pub(super) fn detach(&self, volume: VolumeId) {
        let Some(nodes) = self.open().remove(&volume) else {
            return;
        };
        self.unexport(volume).unwrap();
        for node in nodes.iter().rev() {
            self.delete_node(node);
        }
    }

    pub(super) fn is_attached(&self, volume: VolumeId) -> bool {
        self.open().contains_key(&volume)
    }

    pub(super) fn attached(&self) -> Vec<VolumeId> {
        self.open().keys().copied().collect()
    }

    pub(super) fn guest(&self, volume: VolumeId) -> Nbd {
        Nbd::open(&self.path.join("nbd"), &export_of(volume)).unwrap()
    }

    /// What a volume goes through, the tip first.
    pub(super) fn chain(&self, volume: VolumeId) -> Vec<String> {
        self.exported_chain(volume).unwrap().unwrap()
    }

    /// Ends it as a crash would.
    pub(super) fn kill(&self) {
        let (_, child) = self.own.as_ref().unwrap();
        let mut child = child.lock().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        self.open().clear();
    }

    /// A node that is still used goes with whoever uses it.
    fn delete_node(&self, node: &str) {
        let _goes_with_its_user = self.call("blockdev-del", &json!({"node-name": node}));
    }

    fn export_node(&self, volume: VolumeId) -> Result<Option<String>, HostError> {
        let exports = self.call("query-block-exports", &json!({}))?;
        let id = export_of(volume);
        let found = exports.as_array().unwrap().iter();
        let found = found.filter(|export| export["id"].as_str() == Some(&id));
        Ok(found
            .filter_map(|export| Some(export["node-name"].as_str()?.to_owned()))
            .next())
    }

    /// The chain below a volume's export.
    fn exported_chain(&self, volume: VolumeId) -> Result<Option<Vec<String>>, HostError> {
        for _ in 0..1000 {
            let Some(node) = self.export_node(volume)? else {
                return Ok(None);
            };
            // A job's filter on top may go between the two questions.
            if let Some(chain) = self.chain_of(&node)? {
                return Ok(Some(chain));
            }
        }
        panic!("the export of {volume} shows a node that is not in the graph");
    }

    /// All nodes that a node goes through, filters left out; none when it is no more.
    fn chain_of(&self, top: &str) -> Result<Option<Vec<String>>, HostError> {
        let graph = self.call("x-debug-query-block-graph", &json!({}))?;
        let nodes = graph["nodes"].as_array().unwrap();
        let id_of = |name: &str| nodes.iter().find(|n| n["name"] == name).map(|n| &n["id"]);
        let name_of = |id: &Value| nodes.iter().find(|n| &n["id"] == id).map(|n| &n["name"]);
        let edges = graph["edges"].as_array().unwrap();
        let mut chain = Vec::new();
        let mut next = Some(top.to_owned());
        while let Some(name) = next {
            let Some(id) = id_of(&name) else {
                return Ok(None);
            };
            let is_layer = name.starts_with('q');
            let below = edges.iter().find(|edge| {
                &edge["parent"] == id
                    && (edge["name"] == "backing" || (!is_layer && edge["name"] == "file"))
            });
            if is_layer {
                chain.push(name);
            }
            next = below
                .and_then(|edge| name_of(&edge["child"]))
                .map(|name| name.as_str().unwrap().to_owned());
        }
        Ok(Some(chain))
    }

    /// Opens a layer's node for writing or for reading alone; what was written is flushed.
    fn reopen(&self, node: &str, below: Option<&String>, read_only: bool) -> Result<(), HostError> {
        let options = json!({"options": [{
            "driver": "qcow2", "node-name": node, "read-only": read_only, "discard": "unmap",
            "file": node.replacen('q', "f", 1), "backing": below,
        }]});
        self.call("blockdev-reopen", &options).map(drop)
    }

    fn job(&self, id: &str) -> Result<Option<Value>, HostError> {
        let jobs = self.call("query-jobs", &json!({}))?;
        let mut jobs = jobs.as_array().unwrap().iter();
        Ok(jobs.find(|job| job["id"].as_str() == Some(id)).cloned())
    }

    /// Begins a join that takes long, and does not wait for it.
    pub(super) fn begin_slow_join(&self, join: &LiveJoin) {
        self.begin_join(join, 64 << 10).unwrap();
        let job = self.job(&join.job).unwrap().unwrap();
        assert_eq!(job["status"], "running");
    }

    /// A speed of zero is no limit.
    fn begin_join(&self, join: &LiveJoin, speed: u64) -> Result<(), HostError> {
        let (command, mut arguments) = match join.direction {
            Direction::Stream => {
                if join.child != join.tip {
                    self.reopen(&join.child, Some(&join.parent), false)?;
                }
                let mut stream = json!({"device": join.child});
                if let Some(below) = &join.below {
                    stream["base-node"] = json!(below);
                }
                ("block-stream", stream)
            }
            Direction::Commit => {
                self.reopen(&join.parent, join.below.as_ref(), false)?;
                let commit = json!({
                    "device": join.tip, "top-node": join.child, "base-node": join.parent,
                });
                ("block-commit", commit)
            }
        };
        arguments["speed"] = json!(speed);
        arguments["job-id"] = json!(join.job);
        arguments["auto-dismiss"] = json!(false);
        if let Some(name) = &join.backing_name {
            arguments["backing-file"] = json!(name);
        }
        self.call(command, &arguments).map(drop)
    }

    /// Waits until a job is over, stopping it once `watch` says so, and forgets it.
    fn end_job(&self, id: &str, watch: JoinWatch<'_>) -> Result<Option<String>, HostError> {
        let mut is_stopped = false;
        loop {
            let Some(job) = self.job(id)? else {
                return Ok(None);
            };
            if job["status"] == "concluded" {
                self.call("job-dismiss", &json!({"id": id}))?;
                return Ok(job["error"].as_str().map(str::to_owned));
            }
            let bytes = |name: &str| ByteCount::new(job[name].as_u64().unwrap_or(0));
            if !is_stopped && !watch(bytes("current-progress"), bytes("total-progress")) {
                let _it_may_be_over = self.call("job-cancel", &json!({"id": id}));
                is_stopped = true;
            }
            std::thread::yield_now();
        }
    }

    fn nodes(&self) -> Result<Vec<Value>, HostError> {
        let nodes = self.call("query-named-block-nodes", &json!({"flat": true}))?;
        Ok(nodes.as_array().unwrap().clone())
    }
}

/// The name of a volume's export, which begins with a letter.
fn export_of(volume: VolumeId) -> String {
    format!("v{volume}")
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some((_, child)) = &self.own {
            let mut child = child.lock().unwrap();
            let _it_may_be_gone = child.kill();
            let _reaped = child.wait();
        }
    }
}

impl LiveHost for Daemon {
    fn open_chain(&self, volume: VolumeId) -> Result<Option<Vec<String>>, HostError> {
        if !self.is_attached(volume) {
            return Ok(None);
        }
        self.exported_chain(volume)
    }

    fn switch(&self, switches: &[LiveSwitch], _: FreezePolicy) -> Result<Consistency, HostError> {
        for switch in switches {
            self.call("blockdev-add", &switch.graph)?;
        }
        let actions: Vec<Value> = switches
            .iter()
            .map(|switch| {
                let data = json!({"node": switch.tip, "overlay": switch.overlay});
                json!({"type": "blockdev-snapshot", "data": data})
            })
            .collect();
        let switched = self.call("transaction", &json!({"actions": actions}));
        for switch in switches {
            match &switched {
                Ok(_) => self
                    .open()
                    .entry(switch.volume)
                    .or_default()
                    .push(switch.overlay.clone()),
                Err(_) => self.delete_node(&switch.overlay),
            }
        }
        switched.map(|_| Consistency::Crash)
    }

    fn can_stream(&self, _: VolumeId) -> bool {
        // Its version is that of `qemu-img`, and the tests need a new one.
        true
    }

    fn join(&self, join: &LiveJoin, watch: JoinWatch<'_>) -> Result<JoinEnd, HostError> {
        if self.job(&join.job)?.is_none() {
            if !watch(ByteCount::ZERO, ByteCount::ZERO) {
                return Ok(JoinEnd::Stopped);
            }
            self.begin_join(join, 0)?;
        }
        let error = self.end_job(&join.job, watch)?;
        let chain = self
            .open_chain(join.volume)?
            .ok_or(HostError::Unreachable)?;
        let (target, left) = match join.direction {
            Direction::Stream => (&join.child, &join.parent),
            Direction::Commit => (&join.parent, &join.child),
        };
        let at = chain.iter().position(|node| node == target);
        let below = at.and_then(|at| chain.get(at + 1));
        self.reopen(target, below, *target != join.tip)?;
        if chain.contains(left) {
            return match error.as_deref() {
                Some("Operation canceled") => Ok(JoinEnd::Stopped),
                other => Err(HostError::Failed(format!("{other:?}"))),
            };
        }
        self.delete_node(left);
        Ok(JoinEnd::Done)
    }

    fn stop_joins(&self, volume: VolumeId) -> Result<(), HostError> {
        let jobs = self.call("query-jobs", &json!({}))?;
        for job in jobs.as_array().unwrap() {
            self.end_job(job["id"].as_str().unwrap(), &|_, _| false)?;
        }
        let chain = self.open_chain(volume)?.unwrap_or_default();
        let nodes = self.nodes()?;
        for (at, name) in chain.iter().enumerate().skip(1) {
            let node = nodes.iter().find(|node| node["node-name"] == **name);
            if node.is_some_and(|node| node["ro"] == false) {
                self.reopen(name, chain.get(at + 1), true)?;
            }
        }
        let is_left = |node: &String| !chain.contains(node);
        let known = self.open().get(&volume).cloned().unwrap_or_default();
        for node in known.iter().rev().filter(|node| is_left(node)) {
            self.delete_node(node);
        }
        Ok(())
    }

    fn rebase(&self, volume: VolumeId, tip: &str, below: &Value) -> Result<(), HostError> {
        let below_name = below["node-name"].as_str().unwrap().to_owned();
        let before = self.open_chain(volume)?.ok_or(HostError::Unreachable)?;
        self.call("blockdev-add", below)?;
        self.reopen(tip, Some(&below_name), false)?;
        self.delete_node(&before[1]);
        self.open().entry(volume).or_default().push(below_name);
        Ok(())
    }

    /// An NBD export lets nobody grow what it shows, so it is made anew.
    fn resize(&self, volume: VolumeId, tip: &str, size: ByteCount) -> Result<(), HostError> {
        self.unexport(volume)?;
        let arguments = json!({"node-name": tip, "size": size.get()});
        let grown = self.call("block_resize", &arguments).map(drop);
        self.export(volume, tip)?;
        grown
    }
}

/// QMP as far as it is needed here: one command at a time, events are passed over.
struct Qmp {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
    asked: u64,
}

impl Qmp {
    fn greet(stream: UnixStream) -> io::Result<Self> {
        let writer = stream.try_clone()?;
        let mut qmp = Self {
            reader: BufReader::new(stream),
            writer,
            asked: 0,
        };
        let mut greeting = String::new();
        qmp.reader.read_line(&mut greeting)?;
        let answer = qmp.call("qmp_capabilities", &json!({}));
        answer.map_err(io::Error::other)?;
        Ok(qmp)
    }

    fn call(&mut self, command: &str, arguments: &Value) -> Result<Value, HostError> {
        // What another process asked for may be answered here, when it was killed.
        self.asked += 1;
        let id = json!([std::process::id(), self.asked]);
        let ask = json!({"execute": command, "arguments": arguments, "id": id});
        let mut line = ask.to_string();
        line.push('\n');
        let gone = |_| HostError::Unreachable;
        self.writer.write_all(line.as_bytes()).map_err(gone)?;
        loop {
            line.clear();
            if self.reader.read_line(&mut line).map_err(gone)? == 0 {
                return Err(HostError::Unreachable);
            }
            let Ok(mut said) = serde_json::from_str::<Value>(&line) else {
                return Err(HostError::Unreachable);
            };
            if said.get("id") != Some(&id) {
                continue;
            }
            if let Some(error) = said.get("error") {
                return Err(HostError::Failed(format!("{command}: {}", error["desc"])));
            }
            if let Some(answer) = said.get_mut("return") {
                return Ok(answer.take());
            }
        }
    }
}
