//! Backups: how they are made and proved, and what is particular to them. What they share with
//! snapshots is in [`crate::item`].

use serde::Serialize;
use stillpoint_model::account::Actor;
use stillpoint_model::backup::Backup;
use stillpoint_model::event::EventKind;
use stillpoint_model::guard::{Action, ItemFacts};
use stillpoint_model::id::{AccountId, BackupId, PoolId, SnapshotId, TargetId, VaultId, VolumeId};
use stillpoint_model::item::{ItemKind, ItemSizes, ItemState, Trigger};
use stillpoint_model::name::Name;
use stillpoint_model::naming::check_texts;
use stillpoint_model::operation::Operation;
use stillpoint_model::plan::Confirmations;
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_model::saga::Request;
use stillpoint_model::snapshot::Snapshot;
use stillpoint_model::task::VaultRef;
use stillpoint_model::volume::Volume;
use stillpoint_model::{ByteCount, Timestamp};
use stillpoint_store::backup::{
    backup_by_id, backup_by_name, backup_insert, backup_latest, backup_list, backup_list_of_volume,
    backup_update,
};
use stillpoint_store::page::PageKey;
use stillpoint_store::place::{vault_insert, vault_of};
use stillpoint_store::volume::{CountedVolume, volume_list_of_backups};
use stillpoint_store::{Conn, Tx};
use uuid::Uuid;

use crate::admission::{Accepted, Ask, Desk, Draft};
use crate::error::Result;
use crate::item::change::{decide, no_pool};
use crate::item::kind::{Item, item_fields};
use crate::item::name::NameScope;
use crate::item::show::Shown;
use crate::item::{self, ItemCreate, ItemQuery, ItemUpdate};
use crate::reference::{own_item, own_volume_counted};
use crate::{Answer, Change, Context, Page, Permission, Reference};

/// A backup, and what goes with it.
#[derive(Clone, Debug)]
pub struct BackupView {
    /// The backup.
    pub backup: Backup,
    /// Whether the volume it was made of still exists.
    pub source_exists: bool,
    /// An operation that makes, reads or deletes it.
    pub active_operation: Option<Operation>,
    /// What a person does before something is lost.
    pub confirm: Confirmations,
    /// The name of the target that holds it.
    pub target_name: Name,
    /// What may be done with it now.
    pub permissions: Vec<Permission>,
    /// The time of the view.
    pub now: Timestamp,
}

/// A request for a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BackupCreate {
    /// What is said of it.
    pub item: ItemCreate,
    /// Copy this snapshot of the volume instead of the volume as it is now.
    pub snapshot: Option<Reference>,
}

impl Item for Backup {
    const KIND: ItemKind = ItemKind::Backup;
    const EVENT: EventKind = EventKind::Backup;
    const UPDATE: &'static str = "backup_update";
    const DELETE: Action = Action::BackupDelete;
    const ACTIONS: &'static [Action] = &[
        Action::RestoreNew,
        Action::RestoreInPlace,
        Action::BackupVerify,
        Action::ImageCreate,
        Action::BackupDelete,
    ];
    type View = BackupView;

    item_fields!();

    fn promised(&self) -> Option<Timestamp> {
        self.keep_until
    }

    /// That of its volume, or any that reaches its target.
    fn work_pool(&self, cx: &Context, source: Option<&Volume>) -> Option<PoolId> {
        let near = cx.places().pool_near(self.target_id).map(|pool| pool.id);
        source.map(|volume| volume.pool_id).or(near)
    }

    fn view(self, cx: &Context, shown: Shown) -> Result<BackupView> {
        Ok(BackupView {
            source_exists: shown.source_exists,
            active_operation: shown.active_operation,
            confirm: shown.confirm,
            target_name: cx.places().target(self.target_id)?.name.clone(),
            permissions: shown.permissions,
            now: shown.now,
            backup: self,
        })
    }

    fn draft(&self, action: Action, request: Request, pool_id: PoolId) -> Draft {
        Draft {
            action,
            request,
            pool_id,
            project_id: self.project_id,
            volume: Some((self.volume_id, self.volume_name.clone())),
            snapshot_id: None,
            backup_id: Some(self.id),
            instance: None,
            image: None,
            instance_snapshot_id: None,
        }
    }

    async fn deletion(&self, desk: &mut Desk<'_>) -> Result<Request> {
        let vault = vault_of_backup(desk, self).await?;
        Ok(Request::BackupDelete { vault })
    }

    async fn by_id(conn: &mut Conn, id: Uuid) -> Result<Option<Self>> {
        Ok(backup_by_id(conn, BackupId::from_uuid(id)).await?)
    }

    async fn by_name(conn: &mut Conn, actor: &Actor, name: &Name) -> Result<Vec<Self>> {
        Ok(backup_by_name(conn, actor.account_id, actor.project_id, name).await?)
    }

    async fn list(conn: &mut Conn, actor: &Actor, page: &PageKey) -> Result<Vec<Self>> {
        Ok(backup_list(conn, actor.account_id, actor.project_id, page).await?)
    }

    async fn list_of_volume(
        conn: &mut Conn,
        actor: &Actor,
        volume_id: VolumeId,
        page: &PageKey,
    ) -> Result<Vec<Self>> {
        Ok(backup_list_of_volume(conn, actor.account_id, volume_id, page).await?)
    }

    async fn sources(conn: &mut Conn, actor: &Actor, page: &PageKey) -> Result<Vec<CountedVolume>> {
        Ok(volume_list_of_backups(conn, actor.account_id, actor.project_id, page).await?)
    }

    async fn write(&self, tx: &mut Tx) -> Result<()> {
        Ok(backup_update(tx, self).await?)
    }
}

/// A page of the account's backups, newest first.
pub async fn list(cx: &Context, actor: &Actor, query: &ItemQuery) -> Result<Page<BackupView>> {
    item::show::list::<Backup>(cx, actor, query).await
}

/// One backup.
pub async fn show(cx: &Context, actor: &Actor, backup: &Reference) -> Result<BackupView> {
    item::show::show::<Backup>(cx, actor, backup).await
}

/// Renames, describes, labels or protects a backup.
pub async fn update(
    cx: &Context,
    actor: &Actor,
    backup: &Reference,
    update: ItemUpdate,
    change: &Change,
) -> Result<BackupView> {
    item::change::update::<Backup>(cx, actor, backup, update, change).await
}

/// Deletes a backup; every other one stays. `confirm` is its name, typed, where the plan asks for
/// that.
pub async fn delete(
    cx: &Context,
    actor: &Actor,
    backup: &Reference,
    confirm: Option<&str>,
    change: &Change,
) -> Result<Answer> {
    item::change::delete::<Backup>(cx, actor, backup, confirm, change).await
}

/// The vault of an account in a target; made when it is the first backup there.
async fn vault_ref(
    desk: &mut Desk<'_>,
    account_id: AccountId,
    target_id: TargetId,
) -> Result<VaultRef> {
    let vault_id = match vault_of(desk.tx, account_id, target_id).await? {
        Some(id) => id,
        None => {
            let id = VaultId::generate(desk.cx.env());
            vault_insert(desk.tx, id, account_id, target_id, desk.now).await?;
            id
        }
    };
    Ok(VaultRef {
        target_id,
        vault_id,
        account_id,
    })
}

/// The vault that holds a backup.
pub(crate) async fn vault_of_backup(desk: &mut Desk<'_>, backup: &Backup) -> Result<VaultRef> {
    vault_ref(desk, backup.account_id, backup.target_id).await
}

/// Proves a backup's data again; `deep` decrypts and compares every chunk, too.
pub async fn verify(
    cx: &Context,
    actor: &Actor,
    backup: &Reference,
    deep: bool,
    change: &Change,
) -> Result<Answer> {
    let ask = Ask::new(cx, actor, change, "backup_verify", &(backup, deep))?;
    let backup = backup.clone();
    ask.admit(move |desk| Box::pin(admit_verify(desk, backup, deep)))
        .await
}

/// Decides on a proof of a backup.
pub(crate) async fn admit_verify(
    mut desk: Desk<'_>,
    backup: Reference,
    deep: bool,
) -> Result<Accepted> {
    let backup: Backup = own_item(desk.tx, &desk.actor, &backup).await?;
    let (plan, pool_id, allowed) = decide(&mut desk, Action::BackupVerify, &backup).await?;
    let vault = vault_of_backup(&mut desk, &backup).await?;
    let work = Request::BackupVerify { vault, deep };
    let draft = backup.draft(Action::BackupVerify, work, pool_id);
    desk.accept(draft, &plan.plan, allowed).await
}

/// Backs a volume up.
pub async fn create(
    cx: &Context,
    actor: &Actor,
    volume: &Reference,
    request: BackupCreate,
    change: &Change,
) -> Result<Answer> {
    check_texts(&request.item.description, &request.item.labels)?;
    let ask = Ask::new(cx, actor, change, "backup_create", &(volume, &request))?;
    let volume = volume.clone();
    ask.admit(move |desk| Box::pin(admit_create(desk, volume, request)))
        .await
}

/// Decides on a backup.
pub(crate) async fn admit_create(
    mut desk: Desk<'_>,
    volume: Reference,
    request: BackupCreate,
) -> Result<Accepted> {
    let (volume, counts) = own_volume_counted(desk.tx, &desk.actor, &volume).await?;
    desk.check_version(volume.version)?;
    let (plan, places) = (desk.plan(Some(&volume)).await?, desk.cx.places());
    let pool = places.pool(volume.pool_id)?;
    let facts = desk.counted_facts(&volume, counts).await?;
    let copied = copied(&mut desk, &volume, request.snapshot.as_ref()).await?;
    let item = copied.map(|(_, facts)| facts);
    let allowed = desk
        .can(Action::BackupCreate, &plan.plan, pool, Some(facts), item)
        .await?;
    // The guard has seen that there is one.
    let target = places.target_of(pool).ok_or_else(no_pool)?.id;
    let vault = vault_ref(&mut desk, volume.account_id, target).await?;
    let parent = backup_latest(desk.tx, volume.id, target).await?;
    let scope = NameScope::of(Backup::KIND, &plan.plan, volume.account_id, volume.id);
    let name = scope
        .choose(desk.tx, request.item.name.clone(), desk.now)
        .await?;
    let promised = plan.plan.keep_backups_s;
    let backup = Backup {
        keep_until: promised.map(|keep| keep.from(desk.now)),
        ..pending(&desk, &volume, target, name, request.item)
    };
    backup_insert(desk.tx, &backup).await?;
    let snapshot_id = copied.map(|(id, _)| id);
    let work = Request::BackupCreate {
        vault,
        snapshot_id,
        parent,
    };
    let draft = Draft {
        snapshot_id,
        ..backup.draft(Action::BackupCreate, work, volume.pool_id)
    };
    desk.lock(volume).await?;
    desk.accept(draft, &plan.plan, allowed).await
}

/// The snapshot of this volume that is to be copied, and what the guard needs to know of it.
async fn copied(
    desk: &mut Desk<'_>,
    volume: &Volume,
    reference: Option<&Reference>,
) -> Result<Option<(SnapshotId, ItemFacts)>> {
    let Some(reference) = reference else {
        return Ok(None);
    };
    let snapshot: Snapshot = own_item(desk.tx, &desk.actor, reference)
        .await
        .map_err(|error| error.at("/snapshot"))?;
    if snapshot.volume_id != volume.id {
        let text = "That snapshot is of another volume.";
        return Err(Refusal::new(ProblemCode::InvalidRequest, text)
            .at("/snapshot")
            .into());
    }
    let facts = desk.item_facts(&snapshot.head()).await?;
    Ok(Some((snapshot.id, facts)))
}

/// The row of a backup that was just asked for.
fn pending(
    desk: &Desk<'_>,
    volume: &Volume,
    target_id: TargetId,
    name: Name,
    request: ItemCreate,
) -> Backup {
    Backup {
        id: BackupId::generate(desk.cx.env()),
        account_id: volume.account_id,
        project_id: volume.project_id,
        target_id,
        volume_id: volume.id,
        volume_name: volume.name.clone(),
        name,
        description: request.description,
        labels: request.labels,
        state: ItemState::Pending,
        consistency: None,
        trigger: Trigger::Manual,
        sizes: ItemSizes {
            provisioned: volume.size,
            ..ItemSizes::default()
        },
        bytes_read: ByteCount::ZERO,
        content_hash: None,
        verified_at: None,
        duration_ms: None,
        protected: false,
        keep_until: None,
        failure: None,
        operation_id: Some(desk.operation_id),
        created_at: desk.now,
        version: 1,
    }
}
