//! What is shown of a volume that is used already while it is filled from its backup.

use maud::{Markup, html};
use stillpoint_control::volume::VolumeView;
use stillpoint_model::id::BackupId;
use stillpoint_model::item::RestorePointId;
use stillpoint_model::operation::Progress;

use crate::portal::icon::Icon;
use crate::portal::{paths, ui};

const TITLE: &str = "Being filled from its backup";

/// How far it is, as the task that fills it said last.
fn progress(view: &VolumeView) -> Option<&Progress> {
    view.fill.as_ref()?.progress.as_ref()
}

fn bar(view: &VolumeView, class: &str) -> Markup {
    let id = format!("fill-{}-{class}", view.volume.id);
    match progress(view) {
        Some(progress) => ui::progress_bar(&id, TITLE, progress, class),
        None => html! { progress #(id) .(class) aria-label=(TITLE) { "waiting" } },
    }
}

/// In a row of the list.
pub(super) fn cell(view: &VolumeView) -> Markup {
    html! {
        @if view.volume.filling.is_some() {
            span.sub { (TITLE) }
            (bar(view, "thin"))
        }
    }
}

/// On the page of the volume.
pub(super) fn banner(view: &VolumeView, backup: BackupId) -> Markup {
    let failure = view.fill.as_ref().and_then(|fill| fill.failure.as_deref());
    html! {
        section.card.banner aria-label=(TITLE) {
            div.line {
                h2 { (Icon::Spinner) (TITLE) }
                a.button.plain.compact href=(paths::item(RestorePointId::Backup(backup))) { "See the backup" }
            }
            (bar(view, "wide"))
            p.figures {
                @match progress(view) {
                    Some(progress) => (ui::progress_figures(progress)),
                    None => span { "Waiting for its turn" },
                }
            }
            p.small.muted {
                "It is ready to use: what is not here yet is read from the backup. Snapshots, backups, "
                "clones and a new size are possible once it is whole."
            }
            @if let Some(failure) = failure {
                p.reason { "The last attempt failed, another follows by itself. " (failure) }
            }
        }
    }
}
