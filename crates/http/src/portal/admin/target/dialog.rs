//! What operators say about a target: where its backups are copied to, and that so much may go.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use stillpoint_control::Reference;
use stillpoint_control::admin::{self, CopiesSet, TargetCare, TargetView, VaultView};
use stillpoint_model::ByteCount;
use stillpoint_model::id::VaultId;
use stillpoint_model::place::TargetRole;
use stillpoint_model::refusal::{ProblemCode, Refusal};

use super::load;
use super::vault::counted;
use crate::portal::error::{Failure, refusal};
use crate::portal::icon::Icon;
use crate::portal::layout::{Nav, Page};
use crate::portal::paths;
use crate::portal::session::{Posted, Viewer};
use crate::portal::ui::{self, Fields, Sheet, Submit};
use crate::state::App;

const COPIES: &str = "Copies";
const CONFIRM: &str = "Confirm a collection";
/// The times between two copies that are offered, in seconds.
const TIMES: [(u32, &str); 5] = [
    (3600, "Every hour"),
    (6 * 3600, "Every 6 hours"),
    (24 * 3600, "Every day"),
    (7 * 24 * 3600, "Every week"),
    (31 * 24 * 3600, "Every 31 days"),
];

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route(
            "/admin/targets/{target}/copies",
            get(open_copies).post(post_copies),
        )
        .route(
            "/admin/targets/{target}/vaults/{vault}/confirm",
            get(open_confirm).post(post_confirm),
        )
}

async fn open_copies(
    State(app): State<App>,
    viewer: Viewer,
    Path(named): Path<String>,
) -> Result<Response, Failure> {
    let care = load(&app, &viewer, &named).await?;
    let all = all_targets(&app, &viewer).await?;
    let (to, every_s) = match &care.copies {
        Some((rule, to)) => (to.as_str(), rule.every_s),
        None => ("", 24 * 3600),
    };
    let fields = Fields::default()
        .with("to", to)
        .with("every_s", every_s.to_string());
    let sheet = copies_sheet(&viewer, &care, &all, &fields, None);
    Ok(Page::new(&viewer, Nav::Targets, COPIES)
        .render_dialog(&sheet)
        .into_response())
}

async fn post_copies(
    State(app): State<App>,
    Path(named): Path<String>,
    Posted { viewer, fields }: Posted,
) -> Result<Response, Failure> {
    let care = load(&app, &viewer, &named).await?;
    let all = all_targets(&app, &viewer).await?;
    let outcome = set_copies(&app, &viewer, &care, &fields).await;
    Ok(
        Page::new(&viewer, Nav::Targets, COPIES).settle(outcome, |refusal| {
            copies_sheet(&viewer, &care, &all, &fields, Some(refusal))
        }),
    )
}

async fn all_targets(app: &App, viewer: &Viewer) -> Result<Vec<TargetView>, Failure> {
    let all = admin::targets(app.cx(), &viewer.actor).await;
    all.map_err(|error| viewer.sorry(&error))
}

async fn set_copies(
    app: &App,
    viewer: &Viewer,
    care: &TargetCare,
    fields: &Fields,
) -> Result<String, Refusal> {
    let id = care.target.target.id;
    let wanted = match fields.optional("to") {
        Some(to) => Some(CopiesSet {
            to: Reference::parse(to, "target")?,
            every_s: number(fields.get("every_s"), "/every_s")?,
        }),
        None => None,
    };
    let key = fields.optional("idempotency_key");
    let reference = Reference::Id(id.as_uuid());
    admin::set_copies(app.cx(), &viewer.actor, &reference, wanted, key)
        .await
        .map_err(|error| refusal(&error))?;
    Ok(paths::target(id))
}

fn number<T: std::str::FromStr>(text: &str, pointer: &str) -> Result<T, Refusal> {
    text.parse().map_err(|_| {
        Refusal::new(ProblemCode::InvalidRequest, "This is no number.").at(pointer.to_owned())
    })
}

fn copies_sheet(
    viewer: &Viewer,
    care: &TargetCare,
    all: &[TargetView],
    fields: &Fields,
    error: Option<&Refusal>,
) -> Markup {
    let target = &care.target.target;
    let sheet = Sheet {
        viewer,
        title: COPIES,
        lead: html! { "Of the backups in " b { (target.name) } },
        action: paths::target_copies(target.id),
        back: paths::target(target.id),
        submit: Submit::new("Save"),
        error,
        item: None,
        upload: false,
    };
    let may = all.iter().filter(|v| v.target.role == TargetRole::Copies);
    let mut places = vec![(String::new(), "Nowhere".to_owned())];
    places.extend(may.map(|v| (v.target.name.to_string(), v.target.name.to_string())));
    if places.len() == 1 {
        return sheet.render(&html! {
            div.alert.info {
                (Icon::Info)
                div {
                    h3 { "There is no second target yet" }
                    p { "Name one as " code { "[second_target]" } " in the server's settings and start it again." }
                }
            }
            (ui::hidden("to", ""))
        });
    }
    let mut times: Vec<(String, String)> = TIMES
        .iter()
        .map(|(seconds, text)| (seconds.to_string(), (*text).to_owned()))
        .collect();
    let now = fields.get("every_s");
    if !times.iter().any(|(seconds, _)| seconds == now) {
        times.insert(0, (now.to_owned(), format!("Every {now} seconds")));
    }
    sheet.render(&html! {
        (ui::select("to", "Copy to", &places, fields))
        (ui::select("every_s", "Look for what is new", &times, fields))
        p.muted.small {
            "Each copy is read back before it counts, and verified again and again. When a backup is deleted its copy stays "
            "for weeks. Copies that are there stay when the copying ends."
        }
    })
}

/// The vault of a target that a page names.
fn find<'a>(
    viewer: &Viewer,
    care: &'a TargetCare,
    vault: VaultId,
) -> Result<&'a VaultView, Failure> {
    let found = care.vaults.iter().find(|v| v.care.vault_id == vault);
    found.ok_or_else(|| viewer.fail(&Refusal::not_found("vault")))
}

fn vault_id(viewer: &Viewer, text: &str) -> Result<VaultId, Failure> {
    text.parse()
        .map_err(|_| viewer.fail(&Refusal::not_found("vault")))
}

async fn open_confirm(
    State(app): State<App>,
    viewer: Viewer,
    Path((named, vault)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let care = load(&app, &viewer, &named).await?;
    let view = find(&viewer, &care, vault_id(&viewer, &vault)?)?;
    let sheet = confirm_sheet(&viewer, &care, view, None);
    Ok(Page::new(&viewer, Nav::Targets, CONFIRM)
        .render_dialog(&sheet)
        .into_response())
}

async fn post_confirm(
    State(app): State<App>,
    Path((named, vault)): Path<(String, String)>,
    Posted { viewer, fields }: Posted,
) -> Result<Response, Failure> {
    let care = load(&app, &viewer, &named).await?;
    let view = find(&viewer, &care, vault_id(&viewer, &vault)?)?;
    let outcome = confirm(&app, &viewer, &care, view, &fields).await;
    Ok(
        Page::new(&viewer, Nav::Targets, CONFIRM).settle(outcome, |refusal| {
            confirm_sheet(&viewer, &care, view, Some(refusal))
        }),
    )
}

/// Confirms as many bytes as the form showed: if the collection asks for more by now, that is refused.
async fn confirm(
    app: &App,
    viewer: &Viewer,
    care: &TargetCare,
    view: &VaultView,
    fields: &Fields,
) -> Result<String, Refusal> {
    let id = care.target.target.id;
    let bytes = ByteCount::new(number(fields.get("bytes"), "/bytes")?);
    if fields.get("confirm") != view.care.account_name.as_str() {
        let text = "Type the account's name to confirm.";
        return Err(Refusal::new(ProblemCode::InvalidRequest, text).at("/confirm"));
    }
    let key = fields.optional("idempotency_key");
    let confirmation = (view.care.vault_id, bytes);
    let reference = Reference::Id(id.as_uuid());
    admin::confirm_collection(app.cx(), &viewer.actor, &reference, confirmation, key)
        .await
        .map_err(|error| refusal(&error))?;
    Ok(paths::target(id))
}

fn confirm_sheet(
    viewer: &Viewer,
    care: &TargetCare,
    view: &VaultView,
    error: Option<&Refusal>,
) -> Markup {
    let (target, vault) = (&care.target.target, &view.care);
    let asked = vault.collection.as_ref().and_then(|last| last.would_free);
    let name = vault.account_name.as_str();
    let sheet = Sheet {
        viewer,
        title: CONFIRM,
        lead: html! { "Of the vault of " b { (name) } " in " (target.name) },
        action: paths::vault_confirm(target.id, vault.vault_id),
        back: paths::target(target.id),
        submit: Submit {
            confirm: true,
            ..Submit::danger("Remove them")
        },
        error,
        item: None,
        upload: false,
    };
    let Some(asked) = asked else {
        return sheet
            .render(&html! { p { "No collection of this vault waits for a confirmation." } });
    };
    sheet.render(&html! {
        dl.facts-inline {
            dt { "Would go" } dd { b { (asked) } " of deleted backups" }
            dt { "Stays" } dd { (counted(view.holds.backups, "backup")) ", " (view.holds.stored) " stored" }
        }
        p {
            "This is more than goes by itself. After it is removed nothing brings it back"
            @if view.copies.is_some() { ", but for copies in another target" }
            ". The confirmation is for one collection."
        }
        (ui::hidden("bytes", &asked.get().to_string()))
        (ui::confirm_field(name, &Fields::default(), error))
    })
}
