//! Merging layers while the guest writes.
//!
//! A job has the name that it was asked for with and is not forgotten when it ends (`auto-dismiss`
//! is off), so whoever comes back after a crash finds it, waits for it, or sees how it ended.
//! Whether a merge is *done* is read from the chain: the layer that was to go is in it or not.
//!
//! Several may wait for one job, and only one of them can make QEMU forget it: how it ended is shared
//! among all who wait ([`JobEnd`]).

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use serde_json::{Value, json};
use stillpoint_model::ByteCount;
use stillpoint_model::id::VolumeId;

use super::disks::name_of;
use super::graph::{cache, for_machine};
use super::machine::{Machine, lock};
use crate::qmp::{Qmp, Version};
use crate::{Direction, Error, Join, JoinEnd, JoinWatch};

/// How often a job is asked how far it is.
const TICK: Duration = Duration::from_millis(200);

/// Tells a volume's jobs from another's.
fn job_id(volume: VolumeId, job: &str) -> String {
    format!("j{volume}.{job}")
}

/// Before 8.2 a copy into a cluster whose first subclusters are written and whose later ones are not
/// fails an assertion, and the machine ends.
const fn streams_parts((major, minor): Version) -> bool {
    major > 8 || major == 8 && minor >= 2
}

/// The layer that takes the other's data, and the other.
const fn target_and_left(join: &Join) -> (&String, &String) {
    match join.direction {
        Direction::Stream => (&join.child, &join.parent),
        Direction::Commit => (&join.parent, &join.child),
    }
}

/// How a job ended, for everyone who waits for it: none while nobody saw it end, then what it
/// failed of, if it did.
pub(super) type JobEnd = Mutex<Option<Option<String>>>;

impl Machine {
    /// How this job will have ended. Asked for before the job is looked for.
    fn job_end(&self, id: &str) -> Arc<JobEnd> {
        let known = lock(&self.job_ends).get(id).and_then(Weak::upgrade);
        known.unwrap_or_else(|| self.new_job_end(id))
    }

    /// The same for a job that begins now; those of a job of that name that ended keep theirs.
    fn new_job_end(&self, id: &str) -> Arc<JobEnd> {
        let mut ends = lock(&self.job_ends);
        ends.retain(|_, end| end.strong_count() > 0);
        let end = Arc::<JobEnd>::default();
        ends.insert(id.to_owned(), Arc::downgrade(&end));
        end
    }

    fn job(&self, qmp: &Qmp, id: &str) -> Result<Option<Value>, Error> {
        let jobs = self.call_on(qmp, "query-jobs", &json!({}))?;
        let jobs = jobs.as_array().cloned().unwrap_or_default();
        Ok(jobs.into_iter().find(|job| job["id"].as_str() == Some(id)))
    }

    /// Opens a layer's node for writing or for reading alone; what was written is flushed.
    fn reopen(
        &self,
        qmp: &Qmp,
        node: &str,
        below: Option<&String>,
        read_only: bool,
    ) -> Result<(), Error> {
        let graph = self.graph(qmp)?;
        let options = json!({"options": [{
            "driver": "qcow2", "node-name": node, "read-only": read_only, "discard": "unmap",
            "cache": cache(self.shared.config.disk_io),
            "file": graph.file_of(node), "backing": below,
        }]});
        self.call_on(qmp, "blockdev-reopen", &options).map(drop)
    }

    /// Whether this machine's QEMU can copy up into clusters of which parts are written.
    pub(super) fn can_stream(&self) -> Result<bool, Error> {
        Ok(streams_parts(self.on()?.version()))
    }

    /// Exchanges what is below a tip. Done already when the node is there.
    pub(super) fn rebase(&self, volume: VolumeId, tip: &str, below: &Value) -> Result<(), Error> {
        let _turn = self.turn();
        let qmp = self.on()?;
        let chain = self.chain(&qmp, volume)?;
        let graph = for_machine(below, self.shared.config.disk_io);
        let name = name_of(&graph);
        let refused = |reason: &str| Error::Refused {
            id: self.id,
            command: "a rebase".to_owned(),
            reason: reason.to_owned(),
        };
        match chain.as_slice() {
            [top, ..] if top != tip => return Err(refused("that is not the tip")),
            [_, now] if *now == name => return Ok(()),
            [_, _] => {}
            _ => return Err(refused("not one node is below the tip")),
        }
        self.close_what_is_left(&qmp)?;
        self.call_on(&qmp, "blockdev-add", &graph)?;
        let tip = tip.to_owned();
        let reopened = self.reopen(&qmp, &tip, Some(&name), false);
        if let Err(Error::Refused { .. }) = &reopened {
            self.delete_node(&qmp, &name);
        }
        reopened?;
        self.close_what_is_left(&qmp)
    }

    fn begin_join(&self, qmp: &Qmp, join: &Join) -> Result<(), Error> {
        let (command, mut arguments) = match join.direction {
            Direction::Stream => {
                if join.child != join.tip {
                    self.reopen(qmp, &join.child, Some(&join.parent), false)?;
                }
                let mut stream = json!({"device": join.child});
                if let Some(below) = &join.below {
                    stream["base-node"] = json!(below);
                }
                ("block-stream", stream)
            }
            Direction::Commit => {
                self.reopen(qmp, &join.parent, join.below.as_ref(), false)?;
                let commit = json!({
                    "device": join.tip, "top-node": join.child, "base-node": join.parent,
                });
                ("block-commit", commit)
            }
        };
        arguments["job-id"] = json!(job_id(join.volume, &join.job));
        arguments["auto-dismiss"] = json!(false);
        if let Some(name) = &join.backing_name {
            arguments["backing-file"] = json!(name);
        }
        self.call_on(qmp, command, &arguments).map(drop)
    }

    /// Begins a join; one that is refused leaves its layers for reading alone, as they were.
    fn begin_join_or_undo(&self, qmp: &Qmp, join: &Join) -> Result<(), Error> {
        let begun = self.begin_join(qmp, join);
        if let Err(refused @ Error::Refused { .. }) = &begun {
            let undone = self.chain(qmp, join.volume).and_then(|chain| {
                let (target, _) = target_and_left(join);
                self.settle(qmp, &chain, target)
            });
            if let Err(error) = undone {
                tracing::warn!(%refused, %error, "a layer may be left open for writing");
            }
        }
        begun
    }

    /// Waits until a job is over, stopping it once `watch` says so, and forgets it. What it failed
    /// of, if it did.
    fn end_job(
        &self,
        qmp: &Qmp,
        id: &str,
        end: &JobEnd,
        watch: JoinWatch<'_>,
    ) -> Result<Option<String>, Error> {
        let mut is_stopped = false;
        loop {
            let events = qmp.listen();
            // Another of that name may run by now.
            if let Some(known) = lock(end).clone() {
                return Ok(known);
            }
            let Some(job) = self.job(qmp, id)? else {
                return Ok(lock(end).clone().flatten());
            };
            if job["status"] == "concluded" {
                let mut end = lock(end);
                if let Some(known) = &*end {
                    return Ok(known.clone());
                }
                self.call_on(qmp, "job-dismiss", &json!({"id": id}))?;
                let failed = job["error"].as_str().map(str::to_owned);
                return Ok(end.insert(failed).clone());
            }
            let bytes = |name: &str| ByteCount::new(job[name].as_u64().unwrap_or(0));
            if !is_stopped && !watch(bytes("current-progress"), bytes("total-progress")) {
                match self.call_on(qmp, "job-cancel", &json!({"id": id})) {
                    // It may be over.
                    Ok(_) | Err(Error::Refused { .. }) => is_stopped = true,
                    Err(error) => return Err(error),
                }
                continue;
            }
            // Woken by anything that happens; what it was is asked above.
            let _woken = events.recv_timeout(TICK);
        }
    }

    pub(super) fn join(&self, join: &Join, watch: JoinWatch<'_>) -> Result<JoinEnd, Error> {
        let qmp = self.on()?;
        let id = job_id(join.volume, &join.job);
        let mut end;
        {
            // Other changes may come while the job runs.
            let _turn = self.turn();
            end = self.job_end(&id);
            if self.job(&qmp, &id)?.is_none() {
                if !watch(ByteCount::ZERO, ByteCount::ZERO) {
                    return Ok(JoinEnd::Stopped);
                }
                end = self.new_job_end(&id);
                self.begin_join_or_undo(&qmp, join)?;
            }
        }
        let failed = self.end_job(&qmp, &id, &end, watch)?;
        let _turn = self.turn();
        let chain = self.chain(&qmp, join.volume)?;
        let (target, left) = target_and_left(join);
        let settled = self.settle(&qmp, &chain, target);
        if !chain.contains(left) {
            settled?;
            self.delete_node(&qmp, left);
            return Ok(JoinEnd::Done);
        }
        match failed {
            None => settled.map(|()| JoinEnd::Stopped),
            Some(reason) if reason == "Operation canceled" => settled.map(|()| JoinEnd::Stopped),
            Some(reason) => Err(self.failed("a join", reason)),
        }
    }

    /// Opens a node anew if it is in the chain, for reading alone if it is below the tip: what a
    /// merge wrote to it is in the file then, with the tables that tell of it.
    fn settle(&self, qmp: &Qmp, chain: &[String], node: &String) -> Result<(), Error> {
        match chain.iter().position(|known| known == node) {
            Some(at) => match self.reopen(qmp, node, chain.get(at + 1), at > 0) {
                // It was written to, and that may not be in its file.
                Err(Error::Refused { reason, .. }) => Err(self.failed("a flush", reason)),
                reopened => reopened,
            },
            None => Ok(()),
        }
    }

    pub(super) fn failed(&self, command: &str, reason: String) -> Error {
        Error::Failed {
            id: self.id,
            command: command.to_owned(),
            reason,
        }
    }

    /// Ends every job in a volume's chain. Within a turn none begins.
    pub(super) fn stop_jobs(&self, qmp: &Qmp, volume: VolumeId) -> Result<(), Error> {
        let jobs = self.call_on(qmp, "query-jobs", &json!({}))?;
        let jobs = jobs.as_array().cloned().unwrap_or_default();
        let prefix = job_id(volume, "");
        for id in jobs.iter().filter_map(|job| job["id"].as_str()) {
            if id.starts_with(&prefix) {
                let end = self.job_end(id);
                self.end_job(qmp, id, &end, &|_, _| false)?;
            }
        }
        Ok(())
    }

    pub(super) fn stop_joins(&self, volume: VolumeId) -> Result<(), Error> {
        let _turn = self.turn();
        let qmp = self.on()?;
        self.stop_jobs(&qmp, volume)?;
        let chain = self.chain(&qmp, volume)?;
        let nodes = self.call_on(&qmp, "query-named-block-nodes", &json!({"flat": true}))?;
        let nodes = nodes.as_array().cloned().unwrap_or_default();
        for (at, name) in chain.iter().enumerate().skip(1) {
            let node = nodes.iter().find(|node| node["node-name"] == **name);
            if node.is_some_and(|node| node["ro"] == false) {
                self.reopen(&qmp, name, chain.get(at + 1), true)?;
            }
        }
        self.close_what_is_left(&qmp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qemu_that_would_end_is_not_asked_to_merge_up() {
        // The first is what does not say its version.
        let can = [(0, 0), (7, 2), (8, 1), (8, 2), (10, 0)].map(streams_parts);
        assert_eq!(can, [false, false, false, true, true]);
    }
}
