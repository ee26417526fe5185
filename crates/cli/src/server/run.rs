//! The server, put together: store, control plane, engine, node, API and portal in one process.
//!
//! ```text
//! open    data folder (locked) -> store -> control plane -> first users -> machines (those that
//!         run are adopted) -> pool, target -> bind
//! run     engine | node | http          one line on stdout: listening on http://…
//! stop    http: no new connections, streams end, answers get a few seconds
//!         node: tasks stop where that leaves nothing half done, or are handed back
//!         engine, store: the last step, then the write-ahead log is folded in
//! ```
//!
//! The first SIGTERM or SIGINT stops it in that order; the second ends the process at once. Both
//! are safe, and so is `kill -9`: whatever was under way is taken up or unwound by the next start.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anstream::eprintln;
use stillpoint_control::board::Board;
use stillpoint_control::bootstrap::{
    AccountSetup, Installation, Installed, PoolSetup, TargetSetup, ensure_installation,
};
use stillpoint_control::volume::VolumeCreate;
use stillpoint_control::{Change, Context, Secret, engine, volume};
use stillpoint_env::SystemEnv;
use stillpoint_http::HttpSettings;
use stillpoint_layers::LayerPool;
use stillpoint_layers::machine_memory::MemoryFolder;
use stillpoint_layers::qcow2::Qcow2Driver;
use stillpoint_machines::qemu::QemuDriver;
use stillpoint_model::account::Actor;
use stillpoint_model::error::with_causes;
use stillpoint_model::id::PoolId;
use stillpoint_model::name::Name;
use stillpoint_model::volume::VolumeRole;
use stillpoint_model::{ByteCount, Env, ErrorKind};
use stillpoint_node::{Hypervised, Node, Storage};
use stillpoint_store::{Db, Options};
use stillpoint_vault::target::Target;
use stillpoint_vault::{RootKey, Tuning};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use super::backup_target::{self, Slot};
use super::data_dir::DataDir;
use super::first_start::{FirstUser, FirstUsers, first_users, root_key};
use super::machines;
use super::node_link::InProcess;
use super::reader;
use super::self_backup::{DatabaseTerms, SelfBackup};
use super::settings::Settings;
use crate::failure::{Exit, Failure, Result, print};
use crate::target::Place;

/// The name of the target for copies.
const SECOND: &str = "second";
/// The size of the volume that `--demo` makes.
const DEMO_SIZE: ByteCount = ByteCount::from_gib(10);
/// How often, and after which pause, it is asked for.
const DEMO_ATTEMPTS: u32 = 500;
const DEMO_PAUSE: Duration = Duration::from_millis(10);
/// How often unwanted uploads are looked for.
const SWEEP_EVERY: Duration = Duration::from_hours(1);
/// How long after an event, so that many are one sweep.
const SWEEP_PAUSE: Duration = Duration::from_secs(2);
/// How long the writer of the database may take to end.
const WRITER_PATIENCE: Duration = Duration::from_secs(10);

/// Everything that must be there before the first request.
struct Opened {
    data: DataDir,
    env: Arc<dyn Env>,
    db: Db,
    cx: Context,
    installed: Installed,
    root_key: RootKey,
    target: Option<Arc<dyn Target>>,
    second_target: Option<Arc<dyn Target>>,
    machines: Option<QemuDriver>,
}

/// Runs the server until it is told to stop.
pub async fn serve(settings: Settings) -> Result<()> {
    let mut signals = Signals::listen()?;
    let mut opened = open(&settings).await?;
    let (cx, tenant) = (opened.cx.clone(), opened.installed.tenant.clone());
    let storage = storage(&mut opened, settings.config.as_deref())?;
    let listener = bind(&settings).await?;
    let address = listener
        .local_addr()
        .map_err(|error| Failure::file("listen", &error))?;
    stillpoint_http::remove_cut_off_uploads(&opened.data.uploads())
        .await
        .map_err(|error| Failure::file("sweep the uploads", &error))?;
    let running = Running::start(opened, storage, listener, settings.database.clone());
    if let Some(tenant) = tenant.filter(|tenant| settings.demo && tenant.created) {
        make_demo_volume(&cx, &tenant.actor).await?;
    }
    drop(cx);
    print(format_args!("listening on http://{address}"))?;

    signals.next().await;
    tracing::info!("stopping; a second signal stops at once");
    tokio::select! {
        () = running.stop() => Ok(()),
        () = signals.next() => Err(Failure::interrupted()),
    }
}

/// The parts of a server that runs.
struct Running {
    /// Locked until the very end.
    data: DataDir,
    db: Db,
    /// True: no new connections, streams end.
    closing: watch::Sender<bool>,
    /// Cancelled: the node stops.
    node_stop: CancellationToken,
    /// Cancelled when the node has stopped: it may still have had something to say.
    engine_stop: CancellationToken,
    http: JoinHandle<()>,
    node: JoinHandle<()>,
    engine: JoinHandle<()>,
    sweeper: JoinHandle<()>,
    /// Backs the database up, where there is a target.
    keeper: Option<JoinHandle<()>>,
}

impl Running {
    fn start(
        opened: Opened,
        storage: Storage,
        listener: TcpListener,
        database: DatabaseTerms,
    ) -> Self {
        let Opened {
            data,
            env,
            db,
            cx,
            installed,
            root_key,
            target,
            second_target,
            machines: _,
        } = opened;
        let targets: Vec<_> = target.into_iter().chain(second_target).collect();
        let keeper = (!targets.is_empty()).then(|| {
            let keeper = SelfBackup::new(&data, targets, root_key, Arc::clone(&env), database);
            tokio::spawn(Arc::new(keeper).run())
        });
        let (closing, closed) = watch::channel(false);
        let (node_stop, engine_stop) = (CancellationToken::new(), CancellationToken::new());

        let door = HttpSettings::new(Arc::clone(&env), data.uploads(), closed.clone());
        let router = stillpoint_http::router(cx.clone(), door);
        let http = tokio::spawn(stillpoint_http::serve(listener, router, closed));
        let node = Node::new(
            installed.node_id,
            InProcess::new(Board::new(cx.clone())),
            storage,
            env,
            stillpoint_node::Settings::default(),
            node_stop.clone(),
        );
        let node = tokio::spawn(node.run());
        let sweeper = tokio::spawn(sweep_uploads(cx.clone(), db.last_event(), data.uploads()));
        let engine = tokio::spawn(engine::run(cx, engine_stop.clone().cancelled_owned()));
        Self {
            data,
            db,
            closing,
            node_stop,
            engine_stop,
            http,
            node,
            engine,
            sweeper,
            keeper,
        }
    }

    async fn stop(self) {
        self.closing.send_replace(true);
        self.node_stop.cancel();
        self.sweeper.abort();
        let _ = self.sweeper.await;
        if let Some(keeper) = self.keeper {
            // A copy that is being stored is taken back by the next one.
            keeper.abort();
            let _ = keeper.await;
        }
        ended("http", self.http.await);
        ended("node", self.node.await);
        self.engine_stop.cancel();
        ended("engine", self.engine.await);

        // Nobody else has the database any more.
        let closed = self.db.close();
        if tokio::time::timeout(WRITER_PATIENCE, closed).await.is_err() {
            tracing::warn!("the database is still in use; its log is folded in at the next start");
        }
        drop(self.data);
        tracing::info!("stopped");
    }
}

fn ended(part: &str, result: Result<(), JoinError>) {
    if let Err(error) = result {
        tracing::error!(part, %error, "a part of the server broke");
    }
}

/// Removes uploads that nobody wants any more: now, soon after something happened (an import may
/// have ended), and from time to time.
async fn sweep_uploads<T>(cx: Context, mut events: watch::Receiver<T>, folder: PathBuf) {
    loop {
        match stillpoint_http::sweep_uploads(&cx, &folder).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "uploads that nobody wants are gone"),
            Err(error) => tracing::warn!(%error, "uploads cannot be swept"),
        }
        match tokio::time::timeout(SWEEP_EVERY, events.changed()).await {
            Ok(Ok(())) => tokio::time::sleep(SWEEP_PAUSE).await,
            Ok(Err(_)) => return,
            Err(_) => {}
        }
    }
}

async fn open(settings: &Settings) -> Result<Opened> {
    let program = machines::program(&settings.qemu)?;
    let data = DataDir::open(&settings.data)?;
    let env: Arc<dyn Env> = Arc::new(SystemEnv::new());
    let slot = Slot::first(&data);
    let before = backup_target::noted(&slot)?;
    backup_target::keep_to(before.as_deref(), &settings.target, &slot)?;
    let root_key = root_key(&data, &*env)?;
    let target = backup_target::attach(before.as_deref(), &settings.target, &slot, &env)?;
    let second_target = backup_target::attach_second(&settings.second_target, &data, &env)?;
    let users = first_users(&data, &*env)?;
    let db = Db::open(&Options::new(data.database()))
        .await
        .map_err(|error| broken(&error))?;
    let control = stillpoint_control::Settings {
        flavors: settings.flavors.clone(),
        care: settings.care.clone(),
        copies_region: settings.second_region.clone(),
        ..stillpoint_control::Settings::new(settings.plan.clone())
    };
    let cx = Context::open(db.clone(), Arc::clone(&env), control)
        .await
        .map_err(|error| broken(&error))?;
    let machines = match program {
        Some(program) => machines::open(program, &data, &env)?,
        None => {
            tracing::info!("there is no QEMU: this server runs no instances");
            None
        }
    };
    let installation = installation(users, settings, machines.is_some())?;
    let installed = ensure_installation(&cx, &installation)
        .await
        .map_err(|error| broken(&error))?;
    Ok(Opened {
        data,
        env,
        db,
        cx,
        installed,
        root_key,
        target,
        second_target,
        machines,
    })
}

fn broken(error: &dyn std::error::Error) -> Failure {
    Failure::new(Exit::Other, "start", with_causes(error))
}

/// One of everything.
fn installation(
    users: FirstUsers,
    settings: &Settings,
    has_machines: bool,
) -> Result<Installation> {
    let local = name("local")?;
    let setup = |place: &Place, known_as: Option<&str>| match place.kind() {
        Some(kind) => Ok(Some(TargetSetup {
            name: name(known_as.unwrap_or(kind))?,
            driver: kind.to_owned(),
            object_lock: place.object_lock(),
        })),
        None => Ok::<_, Failure>(None),
    };
    Ok(Installation {
        region: local.clone(),
        node: local.clone(),
        pool: PoolSetup {
            name: local,
            driver: "qcow2".into(),
            live_capture: has_machines,
        },
        target: setup(&settings.target, None)?,
        second_target: setup(&settings.second_target, Some(SECOND))?,
        administrator: account("administrator", users.administrator)?,
        tenant: Some(account("demo", users.tenant)?),
    })
}

fn account(account: &str, user: FirstUser) -> Result<AccountSetup> {
    let password = Secret::new(user.password);
    Ok(AccountSetup {
        account: name(account)?,
        login: user.login,
        password,
    })
}

fn name(text: &str) -> Result<Name> {
    text.parse().map_err(|error| broken(&error))
}

/// A first volume for a tenant that was made just now: the use case that a request comes to,
/// asked again until the node of this process has said that it is there.
async fn make_demo_volume(cx: &Context, tenant: &Actor) -> Result<()> {
    let request = VolumeCreate {
        name: name("demo")?,
        size: DEMO_SIZE,
        role: VolumeRole::Data,
        pool: None,
    };
    for _ in 0..DEMO_ATTEMPTS {
        match volume::create(cx, tenant, request.clone(), &Change::default()).await {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Retry => {
                tokio::time::sleep(DEMO_PAUSE).await;
            }
            Err(error) => return Err(broken(&error)),
        }
    }
    tracing::warn!("the node does not answer; there will be no demo volume");
    Ok(())
}

/// What the node works with: the pool of the data folder, the backup target, the machines, and what
/// reads backups for them.
fn storage(opened: &mut Opened, config: Option<&Path>) -> Result<Storage> {
    let Opened {
        data,
        env,
        installed,
        root_key,
        target,
        second_target,
        machines,
        ..
    } = opened;
    let storage = Storage::new(Arc::clone(env), data.uploads(), Tuning::default());
    let machines = machines
        .take()
        .map(|driver| Arc::new(Hypervised::new(driver)));
    let pool = open_pool(data, Arc::clone(env), installed.pool_id)?;
    if let Some(machines) = &machines {
        // Before any task: what guests have open is theirs to switch and to merge.
        pool.connect(Arc::<Hypervised<QemuDriver>>::clone(machines));
    }
    let memories = MemoryFolder::open(&data.memories()).map_err(|error| broken(&error))?;
    let storage = storage
        .with_pool(pool)
        .with_memories(installed.pool_id, memories);
    let ids = [installed.target_id, installed.second_target_id];
    let targets = ids.into_iter().zip([target, second_target]);
    let storage = targets.fold(storage, |storage, it| match it {
        (Some(id), Some(target)) => storage.with_target(id, Arc::clone(target), root_key.clone()),
        _ => storage,
    });
    Ok(match machines {
        Some(machines) => storage
            .with_machines(machines)
            .with_readers(reader::readers(data, config, ids)?),
        None => storage,
    })
}

fn open_pool(data: &DataDir, env: Arc<dyn Env>, id: PoolId) -> Result<Arc<LayerPool<Qcow2Driver>>> {
    let driver = Qcow2Driver::open(&data.pool(), id).map_err(|error| broken(&error))?;
    let pool = LayerPool::open(driver, env).map_err(|error| broken(&error))?;
    for damage in pool.damage().map_err(|error| broken(&error))? {
        tracing::error!(damage, "the pool is damaged; what is whole is served");
    }
    Ok(Arc::new(pool))
}

async fn bind(settings: &Settings) -> Result<TcpListener> {
    let address = settings.listen;
    if !address.ip().is_loopback() {
        eprintln!("The server listens on {address} without encryption: put a TLS proxy before it.");
    }
    TcpListener::bind(address).await.map_err(|error| {
        Failure::new(
            Exit::Other,
            "listen",
            format!("cannot listen on {address}: {error}"),
        )
        .hint("choose another address with --listen; port 0 takes a free one")
    })
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::file("listen for signals", &error));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
