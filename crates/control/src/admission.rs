//! Admission: the one transaction that decides, and writes what was decided.
//!
//! ```text
//! the same request as before? -> its operation, as it is now
//! facts -> guard::can -> rows -> the volume's lock -> operation -> events -> audit -> key
//! ```
//!
//! Everything is read and written in one job of the database's single writer, so of two requests
//! that race for a volume exactly one finds it free. A dry run is the same job, rolled back at
//! its end: it cannot answer anything else than the request itself would.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Serialize;
use stillpoint_model::Timestamp;
use stillpoint_model::account::Actor;
use stillpoint_model::guard::{
    Action, ActiveOperation, Allowed, Facts, InstanceFacts, ItemFacts, Member, OtherVolume,
    VolumeFacts, can, can_together,
};
use stillpoint_model::id::{
    BackupId, ImageId, InstanceId, InstanceSnapshotId, OperationId, PoolId, ProjectId, SnapshotId,
    VolumeId,
};
use stillpoint_model::instance::Instance;
use stillpoint_model::name::Name;
use stillpoint_model::operation::{Operation, OperationState, Phase, Progress};
use stillpoint_model::place::Pool;
use stillpoint_model::plan::{Plan, PlanVersion};
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_model::saga::{Order, Request, Run, Terms};
use stillpoint_model::volume::Volume;
use stillpoint_store::Tx;
use stillpoint_store::fill::fill_from_backup;
use stillpoint_store::image::image_count;
use stillpoint_store::operation::{operation_by_id, operation_insert, operation_on_item};
use stillpoint_store::place::node_with_in_flight;
use stillpoint_store::volume::{volume_item_counts, volume_update};

use crate::audit::{self, Entry};
use crate::change::{Answer, Change, Preview};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::item::kind::Head;
use crate::once::Once;

mod record;

use record::{record_events, subject};

/// What an admission ends with: the operation and what the guard said.
pub(crate) type Accepted = (Operation, Allowed);

/// Why an admission left nothing behind.
enum Halt {
    Error(Error),
    DryRun(Allowed),
}

impl From<stillpoint_store::Error> for Halt {
    fn from(error: stillpoint_store::Error) -> Self {
        Self::Error(error.into())
    }
}

/// A request for work, before it is decided.
pub(crate) struct Ask<'a> {
    cx: &'a Context,
    actor: &'a Actor,
    change: &'a Change,
    once: Once,
}

impl<'a> Ask<'a> {
    /// A request of this kind with this input. Refused when it could never be accepted.
    pub(crate) fn new(
        cx: &'a Context,
        actor: &'a Actor,
        change: &'a Change,
        kind: &str,
        input: &impl Serialize,
    ) -> Result<Self> {
        // A dry run is no request yet: it neither uses its key nor is answered by it.
        let key = change.idempotency_key.as_deref();
        let once = Once::new(actor, key.filter(|_| !change.dry_run), kind, input)?;
        Self::of(cx, actor, change, once)
    }

    /// A request that is the same as `once`, whoever the actor is.
    pub(crate) fn of(
        cx: &'a Context,
        actor: &'a Actor,
        change: &'a Change,
        once: Once,
    ) -> Result<Self> {
        check_change(actor, change)?;
        Ok(Self {
            cx,
            actor,
            change,
            once,
        })
    }

    /// Decides and writes, in one transaction.
    pub(crate) async fn admit<F>(self, decide: F) -> Result<Answer>
    where
        F: for<'c> FnOnce(Desk<'c>) -> BoxFuture<'c, Result<Accepted>> + Send + 'static,
    {
        let Self {
            cx,
            actor,
            change,
            once,
        } = self;
        let operation_id = OperationId::generate(cx.env());
        let (cx, actor, change) = (cx.clone(), actor.clone(), change.clone());
        let (bell, dry_run) = (cx.clone(), change.dry_run);
        let done = bell
            .db()
            .write(move |tx| {
                Box::pin(async move {
                    let now = cx.now();
                    if let Some(before) = replayed(tx, &once).await.map_err(Halt::Error)? {
                        return Ok(before);
                    }
                    let desk = Desk {
                        tx,
                        cx,
                        actor,
                        change,
                        now,
                        operation_id,
                        once,
                        note: String::new(),
                    };
                    let (operation, allowed) = decide(desk).await.map_err(Halt::Error)?;
                    if dry_run {
                        Err(Halt::DryRun(allowed))
                    } else {
                        Ok(operation)
                    }
                })
            })
            .await;
        match done {
            Ok(operation) => {
                bell.engine_bell().notify_one();
                Ok(Answer::Accepted(operation))
            }
            Err(Halt::DryRun(allowed)) => Ok(Answer::Preview(Preview { allowed })),
            Err(Halt::Error(error)) => Err(error),
        }
    }
}

fn check_change(actor: &Actor, change: &Change) -> Result<(), Refusal> {
    if change.override_cooldown && !actor.is_administrator() {
        let text = "Only an administrator may pass the cooldown.";
        return Err(Refusal::new(ProblemCode::Forbidden, text));
    }
    Ok(())
}

/// The operation that the same request led to before.
async fn replayed(tx: &mut Tx, once: &Once) -> Result<Option<Operation>> {
    let Some(id) = once.before(tx).await? else {
        return Ok(None);
    };
    let operation = operation_by_id(tx, OperationId::from_uuid(id)).await?;
    let gone = || Error::Inconsistent(format!("operation {id} does not exist"));
    operation.map(Some).ok_or_else(gone)
}

/// Where one request is decided.
pub(crate) struct Desk<'c> {
    pub(crate) tx: &'c mut Tx,
    pub(crate) cx: Context,
    pub(crate) actor: Actor,
    pub(crate) change: Change,
    pub(crate) now: Timestamp,
    pub(crate) operation_id: OperationId,
    once: Once,
    note: String,
}

/// What was decided.
pub(crate) struct Draft {
    pub(crate) action: Action,
    pub(crate) request: Request,
    pub(crate) pool_id: PoolId,
    pub(crate) project_id: ProjectId,
    pub(crate) volume: Option<(VolumeId, Name)>,
    pub(crate) snapshot_id: Option<SnapshotId>,
    pub(crate) backup_id: Option<BackupId>,
    pub(crate) instance: Option<(InstanceId, Name)>,
    pub(crate) image: Option<(ImageId, Name)>,
    pub(crate) instance_snapshot_id: Option<InstanceSnapshotId>,
}

impl Desk<'_> {
    /// With a note for the audit.
    pub(crate) fn noting(mut self, note: String) -> Self {
        self.note = note;
        self
    }

    /// Refuses when the thing was changed since the request's maker read it.
    pub(crate) fn check_version(&self, version: i64) -> Result<(), Refusal> {
        check_version(&self.change, version)
    }

    /// The plan of a volume, or that of new ones.
    pub(crate) async fn plan(&mut self, volume: Option<&Volume>) -> Result<Arc<PlanVersion>> {
        match volume {
            Some(volume) => self.cx.plan(self.tx, volume.plan_id).await,
            None => Ok(self.cx.default_plan()),
        }
    }

    /// What the guard needs to know of a volume.
    pub(crate) async fn volume_facts(&mut self, volume: &Volume) -> Result<VolumeFacts> {
        let counts = volume_item_counts(self.tx, volume.id).await?;
        self.counted_facts(volume, counts).await
    }

    /// The same, its items counted already: snapshots, backups.
    pub(crate) async fn counted_facts(
        &mut self,
        volume: &Volume,
        counts: (u32, u32),
    ) -> Result<VolumeFacts> {
        let active = self.operation_of(volume.active_operation).await?;
        let own = volume.own_instance().and_then(|own| own.active_operation);
        let above = self.operation_of(own).await?;
        volume_facts(&self.cx, volume, counts, active.as_ref(), above.as_ref())
    }

    /// The operation that holds something.
    pub(crate) async fn operation_of(
        &mut self,
        id: Option<OperationId>,
    ) -> Result<Option<Operation>> {
        match id {
            Some(id) => Ok(operation_by_id(self.tx, id).await?),
            None => Ok(None),
        }
    }

    /// What the guard needs to know of the volume that an item was made of, which may be gone.
    pub(crate) async fn source_facts(
        &mut self,
        source: Option<&Volume>,
    ) -> Result<Option<VolumeFacts>> {
        match source {
            Some(volume) => self.volume_facts(volume).await.map(Some),
            None => Ok(None),
        }
    }

    /// What the guard needs to know of an item.
    pub(crate) async fn item_facts(&mut self, item: &Head) -> Result<ItemFacts> {
        let active = operation_on_item(self.tx, item.id).await?;
        Ok(ItemFacts {
            state: item.state,
            protected: item.protected,
            keep_until: item.keep_until.filter(|until| *until > self.now),
            active_operation: active.as_ref().map(active_facts),
            is_shared: false,
            fills: fill_from_backup(self.tx, BackupId::from_uuid(item.id)).await?,
            part_of: item.part_of,
        })
    }

    /// Asks the guard.
    pub(crate) async fn can(
        &mut self,
        action: Action,
        plan: &Plan,
        pool: &Pool,
        volume: Option<VolumeFacts>,
        item: Option<ItemFacts>,
    ) -> Result<Allowed> {
        self.can_beside(action, plan, pool, (volume, item), None)
            .await
    }

    /// Asks the guard about something that an instance has to do with.
    pub(crate) async fn can_beside(
        &mut self,
        action: Action,
        plan: &Plan,
        pool: &Pool,
        (volume, item): (Option<VolumeFacts>, Option<ItemFacts>),
        instance: Option<InstanceFacts>,
    ) -> Result<Allowed> {
        let facts = Facts {
            volume,
            item,
            instance,
            ..self.facts(action, plan, pool).await?
        };
        Ok(can(action, &facts)?)
    }

    /// Asks the guard about something that is done to an instance and these volumes of it.
    pub(crate) async fn can_together(
        &mut self,
        action: Action,
        (plan, pool): (&Plan, &Pool),
        instance: InstanceFacts,
        item: Option<ItemFacts>,
        members: &[Member<'_>],
    ) -> Result<Allowed> {
        let facts = Facts {
            item,
            instance: Some(instance),
            ..self.facts(action, plan, pool).await?
        };
        Ok(can_together(action, &facts, members)?)
    }

    /// What is known of work in a pool, whatever it is about.
    async fn facts<'p>(
        &mut self,
        action: Action,
        plan: &'p Plan,
        pool: &Pool,
    ) -> Result<Facts<'p>> {
        let account_id = self.actor.account_id;
        let found = node_with_in_flight(self.tx, pool.node_id, account_id).await?;
        let (node, in_flight) = found.unzip();
        let images = match action {
            Action::ImageCreate => image_count(self.tx, account_id).await?,
            _ => 0,
        };
        Ok(Facts {
            now: self.now,
            plan,
            volume: None,
            item: None,
            instance: None,
            runs_instances: node.as_ref().is_some_and(|node| node.runs_instances),
            images,
            in_flight: in_flight.unwrap_or(0),
            node_online: node.is_some_and(|node| self.cx.is_online(&node, self.now)),
            override_cooldown: self.change.override_cooldown,
        })
    }

    /// Gives the volume's lock to the operation.
    pub(crate) async fn lock(&mut self, mut volume: Volume) -> Result<()> {
        volume.active_operation = Some(self.operation_id);
        volume.version += 1;
        Ok(volume_update(self.tx, &volume).await?)
    }

    /// Writes the operation, its events, its audit record and its key.
    pub(crate) async fn accept(
        self,
        draft: Draft,
        plan: &Plan,
        allowed: Allowed,
    ) -> Result<Accepted> {
        let operation = self.operation(&draft);
        let order = Order {
            pool_id: draft.pool_id,
            terms: Terms::of(plan),
            request: draft.request.clone(),
        };
        let Self {
            tx,
            actor,
            change,
            now,
            once,
            note,
            ..
        } = self;
        operation_insert(tx, &Run::accepted(operation.clone(), order)).await?;
        record_events(tx, &operation).await?;
        let resource = subject(&operation);
        let detail = if change.override_cooldown {
            "cooldown overridden"
        } else {
            &note
        };
        let entry = Entry::new(&actor, draft.action.as_str(), resource).detail(detail);
        audit::record(tx, entry, now).await?;
        once.record(tx, operation.id.as_uuid(), now).await?;
        Ok((operation, allowed))
    }

    fn operation(&self, draft: &Draft) -> Operation {
        Operation {
            id: self.operation_id,
            account_id: self.actor.account_id,
            project_id: draft.project_id,
            user_id: self.actor.user_id,
            kind: draft.request.kind(),
            state: OperationState::Queued,
            volume_id: draft.volume.as_ref().map(|(id, _)| *id),
            volume_name: draft.volume.as_ref().map(|(_, name)| name.clone()),
            snapshot_id: draft.snapshot_id,
            backup_id: draft.backup_id,
            instance_id: draft.instance.as_ref().map(|(id, _)| *id),
            instance_name: draft.instance.as_ref().map(|(_, name)| name.clone()),
            image_id: draft.image.as_ref().map(|(id, _)| *id),
            image_name: draft.image.as_ref().map(|(_, name)| name.clone()),
            instance_snapshot_id: draft.instance_snapshot_id,
            progress: Progress::start(Phase::Waiting),
            fence: 1,
            failure: None,
            created_at: self.now,
            started_at: None,
            progressed_at: self.now,
            finished_at: None,
            version: 1,
        }
    }
}

/// Refuses when a thing was changed since the request's maker read it.
pub(crate) fn check_version(change: &Change, version: i64) -> Result<(), Refusal> {
    if change.if_match.is_none_or(|wanted| wanted == version) {
        return Ok(());
    }
    let text = "It was changed since you read it. Read it again, then decide.";
    Err(Refusal::new(ProblemCode::PreconditionFailed, text))
}

/// An operation in the way, as the guard sees it.
pub(crate) const fn active_facts(operation: &Operation) -> ActiveOperation {
    ActiveOperation {
        id: operation.id,
        kind: operation.kind,
    }
}

/// What the guard needs to know of a volume with so many snapshots and backups, that `active`
/// holds, and whose instance `above` holds.
pub(crate) fn volume_facts(
    cx: &Context,
    volume: &Volume,
    counts: (u32, u32),
    active: Option<&Operation>,
    above: Option<&Operation>,
) -> Result<VolumeFacts> {
    let places = cx.places();
    let pool = places.pool(volume.pool_id)?;
    Ok(VolumeFacts {
        id: volume.id,
        role: volume.role,
        state: volume.state,
        attachment: volume.attachment.clone(),
        filling: volume.filling.is_some(),
        active_operation: active.map(active_facts),
        instance_operation: above.map(active_facts),
        cooldown_until: volume.cooldown_until,
        snapshots: counts.0,
        backups: counts.1,
        live_capture: pool.live_capture && is_ours_to_switch(volume),
        has_backup_target: places.target_of(pool).is_some(),
    })
}

/// Whether nobody but an instance of ours has the volume open: a machine that somebody else runs
/// switches to no overlay of ours.
fn is_ours_to_switch(volume: &Volume) -> bool {
    let attachment = volume.attachment.as_ref();
    attachment.is_none_or(|attachment| attachment.own.is_some())
}

/// What the guard needs to know of an instance with these volumes.
pub(crate) fn instance_facts(
    cx: &Context,
    instance: &Instance,
    volumes: &[Volume],
    operation: impl Fn(Option<OperationId>) -> Option<ActiveOperation>,
) -> Result<InstanceFacts> {
    let places = cx.places();
    let beside = |volume: &Volume| {
        Ok(OtherVolume {
            id: volume.id,
            place: volume.own_instance().map_or(0, |own| own.place),
            pool_id: volume.pool_id,
            active_operation: operation(volume.active_operation),
            live_capture: places.pool(volume.pool_id)?.live_capture,
        })
    };
    Ok(InstanceFacts {
        id: instance.id,
        state: instance.state,
        power: instance.power,
        active_operation: operation(instance.active_operation),
        volumes: volumes.iter().map(beside).collect::<Result<_>>()?,
    })
}
