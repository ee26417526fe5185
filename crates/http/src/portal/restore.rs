//! The restore dialog: to a new volume, or back in place, each allowed or blocked with a reason.

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use serde::Deserialize;
use stillpoint_control::restore::{self, RestoreCreate, RestoreMode, RestorePointRef};
use stillpoint_control::{Answer as Outcome, Reference, volume};
use stillpoint_model::guard::Action;
use stillpoint_model::item::{ItemKind, RestorePointId};
use stillpoint_model::place::Pool;
use stillpoint_model::plan::Confirmation;
use stillpoint_model::refusal::Refusal;

use super::error::{Failure, refusal, status};
use super::item::{self, Item};
use super::layout::Page;
use super::session::{Posted, Viewer};
use super::ui::{self, Answer, Fields, Sheet, Submit};
use super::{paths, text};
use crate::state::App;

/// The dialog of the items of one kind.
pub(super) fn routes(kind: ItemKind) -> Router<App> {
    let open = move |app: State<App>, viewer: Viewer, path: Path<String>, query: Query<Wanted>| {
        open(kind, app, viewer, path, query)
    };
    let post =
        move |app: State<App>, path: Path<String>, posted: Posted| post(kind, app, path, posted);
    let path = paths::items(kind) + "/{item}/restore";
    Router::new().route(&path, get(open).post(post))
}

/// Which of the two ways a link leads to.
#[derive(Deserialize)]
struct Wanted {
    mode: Option<String>,
}

/// What the dialog is made of.
struct Restore {
    item: Item,
    pools: Vec<Pool>,
    new_volume: Answer,
    in_place: Answer,
}

async fn load(app: &App, viewer: &Viewer, kind: ItemKind, text: &str) -> Result<Restore, Failure> {
    let item = item::load(app, &viewer.actor, kind, text)
        .await
        .map_err(|e| viewer.sorry(&e))?;
    let options = volume::options(app.cx(), &viewer.actor)
        .await
        .map_err(|e| viewer.sorry(&e))?;
    let new_volume = ui::answer(&item.permissions, Action::RestoreNew);
    let in_place = ui::answer(&item.permissions, Action::RestoreInPlace);
    Ok(Restore {
        item,
        pools: options.pools,
        new_volume,
        in_place,
    })
}

async fn open(
    kind: ItemKind,
    State(app): State<App>,
    viewer: Viewer,
    Path(text): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Failure> {
    let restore = load(&app, &viewer, kind, &text).await?;
    let mode = wanted.mode.unwrap_or_default();
    let fields = Fields::default().with("mode", mode);
    Ok(restore.show(&viewer, &fields, None, StatusCode::OK))
}

async fn post(
    kind: ItemKind,
    State(app): State<App>,
    Path(text): Path<String>,
    Posted { viewer, fields }: Posted,
) -> Result<Response, Failure> {
    let form = load(&app, &viewer, kind, &text).await?;
    let outcome = async {
        let request = RestoreCreate {
            source: form.source(),
            mode: read_mode(&fields)?,
        };
        let change = Viewer::change(&fields);
        restore::create(app.cx(), &viewer.actor, request, &change)
            .await
            .map_err(|e| refusal(&e))
    };
    Ok(match outcome.await {
        Ok(outcome) => viewer.see_other(&form.after(&outcome)),
        Err(refusal) => form.show(&viewer, &fields, Some(&refusal), status(&refusal)),
    })
}

fn read_mode(fields: &Fields) -> Result<RestoreMode, Refusal> {
    if fields.get("mode") == "in-place" {
        return Ok(RestoreMode::InPlace {
            confirm: fields.optional("confirm").map(str::to_owned),
        });
    }
    let pool = fields
        .optional("pool")
        .map(|pool| Reference::parse(pool, "pool"))
        .transpose()?;
    Ok(RestoreMode::NewVolume {
        name: fields.optional_name("name")?,
        pool,
        instant: fields.is_checked("instant"),
    })
}

impl Restore {
    fn source(&self) -> RestorePointRef {
        let item = match self.item.id {
            RestorePointId::Snapshot(id) => Reference::from(id),
            RestorePointId::Backup(id) => Reference::from(id),
        };
        RestorePointRef {
            kind: self.item.id.kind(),
            item,
        }
    }

    /// The volume that is being made or put back.
    fn after(&self, outcome: &Outcome) -> String {
        let volume = match outcome {
            Outcome::Accepted(operation) => operation.volume_id,
            Outcome::Preview(_) => None,
        };
        volume.map_or_else(|| self.item.home(), paths::volume)
    }

    fn show(
        &self,
        viewer: &Viewer,
        fields: &Fields,
        error: Option<&Refusal>,
        status: StatusCode,
    ) -> Response {
        let title = format!("Restore {}", self.item.name);
        let page = Page::new(viewer, item::nav(self.item.id.kind()), &title);
        (
            status,
            page.render_dialog(&self.sheet(viewer, fields, error)),
        )
            .into_response()
    }

    fn sheet(&self, viewer: &Viewer, fields: &Fields, error: Option<&Refusal>) -> Markup {
        let item = &self.item;
        let in_place_wanted = fields.get("mode") == "in-place" && self.in_place.is_ok();
        let in_place = in_place_wanted || (self.new_volume.is_err() && self.in_place.is_ok());
        let neither =
            (self.new_volume.is_err() && self.in_place.is_err()).then(|| self.new_volume.clone());
        let sheet = Sheet {
            viewer,
            title: &format!("Restore {}", item.noun()),
            lead: html! { b { (item.name) } " of " (item.volume_name) ", " (text::ago(item.now, item.created_at)) },
            action: paths::item_dialog(item.id, "restore"),
            back: item.home(),
            submit: Submit {
                answer: neither.as_ref(),
                confirm: true,
                ..Submit::new("Restore")
            },
            error,
            item: Some(item.id.into()),
            upload: false,
        };
        sheet.render(&html! {
            fieldset.choices {
                legend.visually-hidden { "Where to" }
                (self.choice(viewer, "new", "To a new volume",
                    &format!("{} stays as it is, and may be running.", item.volume_name),
                    !in_place, &self.new_volume, &self.new_volume_fields(fields, error)))
                (self.choice(viewer, "in-place", &format!("Roll back {}", item.volume_name),
                    "The volume goes back to this point in time, under the same name.",
                    in_place, &self.in_place, &self.in_place_fields(fields, error)))
            }
        })
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one choice, each used once"
    )]
    fn choice(
        &self,
        viewer: &Viewer,
        mode: &str,
        title: &str,
        lead: &str,
        chosen: bool,
        answer: &Answer,
        more: &Markup,
    ) -> Markup {
        let id = format!("choice-{mode}");
        let reason_id = format!("{id}-reason");
        let action = paths::item_dialog(self.item.id, "restore");
        html! {
            @match answer {
                Ok(_) => div #(id) .choice {
                    label {
                        input type="radio" name="mode" value=(mode) checked[chosen];
                        b { (title) } span { (lead) }
                    }
                    div.more { (more) }
                },
                // Asked again alone when it may have changed: what is typed elsewhere stays.
                Err(refusal) => div #(id) .choice.blocked data-live hx-get=(action)
                    hx-select={ "#" (id) } hx-target="this" hx-swap="outerHTML"
                    hx-disabled-elt="unset" hx-trigger="sse:operation, sse:volume, portal:refresh"
                {
                    label {
                        input type="radio" name="mode" value=(mode) disabled aria-describedby=(reason_id);
                        b { (title) } span { (lead) }
                    }
                    p #(reason_id) .reason { (ui::reason(refusal, viewer.now, Some(self.item.id.into()))) }
                },
            }
        }
    }

    fn new_volume_fields(&self, fields: &Fields, error: Option<&Refusal>) -> Markup {
        let mut pools = vec![(String::new(), "As the source".to_owned())];
        pools.extend(
            self.pools
                .iter()
                .map(|pool| (pool.id.to_string(), pool.name.to_string())),
        );
        html! {
            (ui::text_field("name", "Name of the new volume", fields, error).optional()
                .hint("Left empty, a name is made from the source and the time."))
            (ui::select("pool", "Pool", &pools, fields))
            @if self.item.id.kind() == ItemKind::Backup {
                (ui::checkbox("instant", "Ready at once: fill it from the backup while it is used", fields))
            }
        }
    }

    fn in_place_fields(&self, fields: &Fields, error: Option<&Refusal>) -> Markup {
        let item = &self.item;
        let typed = item.confirm.restore_in_place == Confirmation::TypeName;
        html! {
            div.alert.warn {
                (super::icon::Icon::Alert)
                div {
                    h3 { "What will be lost" }
                    p {
                        "Everything written to " b { (item.volume_name) } " since "
                        (ui::time_inline(item.created_at)) " (" (text::ago(item.now, item.created_at))
                        "). Its other snapshots and backups stay."
                    }
                }
            }
            p.small.muted {
                "Before that, what the volume holds now is kept as a safety snapshot. It makes this "
                "roll back undoable, counts toward no cap, costs nothing, and goes by itself."
            }
            @if typed { (ui::confirm_field(item.volume_name.as_str(), fields, error)) }
        }
    }
}
