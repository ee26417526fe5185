//! What every use case needs: the database, the time, the settings and the signals.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use stillpoint_model::care::CareTerms;
use stillpoint_model::id::{NodeId, PlanId, PoolId, RegionId, TargetId};
use stillpoint_model::instance::Flavors;
use stillpoint_model::place::{Node, Pool, Region, Target, TargetRole};
use stillpoint_model::plan::{Plan, PlanVersion};
use stillpoint_model::{ByteCount, Env, Timestamp};
use stillpoint_store::{Conn, Db, Tx, place, plan, volume};
use tokio::sync::Notify;

use crate::audit::{self, Entry};
use crate::auth::Gate;
use crate::error::{Error, Result};
use crate::question::Questions;

/// What the composition root decides.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a node may be silent before its task is given again.
    pub lease: Duration,
    /// How long a node may be silent before it counts as offline.
    pub node_timeout: Duration,
    /// How long a browser session lasts.
    pub session: Duration,
    /// The largest volume that can be made or imported.
    pub max_volume_size: ByteCount,
    /// What instances are made of.
    pub flavors: Flavors,
    /// When and how vaults are cared for.
    pub care: CareTerms,
    /// The region that the target of copies is in, where that is known to be another.
    pub copies_region: Option<String>,
    /// The plan of new volumes. A text that differs from the last one makes a new version.
    pub plan: Plan,
}

impl Settings {
    /// The defaults, with this plan and no flavors.
    pub fn new(plan: Plan) -> Self {
        Self {
            lease: Duration::from_secs(30),
            node_timeout: Duration::from_secs(60),
            session: Duration::from_hours(12),
            max_volume_size: ByteCount::from_gib(64 << 10),
            flavors: Flavors {
                flavors: Vec::new(),
            },
            care: CareTerms::default(),
            copies_region: None,
            plan,
        }
    }
}

/// The handle of every use case. Cloning it is cheap.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    env: Arc<dyn Env>,
    settings: Settings,
    gate: Gate,
    plan: Arc<PlanVersion>,
    plans: RwLock<HashMap<PlanId, Arc<PlanVersion>>>,
    places: RwLock<Arc<Places>>,
    engine: Notify,
    board: Notify,
    questions: Questions,
}

impl Context {
    /// Opens the control plane on a migrated database. A plan that differs from the latest
    /// version of its name becomes a new version, and the volumes of that plan follow it; what
    /// is under way keeps the terms it was accepted under.
    pub async fn open(db: Db, env: Arc<dyn Env>, settings: Settings) -> Result<Self> {
        let fresh = PlanVersion {
            id: PlanId::generate(&*env),
            plan: settings.plan.clone(),
        };
        let now = env.now();
        let plan = db
            .write(move |tx| Box::pin(async move { ensure_plan(tx, fresh, now).await }))
            .await?;
        let plan = Arc::new(plan);
        let places = Places::load(&mut *db.read().await?).await?;
        let gate = Gate::new(&*env);
        let inner = Inner {
            db,
            env,
            settings,
            gate,
            plans: RwLock::new(HashMap::from([(plan.id, Arc::clone(&plan))])),
            plan,
            places: RwLock::new(Arc::new(places)),
            engine: Notify::new(),
            board: Notify::new(),
            questions: Questions::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The database.
    pub(crate) fn db(&self) -> &Db {
        &self.inner.db
    }

    /// Clock and randomness.
    pub(crate) fn env(&self) -> &dyn Env {
        &*self.inner.env
    }

    /// The time.
    pub(crate) fn now(&self) -> Timestamp {
        self.inner.env.now()
    }

    /// What the composition root decided.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Passwords and the cache of credentials.
    pub(crate) fn gate(&self) -> &Gate {
        &self.inner.gate
    }

    /// Rung when the engine has something to look at.
    pub(crate) fn engine_bell(&self) -> &Notify {
        &self.inner.engine
    }

    /// Rung when the board has a task to offer.
    pub(crate) fn board_bell(&self) -> &Notify {
        &self.inner.board
    }

    /// What nodes are asked.
    pub(crate) fn questions(&self) -> &Questions {
        &self.inner.questions
    }

    /// The plan of new volumes.
    pub(crate) fn default_plan(&self) -> Arc<PlanVersion> {
        Arc::clone(&self.inner.plan)
    }

    /// A version of a plan. Versions never change, so each is read once.
    pub(crate) async fn plan(&self, conn: &mut Conn, id: PlanId) -> Result<Arc<PlanVersion>> {
        let known = self
            .inner
            .plans
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
            .cloned();
        if let Some(plan) = known {
            return Ok(plan);
        }
        let plan = plan::plan_by_id(conn, id)
            .await?
            .ok_or_else(|| Error::Inconsistent(format!("plan {id} does not exist")))?;
        let plan = Arc::new(plan);
        let mut plans = self
            .inner
            .plans
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        plans.insert(id, Arc::clone(&plan));
        Ok(plan)
    }

    /// Regions, nodes, pools and targets, as they were when last loaded.
    pub(crate) fn places(&self) -> Arc<Places> {
        Arc::clone(
            &self
                .inner
                .places
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Reads the places again, after they changed.
    pub(crate) async fn reload_places(&self) -> Result<()> {
        let places = Places::load(&mut *self.db().read().await?).await?;
        *self
            .inner
            .places
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(places);
        Ok(())
    }

    /// Whether a node that was heard of then answers now.
    pub(crate) fn is_online(&self, node: &Node, now: Timestamp) -> bool {
        node.last_seen_at
            .is_some_and(|seen| now.duration_since(seen) < self.inner.settings.node_timeout)
    }
}

async fn ensure_plan(tx: &mut Tx, fresh: PlanVersion, now: Timestamp) -> Result<PlanVersion> {
    let latest = plan::plan_latest(tx, &fresh.plan.name).await?;
    let version = match latest {
        Some((latest, _)) if latest.plan == fresh.plan => return Ok(latest),
        Some((_, version)) => version + 1,
        None => 1,
    };
    plan::plan_insert(tx, &fresh, version, now).await?;
    let moved = volume::volume_update_plan(tx, &fresh.plan.name, fresh.id).await?;
    let detail = format!(
        "plan {} version {version}, {moved} volumes follow it",
        fresh.plan.name
    );
    let entry = Entry::of_installation("plan_update", fresh.id.as_uuid(), detail);
    audit::record(tx, entry, now).await?;
    Ok(fresh)
}

/// Regions, nodes, pools and targets: few, and known by heart. Whether a node answers is not
/// among what is known here.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) regions: Vec<Region>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) pools: Vec<Pool>,
    pub(crate) targets: Vec<Target>,
}

impl Places {
    async fn load(conn: &mut Conn) -> Result<Self> {
        Ok(Self {
            regions: place::region_list(conn).await?,
            nodes: place::node_list(conn).await?,
            pools: place::pool_list(conn).await?,
            targets: place::target_list(conn).await?,
        })
    }

    pub(crate) fn pool(&self, id: PoolId) -> Result<&Pool> {
        let found = self.pools.iter().find(|p| p.id == id);
        found.ok_or_else(|| Error::Inconsistent(format!("pool {id} does not exist")))
    }

    pub(crate) fn node(&self, id: NodeId) -> Result<&Node> {
        let found = self.nodes.iter().find(|n| n.id == id);
        found.ok_or_else(|| Error::Inconsistent(format!("node {id} does not exist")))
    }

    pub(crate) fn region(&self, id: RegionId) -> Result<&Region> {
        let found = self.regions.iter().find(|r| r.id == id);
        found.ok_or_else(|| Error::Inconsistent(format!("region {id} does not exist")))
    }

    /// The region of a node.
    pub(crate) fn region_of_node(&self, node: &Node) -> Result<&Region> {
        self.region(node.region_id)
    }

    /// The region of a pool.
    pub(crate) fn region_of(&self, pool: &Pool) -> Result<&Region> {
        self.region_of_node(self.node(pool.node_id)?)
    }

    /// Where the backups of a pool go: the target of its region that backups are made into.
    pub(crate) fn target_of(&self, pool: &Pool) -> Option<&Target> {
        let region = self.node(pool.node_id).ok()?.region_id;
        let takes = |t: &&Target| t.region_id == region && t.role == TargetRole::Backups;
        self.targets.iter().find(takes)
    }

    /// A backup target.
    pub(crate) fn target(&self, id: TargetId) -> Result<&Target> {
        let found = self.targets.iter().find(|t| t.id == id);
        found.ok_or_else(|| Error::Inconsistent(format!("target {id} does not exist")))
    }

    /// A pool whose node reaches a target.
    pub(crate) fn pool_near(&self, target: TargetId) -> Option<&Pool> {
        self.pools
            .iter()
            .find(|p| self.target_of(p).is_some_and(|t| t.id == target))
    }
}
