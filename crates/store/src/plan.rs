//! Versions of plans.

use stillpoint_model::Timestamp;
use stillpoint_model::id::PlanId;
use stillpoint_model::plan::{Plan, PlanVersion};

use crate::error::Result;
use crate::row::{Columns, json, sql};
use crate::{Conn, Tx};

/// Inserts a version of a plan.
pub async fn plan_insert(
    tx: &mut Tx,
    plan: &PlanVersion,
    version: i64,
    created_at: Timestamp,
) -> Result<()> {
    sql!(
        "INSERT INTO plans (id, name, version, body, created_at) VALUES ($1, $2, $3, $4, $5)",
        plan.id,
        &plan.plan.name,
        version,
        json(&plan.plan)?,
        created_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The latest version of a plan, and its number.
pub async fn plan_latest(conn: &mut Conn, name: &str) -> Result<Option<(PlanVersion, i64)>> {
    sql!(
        "SELECT id, body, version FROM plans WHERE name = $1 ORDER BY version DESC LIMIT 1",
        name,
    )
    .fetch_optional(conn)
    .await?
    .map(|row| {
        let mut columns = Columns::of("plan", &row);
        let plan = PlanVersion {
            id: columns.parse()?,
            plan: columns.json::<Plan>()?,
        };
        Ok((plan, columns.integer()?))
    })
    .transpose()
}

/// One version of a plan.
pub async fn plan_by_id(conn: &mut Conn, id: PlanId) -> Result<Option<PlanVersion>> {
    sql!("SELECT id, body FROM plans WHERE id = $1", id)
        .fetch_optional(conn)
        .await?
        .map(|row| {
            let mut columns = Columns::of("plan", &row);
            Ok(PlanVersion {
                id: columns.parse()?,
                plan: columns.json()?,
            })
        })
        .transpose()
}
