//! The node's life: ask for work, do it, say how it ended.
//!
//! ```text
//! hello --> ask --> own the task's things --> first report --> work on a thread --> finish
//!            ^                                    |               | reports beside it
//!            |                                    v fenced        v fenced, cancelled
//!            +------------------------------- put aside <------- stop as soon as that leaves
//!                                                                nothing half done
//! ```
//!
//! At most [`Settings::tasks`] tasks are in hand. Each owns what it changes before it begins, and
//! reports once more right then: a task that was given to somebody else while it waited is put
//! aside untouched. While it works, reports renew its lease also when no byte moves; they carry
//! how far it is, and it is the control plane that judges a silence. When the control plane
//! cannot be reached, the work goes on: what is final is confirmed first, and the answer is
//! repeated until it is heard.
//!
//! Upkeep gives way: as soon as other work for its pool arrives, it is asked to stop.
//!
//! A volume that is in use before it is whole may take hours to fill. Filling takes no slot, so that it
//! keeps no other task waiting, and the upkeep does not give way to it. How many volumes are filled at
//! once is for whoever gives tasks to say.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stillpoint_model::Env;
use stillpoint_model::id::{NodeId, PoolId, TaskId};
use stillpoint_model::question::{Asked, Question, Said};
use stillpoint_model::task::{Assignment, Directive, Report, TaskFailure, TaskOutcome, TaskSpec};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::control_plane::{ControlError, ControlPlane};
use crate::failure;
use crate::machines::Machines;
use crate::owners::Owners;
use crate::progress::{Watch, phase_of};
use crate::storage::Storage;
use crate::tasks::{Hooks, perform};

#[cfg(test)]
mod tests;

/// How a node works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Tasks in hand at once.
    pub tasks: usize,
    /// How often a task that moves is reported.
    pub report_every: Duration,
    /// How often a task that does not move is reported, so that its lease lives.
    pub renew_every: Duration,
    /// The pause before the control plane is asked again after it did not answer.
    pub retry_after: Duration,
    /// How often its machines are looked at.
    pub look_every: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tasks: 3,
            report_every: Duration::from_millis(250),
            renew_every: Duration::from_secs(8),
            retry_after: Duration::from_secs(1),
            look_every: Duration::from_secs(5),
        }
    }
}

/// One hypervisor's worker.
pub struct Node<C> {
    inner: Arc<Inner<C>>,
}

struct Inner<C> {
    id: NodeId,
    control: C,
    storage: Arc<Storage>,
    env: Arc<dyn Env>,
    settings: Settings,
    owners: Owners,
    upkeep: Mutex<HashMap<PoolId, Arc<Watch>>>,
    shutdown: CancellationToken,
}

impl<C: ControlPlane> Node<C> {
    /// A node with this storage. It stops when `shutdown` is cancelled.
    pub fn new(
        id: NodeId,
        control: C,
        storage: Storage,
        env: Arc<dyn Env>,
        settings: Settings,
        shutdown: CancellationToken,
    ) -> Self {
        let inner = Inner {
            id,
            control,
            storage: Arc::new(storage),
            env,
            settings,
            owners: Owners::default(),
            upkeep: Mutex::default(),
            shutdown,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Works until it is told to stop, and until what it has in hand has stopped.
    pub async fn run(self) {
        let inner = self.inner;
        let slots = Arc::new(Semaphore::new(inner.settings.tasks.max(1)));
        let mut tasks = JoinSet::new();
        let work = async {
            inner.say_hello().await;
            loop {
                let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                    return;
                };
                while tasks.try_join_next().is_some() {}
                if let Some(assignment) = inner.ask().await {
                    tasks.spawn(Arc::clone(&inner).handle(assignment, slot));
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = inner.watch_machines() => {}
            () = inner.answer_questions() => {}
            () = inner.watch_readers() => {}
            () = inner.shutdown.cancelled() => {}
        }
        while tasks.join_next().await.is_some() {}
    }
}

impl<C: ControlPlane> Inner<C> {
    async fn say_hello(&self) {
        while let Err(error) = self.control.hello(self.id).await {
            tracing::warn!(%error, node = %self.id, "the control plane does not know this node yet");
            self.pause().await;
        }
    }

    /// Says what its machines do, again and again. A node without a hypervisor says nothing.
    async fn watch_machines(&self) {
        let Some(machines) = self.storage.watched_machines() else {
            return std::future::pending().await;
        };
        loop {
            let looked = Arc::clone(&machines);
            match tokio::task::spawn_blocking(move || looked.sights()).await {
                Ok(Err(error)) => {
                    tracing::warn!(%error, node = %self.id, "a machine cannot be looked at");
                }
                Ok(Ok(sights)) => {
                    if let Err(error) = self.control.sighted(self.id, sights).await {
                        tracing::warn!(%error, node = %self.id, "what machines do was not heard");
                    }
                }
                Err(error) => tracing::error!(%error, "machines cannot be looked at"),
            }
            tokio::time::sleep(self.settings.look_every).await;
        }
    }

    /// Looks after what reads backups for guests, again and again: not beside the machines, which may
    /// wait for it.
    async fn watch_readers(&self) {
        if !self.storage.has_readers() {
            return std::future::pending().await;
        }
        loop {
            let storage = Arc::clone(&self.storage);
            let looked = tokio::task::spawn_blocking(move || storage.look_after_readers());
            if let Err(error) = looked.await {
                tracing::error!(%error, "readers cannot be looked after");
            }
            tokio::time::sleep(self.settings.look_every).await;
        }
    }

    /// Answers what is asked about its machines, one question at a time.
    async fn answer_questions(&self) {
        let Some(machines) = self.storage.watched_machines() else {
            return std::future::pending().await;
        };
        loop {
            let Asked { number, question } = match self.control.next_question(self.id).await {
                Ok(Some(asked)) => asked,
                Ok(None) => continue,
                Err(error) => {
                    tracing::warn!(%error, node = %self.id, "questions are not heard");
                    self.pause().await;
                    continue;
                }
            };
            let asked = Arc::clone(&machines);
            let said = tokio::task::spawn_blocking(move || say(&*asked, question)).await;
            let said = said.unwrap_or(Said::Nothing);
            if let Err(error) = self.control.answer(self.id, number, said).await {
                tracing::warn!(%error, node = %self.id, "an answer was not heard");
            }
        }
    }

    async fn ask(&self) -> Option<Assignment> {
        match self.control.next_task(self.id).await {
            Ok(assignment) => assignment,
            Err(error) => {
                tracing::warn!(%error, node = %self.id, "asking for work failed");
                self.pause().await;
                None
            }
        }
    }

    async fn pause(&self) {
        tokio::time::sleep(self.settings.retry_after).await;
    }

    async fn handle(self: Arc<Self>, assignment: Assignment, slot: OwnedSemaphorePermit) {
        let watch = Arc::new(Watch::new(phase_of(&assignment.spec)));
        let _upkeep = self.give_way(&assignment, &watch);
        let is_fill = matches!(assignment.spec, TaskSpec::VolumeFill { .. });
        let _slot = (!is_fill).then_some(slot);
        let owned = {
            let own = self.owners.own(assignment.spec.owners());
            tokio::select! {
                owned = own => owned,
                () = self.keep_reporting(&assignment, &watch) => return,
            }
        };
        if !self.may_begin(&assignment, &watch).await {
            return;
        }
        let result = self.perform(&assignment, &watch).await;
        drop(owned);
        if let Some(result) = result {
            self.finish(&assignment, result).await;
        }
    }

    /// Whether the lease still holds after the wait for its turn. Nothing is begun on hope.
    async fn may_begin(&self, assignment: &Assignment, watch: &Watch) -> bool {
        while !self.shutdown.is_cancelled() {
            match self.report_once(assignment, watch).await {
                Ok(()) => return true,
                Err(ControlError::Fenced) => return false,
                Err(ControlError::Unavailable(_)) => self.pause().await,
            }
        }
        false
    }

    /// Asks the upkeep of this pool to stop, or registers this task as the upkeep.
    fn give_way(&self, assignment: &Assignment, watch: &Arc<Watch>) -> Option<Upkeep<'_, C>> {
        let mut upkeep = self.upkeep.lock().unwrap_or_else(PoisonError::into_inner);
        if assignment.spec == TaskSpec::PoolTidy {
            upkeep.insert(assignment.pool_id, Arc::clone(watch));
            return Some(Upkeep {
                inner: self,
                pool_id: assignment.pool_id,
            });
        }
        // The care of a vault holds nothing of the pool, and a fill nothing that upkeep wants.
        let is_beside = matches!(
            assignment.spec,
            TaskSpec::VaultCollect { .. }
                | TaskSpec::VaultVerify { .. }
                | TaskSpec::VaultMend { .. }
                | TaskSpec::VolumeFill { .. }
                | TaskSpec::VaultCopy { .. }
        );
        if let Some(running) = upkeep.get(&assignment.pool_id).filter(|_| !is_beside) {
            running.cancel();
        }
        None
    }

    /// Does the work on a thread, and reports beside it. None when nobody waits for the answer.
    async fn perform(
        self: &Arc<Self>,
        assignment: &Assignment,
        watch: &Arc<Watch>,
    ) -> Option<Result<TaskOutcome, TaskFailure>> {
        let hooks = NodeHooks {
            inner: Arc::clone(self),
            watch: Arc::clone(watch),
            task_id: assignment.task_id,
            fence: assignment.fence,
            handle: tokio::runtime::Handle::current(),
        };
        let (storage, given) = (Arc::clone(&self.storage), assignment.clone());
        let mut work = tokio::task::spawn_blocking(move || {
            perform(&storage, given.pool_id, &given.spec, &hooks)
        });
        let ended = tokio::select! {
            ended = &mut work => ended,
            () = self.keep_reporting(assignment, watch) => {
                // Fenced or stopped: nobody hears the answer, but its things stay owned until
                // it has really ended.
                watch.cancel();
                if !self.shutdown.is_cancelled() {
                    drop(work.await);
                    return None;
                }
                work.await
            }
        };
        Some(ended.unwrap_or_else(|error| Err(failure::panicked(error.to_string()))))
    }

    /// Reports until the task is fenced or the node stops.
    async fn keep_reporting(&self, assignment: &Assignment, watch: &Watch) {
        let mut last = watch.read();
        let mut reported_at = self.env.monotonic();
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.settings.report_every) => {}
                () = self.shutdown.cancelled() => return,
            }
            let progress = watch.read();
            let silent = self.env.monotonic().saturating_sub(reported_at);
            if progress == last && silent < self.settings.renew_every {
                continue;
            }
            last = progress;
            reported_at = self.env.monotonic();
            if self.report_once(assignment, watch).await == Err(ControlError::Fenced) {
                tracing::info!(task = %assignment.task_id, "put aside: its lease is over");
                return;
            }
        }
    }

    async fn report_once(
        &self,
        assignment: &Assignment,
        watch: &Watch,
    ) -> Result<(), ControlError> {
        let report = Report {
            task_id: assignment.task_id,
            fence: assignment.fence,
            progress: watch.read(),
        };
        let directive = self.control.report(report).await?;
        if directive == Directive::Cancel {
            watch.cancel();
        }
        Ok(())
    }

    /// Says how it ended until it is heard.
    async fn finish(&self, assignment: &Assignment, result: Result<TaskOutcome, TaskFailure>) {
        if let Err(failure) = &result {
            tracing::warn!(
                task = %assignment.task_id, kind = %failure.kind, detail = failure.detail,
                "a task failed"
            );
        }
        loop {
            let said = self
                .control
                .finish(assignment.task_id, assignment.fence, result.clone());
            match said.await {
                Ok(()) | Err(ControlError::Fenced) => return,
                Err(error) => {
                    tracing::warn!(%error, task = %assignment.task_id, "the answer was not heard");
                }
            }
            if self.shutdown.is_cancelled() {
                return;
            }
            self.pause().await;
        }
    }
}

/// While it lives, the upkeep of a pool can be asked to give way.
struct Upkeep<'a, C> {
    inner: &'a Inner<C>,
    pool_id: PoolId,
}

impl<C> Drop for Upkeep<'_, C> {
    fn drop(&mut self) {
        let mut upkeep = self
            .inner
            .upkeep
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        upkeep.remove(&self.pool_id);
    }
}

/// What a task on its thread may ask.
struct NodeHooks<C> {
    inner: Arc<Inner<C>>,
    watch: Arc<Watch>,
    task_id: TaskId,
    fence: i64,
    handle: tokio::runtime::Handle,
}

impl<C: ControlPlane> Hooks for NodeHooks<C> {
    fn watch(&self) -> &Watch {
        &self.watch
    }

    fn confirm(&self) -> Result<Directive, ControlError> {
        self.handle
            .block_on(self.inner.control.confirm(self.task_id, self.fence))
    }
}

/// What there is to say to a question.
fn say(machines: &dyn Machines, question: Question) -> Said {
    let Question::Console { instance_id, max } = question;
    match machines.console(instance_id, max) {
        Ok(bytes) => Said::Console { bytes },
        Err(error) => {
            tracing::warn!(%error, instance = %instance_id, "its console cannot be read");
            Said::Nothing
        }
    }
}
