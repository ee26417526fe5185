//! What a snapshot or a backup says of itself, so that what both do is written once.

use std::collections::BTreeMap;
use std::future::Future;

use stillpoint_model::Timestamp;
use stillpoint_model::account::Actor;
use stillpoint_model::event::EventKind;
use stillpoint_model::guard::Action;
use stillpoint_model::id::{AccountId, InstanceSnapshotId, OperationId, PoolId, VolumeId};
use stillpoint_model::item::{ItemKind, ItemState};
use stillpoint_model::name::Name;
use stillpoint_model::saga::Request;
use stillpoint_model::volume::Volume;
use stillpoint_store::page::PageKey;
use stillpoint_store::volume::CountedVolume;
use stillpoint_store::{Conn, Tx};
use uuid::Uuid;

use super::show::Shown;
use crate::Context;
use crate::admission::{Desk, Draft};
use crate::error::Result;

/// A snapshot or a backup.
pub(crate) trait Item: Send + Sync + Sized + 'static {
    /// Which of the two.
    const KIND: ItemKind;
    /// What an event about one is of.
    const EVENT: EventKind;
    /// What the audit calls an edit.
    const UPDATE: &'static str;
    /// Deleting one.
    const DELETE: Action;
    /// What may be done with one.
    const ACTIONS: &'static [Action];
    /// One with what goes with it.
    type View;

    /// What every item has, to be read.
    fn head(&self) -> Head;
    /// The whole that it is part of.
    fn part_of(&self) -> Option<InstanceSnapshotId> {
        None
    }
    /// Until when it was promised to stay.
    fn promised(&self) -> Option<Timestamp> {
        None
    }
    /// What of every item changes.
    fn fields(&mut self) -> Fields<'_>;
    /// The pool whose node does the work on it; its volume may be gone.
    fn work_pool(&self, cx: &Context, source: Option<&Volume>) -> Option<PoolId>;
    /// With what goes with it.
    fn view(self, cx: &Context, shown: Shown) -> Result<Self::View>;
    /// What is decided about it.
    fn draft(&self, action: Action, request: Request, pool_id: PoolId) -> Draft;
    /// The work of deleting it.
    fn deletion(&self, desk: &mut Desk<'_>) -> impl Future<Output = Result<Request>> + Send;

    /// That of this id, whoever's it is.
    fn by_id(conn: &mut Conn, id: Uuid) -> impl Future<Output = Result<Option<Self>>> + Send;
    /// Those of this name in the actor's project; two are enough.
    fn by_name(
        conn: &mut Conn,
        actor: &Actor,
        name: &Name,
    ) -> impl Future<Output = Result<Vec<Self>>> + Send;
    /// A page of the actor's project.
    fn list(
        conn: &mut Conn,
        actor: &Actor,
        page: &PageKey,
    ) -> impl Future<Output = Result<Vec<Self>>> + Send;
    /// A page of those of one volume.
    fn list_of_volume(
        conn: &mut Conn,
        actor: &Actor,
        volume_id: VolumeId,
        page: &PageKey,
    ) -> impl Future<Output = Result<Vec<Self>>> + Send;
    /// The volumes that those of a page of the project were made of.
    fn sources(
        conn: &mut Conn,
        actor: &Actor,
        page: &PageKey,
    ) -> impl Future<Output = Result<Vec<CountedVolume>>> + Send;
    /// Writes everything of it that can change.
    fn write(&self, tx: &mut Tx) -> impl Future<Output = Result<()>> + Send;
}

/// What every item has.
#[derive(Clone, Copy)]
pub(crate) struct Head {
    pub(crate) id: Uuid,
    pub(crate) account_id: AccountId,
    pub(crate) volume_id: VolumeId,
    pub(crate) state: ItemState,
    pub(crate) protected: bool,
    pub(crate) keep_until: Option<Timestamp>,
    pub(crate) part_of: Option<InstanceSnapshotId>,
    pub(crate) created_at: Timestamp,
    pub(crate) version: i64,
}

/// What of every item changes.
pub(crate) struct Fields<'a> {
    pub(crate) name: &'a mut Name,
    pub(crate) description: &'a mut String,
    pub(crate) labels: &'a mut BTreeMap<String, String>,
    pub(crate) protected: &'a mut bool,
    pub(crate) state: &'a mut ItemState,
    pub(crate) operation_id: &'a mut Option<OperationId>,
    pub(crate) version: &'a mut i64,
}

/// [`Item::head`] and [`Item::fields`] of a type whose fields have these names.
macro_rules! item_fields {
    () => {
        fn head(&self) -> $crate::item::kind::Head {
            $crate::item::kind::Head {
                id: self.id.as_uuid(),
                account_id: self.account_id,
                volume_id: self.volume_id,
                state: self.state,
                protected: self.protected,
                keep_until: self.promised(),
                part_of: self.part_of(),
                created_at: self.created_at,
                version: self.version,
            }
        }

        fn fields(&mut self) -> $crate::item::kind::Fields<'_> {
            $crate::item::kind::Fields {
                name: &mut self.name,
                description: &mut self.description,
                labels: &mut self.labels,
                protected: &mut self.protected,
                state: &mut self.state,
                operation_id: &mut self.operation_id,
                version: &mut self.version,
            }
        }
    };
}

pub(crate) use item_fields;
