//! Reconcilers: they keep true what should be, whoever failed to.
//!
//! A reconciler takes no input and may run at any time, any number of times, on any server. It
//! runs on a timer and, where that matters, on a signal. One that fails is logged and runs again
//! when it is due: a failed run leaves nothing that the next one would trip over.
//!
//! | what should be | who sees to it |
//! |---|---|
//! | pools hold nothing that no name needs | [`pool_tidy`] |
//! | safety snapshots go when their day is over | [`expiry`] |
//! | no row waits for an operation that is over | [`loose_rows`] |
//! | rows say what machines do | [`machines`], whenever a node has looked |
//! | volumes that are used already become whole | [`volume_fill`] |
//! | vaults hold what backups reach, and that is whole | [`vault_care`] |
//! | records that grow by themselves are cut by age | [`crate::upkeep`] |

use std::time::Duration;

use stillpoint_model::error::with_causes;

use crate::Context;
use crate::error::Result;

pub mod expiry;
pub mod loose_rows;
pub(crate) mod machines;
pub mod pool_tidy;
pub mod vault_care;
pub mod volume_fill;

/// The reconcilers with their timers.
pub(crate) struct Reconcilers {
    cx: Context,
    /// When each of [`EVERY`] is due, on the clock that never jumps.
    due: [Duration; EVERY.len()],
}

#[derive(Clone, Copy)]
enum Reconciler {
    PoolTidy,
    Expiry,
    LooseRows,
    Upkeep,
    VaultCare,
    VolumeFill,
}

/// Each reconciler and how often it runs.
const EVERY: [(Reconciler, Duration); 6] = [
    (Reconciler::Expiry, Duration::from_mins(1)),
    (Reconciler::LooseRows, Duration::from_mins(10)),
    (Reconciler::PoolTidy, Duration::from_hours(1)),
    (Reconciler::Upkeep, Duration::from_hours(1)),
    (Reconciler::VaultCare, Duration::from_secs(5)),
    (Reconciler::VolumeFill, Duration::from_secs(5)),
];

impl Reconcilers {
    /// All of them, due at once.
    pub fn new(cx: Context) -> Self {
        Self {
            cx,
            due: [Duration::ZERO; EVERY.len()],
        }
    }

    /// Runs those that are due.
    pub async fn run_due(&mut self) {
        let now = self.cx.env().monotonic();
        for (due, (reconciler, every)) in self.due.iter_mut().zip(EVERY) {
            if *due > now {
                continue;
            }
            *due = now + every;
            if let Err(error) = run(reconciler, &self.cx).await {
                tracing::error!(error = %with_causes(&error), "a reconciler failed and runs again later");
            }
        }
    }
}

async fn run(reconciler: Reconciler, cx: &Context) -> Result<()> {
    match reconciler {
        Reconciler::PoolTidy => pool_tidy::request_all(cx).await,
        Reconciler::Expiry => expiry::expire_safety_snapshots(cx).await,
        Reconciler::LooseRows => loose_rows::release(cx).await,
        Reconciler::VaultCare => vault_care::offer_due(cx).await,
        Reconciler::VolumeFill => volume_fill::offer_due(cx).await,
        Reconciler::Upkeep => crate::upkeep::trim(cx).await,
    }
}
