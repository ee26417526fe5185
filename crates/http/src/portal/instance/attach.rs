//! Attaching and detaching, from the instance's page and from the volume's.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use stillpoint_control::instance::{self, InstanceQuery, InstanceView};
use stillpoint_control::volume::{self, VolumeQuery, VolumeView};
use stillpoint_control::{ListQuery, Reference};
use stillpoint_model::guard::Action;
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_model::volume::Volume;

use crate::portal::error::{Failure, refusal};
use crate::portal::layout::{Nav, Page};
use crate::portal::session::{Posted, Viewer};
use crate::portal::ui::{self, Answer, Fields, Sheet, Submit};
use crate::portal::{paths, volume as volume_pages};
use crate::state::App;

type PageResult = Result<Response, Failure>;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route(
            "/instances/{instance}/attach",
            get(choose_volume).post(attach_volume),
        )
        .route(
            "/volumes/{volume}/attach",
            get(choose_instance).post(attach_to),
        )
        .route(
            "/instances/{instance}/volumes/{volume}/detach",
            get(confirm_here).post(detach_here),
        )
        .route("/volumes/{volume}/detach", get(confirm).post(detach))
}

/// The account's volumes that may be attached now.
pub(super) async fn attachable(app: &App, viewer: &Viewer) -> Result<Vec<VolumeView>, Failure> {
    let page = ListQuery {
        cursor: None,
        limit: ListQuery::MAX,
    };
    let rows = volume::list(app.cx(), &viewer.actor, &VolumeQuery { page }).await;
    let mut views = rows.map_err(|e| viewer.sorry(&e))?.items;
    views.retain(|view| ui::answer(&view.permissions, Action::VolumeAttach).is_ok());
    Ok(views)
}

/// What a volume is called in a list to choose from.
pub(super) fn volume_option(volume: &Volume) -> (String, String) {
    let text = format!("{}, {}, {} disk", volume.name, volume.size, volume.role);
    (volume.id.to_string(), text)
}

/// What may be chosen, or why nothing can.
fn gate(answer: Answer, options: &[(String, String)], nothing: &str) -> Answer {
    if answer.is_ok() && options.is_empty() {
        return Err(Refusal::new(ProblemCode::NotEligible, nothing));
    }
    answer
}

/// The sheet of an instance to which a volume is attached.
fn volume_sheet(
    viewer: &Viewer,
    view: &InstanceView,
    volumes: &[VolumeView],
    fields: &Fields,
    error: Option<&Refusal>,
) -> Markup {
    let options: Vec<_> = volumes.iter().map(|v| volume_option(&v.volume)).collect();
    let answer = ui::answer(&view.permissions, Action::VolumeAttach);
    let nothing = "No volume of yours is free. Create one, or detach one first.";
    let answer = gate(answer, &options, nothing);
    let id = view.instance.id;
    let sheet = Sheet {
        viewer,
        title: "Attach volume",
        lead: html! { "To " b { (view.instance.name) } },
        action: paths::instance_dialog(id, "attach"),
        back: paths::instance(id),
        submit: Submit {
            answer: Some(&answer),
            ..Submit::new("Attach")
        },
        error,
        item: None,
        upload: false,
    };
    sheet.render(&html! {
        p { "A machine that runs sees a new disk at once. One that is stopped finds it when it starts." }
        @if options.is_empty() {
            p { a href="/volumes/new" { "Create a volume" } " or " a href="/volumes/import" { "import an image" } "." }
        } @else { (ui::select("volume", "Volume", &options, fields)) }
    })
}

async fn choose_volume(
    State(app): State<App>,
    viewer: Viewer,
    Path(text): Path<String>,
) -> PageResult {
    let view = super::load(&app, &viewer, &text).await?;
    let volumes = attachable(&app, &viewer).await?;
    let sheet = volume_sheet(&viewer, &view, &volumes, &Fields::default(), None);
    let page = Page::new(&viewer, Nav::Instances, "Attach volume");
    Ok(page.render_dialog(&sheet).into_response())
}

async fn attach_volume(
    State(app): State<App>,
    Path(text): Path<String>,
    Posted { viewer, fields }: Posted,
) -> PageResult {
    let view = super::load(&app, &viewer, &text).await?;
    let volumes = attachable(&app, &viewer).await?;
    let instance = view.instance.id.into();
    let outcome = async {
        let volume = chosen(&fields, "volume")?;
        send(&app, &viewer, &volume, &instance, &fields).await?;
        Ok(paths::instance(view.instance.id))
    };
    let outcome = outcome.await;
    let page = Page::new(&viewer, Nav::Instances, "Attach volume");
    Ok(page.settle(outcome, |refusal| {
        volume_sheet(&viewer, &view, &volumes, &fields, Some(refusal))
    }))
}

/// What was chosen from the list `field`.
fn chosen(fields: &Fields, field: &'static str) -> Result<Reference, Refusal> {
    Reference::parse(fields.get(field), field).map_err(|refusal| refusal.at(format!("/{field}")))
}

async fn send(
    app: &App,
    viewer: &Viewer,
    volume: &Reference,
    instance: &Reference,
    fields: &Fields,
) -> Result<(), Refusal> {
    let change = Viewer::change(fields);
    let answer = volume::attach(app.cx(), &viewer.actor, volume, instance, &change).await;
    answer.map(|_| ()).map_err(|e| refusal(&e))
}

/// The account's instances that can have one more volume.
async fn instances(app: &App, viewer: &Viewer) -> Result<Vec<InstanceView>, Failure> {
    let page = ListQuery {
        cursor: None,
        limit: ListQuery::MAX,
    };
    let rows = instance::list(app.cx(), &viewer.actor, &InstanceQuery { page }).await;
    let mut views = rows.map_err(|e| viewer.sorry(&e))?.items;
    views.retain(|view| ui::answer(&view.permissions, Action::VolumeAttach).is_ok());
    Ok(views)
}

/// The sheet of a volume that is attached to an instance.
fn instance_sheet(
    viewer: &Viewer,
    view: &VolumeView,
    instances: &[InstanceView],
    fields: &Fields,
    error: Option<&Refusal>,
) -> Markup {
    let option = |view: &InstanceView| {
        let instance = &view.instance;
        let text = format!("{} ({})", instance.name, instance.state);
        (instance.id.to_string(), text)
    };
    let options: Vec<_> = instances.iter().map(option).collect();
    let answer = ui::answer(&view.permissions, Action::VolumeAttach);
    let nothing = "No instance of yours can have one more volume now.";
    let answer = gate(answer, &options, nothing);
    let id = view.volume.id;
    let sheet = Sheet {
        viewer,
        title: "Attach volume",
        lead: html! { b { (view.volume.name) } ", " (view.volume.size) },
        action: paths::volume_tab(id, "attach"),
        back: paths::volume(id),
        submit: Submit {
            answer: Some(&answer),
            ..Submit::new("Attach")
        },
        error,
        item: None,
        upload: false,
    };
    sheet.render(&html! {
        p { "A machine that runs sees a new disk at once. One that is stopped finds it when it starts." }
        @if options.is_empty() { p { a href="/instances" { "See your instances" } "." } }
        @else { (ui::select("instance", "Instance", &options, fields)) }
    })
}

async fn choose_instance(
    State(app): State<App>,
    viewer: Viewer,
    Path(text): Path<String>,
) -> PageResult {
    let view = volume_pages::load(&app, &viewer, &text).await?;
    let instances = instances(&app, &viewer).await?;
    let sheet = instance_sheet(&viewer, &view, &instances, &Fields::default(), None);
    let page = Page::new(&viewer, Nav::Volumes, "Attach volume");
    Ok(page.render_dialog(&sheet).into_response())
}

async fn attach_to(
    State(app): State<App>,
    Path(text): Path<String>,
    Posted { viewer, fields }: Posted,
) -> PageResult {
    let view = volume_pages::load(&app, &viewer, &text).await?;
    let instances = instances(&app, &viewer).await?;
    let volume = view.volume.id.into();
    let outcome = async {
        let instance = chosen(&fields, "instance")?;
        send(&app, &viewer, &volume, &instance, &fields).await?;
        Ok(paths::volume(view.volume.id))
    };
    let outcome = outcome.await;
    let page = Page::new(&viewer, Nav::Volumes, "Attach volume");
    Ok(page.settle(outcome, |refusal| {
        instance_sheet(&viewer, &view, &instances, &fields, Some(refusal))
    }))
}

/// Where a volume is detached from, and where that leads.
struct Detach {
    view: VolumeView,
    nav: Nav,
    action: String,
    home: String,
}

impl Detach {
    async fn of_volume(app: &App, viewer: &Viewer, text: &str) -> Result<Self, Failure> {
        let view = volume_pages::load(app, viewer, text).await?;
        let id = view.volume.id;
        Ok(Self {
            view,
            nav: Nav::Volumes,
            action: paths::volume_tab(id, "detach"),
            home: paths::volume(id),
        })
    }

    async fn of_instance(
        app: &App,
        viewer: &Viewer,
        (instance, volume): (&str, &str),
    ) -> Result<Self, Failure> {
        let above = super::load(app, viewer, instance).await?.instance.id;
        let view = volume_pages::load(app, viewer, volume).await?;
        if view.volume.own_instance().map(|own| own.id) != Some(above) {
            return Err(viewer.fail(&Refusal::not_found("volume of this instance")));
        }
        Ok(Self {
            action: paths::instance_detach(above, view.volume.id),
            home: paths::instance(above),
            nav: Nav::Instances,
            view,
        })
    }

    fn sheet(&self, viewer: &Viewer, error: Option<&Refusal>) -> Markup {
        let volume = &self.view.volume;
        let answer = ui::answer(&self.view.permissions, Action::VolumeDetach);
        let sheet = Sheet {
            viewer,
            title: "Detach volume",
            lead: html! {
                b { (volume.name) }
                @if let Some(attachment) = &volume.attachment { ", attached to " (attachment.instance) }
            },
            action: self.action.clone(),
            back: self.home.clone(),
            submit: Submit {
                answer: Some(&answer),
                ..Submit::new("Detach")
            },
            error,
            item: None,
            upload: false,
        };
        sheet.render(&html! {
            p { "The instance has it no more; everything on it stays. It can be attached again, here or elsewhere." }
            @if volume.is_attached_running() {
                p { "The machine runs: its guest is asked to let go of the disk. Unmount its file systems there first." }
            }
            (ui::warnings(&answer))
        })
    }

    fn show(&self, viewer: &Viewer) -> Response {
        let page = Page::new(viewer, self.nav, "Detach volume");
        page.render_dialog(&self.sheet(viewer, None))
            .into_response()
    }

    async fn send(&self, app: &App, viewer: &Viewer, fields: &Fields) -> Response {
        let (volume, change) = (self.view.volume.id.into(), Viewer::change(fields));
        let answer = volume::detach(app.cx(), &viewer.actor, &volume, &change).await;
        let outcome = answer
            .map(|_| self.home.clone())
            .map_err(|error| refusal(&error));
        let page = Page::new(viewer, self.nav, "Detach volume");
        page.settle(outcome, |refusal| self.sheet(viewer, Some(refusal)))
    }
}

async fn confirm(State(app): State<App>, viewer: Viewer, Path(text): Path<String>) -> PageResult {
    Ok(Detach::of_volume(&app, &viewer, &text).await?.show(&viewer))
}

async fn detach(
    State(app): State<App>,
    Path(text): Path<String>,
    Posted { viewer, fields }: Posted,
) -> PageResult {
    let detach = Detach::of_volume(&app, &viewer, &text).await?;
    Ok(detach.send(&app, &viewer, &fields).await)
}

async fn confirm_here(
    State(app): State<App>,
    viewer: Viewer,
    Path((instance, volume)): Path<(String, String)>,
) -> PageResult {
    let detach = Detach::of_instance(&app, &viewer, (&instance, &volume)).await?;
    Ok(detach.show(&viewer))
}

async fn detach_here(
    State(app): State<App>,
    Path((instance, volume)): Path<(String, String)>,
    Posted { viewer, fields }: Posted,
) -> PageResult {
    let detach = Detach::of_instance(&app, &viewer, (&instance, &volume)).await?;
    Ok(detach.send(&app, &viewer, &fields).await)
}
