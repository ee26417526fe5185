//! What goes with a volume or an item when it is shown: what may be done with it, and why not.
//!
//! A page of views costs a fixed number of queries, however long it is: everything that is under
//! way is read once, and each thing finds its part in memory.

use std::collections::HashMap;

use stillpoint_model::Timestamp;
use stillpoint_model::guard::{
    Action, Allowed, Facts, InstanceFacts, ItemFacts, Member, VolumeFacts, can, can_together,
};
use stillpoint_model::id::{AccountId, NodeId, OperationId, PoolId, VolumeId};
use stillpoint_model::instance::Instance;
use stillpoint_model::operation::{Operation, OperationKind};
use stillpoint_model::plan::Plan;
use stillpoint_model::refusal::Refusal;
use stillpoint_model::volume::{Fill, Volume};
use stillpoint_store::Conn;
use stillpoint_store::fill::fill_list_of_account;
use stillpoint_store::image::image_count;
use stillpoint_store::operation::{
    operation_by_id, operation_in_flight, operation_live, operation_on_item,
};
use stillpoint_store::place::node_list;
use stillpoint_store::volume::CountedVolume;
use uuid::Uuid;

use crate::Context;
use crate::admission::{active_facts, instance_facts, volume_facts};
use crate::error::Result;
use crate::item::kind::Head;

/// Whether one action may be done now, from [`stillpoint_model::guard::can`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The action.
    pub action: Action,
    /// Yes with advice, or why not and the ways out.
    pub answer: Result<Allowed, Refusal>,
}

/// What goes on around the things that are shown.
pub(crate) struct Surroundings {
    pub(crate) now: Timestamp,
    in_flight: u32,
    images: u32,
    online: Vec<NodeId>,
    runs_instances: Vec<NodeId>,
    by_id: HashMap<OperationId, Operation>,
    by_item: HashMap<Uuid, OperationId>,
    fills: Vec<Fill>,
}

impl Surroundings {
    async fn empty(cx: &Context, conn: &mut Conn) -> Result<Self> {
        let now = cx.now();
        let nodes = node_list(conn).await?;
        let online = nodes
            .iter()
            .filter(|n| cx.is_online(n, now))
            .map(|n| n.id)
            .collect();
        let runs_instances = nodes
            .iter()
            .filter(|n| n.runs_instances)
            .map(|n| n.id)
            .collect();
        Ok(Self {
            now,
            in_flight: 0,
            images: 0,
            online,
            runs_instances,
            by_id: HashMap::new(),
            by_item: HashMap::new(),
            fills: Vec::new(),
        })
    }

    /// For a page of an account's things.
    pub(crate) async fn of_account(
        cx: &Context,
        conn: &mut Conn,
        account_id: AccountId,
    ) -> Result<Self> {
        let mut around = Self::empty(cx, conn).await?;
        around.images = image_count(conn, account_id).await?;
        around.fills = fill_list_of_account(conn, account_id).await?;
        for (operation, order) in operation_live(conn, account_id).await? {
            let (reads_snapshot, reads_backup) = order.request.reads();
            let items = [
                operation.snapshot_id.map(|id| id.as_uuid()),
                operation.backup_id.map(|id| id.as_uuid()),
                operation.image_id.map(|id| id.as_uuid()),
                reads_snapshot.map(|id| id.as_uuid()),
                reads_backup.map(|id| id.as_uuid()),
                operation.instance_snapshot_id.map(|id| id.as_uuid()),
            ];
            for item in items.into_iter().flatten() {
                around.by_item.insert(item, operation.id);
            }
            around.in_flight += u32::from(OperationKind::counts_in_flight(operation.kind));
            around.by_id.insert(operation.id, operation);
        }
        Ok(around)
    }

    /// For one thing of an account: a volume, or an item with the volume it was made of.
    pub(crate) async fn of_one(
        cx: &Context,
        conn: &mut Conn,
        account_id: AccountId,
        volume: Option<&Volume>,
        item: Option<Uuid>,
    ) -> Result<Self> {
        let mut around = Self::empty(cx, conn).await?;
        around.in_flight = operation_in_flight(conn, account_id).await?;
        around.images = image_count(conn, account_id).await?;
        around.fills = fill_list_of_account(conn, account_id).await?;
        if let Some(volume) = volume {
            around.learn(conn, volume.active_operation).await?;
            let own = volume.own_instance().and_then(|own| own.active_operation);
            around.learn(conn, own).await?;
        }
        if let Some(item) = item
            && let Some(operation) = operation_on_item(conn, item).await?
        {
            around.by_item.insert(item, operation.id);
            around.by_id.insert(operation.id, operation);
        }
        Ok(around)
    }

    /// For one instance with its volumes.
    pub(crate) async fn of_instance(
        cx: &Context,
        conn: &mut Conn,
        instance: &Instance,
        volumes: &[CountedVolume],
    ) -> Result<Self> {
        let mut around = Self::empty(cx, conn).await?;
        around.in_flight = operation_in_flight(conn, instance.account_id).await?;
        around.learn(conn, instance.active_operation).await?;
        for (volume, _) in volumes {
            around.learn(conn, volume.active_operation).await?;
        }
        Ok(around)
    }

    async fn learn(&mut self, conn: &mut Conn, id: Option<OperationId>) -> Result<()> {
        if let Some(id) = id
            && let Some(operation) = operation_by_id(conn, id).await?
        {
            self.by_id.insert(id, operation);
        }
        Ok(())
    }

    /// The account's images that count toward the cap.
    pub(crate) const fn images(&self) -> u32 {
        self.images
    }

    /// Whether any node runs instances.
    pub(crate) fn runs_instances(&self) -> bool {
        !self.runs_instances.is_empty()
    }

    /// The operation of this id.
    pub(crate) fn operation(&self, id: Option<OperationId>) -> Option<&Operation> {
        self.by_id.get(&id?)
    }

    /// The operation that holds a volume.
    pub(crate) fn on_volume(&self, volume: &Volume) -> Option<&Operation> {
        self.by_id.get(&volume.active_operation?)
    }

    /// An operation that makes, reads or deletes an item.
    pub(crate) fn on_item(&self, id: Uuid) -> Option<&Operation> {
        self.by_id.get(self.by_item.get(&id)?)
    }

    /// How a volume is filled that is used already.
    pub(crate) fn fill_of(&self, volume: &Volume) -> Option<&Fill> {
        self.fills.iter().find(|fill| fill.volume_id == volume.id)
    }

    /// A volume that is still filled from this backup.
    fn filled_from(&self, item: Uuid) -> Option<VolumeId> {
        let fill = self
            .fills
            .iter()
            .find(|fill| fill.backup_id.as_uuid() == item);
        fill.map(|fill| fill.volume_id)
    }

    /// What the guard needs to know of an item.
    pub(crate) fn item_facts(&self, item: &Head) -> ItemFacts {
        ItemFacts {
            state: item.state,
            protected: item.protected,
            keep_until: item.keep_until.filter(|until| *until > self.now),
            active_operation: self.on_item(item.id).map(active_facts),
            is_shared: false,
            fills: self.filled_from(item.id),
            part_of: item.part_of,
        }
    }

    /// What the guard needs to know of a volume.
    pub(crate) fn volume_facts(
        &self,
        cx: &Context,
        volume: &Volume,
        counts: (u32, u32),
    ) -> Result<VolumeFacts> {
        let own = volume.own_instance().and_then(|own| own.active_operation);
        let above = self.operation(own);
        volume_facts(cx, volume, counts, self.on_volume(volume), above)
    }

    /// What the guard needs to know of an instance with these volumes.
    pub(crate) fn instance_facts(
        &self,
        cx: &Context,
        instance: &Instance,
        volumes: &[Volume],
    ) -> Result<InstanceFacts> {
        instance_facts(cx, instance, volumes, |id| {
            self.operation(id).map(active_facts)
        })
    }

    /// What the guard says of these actions.
    pub(crate) fn permissions(
        &self,
        cx: &Context,
        actions: &[Action],
        plan: &Plan,
        pool: Option<PoolId>,
        volume: Option<&VolumeFacts>,
        item: Option<ItemFacts>,
    ) -> Vec<Permission> {
        let facts = Facts {
            volume: volume.cloned(),
            item,
            ..self.facts(cx, plan, pool)
        };
        answers(actions, &facts)
    }

    /// What the guard says of these actions on an instance.
    pub(crate) fn instance_permissions(
        &self,
        cx: &Context,
        actions: &[Action],
        plan: &Plan,
        pool: PoolId,
        instance: InstanceFacts,
    ) -> Vec<Permission> {
        let facts = Facts {
            instance: Some(instance),
            ..self.facts(cx, plan, Some(pool))
        };
        answers(actions, &facts)
    }

    /// What the guard says of an action on an instance and these volumes of it.
    pub(crate) fn permission_together(
        &self,
        cx: &Context,
        action: Action,
        (plan, pool): (&Plan, PoolId),
        instance: Option<InstanceFacts>,
        item: Option<ItemFacts>,
        members: &[Member<'_>],
    ) -> Permission {
        let facts = Facts {
            instance,
            item,
            ..self.facts(cx, plan, Some(pool))
        };
        Permission {
            action,
            answer: can_together(action, &facts, members),
        }
    }

    /// What is known of work in a pool, whatever it is about.
    fn facts<'p>(&self, cx: &Context, plan: &'p Plan, pool: Option<PoolId>) -> Facts<'p> {
        let places = cx.places();
        let node = pool
            .and_then(|id| places.pool(id).ok())
            .map(|pool| pool.node_id);
        Facts {
            now: self.now,
            plan,
            volume: None,
            item: None,
            instance: None,
            runs_instances: node.is_some_and(|node| self.runs_instances.contains(&node)),
            images: self.images,
            in_flight: self.in_flight,
            node_online: node.is_some_and(|node| self.online.contains(&node)),
            override_cooldown: false,
        }
    }
}

/// What the guard says of these actions.
fn answers(actions: &[Action], facts: &Facts<'_>) -> Vec<Permission> {
    actions
        .iter()
        .map(|action| Permission {
            action: *action,
            answer: can(*action, facts),
        })
        .collect()
}
