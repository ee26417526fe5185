//! Prints how many operations are admitted per second, durably, and what one look costs when an
//! account has many volumes. Run on the disk to be measured: `cargo run --example admissions -- FOLDER`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use stillpoint_control::board::Board;
use stillpoint_control::bootstrap::{
    AccountSetup, Installation, PoolSetup, TargetSetup, ensure_installation,
};
use stillpoint_control::volume::{VolumeCreate, VolumeQuery};
use stillpoint_control::{Change, Context, ListQuery, Secret, Settings, volume};
use stillpoint_env::SystemEnv;
use stillpoint_model::account::Actor;
use stillpoint_model::id::VolumeId;
use stillpoint_model::name::Name;
use stillpoint_model::plan::Plan;
use stillpoint_model::volume::{Volume, VolumeRole, VolumeState};
use stillpoint_model::{ByteCount, Env};
use stillpoint_store::volume::volume_insert;
use stillpoint_store::{Db, Options};

/// Admissions measured.
const ADMISSIONS: usize = 4_000;
/// Requests under way at once.
const AT_ONCE: usize = 64;
/// Volumes of the account that is looked at.
const VOLUMES: u32 = 20_000;
/// Looks measured.
const LOOKS: u32 = 500;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn account(text: &str) -> Outcome<AccountSetup> {
    Ok(AccountSetup {
        account: text.parse()?,
        login: text.to_owned(),
        password: Secret::new("measured"),
    })
}

async fn admit(cx: Context, actor: Actor, from: usize) -> Outcome {
    for n in (from..ADMISSIONS).step_by(AT_ONCE) {
        let request = VolumeCreate {
            name: format!("volume {n}").parse::<Name>()?,
            size: ByteCount::from_gib(1),
            role: VolumeRole::Data,
            pool: None,
        };
        volume::create(&cx, &actor, request, &Change::default()).await?;
    }
    Ok(())
}

/// Gives an account its volumes, all at rest; answers the last one.
async fn fill(db: &Db, actor: &Actor, pattern: &Volume, env: Arc<SystemEnv>) -> Outcome<VolumeId> {
    let mut last = pattern.id;
    for batch in 0..VOLUMES / 1_000 {
        let volumes: Vec<_> = (0..1_000_u32)
            .map(|n| Volume {
                id: VolumeId::generate(&*env),
                account_id: actor.account_id,
                project_id: actor.project_id,
                name: format!("volume {batch} {n}")
                    .parse()
                    .unwrap_or_else(|_| pattern.name.clone()),
                state: VolumeState::Available,
                active_operation: None,
                created_at: env.now(),
                ..pattern.clone()
            })
            .collect();
        last = volumes.last().map_or(last, |volume| volume.id);
        db.write(move |tx| {
            Box::pin(async move {
                for volume in &volumes {
                    volume_insert(tx, volume).await?;
                }
                Ok::<_, stillpoint_store::Error>(())
            })
        })
        .await?;
    }
    Ok(last)
}

#[expect(clippy::print_stdout, reason = "it is what this example is for")]
fn say(what: &str, count: f64, elapsed: Duration) {
    println!(
        "{what}: {:.0} per second, {:.3} ms each",
        count / elapsed.as_secs_f64(),
        elapsed.as_secs_f64() * 1000.0 / count
    );
}

#[tokio::main]
async fn main() -> Outcome {
    let folder = std::env::args_os()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(folder)?;
    let env = Arc::new(SystemEnv::new());
    let mut plan: Plan = toml::from_str(include_str!("../../../presets/stillpoint.toml"))?;
    plan.pacing.in_flight_per_account = u32::MAX;
    let db = Db::open(&Options::new(dir.path().join("db"))).await?;
    let cx = Context::open(db.clone(), env.clone(), Settings::new(plan)).await?;
    let pool = PoolSetup {
        name: "pool".parse()?,
        driver: "memory".into(),
        live_capture: false,
    };
    let installation = Installation {
        region: "region".parse()?,
        node: "node".parse()?,
        pool,
        target: Some(TargetSetup {
            name: "target".parse()?,
            driver: "memory".into(),
        }),
        administrator: account("admin")?,
        tenant: Some(account("tenant")?),
    };
    let installed = ensure_installation(&cx, &installation).await?;
    Board::new(cx.clone()).hello(installed.node_id).await?;
    let actor = installed.administrator.actor;

    let begin = env.monotonic();
    let workers: Vec<_> = (0..AT_ONCE)
        .map(|from| tokio::spawn(admit(cx.clone(), actor.clone(), from)))
        .collect();
    for worker in workers {
        worker.await??;
    }
    say(
        "admissions",
        f64::from(u32::try_from(ADMISSIONS)?),
        env.monotonic() - begin,
    );

    let page = volume::list(&cx, &actor, &VolumeQuery::default()).await?;
    let pattern = page.items.first().ok_or("no volume")?.volume.clone();
    let tenant = installed.tenant.ok_or("no tenant")?.actor;
    let one = fill(&db, &tenant, &pattern, env.clone()).await?.into();
    let begin = env.monotonic();
    for _ in 0..LOOKS {
        volume::show(&cx, &tenant, &one).await?;
    }
    say("show", f64::from(LOOKS), env.monotonic() - begin);
    let begin = env.monotonic();
    for _ in 0..LOOKS {
        let page = ListQuery::default();
        volume::list(&cx, &tenant, &VolumeQuery { page }).await?;
    }
    say("list of 50", f64::from(LOOKS), env.monotonic() - begin);
    Ok(())
}
