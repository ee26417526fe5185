//! One vault of a target: what it holds, what is done for it, and what is wrong.

use std::collections::BTreeSet;

use maud::{Markup, html};
use stillpoint_control::admin::{CopiesView, TargetCare, VaultView};
use stillpoint_model::Timestamp;
use stillpoint_model::care::{Collection, CollectionState, VaultCare, VerifyLevel};
use stillpoint_model::operation::{Phase, Progress};
use stillpoint_model::place::TargetRole;

use crate::portal::icon::Icon;
use crate::portal::{paths, text, ui};

/// Bad objects that are listed; the rest is counted.
const SHOWN: usize = 50;

/// The card of a vault.
pub(super) fn card(target: &TargetCare, view: &VaultView, now: Timestamp) -> Markup {
    let care = &view.care;
    let title = format!("Vault of {}", care.account_name);
    html! {
        section.card aria-label=(title) {
            header { h2 { (title) } (state(target, view)) }
            div.body.stack {
                @if let Some(progress) = &care.progress { (under_way(care, progress)) }
                (confirmation(target, care))
                (troubles(view))
                @if !care.damage.is_empty() { (damage(target, view)) }
                dl.facts { (facts(target, view, now)) }
            }
        }
    }
}

/// The vault in one word: the worst that is true of it.
fn state(target: &TargetCare, view: &VaultView) -> Markup {
    let care = &view.care;
    let last = care.collection.as_ref().map(|last| last.state);
    let is_source = target.target.target.role == TargetRole::Backups;
    let copies = view.copies.as_ref().filter(|_| is_source);
    let behind = copies.is_some_and(|copies| copies.active && copies.counts.behind > 0);
    if !care.damage.is_empty() {
        return html! { span.state.bad { (Icon::Alert) "Damaged" } };
    }
    match last {
        Some(CollectionState::NeedsConfirmation) if care.confirmed.get() == 0 => {
            html! { span.state.warn { (Icon::Alert) "Needs confirmation" } }
        }
        Some(CollectionState::Refused) => {
            html! { span.state.bad { (Icon::Alert) "Not collected" } }
        }
        _ if care.failure.is_some() => html! { span.state.warn { (Icon::Alert) "Care failed" } },
        _ if behind => html! { span.state.warn { (Icon::Clock) "Copies behind" } },
        _ if care.task_id.is_some() => {
            html! { span.state.busy { (Icon::Spinner) "Under care" } }
        }
        _ if care.verified_at.is_none() => {
            html! { span.state { (Icon::Clock) "Not verified yet" } }
        }
        _ => html! { span.state.ok { (Icon::Check) "Sound" } },
    }
}

const fn work(phase: Phase) -> &'static str {
    match phase {
        Phase::Copying => "Copying",
        Phase::Repairing => "Repairing",
        Phase::Emptying => "Emptying packs",
        Phase::CleanUp => "Collecting",
        Phase::Restoring => "Restoring, to compare",
        _ => "Verifying",
    }
}

/// How far the work is, and about how long it takes.
fn under_way(care: &VaultCare, progress: &Progress) -> Markup {
    let title = work(progress.phase);
    let id = format!("bar-{}-{}", care.vault_id, care.target_id);
    html! {
        div role="group" aria-label=(title) {
            @match (progress.percent(), progress.bytes_total) {
                (Some(percent), Some(total)) => {
                    progress #(id) max=(total.get()) value=(progress.bytes_done.get().min(total.get())) aria-label=(title) {
                        (percent) " %"
                    }
                }
                _ => progress #(id) aria-label=(title) { "working" },
            }
            p.figures {
                span { b { (title) } }
                @match (progress.bytes_total, progress.percent()) {
                    (Some(total), Some(percent)) => {
                        span { b { (progress.bytes_done) } " of " (total) }
                        span { b { (percent) " %" } }
                    }
                    _ if progress.bytes_done.get() > 0 => span { b { (progress.bytes_done) } },
                    _ => {}
                }
                @if let Some(rate) = progress.rate_bytes_per_s { span { b { (rate) "/s" } } }
                @if let Some(eta) = progress.eta() { span { "About " b { (text::span(eta)) } " left" } }
            }
        }
    }
}

/// More would go than may by itself: what that means, and the way to the dialog.
fn confirmation(target: &TargetCare, care: &VaultCare) -> Markup {
    let asked = care
        .collection
        .as_ref()
        .filter(|last| last.state == CollectionState::NeedsConfirmation)
        .and_then(|last| last.would_free);
    let Some(asked) = asked else {
        return html! {};
    };
    let href = paths::vault_confirm(target.target.target.id, care.vault_id);
    html! {
        @if care.confirmed.get() > 0 {
            div.alert.info {
                (Icon::Info)
                div { h3 { "Confirmed" } p { "The next collection may remove " (care.confirmed) "." } }
            }
        } @else {
            div.alert.warn {
                (Icon::Alert)
                div {
                    h3 { "A collection waits for your word" }
                    p {
                        "Deleted backups held " (asked) " that nothing else needs: more of this vault than goes "
                        "by itself. Nothing is removed until somebody confirms it. If nobody deleted so much on "
                        "purpose, find out who did first: what was deleted can still be brought back."
                    }
                    p.ways {
                        a href=(href) hx-get=(href) hx-target="#dialog" hx-select={ "#" (ui::DIALOG) } { "Look and confirm" }
                    }
                }
            }
        }
    }
}

/// What did not work, and what to do.
fn troubles(view: &VaultView) -> Markup {
    let care = &view.care;
    let refused = care
        .collection
        .as_ref()
        .filter(|last| last.state == CollectionState::Refused);
    html! {
        @if let Some(last) = refused {
            (trouble("bad", "This vault is not collected", last.reason.as_deref().unwrap_or_default(),
                "Nothing was removed. When the target lacks something that was there, put it back; a backup that is \
                 gone for good is deleted again, which settles it. The next collection looks again."))
        }
        @if let Some(failure) = &care.failure {
            (trouble("warn", "The last care could not be done", failure,
                "It is tried again within minutes. If it keeps failing, see whether the target answers and has room."))
        }
        @if let Some(copies) = &view.copies { (copy_troubles(copies)) }
    }
}

fn trouble(class: &str, title: &str, why: &str, what_to_do: &str) -> Markup {
    html! {
        div.alert.(class) {
            (Icon::Alert)
            div {
                h3 { (title) }
                @if !why.is_empty() { p { code { (why) } } }
                p { (what_to_do) }
            }
        }
    }
}

fn copy_troubles(copies: &CopiesView) -> Markup {
    let filling = &copies.filling;
    let left = filling.last.iter().flat_map(|last| &last.left);
    html! {
        @if let Some(failure) = &filling.failure {
            (trouble("warn", &format!("Copying to {} failed", copies.to), failure,
                "What was copied before stays. It is tried again within minutes."))
        }
        @for left in left.take(SHOWN) {
            (trouble("warn", &format!("Backup {} was not copied", left.backup_id), &left.why,
                "It is tried again each time. A damaged backup is repaired first, if something still has what it lost."))
        }
        @if copies.active && copies.counts.behind > 0 {
            (trouble("warn", &format!("{} behind", counted(copies.counts.behind, "backup")), "",
                "They are older than the time between two copies and exist in one place only."))
        }
    }
}

/// Every bad object with exactly the backups that need it, and what a person does about it.
fn damage(target: &TargetCare, view: &VaultView) -> Markup {
    let damage = &view.care.damage;
    let affected: BTreeSet<_> = damage.iter().flat_map(|bad| &bad.affected).collect();
    let affected = u32::try_from(affected.len()).unwrap_or(u32::MAX);
    let is_copy = target.target.target.role == TargetRole::Copies;
    let noun = if is_copy { "copy" } else { "backup" };
    let title = match affected {
        1 => format!("1 {noun} cannot be restored"),
        n if is_copy => format!("{n} copies cannot be restored"),
        n => format!("{n} backups cannot be restored"),
    };
    html! {
        div.alert.bad {
            (Icon::Alert)
            div {
                h3 { (title) }
                (what_to_do(view, is_copy))
            }
        }
        (damage_table(view))
        @if damage.len() > SHOWN {
            p.muted { "And " (damage.len() - SHOWN) " more: " code { "stillpoint admin target show -o json" } }
        }
    }
}

fn what_to_do(view: &VaultView, is_copy: bool) -> Markup {
    let copies = view.copies.as_ref();
    html! {
        @if is_copy {
            @if let Some(copies) = copies {
                p { "The backups themselves are in " (copies.from) ". The copies are made whole from there, again with each "
                    "daily look, as long as the backup is sound." }
            }
        } @else {
            p {
                "Every other backup is whole. Each daily look tries to make these whole again: from the volume and "
                "its snapshots"
                @if let Some(copies) = copies { ", and from the copies in " (copies.to) }
                "."
            }
            ul {
                li { "Back these volumes up again: the new backup stores anew what rotted." }
                li { "See whether the disks under the target are failing before more goes." }
                @if copies.is_none() {
                    li { "If you have a copy of the target, put the named objects back from it, or run "
                        code { "stillpoint vault repair --from" } "." }
                }
            }
        }
    }
}

fn damage_table(view: &VaultView) -> Markup {
    let damage = &view.care.damage;
    let headings = [("Object", ""), ("What is wrong", ""), ("Needed by", "")];
    let rows = html! {
        @for bad in damage.iter().take(SHOWN) {
            tr role="row" {
                (ui::cell("Object", "", &html! { code { (bad.object) } }))
                (ui::cell("What is wrong", "", &html! { (bad.what) }))
                (ui::cell("Needed by", "", &html! {
                    @for id in &bad.affected {
                        @if let Some(name) = view.affected.get(id) { (name) }
                        code.sub { (id) }
                    }
                }))
            }
        }
    };
    ui::table("Damaged objects", &headings, &rows)
}

fn facts(target: &TargetCare, view: &VaultView, now: Timestamp) -> Markup {
    let (care, holds) = (&view.care, &view.holds);
    let is_copy = target.target.target.role == TargetRole::Copies;
    let noun = if is_copy { "copy" } else { "backup" };
    html! {
        (ui::fact("Holds", &html! {
            (counted(holds.backups, noun))
            @if holds.degraded > 0 { span.sub.bad { (holds.degraded) " damaged" } }
            span.sub { (holds.stored) " stored" }
        }))
        (ui::fact("Verified", &verified(care, now)))
        (ui::fact("Small objects", &mended(care, now)))
        (ui::fact("Collected", &collected(care, now)))
        (ui::fact("Given back", &html! { (care.freed) }))
        @if let Some(copies) = &view.copies { (copy_facts(copies, is_copy, now)) }
        @else if !is_copy {
            (ui::fact("Copies", &html! { "None: every backup exists once" }))
        }
        (ui::wide_fact("Vault id", &html! { code { (care.vault_id) } }))
    }
}

pub(super) fn counted(n: u32, noun: &str) -> String {
    match (n, noun) {
        (1, noun) => format!("1 {noun}"),
        (n, "copy") => format!("{n} copies"),
        (n, noun) => format!("{n} {noun}s"),
    }
}

fn verified(care: &VaultCare, now: Timestamp) -> Markup {
    let Some((last, at)) = care.verification.as_ref().zip(care.verified_at) else {
        return html! { "Not yet" };
    };
    let depth = match last.level {
        VerifyLevel::Present => "by what is there",
        VerifyLevel::Ciphertext => "byte for byte, as it was put",
        VerifyLevel::Decrypt => "down to every chunk",
        VerifyLevel::Restore => "by restoring it",
    };
    let looked_at = u32::try_from(last.backups.len()).unwrap_or(u32::MAX);
    html! {
        (ui::time(at, now))
        span.sub { (counted(looked_at, "backup")) " looked at, " (depth) }
        @if !last.bad.is_empty() { span.sub.bad { (last.bad.len()) " damaged objects" } }
        @if last.uncovered > 0 { span.sub { (last.uncovered) " objects not covered" } }
        @if !last.repaired.is_empty() { span.sub { (last.repaired.len()) " repaired at once" } }
    }
}

/// The last look at keys and at what says again what others say, and what came of it.
fn mended(care: &VaultCare, now: Timestamp) -> Markup {
    let Some((last, at)) = care.mending.as_ref().zip(care.mended_at) else {
        return html! { "Not looked at yet" span.sub { "Next: " (ui::time_inline(care.mend_due_at)) } };
    };
    html! {
        (ui::time(at, now))
        span.sub { (counted(last.objects, "small object")) " looked at" }
        @if !last.mended.is_empty() {
            span.sub.bad { (last.mended.len()) " damaged and made anew: see to the disks under the target" }
        }
        @if !last.left.is_empty() {
            span.sub.bad { (last.left.len()) " damaged; no backup needs them: "
                @for bad in last.left.iter().take(SHOWN) { code { (bad.object) } " " } }
        }
    }
}

fn collected(care: &VaultCare, now: Timestamp) -> Markup {
    let Some((last, at)) = care.collection.as_ref().zip(care.collected_at) else {
        return html! { "Not yet" span.sub { "Next: " (ui::time_inline(care.collect_due_at)) } };
    };
    html! {
        (ui::time(at, now))
        span.sub { (came_to(last)) }
        @if last.locked > 0 { span.sub { (last.locked) " dead objects stay until their locks are over" } }
        span.sub { "Next: " (ui::time_inline(care.collect_due_at)) }
    }
}

fn came_to(last: &Collection) -> Markup {
    html! {
        @match last.state {
            CollectionState::NothingToDo => "Nothing was dead",
            CollectionState::WaitsForRuns => { "Waits for " (last.open_runs.len()) " runs to end" }
            CollectionState::WaitsForGrace => {
                "Goes on "
                @match last.until { Some(until) => (ui::time_inline(until)), None => "after the grace" }
            }
            CollectionState::Done => { (last.freed) " given back" }
            CollectionState::NeedsConfirmation => "Needs confirmation",
            CollectionState::Refused => "Stopped; nothing was removed",
        }
    }
}

fn copy_facts(copies: &CopiesView, is_copy: bool, now: Timestamp) -> Markup {
    let (counts, filling) = (&copies.counts, &copies.filling);
    let title = if is_copy {
        format!("Copied from {}", copies.from)
    } else {
        format!("Copied to {}", copies.to)
    };
    html! {
        (ui::fact(&title, &html! {
            (counts.copied) " of " (counted(counts.copied + counts.waiting, "backup"))
            @if counts.behind > 0 && copies.active { span.sub.bad { (counts.behind) " behind" } }
            @if !copies.active { span.sub { "Copied no longer" } }
            @if !is_copy && let Some(progress) = copies.copying() {
                span.sub { "Copying"
                    @if let Some(percent) = progress.percent() { ", " (percent) " %" }
                    @if let Some(eta) = progress.eta() { ", about " (text::span(eta)) " left" }
                }
            }
        }))
        (ui::fact("Last copied", &html! {
            @match filling.passed_at { Some(at) => (ui::time(at, now)), None => "Not yet" }
            @if copies.active { span.sub { "Next: " (ui::time_inline(filling.due_at)) } }
        }))
        @if counts.of_deleted > 0 {
            (ui::fact("Copies of deleted backups", &html! {
                (counts.of_deleted)
                @if let (Some(at), true) = (copies.next_deletion, copies.active) {
                    span.sub { "The first go " (ui::time_inline(at)) }
                }
            }))
        }
    }
}
