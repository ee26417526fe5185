//! Operations: what is going on, what was done, and how it ended.

mod dialog;

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use stillpoint_control::operation::{self, OperationQuery};
use stillpoint_control::saga::saga;
use stillpoint_control::{Page as Rows, Reference};
use stillpoint_model::Timestamp;
use stillpoint_model::event::EventKind;
use stillpoint_model::id::OperationId;
use stillpoint_model::item::RestorePointId;
use stillpoint_model::name::Name;
use stillpoint_model::operation::{Operation, OperationKind, OperationState, Phase};
use stillpoint_model::refusal::Refusal;

use super::error::Failure;
use super::icon::Icon;
use super::layout::{Nav, Page, crumbs, page_head};
use super::list::ListParams;
use super::session::Viewer;
use super::{live, paths, text, ui};
use crate::state::App;

/// `/operations` and below.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/operations", get(list))
        .route("/operations/{operation}", get(show))
        .merge(dialog::routes())
}

/// One operation, by its id.
async fn load(app: &App, viewer: &Viewer, text: &str) -> Result<Operation, Failure> {
    let id: OperationId = text
        .parse()
        .map_err(|_| viewer.fail(&Refusal::not_found("operation")))?;
    operation::show(app.cx(), &viewer.actor, id)
        .await
        .map_err(|error| viewer.sorry(&error))
}

fn query(viewer: &Viewer, params: &ListParams) -> Result<OperationQuery, Refusal> {
    Ok(OperationQuery {
        page: params.page()?,
        volume: params
            .volume()
            .map(|text| Reference::parse(text, "volume"))
            .transpose()?,
        instance: params
            .instance()
            .map(|text| Reference::parse(text, "instance"))
            .transpose()?,
        in_flight: match params.state() {
            Some("in-flight") => Some(true),
            Some("over") => Some(false),
            _ => None,
        },
        all_accounts: params.all_accounts() && viewer.actor.is_administrator(),
    })
}

async fn list(
    State(app): State<App>,
    viewer: Viewer,
    Query(params): Query<ListParams>,
) -> Result<Response, Failure> {
    let query = query(&viewer, &params).map_err(|refusal| viewer.fail(&refusal))?;
    let rows = operation::list(app.cx(), &viewer.actor, &query).await;
    let rows = rows.map_err(|error| viewer.sorry(&error))?;
    Ok(list_page(&viewer, &params, &rows).into_response())
}

fn list_page(viewer: &Viewer, params: &ListParams, rows: &Rows<Operation>) -> Markup {
    let next = params.next("/operations", rows.next.map(|c| c.to_string()));
    let content = html! {
        @if rows.items.is_empty() { (nothing(params)) } @else { (table(&rows.items, viewer.now, true)) }
        (ui::pager(params.first("/operations").as_deref(), next.as_deref()))
    };
    let lead =
        "Everything that was asked for and takes time, newest first. Each ends in exactly one way.";
    let body = html! {
        (page_head(&html! { "Operations" }, lead, &html! {}))
        section.card {
            (toolbar(viewer, params))
            (live::region(viewer, "list", &[EventKind::Operation], &content))
        }
    };
    let moving = rows.items.iter().any(|o| !o.state.is_terminal());
    let look_again = moving.then_some(Duration::from_secs(3));
    Page::new(viewer, Nav::Operations, "Operations")
        .moving(look_again)
        .render(&body)
}

fn toolbar(viewer: &Viewer, params: &ListParams) -> Markup {
    html! {
        form.toolbar.pad method="get" action="/operations" role="search" data-autosubmit {
            (subject_filter(params))
            label.visually-hidden for="filter-state" { "State" }
            select #filter-state name="state" {
                @for (value, label) in [("", "In flight and over"), ("in-flight", "In flight"), ("over", "Over")] {
                    option value=(value) selected[params.state().unwrap_or_default() == value] { (label) }
                }
            }
            @if viewer.actor.is_administrator() {
                label.visually-hidden for="filter-accounts" { "Accounts" }
                select #filter-accounts name="accounts" {
                    option value="" { "My account" }
                    option value="all" selected[params.all_accounts()] { "All accounts" }
                }
            }
            button.button type="submit" { (Icon::Search) "Filter" }
            @if params.is_filtered() { a.button.plain href="/operations" { "Clear" } }
        }
    }
}

/// Whose operations: those of a volume, or of an instance when a page of one led here.
fn subject_filter(params: &ListParams) -> Markup {
    let (noun, placeholder, value) = match params.instance() {
        Some(instance) => ("instance", "Name or id of an instance", Some(instance)),
        None => ("volume", "Name or id of a volume", params.volume()),
    };
    let id = format!("filter-{noun}");
    html! {
        div.grow {
            label.visually-hidden for=(id) { (text::capitalized(noun)) }
            input #(id) type="search" name=(noun) placeholder=(placeholder)
                value=(value.unwrap_or_default());
        }
    }
}

fn nothing(params: &ListParams) -> Markup {
    if params.is_filtered() {
        return ui::empty(
            Icon::Search,
            "Nothing matches",
            "No operation fits these filters.",
            &html! {},
        );
    }
    let teach = "Whatever takes time is listed here while it runs and after it ended: snapshots, \
                 backups, restores, starts and stops, deletions.";
    ui::empty(Icon::List, "No operations yet", teach, &html! {})
}

/// The table of operations.
pub(super) fn table(operations: &[Operation], now: Timestamp, with_subject: bool) -> Markup {
    let mut headings = vec![("Operation", "")];
    if with_subject {
        headings.push(("About", ""));
    }
    headings.extend([
        ("State", ""),
        ("Progress", ""),
        ("Asked for (UTC)", ""),
        ("Took", "num"),
        ("", ""),
    ]);
    let rows = html! { @for operation in operations { (row(operation, now, with_subject)) } };
    ui::table("Operations", &headings, &rows)
}

fn row(operation: &Operation, now: Timestamp, with_subject: bool) -> Markup {
    html! {
        tr role="row" {
            (ui::cell("Operation", "", &html! {
                a.name href=(paths::operation(operation.id)) { (text::operation(operation.kind)) }
                @if let Some(failure) = &operation.failure { span.sub.bad { (failure.text) } }
            }))
            @if with_subject { (ui::cell("About", "", &subject(operation))) }
            (ui::cell("State", "", &ui::operation_state(operation.state)))
            (ui::cell("Progress", if operation.state.is_terminal() { "hide-small" } else { "" }, &progress_cell(operation)))
            (ui::cell("Asked for (UTC)", "", &ui::time_cell(operation.created_at, now)))
            (ui::cell("Took", "num", &took(operation, now)))
            (ui::menu_cell(&html! { @if !operation.state.is_terminal() { (ui::cancel_button(operation)) } }))
        }
    }
}

/// What an operation is about: a volume, an instance, or a volume of an instance.
fn subject(operation: &Operation) -> Markup {
    html! {
        @match (&operation.volume_name, &operation.instance_name) {
            (Some(_), Some(_)) => { (volume_link(operation)) span.sub { (instance_link(operation)) } }
            (None, Some(_)) => (instance_link(operation)),
            (Some(_), None) => (volume_link(operation)),
            (None, None) => (image_link(operation)),
        }
    }
}

fn volume_link(operation: &Operation) -> Markup {
    linked(
        operation.volume_id.map(paths::volume),
        operation.volume_name.as_ref(),
    )
}

fn instance_link(operation: &Operation) -> Markup {
    linked(
        operation.instance_id.map(paths::instance),
        operation.instance_name.as_ref(),
    )
}

/// The image that an operation makes, deletes or reads; a dash when it is about none.
fn image_link(operation: &Operation) -> Markup {
    match &operation.image_name {
        Some(_) => linked(
            operation.image_id.map(paths::image),
            operation.image_name.as_ref(),
        ),
        None => html! { "–" },
    }
}

fn linked(path: Option<String>, name: Option<&Name>) -> Markup {
    html! {
        @match (path, name) {
            (Some(path), Some(name)) => a href=(path) { (name) },
            (None, Some(name)) => (name),
            _ => {}
        }
    }
}

fn progress_cell(operation: &Operation) -> Markup {
    let progress = &operation.progress;
    html! {
        @if operation.state.is_terminal() { "–" }
        @else {
            (ui::bar(operation, "thin"))
            span.sub {
                (text::phase(progress.phase))
                @if let Some(percent) = progress.percent() { " · " (percent) " %" }
                @if let Some(eta) = progress.eta() { " · about " (text::span(eta)) " left" }
            }
        }
    }
}

fn took(operation: &Operation, now: Timestamp) -> Markup {
    let started = operation.started_at.unwrap_or(operation.created_at);
    html! {
        @match operation.finished_at {
            Some(finished) => (text::span(finished.duration_since(started))),
            None => span data-since=(ui::millis(started)) { (text::clock(now.duration_since(started))) },
        }
    }
}

async fn show(
    State(app): State<App>,
    viewer: Viewer,
    Path(text): Path<String>,
) -> Result<Response, Failure> {
    let operation = load(&app, &viewer, &text).await?;
    let content = content(&viewer, &operation);
    let body = html! {
        (crumbs(&[("/operations", "Operations")]))
        (live::region(&viewer, "operation", &[EventKind::Operation], &content))
    };
    let look_again = (!operation.state.is_terminal()).then_some(Duration::from_secs(3));
    let page =
        Page::new(&viewer, Nav::Operations, text::operation(operation.kind)).moving(look_again);
    Ok(page.render(&body).into_response())
}

fn content(viewer: &Viewer, operation: &Operation) -> Markup {
    let title = html! { (text::operation(operation.kind)) (ui::operation_state(operation.state)) };
    let named = |noun: &str, name: &Option<Name>| name.as_ref().map(|n| format!("{noun} {n}"));
    let parts = [
        named("Volume", &operation.volume_name),
        named("Instance", &operation.instance_name),
        named("Image", &operation.image_name),
    ];
    let lead = parts.into_iter().flatten().collect::<Vec<_>>().join(" · ");
    html! {
        (page_head(&title, &lead, &buttons(viewer, operation)))
        div.stack {
            @if !operation.state.is_terminal() { (ui::banner(operation, viewer.now)) }
            @if let Some(failure) = &operation.failure {
                (ui::failure_note("This operation failed", Some(failure.code), &failure.text))
            }
            section.card {
                header { h2 { "Phases" } }
                div.body { (phases(operation)) }
            }
            section.card {
                header { h2 { "About" } }
                div.body { dl.facts { (facts(viewer, operation)) } }
            }
        }
    }
}

/// What an administrator may do with it, and what not and why.
fn buttons(viewer: &Viewer, operation: &Operation) -> Markup {
    if !viewer.actor.is_administrator() {
        return html! {};
    }
    let failed = operation.state == OperationState::Failed;
    let link = |id: &str, label: &str, possible: bool, reason: &str| {
        let href = paths::operation_dialog(operation.id, id);
        let reason_id = format!("{id}-reason");
        html! {
            @if possible {
                a #(id) .button role="button" href=(href) hx-get=(href) hx-target="#dialog" hx-select={ "#" (ui::DIALOG) } { (label) }
            } @else {
                div.action {
                    button #(id) .button type="button" disabled aria-describedby=(reason_id) { (label) }
                    p #(reason_id) .reason { (reason) }
                }
            }
        }
    };
    html! {
        @if operation.state.is_terminal() {
            (link("retry", "Retry", failed, "Only a failed operation can be retried."))
        } @else {
            (link("release", "Release", true, ""))
        }
    }
}

/// The phases that an operation of a kind goes through, in order.
fn plan(kind: OperationKind) -> Vec<Phase> {
    let mut phases: Vec<Phase> = saga(kind).steps.iter().map(|step| step.phase).collect();
    phases.dedup();
    phases
}

/// Where an operation is among its phases. What already passed is known while it runs and when
/// it succeeded; of one that failed, only where it was last.
pub(super) fn phases(operation: &Operation) -> Markup {
    let plan = plan(operation.kind);
    let at = plan
        .iter()
        .position(|phase| *phase == operation.progress.phase);
    let succeeded = operation.state == OperationState::Succeeded;
    html! {
        ol.steps {
            li.done { (Icon::Check) "Accepted " span.faint { (ui::time_inline(operation.created_at)) } }
            @for (i, phase) in plan.iter().enumerate() {
                @if succeeded || at.is_some_and(|at| i < at) {
                    li.done { (Icon::Check) (text::phase(*phase)) }
                } @else if at == Some(i) && !operation.state.is_terminal() {
                    li.now aria-current="step" { (Icon::Spinner) (text::phase(*phase)) }
                } @else {
                    li.next { (Icon::Clock) (text::phase(*phase)) }
                }
            }
            @if !operation.state.is_terminal() && at.is_none() {
                li.now aria-current="step" { (Icon::Spinner) (text::phase(operation.progress.phase)) }
            }
            @if let Some(finished) = operation.finished_at { (end(operation.state, finished)) }
        }
    }
}

fn end(state: OperationState, finished: Timestamp) -> Markup {
    let (class, icon) = match state {
        OperationState::Succeeded => ("done", Icon::Check),
        OperationState::Failed => ("bad", Icon::Alert),
        _ => ("next", Icon::Pause),
    };
    html! {
        li.(class) { (icon) (text::capitalized(state.as_str())) " " span.faint { (ui::time_inline(finished)) } }
    }
}

fn facts(viewer: &Viewer, operation: &Operation) -> Markup {
    let snapshot = operation.snapshot_id.map(RestorePointId::Snapshot);
    let item = snapshot.or(operation.backup_id.map(RestorePointId::Backup));
    html! {
        @if operation.volume_name.is_some() { (ui::fact("Volume", &volume_link(operation))) }
        @if operation.instance_name.is_some() { (ui::fact("Instance", &instance_link(operation))) }
        @if operation.image_name.is_some() { (ui::fact("Image", &image_link(operation))) }
        @if let Some(id) = operation.instance_snapshot_id {
            (ui::fact("Instance snapshot", &html! { a href=(paths::instance_snapshot(id)) { "Open" } }))
        }
        @if let Some(item) = item {
            (ui::fact(&text::capitalized(item.kind().as_str()), &html! { a href=(paths::item(item)) { "Open" } }))
        }
        (ui::fact("Asked for", &ui::time(operation.created_at, viewer.now)))
        @if let Some(started) = operation.started_at { (ui::fact("Begun", &ui::time(started, viewer.now))) }
        (ui::fact("Last moved", &ui::time(operation.progressed_at, viewer.now)))
        @if let Some(finished) = operation.finished_at { (ui::fact("Ended", &ui::time(finished, viewer.now))) }
        (ui::fact("Took", &took(operation, viewer.now)))
        (ui::wide_fact("Id", &html! { code { (operation.id) } }))
    }
}
