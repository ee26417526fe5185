//! The dialogs about one instance: start, stop, pause, resume, rename, delete.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use stillpoint_control::instance::{self, DeleteVolumes, InstanceView};
use stillpoint_control::{Change, Reference};
use stillpoint_model::guard::Action;
use stillpoint_model::id::VolumeId;
use stillpoint_model::instance::{Power, StopMode};
use stillpoint_model::plan::Confirmation;
use stillpoint_model::refusal::{ProblemCode, Refusal};

use crate::portal::error::{Failure, refusal};
use crate::portal::icon::Icon;
use crate::portal::layout::{Nav, Page};
use crate::portal::paths;
use crate::portal::session::{Posted, Viewer};
use crate::portal::ui::{self, Fields, Sheet, Submit};
use crate::state::App;

/// How long a guest is waited for when nobody says, as the field holds it.
const USUAL_BOUND_S: &str = "60";

/// What is asked of one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialog {
    Start,
    Stop,
    Pause,
    Resume,
    Rename,
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
        Dialog::Start,
        Dialog::Stop,
        Dialog::Pause,
        Dialog::Resume,
        Dialog::Rename,
        Dialog::Delete,
    ];
    dialogs.into_iter().fold(Router::new(), |router, dialog| {
        let path = format!("/instances/{{instance}}/{}", dialog.path());
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
    let fields = Fields::default()
        .with("name", view.instance.name.as_str())
        .with("bound_s", USUAL_BOUND_S)
        .with("then_force", "on");
    let page = Page::new(&viewer, Nav::Instances, dialog.title());
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
    let page = Page::new(&viewer, Nav::Instances, dialog.title());
    Ok(page.settle(outcome, |refusal| {
        dialog.sheet(&viewer, &view, &fields, Some(refusal))
    }))
}

impl Dialog {
    const fn path(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Rename => "rename",
            Self::Delete => "delete",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Start => "Start instance",
            Self::Stop => "Stop instance",
            Self::Pause => "Pause instance",
            Self::Resume => "Resume instance",
            Self::Rename => "Rename instance",
            Self::Delete => "Delete instance",
        }
    }

    const fn action(self) -> Action {
        match self {
            Self::Start => Action::InstanceStart,
            Self::Stop => Action::InstanceStop,
            Self::Pause => Action::InstancePause,
            Self::Resume => Action::InstanceResume,
            Self::Rename => Action::InstanceRename,
            Self::Delete => Action::InstanceDelete,
        }
    }

    /// Does what was asked; answers where to go then.
    async fn send(
        self,
        app: &App,
        viewer: &Viewer,
        view: &InstanceView,
        fields: &Fields,
    ) -> Result<String, Refusal> {
        let (cx, actor, id) = (app.cx(), &viewer.actor, view.instance.id.into());
        let change: &Change = &Viewer::change(fields);
        let accepted = match self {
            Self::Start => instance::start(cx, actor, &id, change).await,
            Self::Stop => instance::stop(cx, actor, &id, read_mode(fields)?, change).await,
            Self::Pause => instance::pause(cx, actor, &id, change).await,
            Self::Resume => instance::resume(cx, actor, &id, change).await,
            Self::Rename => {
                let name = fields.name("name")?;
                let renamed = instance::rename(cx, actor, &id, name, change).await;
                let home = renamed.map(|view| paths::instance(view.instance.id));
                return home.map_err(|e| refusal(&e));
            }
            Self::Delete => {
                let (volumes, confirm) = (read_volumes(view, fields), fields.optional("confirm"));
                let deleted = instance::delete(cx, actor, &id, volumes, confirm, change).await;
                let home = deleted.map(|_| "/instances".to_owned());
                return home.map_err(|e| refusal(&e));
            }
        };
        accepted.map_err(|e| refusal(&e))?;
        Ok(paths::instance(view.instance.id))
    }

    fn sheet(
        self,
        viewer: &Viewer,
        view: &InstanceView,
        fields: &Fields,
        error: Option<&Refusal>,
    ) -> Markup {
        let answer = ui::answer(&view.permissions, self.action());
        let typed = self == Self::Delete && view.confirm.delete == Confirmation::TypeName;
        let submit = Submit {
            answer: Some(&answer),
            confirm: typed,
            ..self.submit()
        };
        let id = view.instance.id;
        let sheet = Sheet {
            viewer,
            title: self.title(),
            lead: html! { b { (view.instance.name) } ", " (super::machine(&view.instance.flavor)) },
            action: paths::instance_dialog(id, self.path()),
            back: paths::instance(id),
            submit,
            error,
            item: None,
            upload: false,
        };
        sheet.render(&html! {
            (self.fields(view, fields, error))
            (ui::warnings(&answer))
            @if typed { (ui::confirm_field(view.instance.name.as_str(), fields, error)) }
        })
    }

    fn submit(self) -> Submit<'static> {
        match self {
            Self::Start => Submit::new("Start"),
            Self::Stop => Submit::danger("Stop"),
            Self::Pause => Submit::new("Pause"),
            Self::Resume => Submit::new("Resume"),
            Self::Rename => Submit::new("Rename"),
            Self::Delete => Submit::danger("Delete instance"),
        }
    }

    fn fields(self, view: &InstanceView, fields: &Fields, error: Option<&Refusal>) -> Markup {
        match self {
            Self::Start => html! {
                p { "Its machine starts and boots from its root volume. Every volume that it has is opened." }
            },
            Self::Stop => stop_fields(fields, error),
            Self::Pause => html! {
                p { "Its machine stands still: nothing runs in it, and nobody reaches it. Its memory is kept, and its volumes stay open. Resume goes on where it was." }
                p.small.muted { "A paused machine is lost when its node is. To save resources, stop it instead." }
            },
            Self::Resume => html! { p { "Its machine goes on where it was paused." } },
            Self::Rename => html! {
                (ui::text_field("name", "Name", fields, error).focused()
                    .hint("The guest keeps its host name until it starts again."))
            },
            Self::Delete => delete_fields(view, fields),
        }
    }
}

fn stop_fields(fields: &Fields, error: Option<&Refusal>) -> Markup {
    let forced = fields.get("how") == "forced";
    html! {
        fieldset.choices {
            legend.visually-hidden { "How" }
            div.choice {
                label {
                    input type="radio" name="how" value="graceful" checked[!forced];
                    b { "Shut down" } span { "The guest is asked to end, and saves what it has." }
                }
                div.more {
                    (ui::text_field("bound_s", "Seconds that it may take", fields, error))
                    (ui::checkbox("then_force", "Cut the power when it takes longer", fields))
                }
            }
            div.choice {
                label {
                    input type="radio" name="how" value="forced" checked[forced];
                    b { "Cut the power" } span { "At once, as if the plug were pulled." }
                }
                div.more {
                    div.alert.warn {
                        (Icon::Alert)
                        div { p { "What the guest did not write to its volumes yet is lost." } }
                    }
                }
            }
        }
    }
}

/// How a form says that a machine is to be stopped.
fn read_mode(fields: &Fields) -> Result<StopMode, Refusal> {
    if fields.get("how") == "forced" {
        return Ok(StopMode::Forced);
    }
    let bound_s = fields.get("bound_s").parse().map_err(|_| {
        let text = "Enter a whole number of seconds, such as 60.";
        Refusal::new(ProblemCode::InvalidRequest, text).at("/bound_s")
    })?;
    let mode = StopMode::Graceful {
        bound_s,
        then_force: fields.is_checked("then_force"),
    };
    mode.check()?;
    Ok(mode)
}

fn delete_fields(view: &InstanceView, fields: &Fields) -> Markup {
    html! {
        div.alert.warn {
            (Icon::Alert)
            div {
                h3 { "What will be lost" }
                p {
                    "The instance " b { (view.instance.name) } ", and everything on the volumes that you "
                    "choose here. Other volumes are detached and stay. Snapshots and backups stay, too."
                }
                @if view.instance.power != Power::Off {
                    p {
                        "It is running: its power is cut, and what its guest did not write to its "
                        "volumes yet is lost. " a href=(paths::instance_dialog(view.instance.id, "stop")) { "Stop it first" }
                        " to keep that."
                    }
                }
            }
        }
        @if !view.volumes.is_empty() {
            fieldset.field {
                legend { "Delete with it" }
                div.choices {
                    @for volume in &view.volumes {
                        (ui::checkbox(&doomed(volume.id), &format!("{}, {}", volume.name, volume.size), fields))
                    }
                }
            }
        }
    }
}

/// The field of a volume that may go with its instance.
fn doomed(id: VolumeId) -> String {
    format!("delete-{id}")
}

/// The volumes that go with the instance.
fn read_volumes(view: &InstanceView, fields: &Fields) -> DeleteVolumes {
    let chosen = view
        .volumes
        .iter()
        .filter(|v| fields.is_checked(&doomed(v.id)));
    let chosen: Vec<Reference> = chosen.map(|v| v.id.into()).collect();
    if chosen.is_empty() {
        DeleteVolumes::Keep
    } else {
        DeleteVolumes::These(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(&str, &str)]) -> Result<StopMode, Refusal> {
        let fields = pairs
            .iter()
            .fold(Fields::default(), |fields, (k, v)| fields.with(k, *v));
        read_mode(&fields)
    }

    #[test]
    fn a_guest_is_asked_before_its_power_is_cut_unless_somebody_says_otherwise() {
        let graceful = |then_force| StopMode::Graceful {
            bound_s: 60,
            then_force,
        };
        let usual = [("how", "graceful"), ("bound_s", "60"), ("then_force", "on")];
        assert_eq!(asked(&usual), Ok(graceful(true)));
        assert_eq!(asked(&usual[..2]), Ok(graceful(false)));
        assert_eq!(asked(&[("how", "forced")]), Ok(StopMode::Forced));
    }

    #[test]
    fn nobody_waits_for_a_guest_for_no_time_or_for_hours() {
        for bound in ["", "soon", "0", "601", "-1", "1.5", "99999999999"] {
            let refusal = asked(&[("bound_s", bound)]).unwrap_err();
            assert_eq!(refusal.pointer.as_deref(), Some("/bound_s"), "{bound}");
        }
    }
}
