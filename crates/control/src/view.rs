//! What goes with a volume or an item when it is shown: what may be done with it, and why not.
//!
//! A page of views costs a fixed number of queries, however long it is: everything that is under
//! way is read once, and each thing finds its part in memory.

use std::collections::HashMap;

use stillpoint_model::Timestamp;
use stillpoint_model::guard::{Action, Allowed, Facts, ItemFacts, VolumeFacts, can};
use stillpoint_model::id::{AccountId, NodeId, OperationId, PoolId};
use stillpoint_model::operation::{Operation, OperationKind};
use stillpoint_model::plan::Plan;
use stillpoint_model::refusal::Refusal;
use stillpoint_model::volume::Volume;
use stillpoint_store::Conn;
use stillpoint_store::operation::{
    operation_by_id, operation_in_flight, operation_live, operation_on_item,
};
use stillpoint_store::place::node_list;
use uuid::Uuid;

use crate::Context;
use crate::admission::{active_facts, volume_facts};
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
    online: Vec<NodeId>,
    by_id: HashMap<OperationId, Operation>,
    by_item: HashMap<Uuid, OperationId>,
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
        Ok(Self {
            now,
            in_flight: 0,
            online,
            by_id: HashMap::new(),
            by_item: HashMap::new(),
        })
    }

    /// For a page of an account's things.
    pub(crate) async fn of_account(
        cx: &Context,
        conn: &mut Conn,
        account_id: AccountId,
    ) -> Result<Self> {
        let mut around = Self::empty(cx, conn).await?;
        for (operation, order) in operation_live(conn, account_id).await? {
            let (reads_snapshot, reads_backup) = order.request.reads();
            let items = [
                operation.snapshot_id.map(|id| id.as_uuid()),
                operation.backup_id.map(|id| id.as_uuid()),
                reads_snapshot.map(|id| id.as_uuid()),
                reads_backup.map(|id| id.as_uuid()),
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
        if let Some(id) = volume.and_then(|v| v.active_operation)
            && let Some(operation) = operation_by_id(conn, id).await?
        {
            around.by_id.insert(id, operation);
        }
        if let Some(item) = item
            && let Some(operation) = operation_on_item(conn, item).await?
        {
            around.by_item.insert(item, operation.id);
            around.by_id.insert(operation.id, operation);
        }
        Ok(around)
    }

    /// The operation that holds a volume.
    pub(crate) fn on_volume(&self, volume: &Volume) -> Option<&Operation> {
        self.by_id.get(&volume.active_operation?)
    }

    /// An operation that makes, reads or deletes an item.
    pub(crate) fn on_item(&self, id: Uuid) -> Option<&Operation> {
        self.by_id.get(self.by_item.get(&id)?)
    }

    /// What the guard needs to know of an item.
    pub(crate) fn item_facts(&self, item: &Head) -> ItemFacts {
        ItemFacts {
            state: item.state,
            protected: item.protected,
            active_operation: self.on_item(item.id).map(active_facts),
        }
    }

    /// What the guard needs to know of a volume.
    pub(crate) fn volume_facts(
        &self,
        cx: &Context,
        volume: &Volume,
        counts: (u32, u32),
    ) -> Result<VolumeFacts> {
        volume_facts(cx, volume, counts, self.on_volume(volume))
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
        let places = cx.places();
        let node = pool
            .and_then(|id| places.pool(id).ok())
            .map(|pool| pool.node_id);
        let facts = Facts {
            now: self.now,
            plan,
            volume: volume.cloned(),
            item,
            in_flight: self.in_flight,
            node_online: node.is_some_and(|node| self.online.contains(&node)),
            override_cooldown: false,
        };
        actions
            .iter()
            .map(|action| Permission {
                action: *action,
                answer: can(*action, &facts),
            })
            .collect()
    }
}
