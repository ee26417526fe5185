//! Refusals as people meet them: the sentence, what can be done, and whom to tell.

use maud::{Markup, html};
use stillpoint_model::Timestamp;
use stillpoint_model::id::{ImageId, InstanceSnapshotId};
use stillpoint_model::item::RestorePointId;
use stillpoint_model::refusal::{ProblemCode, Refusal, WayOut};

use super::millis;
use crate::portal::icon::Icon;
use crate::portal::paths;
use crate::portal::session::Viewer;

/// What a refusal is about, as far as a way out leads to a dialog about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::portal) enum Subject {
    /// A snapshot or a backup.
    Item(RestorePointId),
    /// An instance snapshot.
    InstanceSnapshot(InstanceSnapshotId),
    /// An image.
    Image(ImageId),
}

impl Subject {
    /// A dialog about it.
    fn dialog(self, dialog: &str) -> String {
        match self {
            Self::Item(id) => paths::item_dialog(id, dialog),
            Self::InstanceSnapshot(id) => paths::instance_snapshot_dialog(id, dialog),
            Self::Image(id) => paths::image_dialog(id, dialog),
        }
    }
}

impl From<RestorePointId> for Subject {
    fn from(id: RestorePointId) -> Self {
        Self::Item(id)
    }
}

/// The sentence of a refusal, its seconds ticking, and its ways out as links.
pub(in crate::portal) fn reason(
    refusal: &Refusal,
    now: Timestamp,
    item: Option<Subject>,
) -> Markup {
    html! {
        (sentence(refusal, now))
        @for way in ways_out(refusal) { " " (way_out(way, item)) }
    }
}

/// What can be done about it, but for the wait: that is a countdown in the sentence.
fn ways_out(refusal: &Refusal) -> impl Iterator<Item = &WayOut> {
    refusal
        .ways_out
        .iter()
        .filter(|way| !matches!(way, WayOut::Wait(_)))
}

/// The sentence, with the number of seconds that it names as a countdown. At its end the page
/// asks again; a page without scripts reloads by itself.
fn sentence(refusal: &Refusal, now: Timestamp) -> Markup {
    let split = refusal.retry_after.and_then(|left| {
        let seconds = left.as_secs().to_string();
        let (before, after) = refusal.text.split_once(&seconds)?;
        Some((before, left, seconds, after))
    });
    match split {
        Some((before, left, seconds, after)) => html! {
            (before)
            span.countdown role="timer" data-until=(millis(now.saturating_add(left))) data-left=(seconds) data-unit="s" { (seconds) }
            (after)
        },
        None => html! { (refusal.text) },
    }
}

/// A way out: a link where the portal has a page for it, otherwise the words.
fn way_out(way: &WayOut, item: Option<Subject>) -> Markup {
    let href = match way {
        WayOut::WatchOperation(id) => Some(paths::operation(*id)),
        WayOut::CancelOperation(id) => Some(paths::operation_dialog(*id, "cancel")),
        WayOut::ListOperations => Some("/operations?state=in-flight".to_owned()),
        WayOut::DeleteSnapshot(id) => Some(paths::volume_tab(*id, "snapshots")),
        WayOut::DeleteBackup(id) => Some(paths::volume_tab(*id, "backups")),
        WayOut::DeleteImage => Some("/images".to_owned()),
        WayOut::ShowVolume(id) => Some(paths::volume(*id)),
        WayOut::ShowInstanceSnapshot(id) => Some(paths::instance_snapshot(*id)),
        WayOut::RestoreToNewVolume => item
            .filter(|subject| matches!(subject, Subject::Item(_)))
            .map(|subject| subject.dialog("restore")),
        WayOut::RestoreToNewInstance => item
            .filter(|subject| matches!(subject, Subject::InstanceSnapshot(_)))
            .map(|subject| subject.dialog("restore")),
        WayOut::Unprotect => item.map(|subject| subject.dialog("protect")),
        WayOut::StopInstance(id) => id.map(|id| paths::instance_dialog(id, "stop")),
        WayOut::DetachVolume(id) => id.map(|id| paths::volume_tab(id, "detach")),
        WayOut::Wait(_) | WayOut::ChooseAnotherName | WayOut::AskOperator => None,
    };
    html! {
        @if let Some(href) = href { a.way href=(href) { (way.label()) } }
        @else { span.way { (way.label()) "." } }
    }
}

/// A refusal that answers what was just asked. It stays until it is dismissed, and names the
/// request for support. `without` is the page without it.
pub(in crate::portal) fn alert(
    refusal: &Refusal,
    viewer: &Viewer,
    item: Option<Subject>,
    without: &str,
) -> Markup {
    html! {
        div.alert.bad role="alert" tabindex="-1" {
            (Icon::Alert)
            div {
                h2 { (refusal.code.title()) }
                p { (sentence(refusal, viewer.now)) }
                @if ways_out(refusal).next().is_some() {
                    p.ways { @for way in ways_out(refusal) { (way_out(way, item)) " " } }
                }
                p.request { "Code " code { (refusal.code) } " · Request " code { (viewer.actor.request_id) } }
            }
            a.button.plain.icon-only.compact href=(without) data-dismiss aria-label="Dismiss this message" { (Icon::Close) }
        }
    }
}

/// Why something failed earlier, as it was recorded.
pub(in crate::portal) fn failure_note(
    title: &str,
    code: Option<ProblemCode>,
    text: &str,
) -> Markup {
    html! {
        div.alert.bad {
            (Icon::Alert)
            div {
                h2 { (title) }
                p { (text) }
                @if let Some(code) = code { p.request { "Code " code { (code) } } }
            }
        }
    }
}
