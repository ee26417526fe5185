//! The first rows of an installation.

use stillpoint_model::account::{Account, Actor, Role, User};
use stillpoint_model::id::{
    AccountId, NodeId, PoolId, ProjectId, RegionId, RequestId, TargetId, UserId,
};
use stillpoint_model::name::Name;
use stillpoint_model::place::{Node, ObjectLock, Pool, Region, Target, TargetRole};
use stillpoint_store::Tx;
use stillpoint_store::account::{
    account_by_name, account_insert, project_insert, user_by_login, user_insert,
};
use stillpoint_store::place::{
    node_insert, node_list, pool_insert, pool_list, pool_update_live_capture, region_insert,
    region_list, target_insert, target_list, target_update_lock,
};

use crate::audit::{self, Entry};
use crate::auth::{actor_by_login, hash_password};
use crate::error::{Error, Result};
use crate::{Context, Secret};

/// The project that each account begins with.
const DEFAULT_PROJECT: &str = "default";

/// What an installation consists of. Things are found by their names, and targets by their roles; what
/// exists stays as it is.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The region's name.
    pub region: Name,
    /// The node's name.
    pub node: Name,
    /// The pool.
    pub pool: PoolSetup,
    /// The backup target; none leaves backups refused with `no_backup_target`.
    pub target: Option<TargetSetup>,
    /// A target for copies of backups, and nothing else.
    pub second_target: Option<TargetSetup>,
    /// The account and the login of the operator.
    pub administrator: AccountSetup,
    /// The demo tenant.
    pub tenant: Option<AccountSetup>,
}

/// A pool to have.
#[derive(Clone, Debug)]
pub struct PoolSetup {
    /// Its name.
    pub name: Name,
    /// What kind of storage it is, such as `qcow2`.
    pub driver: String,
    /// Whether it can capture a volume while an instance that runs has it open.
    pub live_capture: bool,
}

/// A backup target to have.
#[derive(Clone, Debug)]
pub struct TargetSetup {
    /// Its name.
    pub name: Name,
    /// What kind of storage it is, such as `local`.
    pub driver: String,
    /// How it locks what is to stay; none locks nothing.
    pub object_lock: Option<ObjectLock>,
}

/// An account to have, with one user.
#[derive(Clone, Debug)]
pub struct AccountSetup {
    /// The account's name.
    pub account: Name,
    /// What the user signs in with.
    pub login: String,
    /// The password of a user that is made now; that of one who exists stays as it is.
    pub password: Secret,
}

/// What is there now.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The region.
    pub region_id: RegionId,
    /// The node.
    pub node_id: NodeId,
    /// The pool.
    pub pool_id: PoolId,
    /// The backup target.
    pub target_id: Option<TargetId>,
    /// The target for copies.
    pub second_target_id: Option<TargetId>,
    /// The operator.
    pub administrator: InstalledUser,
    /// The demo tenant.
    pub tenant: Option<InstalledUser>,
}

/// A user that is there now.
#[derive(Clone, Debug)]
pub struct InstalledUser {
    /// Who acts when this user does.
    pub actor: Actor,
    /// Whether it was made just now, with the given password.
    pub created: bool,
}

/// Makes what is missing. Safe to repeat, at each start.
pub async fn ensure_installation(cx: &Context, installation: &Installation) -> Result<Installed> {
    let administrator = ensure_user(cx, &installation.administrator, Role::Administrator).await?;
    let tenant = match &installation.tenant {
        Some(setup) => Some(ensure_user(cx, setup, Role::Tenant).await?),
        None => None,
    };
    let (handle, wanted) = (cx.clone(), installation.clone());
    let (region_id, node_id, pool_id, [target_id, second_target_id]) = cx
        .db()
        .write(move |tx| {
            Box::pin(async move {
                let region_id = ensure_region(&handle, tx, &wanted.region).await?;
                let node_id = ensure_node(&handle, tx, region_id, &wanted.node).await?;
                let pool_id = ensure_pool(&handle, tx, node_id, &wanted.pool).await?;
                let (first, second) = (&wanted.target, &wanted.second_target);
                let (to, also) = (TargetRole::Backups, TargetRole::Copies);
                let targets = [
                    ensure_target(&handle, tx, region_id, first.as_ref(), to).await?,
                    ensure_target(&handle, tx, region_id, second.as_ref(), also).await?,
                ];
                Ok::<_, Error>((region_id, node_id, pool_id, targets))
            })
        })
        .await?;
    cx.reload_places().await?;
    Ok(Installed {
        region_id,
        node_id,
        pool_id,
        target_id,
        second_target_id,
        administrator,
        tenant,
    })
}

async fn made(cx: &Context, tx: &mut Tx, action: &str, id: uuid::Uuid, name: &str) -> Result<()> {
    audit::record(
        tx,
        Entry::of_installation(action, id, name.to_owned()),
        cx.now(),
    )
    .await
}

async fn ensure_region(cx: &Context, tx: &mut Tx, name: &Name) -> Result<RegionId> {
    if let Some(region) = region_list(tx).await?.into_iter().find(|r| r.name == *name) {
        return Ok(region.id);
    }
    let region = Region {
        id: RegionId::generate(cx.env()),
        name: name.clone(),
    };
    region_insert(tx, &region).await?;
    made(cx, tx, "region_create", region.id.as_uuid(), name.as_str()).await?;
    Ok(region.id)
}

async fn ensure_node(
    cx: &Context,
    tx: &mut Tx,
    region_id: RegionId,
    name: &Name,
) -> Result<NodeId> {
    if let Some(node) = node_list(tx).await?.into_iter().find(|n| n.name == *name) {
        return Ok(node.id);
    }
    let id = NodeId::generate(cx.env());
    let node = Node {
        id,
        region_id,
        name: name.clone(),
        last_seen_at: None,
        runs_instances: false,
    };
    node_insert(tx, &node).await?;
    made(cx, tx, "node_create", id.as_uuid(), name.as_str()).await?;
    Ok(id)
}

async fn ensure_pool(
    cx: &Context,
    tx: &mut Tx,
    node_id: NodeId,
    setup: &PoolSetup,
) -> Result<PoolId> {
    if let Some(pool) = pool_list(tx)
        .await?
        .into_iter()
        .find(|p| p.name == setup.name)
    {
        if pool.live_capture != setup.live_capture {
            pool_update_live_capture(tx, pool.id, setup.live_capture).await?;
            made(
                cx,
                tx,
                "pool_update",
                pool.id.as_uuid(),
                setup.name.as_str(),
            )
            .await?;
        }
        return Ok(pool.id);
    }
    let pool = Pool {
        id: PoolId::generate(cx.env()),
        node_id,
        name: setup.name.clone(),
        driver: setup.driver.clone(),
        live_capture: setup.live_capture,
    };
    pool_insert(tx, &pool).await?;
    made(
        cx,
        tx,
        "pool_create",
        pool.id.as_uuid(),
        setup.name.as_str(),
    )
    .await?;
    Ok(pool.id)
}

async fn ensure_target(
    cx: &Context,
    tx: &mut Tx,
    region_id: RegionId,
    setup: Option<&TargetSetup>,
    role: TargetRole,
) -> Result<Option<TargetId>> {
    let Some(setup) = setup else {
        return Ok(None);
    };
    // One of each role, whatever it was called when it was made: its place may have changed since.
    let mut there = target_list(tx).await?.into_iter();
    if let Some(target) = there.find(|t| t.role == role && t.region_id == region_id) {
        if target.object_lock != setup.object_lock {
            target_update_lock(tx, target.id, setup.object_lock).await?;
        }
        return Ok(Some(target.id));
    }
    let target = Target {
        id: TargetId::generate(cx.env()),
        region_id,
        name: setup.name.clone(),
        driver: setup.driver.clone(),
        role,
        copies: None,
        object_lock: setup.object_lock,
    };
    target_insert(tx, &target).await?;
    made(
        cx,
        tx,
        "target_create",
        target.id.as_uuid(),
        setup.name.as_str(),
    )
    .await?;
    Ok(Some(target.id))
}

/// An account with its default project and one user. The password is hashed only for a user that
/// is made now.
async fn ensure_user(cx: &Context, setup: &AccountSetup, role: Role) -> Result<InstalledUser> {
    let request_id = RequestId::generate(cx.env());
    if let Some(actor) = actor_by_login(cx, &setup.login, request_id).await? {
        return Ok(InstalledUser {
            actor,
            created: false,
        });
    }
    let password_hash = hash_password(cx, &setup.password).await?;
    let (handle, wanted) = (cx.clone(), setup.clone());
    let created = cx
        .db()
        .write(move |tx| {
            Box::pin(async move {
                if user_by_login(tx, &wanted.login).await?.is_some() {
                    return Ok::<_, Error>(false);
                }
                let account = ensure_account(&handle, tx, &wanted.account).await?;
                let user = User {
                    id: UserId::generate(handle.env()),
                    account_id: account.id,
                    login: wanted.login,
                    role,
                    created_at: handle.now(),
                };
                user_insert(tx, &user, &password_hash).await?;
                made(&handle, tx, "user_create", user.id.as_uuid(), &user.login).await?;
                Ok(true)
            })
        })
        .await?;
    let actor = actor_by_login(cx, &setup.login, request_id).await?;
    let missing = || Error::Inconsistent(format!("user {} does not exist", setup.login));
    Ok(InstalledUser {
        actor: actor.ok_or_else(missing)?,
        created,
    })
}

async fn ensure_account(cx: &Context, tx: &mut Tx, name: &Name) -> Result<Account> {
    if let Some(account) = account_by_name(tx, name).await? {
        return Ok(account);
    }
    let account = Account {
        id: AccountId::generate(cx.env()),
        name: name.clone(),
        default_project: ProjectId::generate(cx.env()),
        created_at: cx.now(),
    };
    account_insert(tx, &account).await?;
    let project: Name = DEFAULT_PROJECT
        .parse()
        .map_err(|_| Error::Inconsistent("the default project has no name".to_owned()))?;
    let (id, created_at) = (account.default_project, account.created_at);
    project_insert(tx, id, account.id, &project, created_at).await?;
    made(
        cx,
        tx,
        "account_create",
        account.id.as_uuid(),
        name.as_str(),
    )
    .await?;
    Ok(account)
}
