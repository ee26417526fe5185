//! What every use case needs: the database, the time, the settings and the signals.

use std::sync::Arc;
use std::time::Duration;

use stillpoint_model::plan::{Plan, PlanVersion};
use stillpoint_model::{ByteCount, Env, Timestamp};
use stillpoint_store::Db;
use tokio::sync::Notify;

use crate::auth::Gate;
use crate::error::Result;

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
    /// The plan of new volumes. A text that differs from the last one makes a new version.
    pub plan: Plan,
}

impl Settings {
    /// The defaults, with this plan.
    pub const fn new(plan: Plan) -> Self {
        Self {
            lease: Duration::from_secs(30),
            node_timeout: Duration::from_secs(60),
            session: Duration::from_hours(12),
            max_volume_size: ByteCount::from_gib(64 << 10),
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
    engine: Notify,
    board: Notify,
}

impl Context {
    /// Opens the control plane on a migrated database.
    pub async fn open(db: Db, env: Arc<dyn Env>, settings: Settings) -> Result<Self> {
        let _ = (db, env, settings);
        todo!()
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
}
