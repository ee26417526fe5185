//! The dialogs about one image: a volume of it, rename, protect, delete.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use stillpoint_control::Answer as Outcome;
use stillpoint_control::image::{self, ImageView};
use stillpoint_control::item::ItemUpdate;
use stillpoint_control::volume::{self, VolumeFromImage};
use stillpoint_model::guard::Action;
use stillpoint_model::plan::Confirmation;
use stillpoint_model::refusal::Refusal;
use stillpoint_model::volume::VolumeRole;

use crate::portal::error::{Failure, refusal};
use crate::portal::layout::{Nav, Page};
use crate::portal::session::{Posted, Viewer};
use crate::portal::ui::{self, Fields, Sheet, Subject, Submit};
use crate::portal::{item, paths};
use crate::state::App;

/// What is asked of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialog {
    Volume,
    Rename,
    Protect,
    Delete,
}

pub(super) fn routes() -> Router<App> {
    let routes = |dialog: Dialog| {
        let open = move |app: State<App>, viewer: Viewer, path: Path<String>| {
            open(dialog, app, viewer, path)
        };
        let post = move |app: State<App>, path: Path<String>, posted: Posted| {
            post(dialog, app, path, posted)
        };
        get(open).post(post)
    };
    let dialogs = [
        Dialog::Volume,
        Dialog::Rename,
        Dialog::Protect,
        Dialog::Delete,
    ];
    dialogs.into_iter().fold(Router::new(), |router, dialog| {
        let path = format!("/images/{{image}}/{}", dialog.path());
        router.route(&path, routes(dialog))
    })
}

async fn open(
    dialog: Dialog,
    State(app): State<App>,
    viewer: Viewer,
    Path(text): Path<String>,
) -> Result<Response, Failure> {
    let view = super::load(&app, &viewer, &text).await?;
    let fields = match dialog {
        Dialog::Rename => Fields::default()
            .with("name", view.image.name.as_str())
            .with("description", view.image.description.as_str())
            .with("labels", ui::labels_text(&view.image.labels)),
        _ => Fields::default(),
    };
    let page = Page::new(&viewer, Nav::Images, dialog.title(&view));
    let sheet = dialog.sheet(&viewer, &view, &fields, None);
    Ok(page.render_dialog(&sheet).into_response())
}

async fn post(
    dialog: Dialog,
    State(app): State<App>,
    Path(text): Path<String>,
    Posted { viewer, fields }: Posted,
) -> Result<Response, Failure> {
    let view = super::load(&app, &viewer, &text).await?;
    let outcome = dialog.send(&app, &viewer, &view, &fields).await;
    let page = Page::new(&viewer, Nav::Images, dialog.title(&view));
    Ok(page.settle(outcome, |refusal| {
        dialog.sheet(&viewer, &view, &fields, Some(refusal))
    }))
}

impl Dialog {
    const fn path(self) -> &'static str {
        match self {
            Self::Volume => "volume",
            Self::Rename => "rename",
            Self::Protect => "protect",
            Self::Delete => "delete",
        }
    }

    const fn title(self, view: &ImageView) -> &'static str {
        match self {
            Self::Volume => "Create Volume",
            Self::Rename => "Rename image",
            Self::Protect if view.image.protected => "Remove the protection of this image",
            Self::Protect => "Protect this image",
            Self::Delete => "Delete image",
        }
    }

    /// Does what was asked; answers where to go then.
    async fn send(
        self,
        app: &App,
        viewer: &Viewer,
        view: &ImageView,
        fields: &Fields,
    ) -> Result<String, Refusal> {
        let (cx, actor, id) = (app.cx(), &viewer.actor, view.image.id.into());
        let change = &Viewer::change(fields);
        let update = match self {
            Self::Volume => return create_volume(app, viewer, view, fields).await,
            Self::Delete => {
                let confirm = fields.optional("confirm");
                let deleted = image::delete(cx, actor, &id, confirm, change).await;
                let home = deleted.map(|_| "/images".to_owned());
                return home.map_err(|error| refusal(&error));
            }
            Self::Rename => item::read_update(fields)?,
            Self::Protect => ItemUpdate {
                protected: Some(fields.get("protected") == "yes"),
                ..ItemUpdate::default()
            },
        };
        let updated = image::update(cx, actor, &id, update, change).await;
        let home = updated.map(|view| paths::image(view.image.id));
        home.map_err(|error| refusal(&error))
    }

    fn sheet(
        self,
        viewer: &Viewer,
        view: &ImageView,
        fields: &Fields,
        error: Option<&Refusal>,
    ) -> Markup {
        let image = &view.image;
        let asked = match self {
            Self::Volume => Some(Action::VolumeCreate),
            Self::Delete => Some(Action::ImageDelete),
            Self::Rename | Self::Protect => None,
        };
        let answer = asked.map(|action| ui::answer(&view.permissions, action));
        let typed = self == Self::Delete && view.confirm.delete == Confirmation::TypeName;
        let submit = match self {
            Self::Volume => Submit::new("Create Volume"),
            Self::Rename => Submit::new("Save"),
            Self::Protect if image.protected => Submit::new("Remove protection"),
            Self::Protect => Submit::new("Protect"),
            Self::Delete => Submit::danger("Delete image"),
        };
        let sheet = Sheet {
            viewer,
            title: self.title(view),
            lead: html! { b { (image.name) } ", " (image.size) },
            action: paths::image_dialog(image.id, self.path()),
            back: paths::image(image.id),
            submit: Submit {
                answer: answer.as_ref(),
                confirm: typed,
                ..submit
            },
            error,
            item: Some(Subject::Image(image.id)),
            upload: false,
        };
        sheet.render(&html! {
            (self.fields(view, fields, error))
            @if typed { (ui::confirm_field(image.name.as_str(), fields, error)) }
        })
    }

    fn fields(self, view: &ImageView, fields: &Fields, error: Option<&Refusal>) -> Markup {
        match self {
            Self::Volume => html! {
                p { "A new volume that starts as the image, at once and whatever its size. An instance can boot from it." }
                (ui::text_field("name", "Name", fields, error).focused())
                (ui::size_field("size_bytes", "Size, when larger than the image (optional)", fields, error))
            },
            Self::Rename => html! {
                (ui::text_field("name", "Name", fields, error).focused())
                (ui::description_and_labels(fields, error, true))
            },
            Self::Protect => html! {
                p {
                    @if view.image.protected { "It can be deleted again." }
                    @else { "While it is protected, nobody can delete it. Anybody of your account can remove the protection." }
                }
                (ui::hidden("protected", if view.image.protected { "no" } else { "yes" }))
            },
            Self::Delete => html! {
                p { "This cannot be undone. Instances and volumes that were made of it stay as they are, and so does what it was made of." }
            },
        }
    }
}

/// Makes a volume of an image; answers its page.
async fn create_volume(
    app: &App,
    viewer: &Viewer,
    view: &ImageView,
    fields: &Fields,
) -> Result<String, Refusal> {
    let size = match fields.optional("size_bytes") {
        Some(_) => Some(ui::read_size(fields, "size_bytes")?),
        None => None,
    };
    let request = VolumeFromImage {
        name: fields.name("name")?,
        image: view.image.id.into(),
        size,
        role: VolumeRole::Root,
        pool: None,
    };
    let change = Viewer::change(fields);
    let made = volume::create_from_image(app.cx(), &viewer.actor, request, &change).await;
    match made.map_err(|error| refusal(&error))? {
        Outcome::Accepted(operation) => Ok(operation
            .volume_id
            .map_or_else(|| "/volumes".to_owned(), paths::volume)),
        Outcome::Preview(_) => Ok("/volumes".to_owned()),
    }
}
