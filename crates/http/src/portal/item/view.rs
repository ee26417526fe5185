//! How a snapshot or a backup looks: as a row, as a menu, as a page.

use std::time::Duration;

use maud::{Markup, html};
use stillpoint_model::ByteCount;
use stillpoint_model::guard::Action;
use stillpoint_model::item::{Consistency, ItemKind, ItemState, Trigger};
use stillpoint_model::refusal::Refusal;

use super::Item;
use crate::portal::icon::Icon;
use crate::portal::session::Viewer;
use crate::portal::{layout, paths, text, ui};

impl Item {
    fn entry<'a>(
        &self,
        label: &'a str,
        icon: Icon,
        dialog: &str,
        refusal: Option<&'a Refusal>,
    ) -> ui::Entry<'a> {
        ui::Entry {
            id: format!(
                "{}-{}",
                dialog.trim_start_matches('/').replace('/', "-"),
                self.uuid()
            ),
            label,
            icon,
            href: paths::item_dialog(self.id, dialog),
            danger: dialog == "delete",
            answer: refusal.map_or(Ok(()), Err),
            reason_of: None,
            item: Some(self.id.into()),
            now: self.now,
        }
    }

    /// An entry that leads to a dialog about something else, with this chosen.
    fn elsewhere<'a>(
        &self,
        label: &'a str,
        icon: Icon,
        path: &str,
        refusal: Option<&'a Refusal>,
    ) -> ui::Entry<'a> {
        ui::Entry {
            href: paths::with_query(path, &[("source", Some(&self.choice()))]),
            ..self.entry(label, icon, path, refusal)
        }
    }

    /// What can be done with it, and what not and why.
    pub(in crate::portal) fn menu_entries(&self) -> Markup {
        let restore = self.restore_refusal();
        let delete = self.delete_answer().err();
        let instance = ui::answer(&self.permissions, Action::InstanceCreate).err();
        let image = ui::answer(&self.permissions, Action::ImageCreate).err();
        let verify = ui::answer(&self.permissions, Action::BackupVerify).err();
        let protect = if self.protected {
            "Remove protection"
        } else {
            "Protect"
        };
        html! {
            (self.entry("Restore", Icon::Restore, "restore", restore.as_ref()))
            (self.elsewhere("Create Instance", Icon::Machine, "/instances/new", instance.as_ref()))
            (self.elsewhere("Create Image", Icon::Template, "/images/new", image.as_ref()))
            @if self.id.kind() == ItemKind::Backup {
                (self.entry("Verify", Icon::Shield, "verify", verify.as_ref()))
            }
            (self.entry("Rename", Icon::Pencil, "rename", None))
            (self.entry(protect, Icon::Lock, "protect", None))
            hr;
            (self.entry("Delete", Icon::Trash, "delete", delete.as_ref()))
        }
    }

    fn menu(&self) -> Markup {
        ui::row_menu(
            &format!("menu-{}", self.uuid()),
            self.name.as_str(),
            &self.menu_entries(),
        )
    }

    fn name_cell(&self) -> Markup {
        html! {
            a.name href=(paths::item(self.id)) { (self.name) }
            @if self.protected { " " span.tag { (Icon::Lock) " Protected" } }
            @if let Some(until) = self.keep_until { span.sub { (Icon::Lock) " Locked until " (text::utc(until)) } }
            @if self.trigger == Trigger::Safety { " " span.tag { "Safety snapshot" } }
            @if let Some(whole) = self.part_of {
                a.sub href=(paths::instance_snapshot(whole)) { "Part of an instance snapshot" }
            }
            @if !self.description.is_empty() { span.sub { (text::shortened(&self.description)) } }
            @if let Some(at) = self.expires_at { span.sub { "Goes by itself at " (text::utc(at)) } }
            @if let Some(failure) = &self.failure { span.sub.bad { (failure) } }
        }
    }

    fn state_cell(&self) -> Markup {
        html! {
            (ui::item_state(self.state))
            @if let Some(operation) = &self.active {
                span.sub { (text::phase(operation.progress.phase)) }
                (ui::bar(operation, "thin"))
            }
        }
    }

    /// Its sizes in words: what a guest sees, and what it costs.
    fn size_cell(&self) -> Markup {
        html! { (self.sizes.provisioned) span.sub { (self.sizes.used) " used" } }
    }

    fn stored_cell(&self) -> Markup {
        html! { (self.sizes.stored) span.sub { (self.sizes.changed) " changed" } }
    }

    fn source_cell(&self) -> Markup {
        html! {
            @if self.source_exists { a href=(paths::volume(self.volume_id)) { (self.volume_name) } }
            @else { (self.volume_name) span.sub { "deleted" } }
        }
    }

    fn row(&self, with_source: bool) -> Markup {
        let known = |shown: Markup| {
            if self.is_captured() {
                shown
            } else {
                html! { "–" }
            }
        };
        let consistency = self.consistency.map(|c| text::capitalized(c.as_str()));
        html! {
            tr role="row" {
                (ui::cell("Name", "", &self.name_cell()))
                @if with_source { (ui::cell("Volume", "", &self.source_cell())) }
                (ui::cell("State", "", &self.state_cell()))
                (ui::cell("Consistency", "", &html! { (consistency.as_deref().unwrap_or("–")) }))
                (ui::cell("Size", "num", &known(self.size_cell())))
                (ui::cell("Stored", "num", &known(self.stored_cell())))
                (ui::cell("Duration", "num", &html! { (text::took(self.duration_ms).as_deref().unwrap_or("–")) }))
                (ui::cell("Created (UTC)", "", &ui::time_cell(self.created_at, self.now)))
                (ui::menu_cell(&self.menu()))
            }
        }
    }

    /// Whether its sizes are known; before that they are not shown as zero.
    fn is_captured(&self) -> bool {
        let begun = matches!(self.state, ItemState::Pending | ItemState::Creating);
        !begun && self.sizes.provisioned > ByteCount::ZERO
    }

    /// The page of one item.
    pub(in crate::portal) fn page(&self, viewer: &Viewer) -> Markup {
        let (list, list_name) = match self.id.kind() {
            ItemKind::Snapshot => ("/snapshots", "Snapshots"),
            ItemKind::Backup => ("/backups", "Backups"),
        };
        let title = html! { (self.name) (ui::item_state(self.state)) };
        let actions = ui::menu(
            "item-menu",
            &format!("Actions for {}", self.name),
            &html! { "Actions" (Icon::More) },
            "",
            &self.menu_entries(),
        );
        html! {
            (layout::crumbs(&[(list, list_name)]))
            (layout::page_head(&title, &self.description, &actions))
            div.stack {
                @if let Some(operation) = &self.active { (ui::banner(operation, viewer.now)) }
                @if let Some(failure) = &self.failure {
                    (ui::failure_note(&format!("This {} failed", self.noun()), None, failure))
                }
                section.card {
                    header { h2 { "About" } }
                    div.body { dl.facts { (self.facts()) } }
                }
                section.card {
                    header { h2 { "Sizes" } }
                    div.body { dl.facts { (self.size_facts()) } }
                }
            }
        }
    }

    fn facts(&self) -> Markup {
        html! {
            (ui::fact("Volume", &self.source_cell()))
            @if let Some(target) = &self.target_name { (ui::fact("Backup target", &html! { (target) })) }
            @if let Some(whole) = self.part_of {
                (ui::fact("Part of", &html! { a href=(paths::instance_snapshot(whole)) { "An instance snapshot" } }))
            }
            (ui::fact("Consistency", &html! { (consistency_words(self.consistency)) }))
            (ui::fact("Asked for by", &html! { (trigger_words(self.trigger)) }))
            (ui::fact("Created", &ui::time(self.created_at, self.now)))
            (ui::fact("Duration", &html! { (text::took(self.duration_ms).as_deref().unwrap_or("not known yet")) }))
            (ui::fact("Protected", &html! { (if self.protected { "Yes" } else { "No" }) }))
            @if let Some(until) = self.keep_until {
                (ui::fact("Locked until", &html! {
                    (text::utc(until))
                    span.sub { "Its plan promised that it stays. Nobody can delete it before." }
                }))
            }
            @if self.id.kind() == ItemKind::Backup {
                (ui::fact("Last verified", &match self.verified_at {
                    Some(at) => ui::time(at, self.now),
                    None => html! { "Not yet" },
                }))
            }
            @if !self.labels.is_empty() {
                (ui::wide_fact("Labels", &html! {
                    @for (key, value) in &self.labels { span.tag { (key) "=" (value) } " " }
                }))
            }
            (ui::wide_fact("Id", &html! { code { (self.uuid()) } }))
            @if let Some(hash) = &self.content_hash {
                (ui::wide_fact("Hash over the whole volume", &html! { code { (hash) } }))
            }
        }
    }

    fn size_facts(&self) -> Markup {
        let sizes = &self.sizes;
        html! {
            @for (term, size, hint) in [
                ("Provisioned", sizes.provisioned, "what a guest sees"),
                ("Used", sizes.used, "ever written and not discarded"),
                ("Changed", sizes.changed, "since the one before"),
                ("Stored", sizes.stored, "what it occupies"),
                ("Freed if deleted", sizes.freed_if_deleted, "what deleting it gives back"),
            ] {
                (ui::fact(term, &html! { (size) span.sub.faint.small { " " (hint) } }))
            }
        }
    }
}

pub(in crate::portal) fn consistency_words(consistency: Option<Consistency>) -> &'static str {
    match consistency {
        None => "Not known yet",
        Some(Consistency::Crash) => "Crash: as after a power cut",
        Some(Consistency::Filesystem) => "File system: the guest's file systems were frozen",
        Some(Consistency::Stopped) => "Stopped: nothing had the volume open",
    }
}

/// What a capture can promise now: what it does is known afterwards.
pub(in crate::portal) fn expected_words(consistency: Consistency) -> &'static str {
    match consistency {
        Consistency::Filesystem => {
            "File system: the guest's file systems are frozen, if they can be. Otherwise as after a power cut"
        }
        other => consistency_words(Some(other)),
    }
}

const fn trigger_words(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Manual => "A person or a program",
        Trigger::Scheduled => "A schedule",
        Trigger::Safety => "A roll back, so that it can be undone",
    }
}

/// The table of snapshots or backups.
pub(in crate::portal) fn table(label: &str, items: &[Item], with_source: bool) -> Markup {
    let mut headings = vec![("Name", "")];
    if with_source {
        headings.push(("Volume", ""));
    }
    headings.extend([
        ("State", ""),
        ("Consistency", ""),
        ("Size", "num"),
        ("Stored", "num"),
        ("Duration", "num"),
        ("Created (UTC)", ""),
        ("", ""),
    ]);
    let rows = html! { @for item in items { (item.row(with_source)) } };
    ui::table(label, &headings, &rows)
}

/// How soon a page without scripts should look at these again.
pub(in crate::portal) fn look_again(items: &[Item]) -> Option<Duration> {
    items
        .iter()
        .any(Item::is_moving)
        .then_some(Duration::from_secs(3))
}
