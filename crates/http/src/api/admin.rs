//! What operators see of the installation, and what they confirm. For administrators.

use axum::Json;
use axum::extract::{Path, State};

use stillpoint_control::admin::{self, AuditQuery};
use stillpoint_control::{ListQuery, Reference};
use stillpoint_wire::Page;
use stillpoint_wire::admin::{
    Account, AuditRecord, CollectionConfirm, Copies, CopiesSet, CopyRule, Node, Pool, Target,
    TargetDetail, VaultHealth,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::credential::Caller;
use crate::error::{ApiError, Result};
use crate::input::{IdempotencyKey, JsonBody, NoQuery, PageQuery, QueryOf, list_query};
use crate::reply;
use crate::state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(node_list))
        .routes(routes!(pool_list))
        .routes(routes!(target_list))
        .routes(routes!(target_show))
        .routes(routes!(collection_confirm))
        .routes(routes!(target_copies))
        .routes(routes!(account_list))
        .routes(routes!(audit_list))
}

/// The hypervisor hosts. For administrators.
#[utoipa::path(get, path = "/v1/admin/nodes", tag = "administration",
    responses((status = 200, description = "All nodes", body = Page<Node>)))]
async fn node_list(
    State(app): State<App>,
    Caller(actor): Caller,
    _: QueryOf<NoQuery>,
) -> Result<Json<Page<Node>>> {
    let nodes = admin::nodes(app.cx(), &actor).await?;
    let node = |view: admin::NodeView| Node::new(view.node, view.region_name.into(), view.online);
    Ok(reply::whole(nodes.into_iter().map(node)))
}

/// The storage that holds volumes. For administrators.
#[utoipa::path(get, path = "/v1/admin/pools", tag = "administration",
    responses((status = 200, description = "All pools", body = Page<Pool>)))]
async fn pool_list(
    State(app): State<App>,
    Caller(actor): Caller,
    _: QueryOf<NoQuery>,
) -> Result<Json<Page<Pool>>> {
    Ok(reply::whole(
        admin::pools(app.cx(), &actor)
            .await?
            .into_iter()
            .map(|view| Pool::from(view.pool)),
    ))
}

/// The places where backups go. For administrators.
#[utoipa::path(get, path = "/v1/admin/targets", tag = "administration",
    responses((status = 200, description = "All backup targets", body = Page<Target>)))]
async fn target_list(
    State(app): State<App>,
    Caller(actor): Caller,
    _: QueryOf<NoQuery>,
) -> Result<Json<Page<Target>>> {
    Ok(reply::whole(
        admin::targets(app.cx(), &actor)
            .await?
            .into_iter()
            .map(|view| Target::new(view.target, view.region_name)),
    ))
}

/// A backup target, and how the vaults in it are: collected, verified, damaged. For
/// administrators.
#[utoipa::path(get, path = "/v1/admin/targets/{target}", tag = "administration",
    params(("target" = String, Path, description = "Id or name of the backup target")),
    responses((status = 200, description = "The target", body = TargetDetail)))]
async fn target_show(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(text): Path<String>,
    _: QueryOf<NoQuery>,
) -> Result<Json<TargetDetail>> {
    let reference = Reference::parse(&text, "target")?;
    Ok(detail(admin::target(app.cx(), &actor, &reference).await?))
}

fn detail(care: admin::TargetCare) -> Json<TargetDetail> {
    let rule = care.copies.map(|(rule, to)| CopyRule {
        to: to.into(),
        every_s: rule.every_s,
    });
    let vaults = care.vaults.into_iter().map(|vault| {
        let copies = vault.copies.map(copies);
        VaultHealth::new(vault.care, vault.holds, copies)
    });
    let view = care.target;
    Json(TargetDetail::new(
        Target::new(view.target, view.region_name),
        rule,
        vaults.collect(),
    ))
}

fn copies(view: admin::CopiesView) -> Copies {
    let progress = view.copying();
    Copies::new(
        view.filling,
        (view.from.into(), view.to.into()),
        view.active,
        view.counts,
        view.next_deletion,
        progress,
    )
}

/// Have the backups of a target copied into another one, or no longer. For administrators.
#[utoipa::path(post, path = "/v1/admin/targets/{target}/copies", tag = "administration",
    request_body = CopiesSet,
    params(("target" = String, Path, description = "Id or name of the backup target")),
    responses((status = 200, description = "The target", body = TargetDetail)))]
async fn target_copies(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(text): Path<String>,
    _: QueryOf<NoQuery>,
    key: IdempotencyKey,
    JsonBody(body): JsonBody<CopiesSet>,
) -> Result<Json<TargetDetail>> {
    let reference = Reference::parse(&text, "target")?;
    let wanted = match &body.to {
        Some(to) => Some(admin::CopiesSet {
            to: Reference::parse(to, "target")?,
            every_s: body.every_s,
        }),
        None => None,
    };
    let care = admin::set_copies(app.cx(), &actor, &reference, wanted, key.get()).await?;
    Ok(detail(care))
}

/// Let the next collection of a vault remove so many bytes. For administrators.
#[utoipa::path(post, path = "/v1/admin/targets/{target}/confirm", tag = "administration",
    request_body = CollectionConfirm,
    params(("target" = String, Path, description = "Id or name of the backup target")),
    responses((status = 200, description = "The target", body = TargetDetail)))]
async fn collection_confirm(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(text): Path<String>,
    _: QueryOf<NoQuery>,
    key: IdempotencyKey,
    JsonBody(body): JsonBody<CollectionConfirm>,
) -> Result<Json<TargetDetail>> {
    let reference = Reference::parse(&text, "target")?;
    let confirmation = (body.vault_id, body.bytes);
    let care =
        admin::confirm_collection(app.cx(), &actor, &reference, confirmation, key.get()).await?;
    Ok(detail(care))
}

/// The customers, newest first. For administrators.
#[utoipa::path(get, path = "/v1/admin/accounts", tag = "administration", params(PageQuery),
    responses((status = 200, description = "A page of accounts", body = Page<Account>)))]
async fn account_list(
    State(app): State<App>,
    Caller(actor): Caller,
    QueryOf(query): QueryOf<PageQuery>,
) -> Result<Json<Page<Account>>> {
    let page = admin::accounts(app.cx(), &actor, &query.list()?).await?;
    Ok(Json(reply::page(page, Account::from)))
}

/// What was changed, by whom, newest first. For administrators.
#[utoipa::path(get, path = "/v1/admin/audit", tag = "administration", params(PageQuery),
    responses((status = 200, description = "A page of the audit", body = Page<AuditRecord>)))]
async fn audit_list(
    State(app): State<App>,
    Caller(actor): Caller,
    QueryOf(query): QueryOf<PageQuery>,
) -> Result<Json<Page<AuditRecord>>> {
    let ListQuery { limit, .. } = list_query(None, query.limit)?;
    let wrong = |_| ApiError::invalid("?page", "Use `next_page` of the page before, as it is.");
    let before = query
        .page
        .as_deref()
        .map(str::parse::<i64>)
        .transpose()
        .map_err(wrong)?;
    let records = admin::audit(app.cx(), &actor, &AuditQuery { before, limit }).await?;
    let full = u32::try_from(records.len()).is_ok_and(|len| len >= limit);
    let last = records
        .last()
        .map(|record| record.sequence)
        .filter(|last| full && *last > 1);
    Ok(Json(Page {
        items: records.into_iter().map(AuditRecord::from).collect(),
        next_page: last.map(|sequence| sequence.to_string()),
    }))
}
