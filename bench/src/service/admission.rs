//! Operations admitted per second: the use case in this process, on a database of its own, every
//! answer after its commit is on the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use stillpoint_control::bootstrap::ensure_installation;
use stillpoint_control::item::ItemCreate;
use stillpoint_control::{Change, Context, Settings, snapshot};
use stillpoint_env::SystemEnv;
use stillpoint_model::Env;
use stillpoint_model::account::Actor;
use stillpoint_model::id::VolumeId;
use stillpoint_model::plan::Plan;
use stillpoint_store::{Db, Options, place};
use stillpoint_tests::cache_folder;

use super::seed;

const ACCOUNTS: usize = 200;
const VOLUMES_PER_ACCOUNT: usize = 40;
/// Requests at once, as of a busy day.
const AT_ONCE: usize = 64;

/// Admits one snapshot of each of many volumes; how many per second.
pub fn per_second() -> f64 {
    let folder = tempfile::tempdir_in(cache_folder()).expect("a folder");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let (cx, work) = prepare(&folder.path().join("stillpoint.db")).await;
        let env = SystemEnv::new();
        let start = env.monotonic();
        let (work, next) = (Arc::new(work), Arc::new(AtomicUsize::new(0)));
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..AT_ONCE {
            let (cx, work, next) = (cx.clone(), Arc::clone(&work), Arc::clone(&next));
            workers.spawn(async move {
                while let Some((actor, volume)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    admit(&cx, actor, *volume).await;
                }
            });
        }
        while let Some(worker) = workers.join_next().await {
            worker.expect("a worker");
        }
        let elapsed = env.monotonic() - start;
        f64::from(u32::try_from(work.len()).expect("a small number")) / elapsed.as_secs_f64()
    })
}

async fn admit(cx: &Context, actor: &Actor, volume: VolumeId) {
    let request = ItemCreate::default();
    snapshot::create(cx, actor, &volume.into(), request, &Change::default())
        .await
        .expect("admitted");
}

async fn prepare(database: &std::path::Path) -> (Context, Vec<(Actor, VolumeId)>) {
    let env: Arc<dyn Env> = Arc::new(SystemEnv::new());
    let db = Db::open(&Options::new(database)).await.expect("a database");
    let mut plan: Plan =
        toml::from_str(include_str!("../../../presets/stillpoint.toml")).expect("our own plan");
    plan.pacing.in_flight_per_account = 1000;
    let cx = Context::open(db.clone(), Arc::clone(&env), Settings::new(plan))
        .await
        .expect("a control plane");
    let installation = seed::installation();
    let installed = ensure_installation(&cx, &installation)
        .await
        .expect("an installation");
    let (node, now) = (installed.node_id, env.now());
    db.write(move |tx| Box::pin(async move { place::node_touch(tx, node, now).await }))
        .await
        .expect("a node that answers");
    let mut work = Vec::new();
    for account in 0..ACCOUNTS {
        work.push(seed::account_with_volumes(&db, &env, account, VOLUMES_PER_ACCOUNT).await);
    }
    // The accounts take turns.
    let order = (0..VOLUMES_PER_ACCOUNT)
        .flat_map(|volume| {
            work.iter()
                .map(move |(actor, volumes)| (actor.clone(), volumes[volume]))
        })
        .collect();
    (cx, order)
}
