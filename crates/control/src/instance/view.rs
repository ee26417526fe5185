//! What goes with an instance when it is shown.

use std::sync::Arc;

use stillpoint_model::guard::{Action, Member};
use stillpoint_model::instance::Instance;
use stillpoint_model::plan::PlanVersion;
use stillpoint_model::volume::Volume;
use stillpoint_store::Conn;
use stillpoint_store::volume::CountedVolume;

use super::{ACTIONS, InstanceView};
use crate::Context;
use crate::error::Result;
use crate::view::Surroundings;

/// An instance with these volumes, and what may be done with it.
pub(super) async fn view(
    cx: &Context,
    conn: &mut Conn,
    around: &Surroundings,
    instance: Instance,
    counted: Vec<CountedVolume>,
) -> Result<InstanceView> {
    let plans = plans_of(cx, conn, &counted).await?;
    let members = members_of(cx, around, &counted, &plans)?;
    let volumes: Vec<Volume> = counted.iter().map(|(volume, _)| volume.clone()).collect();
    let (plan, places) = (cx.default_plan(), cx.places());
    let pool = places.pool(instance.pool_id)?;
    let facts = around.instance_facts(cx, &instance, &volumes)?;
    let mut permissions =
        around.instance_permissions(cx, &ACTIONS, &plan.plan, pool.id, facts.clone());
    permissions.push(around.permission_together(
        cx,
        Action::InstanceSnapshotCreate,
        (&plan.plan, pool.id),
        Some(facts),
        None,
        &members,
    ));
    Ok(InstanceView {
        permissions,
        active_operation: around.operation(instance.active_operation).cloned(),
        confirm: plan.plan.confirm,
        pool_name: pool.name.clone(),
        node_name: places.node(pool.node_id)?.name.clone(),
        region_name: places.region_of(pool)?.name.clone(),
        now: around.now,
        volumes,
        instance,
    })
}

/// The plan of each of these volumes.
pub(crate) async fn plans_of(
    cx: &Context,
    conn: &mut Conn,
    volumes: &[CountedVolume],
) -> Result<Vec<Arc<PlanVersion>>> {
    let mut plans = Vec::with_capacity(volumes.len());
    for (volume, _) in volumes {
        plans.push(cx.plan(conn, volume.plan_id).await?);
    }
    Ok(plans)
}

/// What the guard needs to know of these volumes, each with its own plan.
pub(crate) fn members_of<'v>(
    cx: &Context,
    around: &Surroundings,
    volumes: &'v [CountedVolume],
    plans: &'v [Arc<PlanVersion>],
) -> Result<Vec<Member<'v>>> {
    let member = |((volume, counts), plan): (&'v CountedVolume, &'v Arc<PlanVersion>)| {
        Ok(Member {
            name: volume.name.as_str(),
            plan: &plan.plan,
            volume: around.volume_facts(cx, volume, *counts)?,
        })
    };
    volumes.iter().zip(plans).map(member).collect()
}
