//! Settings: the API tokens.

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use maud::{Markup, html};
use stillpoint_control::token;
use stillpoint_control::{Page as Rows, Secret};
use stillpoint_model::Timestamp;
use stillpoint_model::account::Token;
use stillpoint_model::id::TokenId;
use stillpoint_model::refusal::Refusal;

use super::error::{Failure, refusal, status};
use super::icon::Icon;
use super::layout::{Nav, Page, page_head};
use super::list::ListParams;
use super::session::{Posted, Viewer};
use super::ui::{self, Fields, Sheet, Submit};
use super::{paths, text};
use crate::state::App;

const LIST: &str = "/settings/tokens";

/// `/settings` and below.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/settings", get(|| async { Redirect::to(LIST) }))
        .route(LIST, get(list))
        .route("/settings/tokens/new", get(open).post(create))
        .route(
            "/settings/tokens/{token}/revoke",
            get(open_revoke).post(revoke),
        )
}

async fn list(
    State(app): State<App>,
    viewer: Viewer,
    Query(params): Query<ListParams>,
) -> Result<Response, Failure> {
    let page = params.page().map_err(|refusal| viewer.fail(&refusal))?;
    let rows = token::list(app.cx(), &viewer.actor, &page).await;
    let rows = rows.map_err(|error| viewer.sorry(&error))?;
    Ok(list_page(&viewer, &params, &rows).into_response())
}

fn list_page(viewer: &Viewer, params: &ListParams, rows: &Rows<Token>) -> Markup {
    let next = params.next(LIST, rows.next.map(|c| c.to_string()));
    let lead = "Programs and the command line act for you with a token. It can do what you can do.";
    let create = ui::Action {
        id: "create-token",
        label: "Create Token",
        icon: Icon::Plus,
        href: "/settings/tokens/new".to_owned(),
        class: "primary",
        answer: &Ok(stillpoint_model::guard::Allowed::default()),
        now: viewer.now,
    };
    let body = html! {
        (page_head(&html! { "API tokens" }, lead, &html! { (create) }))
        section.card {
            @if rows.items.is_empty() {
                (ui::empty(Icon::Key, "No tokens yet",
                    "Create one for each program, so that each can be revoked alone. Send it as Authorization: Bearer.",
                    &html! {}))
            } @else { (table(&rows.items, viewer.now)) }
            (ui::pager(params.first(LIST).as_deref(), next.as_deref()))
        }
    };
    Page::new(viewer, Nav::Settings, "API tokens").render(&body)
}

fn table(tokens: &[Token], now: Timestamp) -> Markup {
    let headings = [
        ("Name", ""),
        ("Begins with", ""),
        ("Created (UTC)", ""),
        ("Last used (UTC)", ""),
        ("Expires (UTC)", ""),
        ("", ""),
    ];
    let never = || html! { span.faint { "Never" } };
    let rows = html! {
        @for token in tokens {
            @let href = paths::token_revoke(token.id);
            tr role="row" {
                (ui::cell("Name", "", &html! { span.name { (token.name) } }))
                (ui::cell("Begins with", "", &html! { code { (token.prefix) "…" } }))
                (ui::cell("Created (UTC)", "", &ui::time_cell(token.created_at, now)))
                (ui::cell("Last used (UTC)", "", &token.last_used_at.map_or_else(never, |at| ui::time_cell(at, now))))
                (ui::cell("Expires (UTC)", "", &token.expires_at.map_or_else(never, |at| expiry(at, now))))
                (ui::menu_cell(&html! {
                    a.button.compact role="button" id={ "revoke-" (token.id) } href=(href) hx-get=(href)
                        hx-target="#dialog" hx-select={ "#" (ui::DIALOG) } aria-label={ "Revoke " (token.name) } { "Revoke" }
                }))
            }
        }
    };
    ui::table("API tokens", &headings, &rows)
}

fn expiry(at: Timestamp, now: Timestamp) -> Markup {
    html! {
        time datetime=(at) title=(at) { (text::minute(at)) }
        @if at <= now { span.sub.bad { "Expired" } }
        @else { span.sub { "in " (text::span(at.duration_since(now))) } }
    }
}

async fn open(viewer: Viewer) -> Response {
    show_create(&viewer, &Fields::default(), None, StatusCode::OK)
}

async fn create(
    State(app): State<App>,
    Posted { viewer, fields }: Posted,
) -> Result<Response, Failure> {
    let outcome = async {
        let (name, expires_at) = (fields.name("name")?, expires_at(&fields, viewer.now));
        token::create(
            app.cx(),
            &viewer.actor,
            name,
            expires_at,
            fields.optional("idempotency_key"),
        )
        .await
        .map_err(|e| refusal(&e))
    };
    Ok(match outcome.await {
        Ok((token, secret)) => show_secret(&viewer, &token, &secret),
        Err(refusal) => show_create(&viewer, &fields, Some(&refusal), status(&refusal)),
    })
}

fn expires_at(fields: &Fields, now: Timestamp) -> Option<Timestamp> {
    let days: u64 = fields
        .get("days")
        .parse()
        .ok()
        .filter(|days| (1..=3650).contains(days))?;
    Some(now.saturating_add(Duration::from_secs(days * 86_400)))
}

fn show_create(
    viewer: &Viewer,
    fields: &Fields,
    error: Option<&Refusal>,
    status: StatusCode,
) -> Response {
    let sheet = Sheet {
        viewer,
        title: "Create API token",
        lead: html! { "The token is shown once, after this." },
        action: "/settings/tokens/new".to_owned(),
        back: LIST.to_owned(),
        submit: Submit::new("Create Token"),
        error,
        item: None,
        upload: false,
    };
    let lives = [
        ("90", "After 90 days"),
        ("30", "After 30 days"),
        ("365", "After a year"),
        ("never", "Never"),
    ];
    let lives = lives.map(|(value, label)| (value.to_owned(), label.to_owned()));
    let sheet = sheet.render(&html! {
        (ui::text_field("name", "Name", fields, error).focused().hint("Which program will use it."))
        (ui::select("days", "Expires", &lives, fields))
    });
    (
        status,
        Page::new(viewer, Nav::Settings, "Create API token").render_dialog(&sheet),
    )
        .into_response()
}

/// The one page that shows a secret. It answers the form itself: nothing else may know it.
fn show_secret(viewer: &Viewer, token: &Token, secret: &Secret) -> Response {
    let sheet = html! {
        div #(ui::DIALOG) .sheet {
            header { div { h1 #dialog-title { "Your new token" } p { "For " b { (token.name) } "." } } }
            div.body {
                div.alert.warn {
                    (Icon::Alert)
                    div { h3 { "Copy it now" } p { "It is shown this once, and cannot be shown again." } }
                }
                code.secret #secret { (secret.expose()) }
            }
            footer {
                button.button type="button" data-copy="secret" hidden { (Icon::Clone) span { "Copy" } }
                a.button.primary href=(LIST) { "Done" }
            }
        }
    };
    Page::new(viewer, Nav::Settings, "Your new token")
        .render_dialog(&sheet)
        .into_response()
}

fn token_id(viewer: &Viewer, text: &str) -> Result<TokenId, Failure> {
    text.parse()
        .map_err(|_| viewer.fail(&Refusal::not_found("token")))
}

async fn open_revoke(viewer: Viewer, Path(text): Path<String>) -> Result<Response, Failure> {
    let id = token_id(&viewer, &text)?;
    Ok(show_revoke(&viewer, id, None, StatusCode::OK))
}

async fn revoke(
    State(app): State<App>,
    Path(text): Path<String>,
    Posted { viewer, .. }: Posted,
) -> Result<Response, Failure> {
    let id = token_id(&viewer, &text)?;
    Ok(match token::revoke(app.cx(), &viewer.actor, id).await {
        Ok(()) => viewer.see_other(LIST),
        Err(error) => {
            let refusal = refusal(&error);
            show_revoke(&viewer, id, Some(&refusal), status(&refusal))
        }
    })
}

fn show_revoke(
    viewer: &Viewer,
    id: TokenId,
    error: Option<&Refusal>,
    status: StatusCode,
) -> Response {
    let sheet = Sheet {
        viewer,
        title: "Revoke API token",
        lead: html! { "Whatever uses it is refused at once. This cannot be undone." },
        action: paths::token_revoke(id),
        back: LIST.to_owned(),
        submit: Submit::danger("Revoke"),
        error,
        item: None,
        upload: false,
    };
    let page = Page::new(viewer, Nav::Settings, "Revoke API token");
    (status, page.render_dialog(&sheet.render(&html! {}))).into_response()
}
