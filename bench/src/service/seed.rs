//! Rows written straight into a database that no server has open.

use std::path::Path;
use std::sync::Arc;

use stillpoint_control::Secret;
use stillpoint_control::bootstrap::{AccountSetup, Installation, PoolSetup, TargetSetup};
use stillpoint_env::SystemEnv;
use stillpoint_model::account::{Account, Actor, Role, User};
use stillpoint_model::id::{
    AccountId, LayerId, PlanId, PoolId, ProjectId, RequestId, SnapshotId, UserId, VolumeId,
};
use stillpoint_model::item::{Consistency, ItemSizes, ItemState, Trigger};
use stillpoint_model::name::Name;
use stillpoint_model::snapshot::Snapshot;
use stillpoint_model::volume::{Volume, VolumeRole, VolumeState};
use stillpoint_model::{ByteCount, Env};
use stillpoint_store::{Db, Error, Options, account, place, plan, snapshot, volume};

/// Snapshots in the full database.
pub const ITEMS: usize = 100_000;
/// Five snapshots of each, as many as the plan allows.
const VOLUMES: usize = 20_000;
/// Rows of one transaction.
const AT_ONCE: usize = 1000;

fn name(text: impl Into<String>) -> Name {
    text.into().parse().expect("a name")
}

/// One of everything, as the embedded server makes it.
pub fn installation() -> Installation {
    let account = |login: &str| AccountSetup {
        account: name(login),
        login: login.into(),
        password: Secret::new("for the benchmark"),
    };
    Installation {
        region: name("local"),
        node: name("local"),
        pool: PoolSetup {
            name: name("local"),
            driver: "qcow2".into(),
            live_capture: false,
        },
        target: Some(TargetSetup {
            name: name("local"),
            driver: "local".into(),
            object_lock: None,
        }),
        second_target: None,
        administrator: account("admin"),
        tenant: Some(account("demo")),
    }
}

/// Where new volumes belong.
#[derive(Clone, Copy)]
struct Place {
    account: AccountId,
    project: ProjectId,
    pool: PoolId,
    plan: PlanId,
}

/// Makes the tenant's database full.
pub fn fill(database: &Path) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let env: Arc<dyn Env> = Arc::new(SystemEnv::new());
        let db = Db::open(&Options::new(database))
            .await
            .expect("the database");
        let tenant = account_named(&db, "demo").await;
        let place = place_of(&db, tenant.id, tenant.default_project).await;
        let volumes = insert_volumes(&db, &env, place, VOLUMES).await;
        for chunk in 0..ITEMS / AT_ONCE {
            let rows: Vec<Snapshot> = (0..AT_ONCE)
                .map(|n| {
                    snapshot_of(
                        &*env,
                        place,
                        volumes[(chunk * AT_ONCE + n) % VOLUMES],
                        chunk * AT_ONCE + n,
                    )
                })
                .collect();
            db.write(move |tx| {
                Box::pin(async move {
                    for row in &rows {
                        snapshot::snapshot_insert(tx, row).await?;
                    }
                    Ok::<_, Error>(())
                })
            })
            .await
            .expect("snapshots");
        }
    });
}

async fn account_named(db: &Db, text: &str) -> Account {
    let mut conn = db.read().await.expect("a reader");
    let found = account::account_by_name(&mut conn, &name(text))
        .await
        .expect("accounts");
    found.expect("the account")
}

async fn place_of(db: &Db, account: AccountId, project: ProjectId) -> Place {
    let mut conn = db.read().await.expect("a reader");
    let pool = place::pool_list(&mut conn).await.expect("pools")[0].id;
    let plan = plan::plan_latest(&mut conn, "stillpoint")
        .await
        .expect("plans");
    Place {
        account,
        project,
        pool,
        plan: plan.expect("the plan").0.id,
    }
}

/// A new account with volumes, and who acts for it.
pub async fn account_with_volumes(
    db: &Db,
    env: &Arc<dyn Env>,
    number: usize,
    volumes: usize,
) -> (Actor, Vec<VolumeId>) {
    let actor = Actor {
        account_id: AccountId::generate(&**env),
        project_id: ProjectId::generate(&**env),
        user_id: UserId::generate(&**env),
        login: format!("user-{number}"),
        role: Role::Tenant,
        request_id: RequestId::generate(&**env),
    };
    let (who, now) = (actor.clone(), env.now());
    db.write(move |tx| {
        Box::pin(async move {
            let row = Account {
                id: who.account_id,
                name: name(format!("account-{number}")),
                default_project: who.project_id,
                created_at: now,
            };
            account::account_insert(tx, &row).await?;
            account::project_insert(tx, who.project_id, who.account_id, &name("default"), now)
                .await?;
            let user = User {
                id: who.user_id,
                account_id: who.account_id,
                login: who.login.clone(),
                role: who.role,
                created_at: now,
            };
            account::user_insert(tx, &user, "nobody signs in").await
        })
    })
    .await
    .expect("an account");
    let place = place_of(db, actor.account_id, actor.project_id).await;
    let volumes = insert_volumes(db, env, place, volumes).await;
    (actor, volumes)
}

async fn insert_volumes(db: &Db, env: &Arc<dyn Env>, place: Place, count: usize) -> Vec<VolumeId> {
    let rows: Vec<Volume> = (0..count).map(|n| volume_of(&**env, place, n)).collect();
    let ids = rows.iter().map(|row| row.id).collect();
    db.write(move |tx| {
        Box::pin(async move {
            for row in &rows {
                volume::volume_insert(tx, row).await?;
            }
            Ok::<_, Error>(())
        })
    })
    .await
    .expect("volumes");
    ids
}

fn volume_of(env: &dyn Env, place: Place, number: usize) -> Volume {
    Volume {
        id: VolumeId::generate(env),
        account_id: place.account,
        project_id: place.project,
        pool_id: place.pool,
        plan_id: place.plan,
        name: name(format!("volume-{number}")),
        role: VolumeRole::Data,
        size: ByteCount::from_gib(10),
        state: VolumeState::Available,
        attachment: None,
        origin: None,
        filling: None,
        active_operation: None,
        cooldown_until: None,
        tip: Some(LayerId::generate(env)),
        used: ByteCount::from_gib(1),
        failure: None,
        created_at: env.now(),
        version: 1,
    }
}

fn snapshot_of(env: &dyn Env, place: Place, volume: VolumeId, number: usize) -> Snapshot {
    Snapshot {
        id: SnapshotId::generate(env),
        account_id: place.account,
        project_id: place.project,
        pool_id: place.pool,
        volume_id: volume,
        volume_name: name(format!("volume-{}", number % VOLUMES)),
        instance_snapshot_id: None,
        name: name(format!("snapshot-{number}")),
        description: String::new(),
        labels: std::collections::BTreeMap::new(),
        state: ItemState::Available,
        consistency: Some(Consistency::Stopped),
        trigger: Trigger::Manual,
        sizes: ItemSizes::default(),
        layer: Some(LayerId::generate(env)),
        duration_ms: Some(12),
        protected: false,
        failure: None,
        operation_id: None,
        created_at: env.now(),
        expires_at: None,
        version: 1,
    }
}
