//! The dialog that takes a snapshot of an instance: from the instance's tab with it given, from the
//! list of all with the eligible ones to choose from.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use stillpoint_control::instance::{self, InstanceQuery, InstanceView};
use stillpoint_control::instance_snapshot::{self, InstanceSnapshotCreate};
use stillpoint_control::{ListQuery, Reference};
use stillpoint_model::guard::Action;
use stillpoint_model::refusal::{ProblemCode, Refusal};

use crate::portal::error::{Failure, refusal};
use crate::portal::item::expected_words;
use crate::portal::layout::{Nav, Page};
use crate::portal::session::{Posted, Viewer};
use crate::portal::ui::{self, Answer, Fields, Sheet, Submit};
use crate::portal::{instance as instances, paths, snapshot};
use crate::state::App;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/instances/{instance}/snapshots/new", get(open).post(post))
        .route("/instance-snapshots/new", get(choose).post(post_chosen))
}

/// Which instance is captured.
pub(super) enum Capture {
    This(Box<InstanceView>),
    OneOf(Vec<InstanceView>),
}

async fn open(
    State(app): State<App>,
    viewer: Viewer,
    Path(text): Path<String>,
) -> Result<Response, Failure> {
    let view = instances::load(&app, &viewer, &text).await?;
    let capture = Capture::This(Box::new(view));
    Ok(capture.show(&viewer))
}

async fn choose(State(app): State<App>, viewer: Viewer) -> Result<Response, Failure> {
    let capture = Capture::eligible(&app, &viewer).await?;
    Ok(capture.show(&viewer))
}

async fn post(
    State(app): State<App>,
    Path(text): Path<String>,
    Posted { viewer, fields }: Posted,
) -> Result<Response, Failure> {
    let view = instances::load(&app, &viewer, &text).await?;
    let instance = Ok(view.instance.id.into());
    let capture = Capture::This(Box::new(view));
    Ok(capture.send(&app, &viewer, &fields, instance).await)
}

async fn post_chosen(
    State(app): State<App>,
    Posted { viewer, fields }: Posted,
) -> Result<Response, Failure> {
    let capture = Capture::eligible(&app, &viewer).await?;
    let chosen = match fields.optional("instance") {
        Some(text) => Reference::parse(text, "instance").map_err(|r| r.at("/instance")),
        None => {
            let text = "Choose an instance.";
            Err(Refusal::new(ProblemCode::InvalidRequest, text).at("/instance"))
        }
    };
    Ok(capture.send(&app, &viewer, &fields, chosen).await)
}

impl Capture {
    /// Those of the account that can be captured now.
    pub(super) async fn eligible(app: &App, viewer: &Viewer) -> Result<Self, Failure> {
        let query = InstanceQuery {
            page: ListQuery {
                cursor: None,
                limit: ListQuery::MAX,
            },
        };
        let all = instance::list(app.cx(), &viewer.actor, &query).await;
        let all = all.map_err(|error| viewer.sorry(&error))?.items;
        let may = |view: &InstanceView| {
            ui::answer(&view.permissions, Action::InstanceSnapshotCreate).is_ok()
        };
        Ok(Self::OneOf(all.into_iter().filter(may).collect()))
    }

    fn show(&self, viewer: &Viewer) -> Response {
        let page = Page::new(viewer, self.nav(), "Take Snapshot");
        let sheet = self.sheet(viewer, &Fields::default(), None);
        page.render_dialog(&sheet).into_response()
    }

    const fn nav(&self) -> Nav {
        match self {
            Self::This(_) => Nav::Instances,
            Self::OneOf(_) => Nav::Snapshots,
        }
    }

    /// Asks for it; leads to the instance's tab, where it can be watched.
    async fn send(
        &self,
        app: &App,
        viewer: &Viewer,
        fields: &Fields,
        instance: Result<Reference, Refusal>,
    ) -> Response {
        let outcome = async {
            let instance = instance?;
            let request = InstanceSnapshotCreate {
                item: snapshot::read(fields)?,
                image: snapshot::read_image(fields)?,
                with_memory: fields.is_checked("memory"),
            };
            let (cx, actor, change) = (app.cx(), &viewer.actor, Viewer::change(fields));
            let asked = instance_snapshot::create(cx, actor, &instance, request, &change).await;
            asked.map_err(|error| refusal(&error))?;
            Ok(match &instance {
                Reference::Id(id) => format!("/instances/{id}/snapshots"),
                Reference::Name(name) => {
                    format!("/instances/{}/snapshots", paths::query_value(name.as_str()))
                }
            })
        };
        let page = Page::new(viewer, self.nav(), "Take Snapshot");
        page.settle(outcome.await, |refusal| {
            self.sheet(viewer, fields, Some(refusal))
        })
    }

    /// Whether there is one that can be captured now.
    pub(super) fn answer(&self) -> Answer {
        match self {
            Self::This(view) => ui::answer(&view.permissions, Action::InstanceSnapshotCreate),
            Self::OneOf(views) if views.is_empty() => {
                let text = "No active instances available.";
                Err(Refusal::new(ProblemCode::NotEligible, text))
            }
            Self::OneOf(_) => Ok(stillpoint_model::guard::Allowed::default()),
        }
    }

    fn sheet(&self, viewer: &Viewer, fields: &Fields, error: Option<&Refusal>) -> Markup {
        let answer = self.answer();
        let (action, back) = match self {
            Self::This(view) => {
                let to = |dialog| paths::instance_dialog(view.instance.id, dialog);
                (to("snapshots/new"), to("snapshots"))
            }
            Self::OneOf(_) => (
                "/instance-snapshots/new".to_owned(),
                "/instance-snapshots".to_owned(),
            ),
        };
        let sheet = Sheet {
            viewer,
            title: "Take Snapshot",
            lead: html! { "A point in time of the whole instance, all its volumes at one instant. It runs on meanwhile." },
            action,
            back,
            submit: Submit {
                answer: Some(&answer),
                ..Submit::new("Take Snapshot")
            },
            error,
            item: None,
            upload: false,
        };
        sheet.render(&html! {
            (self.instance_field(fields))
            (ui::text_field("name", "Name", fields, error).optional().focused()
                .hint("Left empty, a name is made from the time."))
            (ui::warnings(&answer))
            @if let Ok(allowed) = &answer {
                @if let Some(consistency) = allowed.consistency {
                    p.small.muted { "Consistency: " (expected_words(consistency)) "." }
                }
            }
            (ui::checkbox("memory", "Capture its memory, too: an instance made of it can go on where it was", fields))
            (snapshot::image_fields(fields, error))
            (ui::description_and_labels(fields, error, false))
        })
    }

    fn instance_field(&self, fields: &Fields) -> Markup {
        match self {
            Self::This(view) => html! {
                div.field {
                    label for="field-instance" { "Instance" }
                    input #field-instance type="text" value=(view.instance.name) readonly;
                }
            },
            Self::OneOf(views) if views.is_empty() => html! {
                p { "Make an instance first, or wait until nothing holds the one that you have. " a href="/instances" { "Go to instances" } }
            },
            Self::OneOf(views) => {
                let options: Vec<_> = views.iter().map(option).collect();
                ui::select("instance", "Instance", &options, fields)
            }
        }
    }
}

/// What an instance is called in a list to choose from: `my-vm - H100-SXM5-80GB (CANADA-1)`.
fn option(view: &InstanceView) -> (String, String) {
    let instance = &view.instance;
    let flavor = &instance.flavor;
    let made_of = flavor.gpu.as_deref().unwrap_or(flavor.name.as_str());
    let text = format!("{} - {made_of} ({})", instance.name, view.region_name);
    (instance.id.to_string(), text)
}
