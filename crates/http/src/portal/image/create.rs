//! The dialog that makes an image of a snapshot, a backup or an instance snapshot.

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use serde::Deserialize;
use stillpoint_control::image::{self, ImageCreate, ImageOptions, ImageSource};
use stillpoint_control::instance_snapshot::{self, InstanceSnapshotQuery, InstanceSnapshotView};
use stillpoint_control::{Answer as Outcome, ListQuery, Reference};
use stillpoint_model::guard::Action;
use stillpoint_model::refusal::Refusal;

use super::options;
use crate::portal::error::{Failure, refusal};
use crate::portal::item::{self, Item};
use crate::portal::layout::{Nav, Page};
use crate::portal::session::{Posted, Viewer};
use crate::portal::ui::{self, Fields, Sheet, Submit};
use crate::portal::{paths, snapshot, text};
use crate::state::App;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/images/new", get(open).post(post))
}

/// What a link to the dialog chose: `snapshot:ID`, `backup:ID` or `instance-snapshot:ID`.
#[derive(Deserialize)]
struct Wanted {
    source: Option<String>,
}

async fn open(
    State(app): State<App>,
    viewer: Viewer,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Failure> {
    let choices = Choices::load(&app, &viewer).await?;
    let source = wanted.source.unwrap_or_default();
    let fields = Fields::default().with("source", source);
    let page = Page::new(&viewer, Nav::Images, "Create Image");
    let sheet = choices.sheet(&viewer, &fields, None);
    Ok(page.render_dialog(&sheet).into_response())
}

async fn post(
    State(app): State<App>,
    Posted { viewer, fields }: Posted,
) -> Result<Response, Failure> {
    let choices = Choices::load(&app, &viewer).await?;
    let outcome = async {
        let request = ImageCreate {
            item: snapshot::read(&fields)?,
            source: read_source(fields.get("source"))?,
            pool: None,
        };
        let change = Viewer::change(&fields);
        let made = image::create(app.cx(), &viewer.actor, request, &change).await;
        made.map_err(|error| refusal(&error))
    };
    let outcome = outcome.await.map(|outcome| made(&outcome));
    let page = Page::new(&viewer, Nav::Images, "Create Image");
    Ok(page.settle(outcome, |refusal| {
        choices.sheet(&viewer, &fields, Some(refusal))
    }))
}

/// The page of the image that is being made.
pub(super) fn made(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Accepted(operation) => operation
            .image_id
            .map_or_else(|| "/images".to_owned(), paths::image),
        Outcome::Preview(_) => "/images".to_owned(),
    }
}

fn read_source(text: &str) -> Result<ImageSource, Refusal> {
    if let Some(whole) = text.strip_prefix("instance-snapshot:") {
        let whole = Reference::parse(whole, "instance snapshot")?;
        return Ok(ImageSource::InstanceSnapshot(whole));
    }
    item::read(text).map(ImageSource::RestorePoint)
}

/// What an image can be made of, all of the account's.
struct Choices {
    options: ImageOptions,
    wholes: Vec<InstanceSnapshotView>,
    points: Vec<Item>,
}

impl Choices {
    async fn load(app: &App, viewer: &Viewer) -> Result<Self, Failure> {
        let query = InstanceSnapshotQuery {
            page: ListQuery {
                cursor: None,
                limit: ListQuery::MAX,
            },
            instance: None,
        };
        let wholes = instance_snapshot::list(app.cx(), &viewer.actor, &query).await;
        let wholes = wholes.map_err(|error| viewer.sorry(&error))?.items;
        let usable = |view: &InstanceSnapshotView| {
            ui::answer(&view.permissions, Action::ImageCreate).is_ok()
        };
        Ok(Self {
            options: options(app, viewer).await?,
            wholes: wholes.into_iter().filter(usable).collect(),
            points: item::usable(app, viewer, Action::ImageCreate).await?,
        })
    }

    fn sheet(&self, viewer: &Viewer, fields: &Fields, error: Option<&Refusal>) -> Markup {
        let answer = ui::answer(&self.options.permissions, Action::ImageCreate);
        let sheet = Sheet {
            viewer,
            title: "Create Image",
            lead: html! { "A template that instances boot from. What it is made of stays as it is, and may go." },
            action: "/images/new".to_owned(),
            back: "/images".to_owned(),
            submit: Submit {
                answer: Some(&answer),
                ..Submit::new("Create Image")
            },
            error,
            item: None,
            upload: false,
        };
        let wholes = self.wholes.iter().map(whole_option);
        let points = self.points.iter().map(item::option);
        let sources = item::keep_chosen(wholes.chain(points).collect(), fields.get("source"));
        sheet.render(&html! {
            (ui::text_field("name", "Name", fields, error).optional().focused()
                .hint("Unique among your images. Left empty, a name is made from the time."))
            @if sources.is_empty() {
                p.reason { "There is no snapshot or backup yet that an image could be made of. " a href="/volumes" { "Go to volumes" } }
            } @else {
                (ui::select("source", "Made from", &sources, fields))
            }
            (ui::description_and_labels(fields, error, false))
            (ui::cap_meter(self.options.images, self.options.max_images, "images"))
        })
    }
}

/// What an instance snapshot is called in a list to choose from.
fn whole_option(view: &InstanceSnapshotView) -> (String, String) {
    let whole = &view.instance_snapshot;
    let text = format!(
        "{}, snapshot of instance {}, {}",
        whole.name,
        whole.instance_name,
        text::ago(view.now, whole.created_at)
    );
    (format!("instance-snapshot:{}", whole.id), text)
}
