//! What an operator sees of the installation: nodes and pools, read only, and backup targets.

mod target;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use stillpoint_control::admin::{self, NodeView, PoolView};
use stillpoint_model::Timestamp;
use stillpoint_model::event::EventKind;

use super::error::Failure;
use super::icon::Icon;
use super::layout::{Nav, Page, page_head};
use super::session::Viewer;
use super::{live, ui};
use crate::state::App;

/// `/admin` and below. Whether somebody may see it is decided by the use cases.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/admin/nodes", get(nodes))
        .route("/admin/pools", get(pools))
        .merge(target::routes())
}

fn page(viewer: &Viewer, nav: Nav, title: &str, lead: &str, table: &Markup) -> Response {
    let region = live::region(viewer, "list", &[EventKind::Operation], table);
    let body = html! {
        (page_head(&html! { (title) }, lead, &html! {}))
        section.card { (region) }
    };
    Page::new(viewer, nav, title).render(&body).into_response()
}

async fn nodes(State(app): State<App>, viewer: Viewer) -> Result<Response, Failure> {
    let nodes = admin::nodes(app.cx(), &viewer.actor)
        .await
        .map_err(|e| viewer.sorry(&e))?;
    let lead =
        "The hosts that do the work. One that does not answer takes no new work until it is back.";
    Ok(page(
        &viewer,
        Nav::Nodes,
        "Nodes",
        lead,
        &node_table(&nodes, viewer.now),
    ))
}

fn node_table(nodes: &[NodeView], now: Timestamp) -> Markup {
    if nodes.is_empty() {
        return ui::empty(
            Icon::Node,
            "No nodes",
            "The server makes one of its own when it starts.",
            &html! {},
        );
    }
    let headings = [
        ("Name", ""),
        ("State", ""),
        ("Region", ""),
        ("Last heard of (UTC)", ""),
    ];
    let rows = html! {
        @for view in nodes {
            tr role="row" {
                (ui::cell("Name", "", &html! { span.name { (view.node.name) } span.sub { (view.node.id) } }))
                (ui::cell("State", "", &html! {
                    @if view.online { span.state.ok { (Icon::Check) "Online" } }
                    @else { span.state.bad { (Icon::Alert) "Does not answer" } }
                }))
                (ui::cell("Region", "", &html! { (view.region_name) }))
                (ui::cell("Last heard of (UTC)", "", &match view.node.last_seen_at {
                    Some(at) => ui::time_cell(at, now),
                    None => html! { "Never" },
                }))
            }
        }
    };
    ui::table("Nodes", &headings, &rows)
}

async fn pools(State(app): State<App>, viewer: Viewer) -> Result<Response, Failure> {
    let pools = admin::pools(app.cx(), &viewer.actor)
        .await
        .map_err(|e| viewer.sorry(&e))?;
    let lead = "The storage that holds volumes and their snapshots.";
    Ok(page(
        &viewer,
        Nav::Pools,
        "Pools",
        lead,
        &pool_table(&pools),
    ))
}

fn pool_table(pools: &[PoolView]) -> Markup {
    if pools.is_empty() {
        return ui::empty(
            Icon::Pool,
            "No pools",
            "The server makes one of its own when it starts.",
            &html! {},
        );
    }
    let headings = [
        ("Name", ""),
        ("Driver", ""),
        ("Captures running volumes", ""),
        ("Node", ""),
    ];
    let rows = html! {
        @for PoolView { pool, node_name } in pools {
            tr role="row" {
                (ui::cell("Name", "", &html! { span.name { (pool.name) } span.sub { (pool.id) } }))
                (ui::cell("Driver", "", &html! { (pool.driver) }))
                (ui::cell("Captures running volumes", "", &html! { (if pool.live_capture { "Yes" } else { "No" }) }))
                (ui::cell("Node", "", &html! { (node_name) }))
            }
        }
    };
    ui::table("Pools", &headings, &rows)
}
