//! Backup targets, as operators see them: what is in them, how it is cared for, what is wrong and what
//! to do about it.
//!
//! ```text
//! /admin/targets                                   the list
//! /admin/targets/{target}                          one target, a card for each vault
//! /admin/targets/{target}/copies                   dialog: where its backups are copied to
//! /admin/targets/{target}/vaults/{vault}/confirm   dialog: more goes than may by itself
//! ```
//!
//! Care makes no events, so the page looks again by itself, sooner while something is under way.

mod dialog;
mod vault;

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use stillpoint_control::Reference;
use stillpoint_control::admin::{self, TargetCare, TargetView};
use stillpoint_model::event::EventKind;
use stillpoint_model::place::TargetRole;

use crate::portal::error::Failure;
use crate::portal::icon::Icon;
use crate::portal::layout::{Nav, Page, crumbs, page_head};
use crate::portal::session::Viewer;
use crate::portal::{live, paths, text, ui};
use crate::state::App;

/// How soon the page of a target looks again while something is under way, and when nothing is.
const BUSY: Duration = Duration::from_secs(2);
const QUIET: Duration = Duration::from_secs(15);

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/admin/targets", get(targets))
        .route("/admin/targets/{target}", get(show))
        .merge(dialog::routes())
}

async fn targets(State(app): State<App>, viewer: Viewer) -> Result<Response, Failure> {
    let targets = admin::targets(app.cx(), &viewer.actor)
        .await
        .map_err(|e| viewer.sorry(&e))?;
    let lead = "Where backups go. Without one, backups are refused before any work starts; snapshots need none.";
    let region = live::region(
        &viewer,
        "list",
        &[EventKind::Operation],
        &target_table(&targets),
    );
    let body = html! {
        (page_head(&html! { "Backup targets" }, lead, &html! {}))
        section.card { (region) }
    };
    Ok(Page::new(&viewer, Nav::Targets, "Backup targets")
        .render(&body)
        .into_response())
}

fn target_table(targets: &[TargetView]) -> Markup {
    if targets.is_empty() {
        let teach = "Name one in the server's configuration and start it again.";
        return ui::empty(Icon::Target, "No backup targets", teach, &html! {});
    }
    let headings = [
        ("Name", ""),
        ("Holds", ""),
        ("Copied to", ""),
        ("Driver", ""),
        ("Region", ""),
    ];
    let copied_to = |view: &TargetView| {
        let rule = view.target.copies?;
        let to = targets.iter().find(|other| other.target.id == rule.to)?;
        Some(to.target.name.clone())
    };
    let rows = html! {
        @for view in targets {
            tr role="row" {
                (ui::cell("Name", "", &html! {
                    a.name href=(paths::target(view.target.id)) { (view.target.name) }
                    span.sub { (view.target.id) }
                }))
                (ui::cell("Holds", "", &html! { (holds(view.target.role)) }))
                (ui::cell("Copied to", "", &html! {
                    @match copied_to(view) { Some(to) => (to), None => span.faint { "Nowhere" } }
                }))
                (ui::cell("Driver", "", &html! { (view.target.driver) }))
                (ui::cell("Region", "", &html! { (view.region_name) }))
            }
        }
    };
    ui::table("Backup targets", &headings, &rows)
}

const fn holds(role: TargetRole) -> &'static str {
    match role {
        TargetRole::Backups => "Backups",
        TargetRole::Copies => "Copies of backups",
    }
}

/// Finds a target as a page names it.
async fn load(app: &App, viewer: &Viewer, named: &str) -> Result<TargetCare, Failure> {
    let reference = Reference::parse(named, "target").map_err(|refusal| viewer.fail(&refusal))?;
    let found = admin::target(app.cx(), &viewer.actor, &reference).await;
    found.map_err(|error| viewer.sorry(&error))
}

async fn show(
    State(app): State<App>,
    viewer: Viewer,
    Path(named): Path<String>,
) -> Result<Response, Failure> {
    let care = load(&app, &viewer, &named).await?;
    let target = &care.target.target;
    let content = html! {
        (page_head(&html! { (target.name) }, &lead(&care), &actions(&care)))
        div.stack {
            @if care.vaults.is_empty() { section.card { (no_vaults(target.role)) } }
            @for view in &care.vaults { (vault::card(&care, view, viewer.now)) }
        }
    };
    let is_busy = care.vaults.iter().any(|v| v.care.task_id.is_some());
    let every = if is_busy { BUSY } else { QUIET };
    let body = html! {
        (crumbs(&[("/admin/targets", "Backup targets")]))
        (live::watched_region(&viewer, "target", every, &content))
    };
    Ok(Page::new(&viewer, Nav::Targets, target.name.as_str())
        .moving(Some(every))
        .render(&body)
        .into_response())
}

fn lead(care: &TargetCare) -> String {
    let target = &care.target.target;
    let purpose = match (target.role, &care.copies) {
        (TargetRole::Copies, _) => format!(
            "{} · holds copies of the backups of another target, and nothing else",
            target.driver
        ),
        (TargetRole::Backups, Some((rule, to))) => format!(
            "{} · backups are made into it, and copied to {to} every {}",
            target.driver,
            text::span(rule.every())
        ),
        (TargetRole::Backups, None) => {
            format!(
                "{} · backups are made into it, and copied nowhere",
                target.driver
            )
        }
    };
    match target.object_lock {
        Some(mode) => format!("{purpose}; what is promised to stay is locked ({mode} mode)"),
        None => purpose,
    }
}

fn actions(care: &TargetCare) -> Markup {
    let target = &care.target.target;
    let href = paths::target_copies(target.id);
    html! {
        @if target.role == TargetRole::Backups {
            a #copies .button role="button" href=(href)
                hx-get=(href) hx-target="#dialog" hx-select={ "#" (ui::DIALOG) }
            { (Icon::Clone) "Copies" }
        }
    }
}

fn no_vaults(role: TargetRole) -> Markup {
    let teach = match role {
        TargetRole::Backups => {
            "Each account has a vault of its own here, with its own keys. It is made with the account's \
             first backup."
        }
        TargetRole::Copies => "Say on the page of another target that its backups are copied here.",
    };
    ui::empty(Icon::Target, "Nothing here yet", teach, &html! {})
}
