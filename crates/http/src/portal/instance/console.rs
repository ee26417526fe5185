//! What an instance's guest wrote to its serial console, the newest last.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::html;
use std::time::Duration;
use stillpoint_control::console;

use super::detail::{Tab, page};
use crate::portal::error::{Failure, refusal};
use crate::portal::icon::Icon;
use crate::portal::session::Viewer;
use crate::portal::{live, ui};
use crate::state::App;

/// How often a page that is open looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

pub(super) fn routes() -> Router<App> {
    Router::new().route("/instances/{instance}/console", get(show))
}

async fn show(
    State(app): State<App>,
    viewer: Viewer,
    Path(text): Path<String>,
) -> Result<Response, Failure> {
    let view = super::load(&app, &viewer, &text).await?;
    let read = console::read(app.cx(), &viewer.actor, &view.instance.id.into()).await;
    let content = match &read {
        Ok(text) if text.trim().is_empty() => ui::empty(
            Icon::Terminal,
            "Nothing was written yet",
            "What the guest writes to its first serial port is shown here, and stays when it is off.",
            &html! {},
        ),
        Ok(text) => html! { pre.console tabindex="0" aria-label="Console" { (text.trim_end()) } },
        Err(error) => html! { div.body { p.reason { (refusal(error).text) } } },
    };
    let card = html! {
        section.card {
            header { h2 { "Console" } }
            (live::watched_region(&viewer, "console", LOOK_AGAIN, &content))
        }
    };
    Ok(page(&viewer, &view, Tab::Console, &card).into_response())
}
