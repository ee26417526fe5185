//! The dialogs about one instance snapshot: a new instance of it, its instance put back, rename,
//! protect, delete.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use stillpoint_control::Answer as Outcome;
use stillpoint_control::instance::{self, InstanceOfSnapshot, InstanceOptions};
use stillpoint_control::instance_snapshot::{self, InstanceSnapshotView};
use stillpoint_control::item::ItemUpdate;
use stillpoint_model::guard::Action;
use stillpoint_model::plan::Confirmation;
use stillpoint_model::refusal::Refusal;

use super::home;
use crate::portal::error::{Failure, refusal};
use crate::portal::icon::Icon;
use crate::portal::layout::{Nav, Page};
use crate::portal::session::{Posted, Viewer};
use crate::portal::ui::{self, Fields, Sheet, Subject, Submit};
use crate::portal::{instance as instances, item, paths, text};
use crate::state::App;

/// What is asked of one instance snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialog {
    Restore,
    Rebuild,
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
        Dialog::Restore,
        Dialog::Rebuild,
        Dialog::Rename,
        Dialog::Protect,
        Dialog::Delete,
    ];
    dialogs.into_iter().fold(Router::new(), |router, dialog| {
        let path = format!("/instance-snapshots/{{snapshot}}/{}", dialog.path());
        router.route(&path, routes(dialog))
    })
}

/// An instance snapshot, and the flavors that a new instance of it may have.
struct Shown {
    view: InstanceSnapshotView,
    options: InstanceOptions,
}

async fn load(app: &App, viewer: &Viewer, text: &str) -> Result<Shown, Failure> {
    let options = instance::options(app.cx(), &viewer.actor).await;
    Ok(Shown {
        view: super::load(app, viewer, text).await?,
        options: options.map_err(|error| viewer.sorry(&error))?,
    })
}

async fn open(
    dialog: Dialog,
    State(app): State<App>,
    viewer: Viewer,
    Path(text): Path<String>,
) -> Result<Response, Failure> {
    let shown = load(&app, &viewer, &text).await?;
    let whole = &shown.view.instance_snapshot;
    let fields = match dialog {
        Dialog::Restore => Fields::default().with("start", "on"),
        Dialog::Rename => Fields::default()
            .with("name", whole.name.as_str())
            .with("description", whole.description.as_str())
            .with("labels", ui::labels_text(&whole.labels)),
        _ => Fields::default(),
    };
    let page = Page::new(&viewer, Nav::Snapshots, dialog.title(&shown.view));
    let sheet = dialog.sheet(&viewer, &shown, &fields, None);
    Ok(page.render_dialog(&sheet).into_response())
}

async fn post(
    dialog: Dialog,
    State(app): State<App>,
    Path(text): Path<String>,
    Posted { viewer, fields }: Posted,
) -> Result<Response, Failure> {
    let shown = load(&app, &viewer, &text).await?;
    let outcome = dialog.send(&app, &viewer, &shown.view, &fields).await;
    let page = Page::new(&viewer, Nav::Snapshots, dialog.title(&shown.view));
    Ok(page.settle(outcome, |refusal| {
        dialog.sheet(&viewer, &shown, &fields, Some(refusal))
    }))
}

impl Dialog {
    const fn path(self) -> &'static str {
        match self {
            Self::Restore => "restore",
            Self::Rebuild => "rebuild",
            Self::Rename => "rename",
            Self::Protect => "protect",
            Self::Delete => "delete",
        }
    }

    const fn title(self, view: &InstanceSnapshotView) -> &'static str {
        match self {
            Self::Restore => "Create Instance",
            Self::Rebuild => "Rebuild instance",
            Self::Rename => "Rename instance snapshot",
            Self::Protect if view.instance_snapshot.protected => {
                "Remove the protection of this instance snapshot"
            }
            Self::Protect => "Protect this instance snapshot",
            Self::Delete => "Delete instance snapshot",
        }
    }

    const fn action(self) -> Option<Action> {
        match self {
            Self::Restore => Some(Action::InstanceCreate),
            Self::Rebuild => Some(Action::InstanceRebuild),
            Self::Delete => Some(Action::InstanceSnapshotDelete),
            Self::Rename | Self::Protect => None,
        }
    }

    /// Does what was asked; answers where to go then.
    async fn send(
        self,
        app: &App,
        viewer: &Viewer,
        view: &InstanceSnapshotView,
        fields: &Fields,
    ) -> Result<String, Refusal> {
        let (cx, actor) = (app.cx(), &viewer.actor);
        let (whole, change) = (&view.instance_snapshot, &Viewer::change(fields));
        let (id, confirm) = (whole.id.into(), fields.optional("confirm"));
        let update = match self {
            Self::Restore => return restore(app, viewer, view, fields).await,
            Self::Rebuild => {
                let of = whole.instance_id;
                let asked = (confirm, fields.is_checked("memory"));
                let asked =
                    instance_snapshot::rebuild(cx, actor, &of.into(), &id, asked, change).await;
                return asked.map(|_| paths::instance(of)).map_err(|e| refusal(&e));
            }
            Self::Delete => {
                let asked = instance_snapshot::delete(cx, actor, &id, confirm, change).await;
                return asked.map(|_| home(view)).map_err(|e| refusal(&e));
            }
            Self::Rename => item::read_update(fields)?,
            Self::Protect => ItemUpdate {
                protected: Some(fields.get("protected") == "yes"),
                ..ItemUpdate::default()
            },
        };
        let updated = instance_snapshot::update(cx, actor, &id, update, change).await;
        let page = updated.map(|_| paths::instance_snapshot(whole.id));
        page.map_err(|error| refusal(&error))
    }

    /// The name that must be typed before, where the plan asks for that.
    fn typed(self, view: &InstanceSnapshotView) -> Option<&str> {
        let whole = &view.instance_snapshot;
        let (asked, name) = match self {
            Self::Rebuild => (view.confirm.restore_in_place, &whole.instance_name),
            Self::Delete => (view.confirm.delete, &whole.name),
            Self::Restore | Self::Rename | Self::Protect => return None,
        };
        (asked == Confirmation::TypeName).then(|| name.as_str())
    }

    fn submit(self, view: &InstanceSnapshotView) -> Submit<'static> {
        match self {
            Self::Restore => Submit::new("Create Instance"),
            Self::Rebuild => Submit::danger("Rebuild"),
            Self::Rename => Submit::new("Save"),
            Self::Protect if view.instance_snapshot.protected => Submit::new("Remove protection"),
            Self::Protect => Submit::new("Protect"),
            Self::Delete => Submit::danger("Delete instance snapshot"),
        }
    }

    fn sheet(
        self,
        viewer: &Viewer,
        shown: &Shown,
        fields: &Fields,
        error: Option<&Refusal>,
    ) -> Markup {
        let view = &shown.view;
        let whole = &view.instance_snapshot;
        let answer = self
            .action()
            .map(|action| ui::answer(&view.permissions, action));
        let typed = self.typed(view);
        let sheet = Sheet {
            viewer,
            title: self.title(view),
            lead: html! { b { (whole.name) } " of " (whole.instance_name) ", " (text::ago(view.now, whole.created_at)) },
            action: paths::instance_snapshot_dialog(whole.id, self.path()),
            back: home(view),
            submit: Submit {
                answer: answer.as_ref(),
                confirm: typed.is_some(),
                ..self.submit(view)
            },
            error,
            item: Some(Subject::InstanceSnapshot(whole.id)),
            upload: false,
        };
        sheet.render(&html! {
            (self.fields(shown, fields, error))
            @if let Some(answer) = &answer { (ui::warnings(answer)) }
            @if let Some(name) = typed { (ui::confirm_field(name, fields, error)) }
        })
    }

    fn fields(self, shown: &Shown, fields: &Fields, error: Option<&Refusal>) -> Markup {
        let view = &shown.view;
        match self {
            Self::Restore => restore_fields(shown, fields, error),
            Self::Rebuild => rebuild_fields(view, fields),
            Self::Rename => html! {
                (ui::text_field("name", "Name", fields, error).focused())
                (ui::description_and_labels(fields, error, true))
            },
            Self::Protect => html! {
                p {
                    @if view.instance_snapshot.protected { "It can be deleted again, by a person and by a schedule that makes room." }
                    @else { "While it is protected, neither a person nor a schedule can delete it. Anybody of your account can remove the protection." }
                }
                (ui::hidden("protected", if view.instance_snapshot.protected { "no" } else { "yes" }))
            },
            Self::Delete => html! {
                p { "This cannot be undone. The snapshots of its volumes go with it; every other snapshot and backup stays as it is, and so do images and instances that were made of it." }
                dl.facts-inline {
                    dt { "Created" } dd { (ui::time_inline(view.instance_snapshot.created_at)) }
                    dt { "Frees" } dd { (view.instance_snapshot.sizes.freed_if_deleted) }
                }
            },
        }
    }
}

fn restore_fields(shown: &Shown, fields: &Fields, error: Option<&Refusal>) -> Markup {
    let own = &shown.view.instance_snapshot.config.flavor;
    let as_it_was = format!("As it was: {}, {}", own.name, instances::machine(own));
    let mut flavors = vec![(String::new(), as_it_was)];
    flavors.extend(shown.options.flavors.iter().map(|flavor| {
        let text = format!("{}: {}", flavor.name, instances::machine(flavor));
        (flavor.name.to_string(), text)
    }));
    html! {
        p { "A new instance with a copy of each volume, in the place it had. The one that was captured stays as it is, and may be running." }
        (ui::text_field("name", "Name", fields, error).optional().focused()
            .hint("Its guest's host name is made of it. Left empty, a name is made from the time."))
        (ui::select("flavor", "Flavor", &flavors, fields))
        (ui::checkbox("start", "Start it when it is made", fields))
        @if let Some(memory) = shown.view.instance_snapshot.memory {
            (ui::checkbox("memory", &format!("Go on where it was: with its memory, {memory}"), fields))
        }
    }
}

fn rebuild_fields(view: &InstanceSnapshotView, fields: &Fields) -> Markup {
    let whole = &view.instance_snapshot;
    let held = whole.config.volumes.iter().map(|v| v.name.as_str());
    let held = held.collect::<Vec<_>>().join(", ");
    html! {
        div.alert.warn {
            (Icon::Alert)
            div {
                h3 { "What will be lost" }
                p {
                    "Everything written to the volumes of " b { (whole.instance_name) } " since "
                    (ui::time_inline(whole.created_at)) " (" (text::ago(view.now, whole.created_at))
                    "). They go back as one: " (held) ". Volumes that were attached since stay as they are."
                }
            }
        }
        p.small.muted {
            "Before that, what the volumes hold now is kept as safety snapshots. They make this "
            "undoable, count toward no cap, cost nothing, and go by themselves."
        }
        @if let Some(memory) = whole.memory {
            (ui::checkbox("memory", &format!("Go on where it was: with its memory, {memory}"), fields))
        }
    }
}

/// Makes a new instance; answers its page.
async fn restore(
    app: &App,
    viewer: &Viewer,
    view: &InstanceSnapshotView,
    fields: &Fields,
) -> Result<String, Refusal> {
    let request = InstanceOfSnapshot {
        source: view.instance_snapshot.id.into(),
        name: fields.optional_name("name")?,
        flavor: fields.optional_name("flavor")?,
        start: fields.is_checked("start"),
        with_memory: fields.is_checked("memory"),
    };
    let change = Viewer::change(fields);
    let made = instance::create_of_snapshot(app.cx(), &viewer.actor, request, &change).await;
    match made.map_err(|error| refusal(&error))? {
        Outcome::Accepted(operation) => Ok(operation
            .instance_id
            .map_or_else(|| "/instances".to_owned(), paths::instance)),
        Outcome::Preview(_) => Ok("/instances".to_owned()),
    }
}
