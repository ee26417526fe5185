//! What every page is made of: states, refusals, buttons, progress, tables.
//!
//! Nothing here decides. What is possible comes as the answer of the guard rails, and a no is
//! shown: the button disabled, its reason beside it, and the ways out as links.

mod form;
mod refusal;
mod size;
mod state;
#[cfg(test)]
mod tests;

use maud::{Markup, Render, html};
use stillpoint_control::Permission;
use stillpoint_model::guard::{self, Allowed};
use stillpoint_model::operation::{Operation, OperationState, Progress};
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_model::{ByteCount, Timestamp};
use uuid::Uuid;

pub(super) use form::{
    Fields, Sheet, Submit, checkbox, confirm_field, description_and_labels, field_error, hidden,
    labels_text, radios, select, text_field,
};
pub(super) use refusal::{Subject, alert, failure_note, reason};
pub(super) use size::{read_size, size_field};
pub(super) use state::{instance_state, item_state, operation_state, volume_state};

use super::icon::Icon;
use super::{paths, text};

/// The answer of the guard rails.
pub(super) type Answer = Result<Allowed, Refusal>;

/// What the guard rails say of an action that goes with a view.
pub(super) fn answer(permissions: &[Permission], action: guard::Action) -> Answer {
    let found = permissions.iter().find(|p| p.action == action);
    found.map_or_else(
        || {
            Err(Refusal::new(
                ProblemCode::NotEligible,
                "This is not possible here.",
            ))
        },
        |permission| permission.answer.clone(),
    )
}

/// Where a page looks for the dialog it opens over itself; see `portal.js`.
pub(super) const DIALOG: &str = "dialog-content";

/// A button that opens a dialog, or says why it cannot.
pub(super) struct Action<'a> {
    pub(super) id: &'a str,
    pub(super) label: &'a str,
    pub(super) icon: Icon,
    pub(super) href: String,
    pub(super) class: &'static str,
    pub(super) answer: &'a Answer,
    pub(super) now: Timestamp,
}

impl Render for Action<'_> {
    fn render(&self) -> Markup {
        match self.answer {
            Ok(_) => self.enabled(),
            Err(refusal) => self.disabled(refusal),
        }
    }
}

impl Action<'_> {
    fn enabled(&self) -> Markup {
        html! {
            a #(self.id) .button .(self.class) role="button" href=(self.href)
                hx-get=(self.href) hx-target="#dialog" hx-select={ "#" (DIALOG) }
            { (self.icon) (self.label) }
        }
    }

    fn disabled(&self, refusal: &Refusal) -> Markup {
        let reason_id = format!("{}-reason", self.id);
        html! {
            div.action {
                button #(self.id) .button .(self.class) type="button" disabled aria-describedby=(reason_id) {
                    (self.icon) (self.label)
                }
                p #(reason_id) .reason { (reason(refusal, self.now, None)) }
            }
        }
    }
}

/// An entry of a row's menu: a dialog, or why not.
pub(super) struct Entry<'a> {
    pub(super) id: String,
    pub(super) label: &'a str,
    pub(super) icon: Icon,
    pub(super) href: String,
    pub(super) danger: bool,
    pub(super) answer: Result<(), &'a Refusal>,
    /// The entry below that is refused for the same reason and shows it.
    pub(super) reason_of: Option<String>,
    pub(super) item: Option<Subject>,
    pub(super) now: Timestamp,
}

impl Render for Entry<'_> {
    fn render(&self) -> Markup {
        match self.answer {
            Ok(()) => html! {
                a .danger[self.danger] href=(self.href)
                    hx-get=(self.href) hx-target="#dialog" hx-select={ "#" (DIALOG) }
                { (self.icon) (self.label) }
            },
            Err(refusal) => {
                let shower = self.reason_of.as_ref().unwrap_or(&self.id);
                let reason_id = format!("{shower}-reason");
                html! {
                    button type="button" disabled aria-describedby=(reason_id) { (self.icon) (self.label) }
                    @if self.reason_of.is_none() {
                        p #(reason_id) .reason { (reason(refusal, self.now, self.item)) }
                    }
                }
            }
        }
    }
}

/// What an entry of a menu opens, and the action whose answer it shows.
pub(super) type Choice = (&'static str, Icon, String, guard::Action);

/// The entries of the menu of one thing; the last takes the thing away. A reason that holds for
/// entries in a row is shown once, below the last of them.
pub(super) fn entries(
    thing: Uuid,
    choices: Vec<Choice>,
    permissions: &[Permission],
    now: Timestamp,
) -> Markup {
    entries_about(thing, None, &html! {}, choices, permissions, now)
}

/// [`entries`] of something that ways out lead to dialogs of, with `free` before the last: what nothing
/// ever stands in the way of.
pub(super) fn entries_about(
    thing: Uuid,
    item: Option<Subject>,
    free: &Markup,
    choices: Vec<Choice>,
    permissions: &[Permission],
    now: Timestamp,
) -> Markup {
    let answers: Vec<Answer> = choices
        .iter()
        .map(|(.., action)| answer(permissions, *action))
        .collect();
    let last = choices.len().saturating_sub(1);
    let ids: Vec<String> = choices
        .iter()
        .map(|(.., action)| format!("{action}-{thing}"))
        .collect();
    let shower = |i: usize| {
        let same = |j: &usize| answers[*j].is_err() && answers[*j] == answers[i];
        let shows = (i..answers.len()).take_while(same).last()?;
        (shows > i).then(|| ids[shows].clone())
    };
    html! {
        @for (i, (label, icon, href, _)) in choices.into_iter().enumerate() {
            @if i == last { (free) hr; }
            (Entry {
                id: ids[i].clone(),
                label,
                icon,
                href,
                danger: i == last,
                answer: answers[i].as_ref().map(|_| ()),
                reason_of: shower(i),
                item,
                now,
            })
        }
    }
}

/// An entry of a menu that is always possible.
pub(super) fn free_entry(label: &str, icon: Icon, href: &str) -> Markup {
    html! {
        a href=(href) hx-get=(href) hx-target="#dialog" hx-select={ "#" (DIALOG) } { (icon) (label) }
    }
}

/// A button that opens a menu. A popover is never clipped by a table and needs no script.
pub(super) fn menu(
    id: &str,
    label: &str,
    button: &Markup,
    class: &str,
    entries: &Markup,
) -> Markup {
    html! {
        button .button .(class) type="button" id={ (id) "-button" } popovertarget=(id)
            aria-haspopup="true" aria-label=(label)
        { (button) }
        div #(id) .menu popover aria-label=(label) { (entries) }
    }
}

/// The menu of a table's row.
pub(super) fn row_menu(id: &str, name: &str, entries: &Markup) -> Markup {
    let label = format!("Actions for {name}");
    menu(id, &label, &Icon::More.render(), "plain icon-only", entries)
}

/// A moment below a heading that says `(UTC)`: to the minute, exact for machines, and how long
/// ago.
pub(super) fn time_cell(at: Timestamp, now: Timestamp) -> Markup {
    html! {
        time datetime=(at) title=(at) { (text::minute(at)) }
        span.sub { (text::ago(now, at)) }
    }
}

/// A moment: to the minute in UTC, exact for machines, and how long ago.
pub(super) fn time(at: Timestamp, now: Timestamp) -> Markup {
    html! {
        time datetime=(at) title=(at) { (text::utc(at)) }
        span.sub.faint { (text::ago(now, at)) }
    }
}

/// A moment on one line.
pub(super) fn time_inline(at: Timestamp) -> Markup {
    html! { time datetime=(at) title=(at) { (text::utc(at)) } }
}

/// How much of a cap is used, without words. Drawn, because browsers draw their own meters too
/// differently.
pub(super) fn meter(used: u32, cap: u32, noun: &str) -> Markup {
    let label = format!("{used} of {cap} {noun} used");
    let percent = u64::from(used.min(cap)) * 100 / u64::from(cap.max(1));
    html! {
        svg.meter.full[used >= cap] viewBox="0 0 100 6" preserveAspectRatio="none" role="meter"
            aria-valuemin="0" aria-valuemax=(cap) aria-valuenow=(used) aria-label=(label)
        { rect width=(percent) height="6" {} }
    }
}

/// How many of a cap are used: `3 of 5 snapshots`.
pub(super) fn cap_meter(used: u32, cap: u32, noun: &str) -> Markup {
    html! {
        div.cap {
            (meter(used, cap, noun))
            span { b { (used) } " of " (cap) " " (noun) }
        }
    }
}

/// Advice of the plan that goes with a yes.
pub(super) fn warnings(answer: &Answer) -> Markup {
    html! {
        @for warning in answer.iter().flat_map(|allowed| &allowed.warnings) {
            div.alert.warn { (Icon::Alert) div { p { (warning) } } }
        }
    }
}

/// A bar: with the share that is done, or moving when the total is unknown.
pub(super) fn bar(operation: &Operation, class: &str) -> Markup {
    let label = format!("{} progress", text::operation(operation.kind));
    let id = format!("bar-{}-{}", operation.id, class);
    progress_bar(&id, &label, &operation.progress, class)
}

/// The same of work without an operation.
pub(super) fn progress_bar(id: &str, label: &str, progress: &Progress, class: &str) -> Markup {
    match (progress.percent(), progress.bytes_total) {
        (Some(percent), Some(total)) => html! {
            progress #(id) .(class) max=(total.get()) value=(progress.bytes_done.get().min(total.get())) aria-label=(label) {
                (percent) " %"
            }
        },
        _ => html! { progress #(id) .(class) aria-label=(label) { "working" } },
    }
}

/// Phase, bytes, rate, elapsed time and time left of an operation; what is unknown is left out.
pub(super) fn figures(operation: &Operation, now: Timestamp) -> Markup {
    let progress = &operation.progress;
    let started = operation.started_at.unwrap_or(operation.created_at);
    html! {
        p.figures {
            (progress_figures(progress))
            span { "Elapsed " b data-since=(millis(started)) { (text::clock(now.duration_since(started))) } }
        }
    }
}

/// Phase, bytes, rate and time left; what is unknown is left out.
pub(super) fn progress_figures(progress: &Progress) -> Markup {
    html! {
        span { "Phase: " b { (text::phase(progress.phase)) } }
        @match (progress.bytes_total, progress.percent()) {
            (Some(total), Some(percent)) => {
                span { b { (progress.bytes_done) } " of " (total) }
                span { b { (percent) " %" } }
            }
            _ if progress.bytes_done > ByteCount::ZERO => span { b { (progress.bytes_done) } },
            _ => {}
        }
        @if let Some(rate) = progress.rate_bytes_per_s { span { b { (rate) "/s" } } }
        @if let Some(eta) = progress.eta() { span { "About " b { (text::span(eta)) } " left" } }
    }
}

/// The banner of what works on a thing now.
pub(super) fn banner(operation: &Operation, now: Timestamp) -> Markup {
    banner_titled(
        operation,
        now,
        &format!("{} in progress", text::operation(operation.kind)),
    )
}

/// The same where the thing is not named around it.
pub(super) fn banner_with_name(operation: &Operation, now: Timestamp) -> Markup {
    let title = format!("{} in progress", text::operation_of(operation));
    banner_titled(operation, now, &title)
}

fn banner_titled(operation: &Operation, now: Timestamp, title: &str) -> Markup {
    html! {
        section.card.banner aria-label=(title) {
            div.line {
                h2 { (Icon::Spinner) (title) }
                a.button.plain.compact href=(paths::operation(operation.id)) { "Details" }
                (cancel_button(operation))
            }
            (bar(operation, "wide"))
            (figures(operation, now))
        }
    }
}

/// Cancel, or why there is nothing to cancel any more.
pub(super) fn cancel_button(operation: &Operation) -> Markup {
    let href = paths::operation_dialog(operation.id, "cancel");
    let id = format!("cancel-{}", operation.id);
    html! {
        @if operation.is_cancellable() {
            a #(id) .button.compact role="button" href=(href)
                hx-get=(href) hx-target="#dialog" hx-select={ "#" (DIALOG) } { "Cancel" }
        } @else {
            button #(id) .button.compact type="button" disabled {
                @if operation.state == OperationState::Cancelling { "Cancelling" } @else { "Cancel" }
            }
        }
    }
}

/// Microseconds to milliseconds, which is what scripts count in.
pub(super) fn millis(at: Timestamp) -> i64 {
    at.as_micros() / 1000
}

/// What stands where a table would be empty: what belongs here and how to get it.
pub(super) fn empty(icon: Icon, title: &str, teach: &str, actions: &Markup) -> Markup {
    html! {
        div.empty {
            (icon)
            h2 { (title) }
            p { (teach) }
            div.actions { (actions) }
        }
    }
}

/// A table that becomes cards on a narrow screen. Its roles are written out, because a cell
/// that is laid out as a block would lose its own.
pub(super) fn table(label: &str, headings: &[(&str, &str)], rows: &Markup) -> Markup {
    html! {
        div.table-wrap {
            table role="table" aria-label=(label) {
                thead role="rowgroup" {
                    tr role="row" {
                        @for (heading, class) in headings {
                            th role="columnheader" scope="col" class=[(!class.is_empty()).then_some(class)] {
                                @if heading.is_empty() { span.visually-hidden { "Actions" } } @else { (heading) }
                            }
                        }
                    }
                }
                tbody role="rowgroup" { (rows) }
            }
        }
    }
}

/// A cell with the heading that a narrow screen shows beside it.
pub(super) fn cell(heading: &str, class: &str, content: &Markup) -> Markup {
    html! {
        td role="cell" data-label=(heading) class=[(!class.is_empty()).then_some(class)] { div { (content) } }
    }
}

/// The cell of a row's menu.
pub(super) fn menu_cell(content: &Markup) -> Markup {
    html! { td.menu-cell role="cell" { (content) } }
}

/// Links to the first and the next page of a list; nothing when one page holds all.
pub(super) fn pager(first: Option<&str>, next: Option<&str>) -> Markup {
    html! {
        @if first.is_some() || next.is_some() {
            nav.pager aria-label="Pages" {
                @if let Some(href) = first { a.button.compact href=(href) { "First page" } } @else { span {} }
                @if let Some(href) = next { a.button.compact href=(href) rel="next" { "Next page" } }
            }
        }
    }
}

/// One fact of a description list.
pub(super) fn fact(term: &str, value: &Markup) -> Markup {
    html! { div { dt { (term) } dd { (value) } } }
}

/// One fact that takes a whole line.
pub(super) fn wide_fact(term: &str, value: &Markup) -> Markup {
    html! { div.wide { dt { (term) } dd { (value) } } }
}
