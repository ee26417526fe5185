//! The frame around every page: head, navigation, and where dialogs open.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};
use stillpoint_model::refusal::Refusal;

use super::error::status;
use super::icon::{Icon, logo};
use super::session::{Theme, Viewer};
use super::{assets, live, ui};

/// htmx without evaluation, without its own style element and without its own history; an
/// answer that says no is shown, too. What is swapped in works at once: by default a link would
/// wait 20 ms and more for its script, and a click in between would leave the page.
const HTMX_CONFIG: &str = r#"{"allowEval":false,"includeIndicatorStyles":false,"historyEnabled":false,"defaultSettleDelay":0,"responseHandling":[{"code":"204","swap":false},{"code":"[23]..","swap":true},{"code":"[45]..","swap":true}]}"#;

/// The entries of the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nav {
    Overview,
    Instances,
    Volumes,
    Snapshots,
    Backups,
    Images,
    Operations,
    Settings,
    Nodes,
    Pools,
    Targets,
    Nowhere,
}

type Link = (Nav, &'static str, &'static str, Icon);

const START: &[Link] = &[(Nav::Overview, "/", "Overview", Icon::Home)];
const COMPUTE: &[Link] = &[
    (Nav::Instances, "/instances", "Instances", Icon::Machine),
    (Nav::Volumes, "/volumes", "Volumes", Icon::Disk),
];
const PROTECTION: &[Link] = &[
    (Nav::Snapshots, "/snapshots", "Snapshots", Icon::Camera),
    (Nav::Backups, "/backups", "Backups", Icon::Archive),
    (Nav::Images, "/images", "Images", Icon::Template),
];
const ACCOUNT: &[Link] = &[
    (Nav::Operations, "/operations", "Operations", Icon::List),
    (Nav::Settings, "/settings/tokens", "Settings", Icon::Gear),
];
const ADMINISTRATION: &[Link] = &[
    (Nav::Nodes, "/admin/nodes", "Nodes", Icon::Node),
    (Nav::Pools, "/admin/pools", "Pools", Icon::Pool),
    (
        Nav::Targets,
        "/admin/targets",
        "Backup targets",
        Icon::Target,
    ),
];

/// A page inside the frame.
pub(super) struct Page<'a> {
    pub(super) viewer: &'a Viewer,
    pub(super) title: &'a str,
    pub(super) nav: Nav,
    /// How soon a page without scripts looks again; none when nothing on it moves.
    pub(super) look_again: Option<Duration>,
}

impl<'a> Page<'a> {
    /// A page on which nothing moves.
    pub(super) fn new(viewer: &'a Viewer, nav: Nav, title: &'a str) -> Self {
        Self {
            viewer,
            title,
            nav,
            look_again: None,
        }
    }

    /// A page that moves while something is going on.
    pub(super) fn moving(self, look_again: Option<Duration>) -> Self {
        Self { look_again, ..self }
    }

    /// The whole document around `body`.
    pub(super) fn render(&self, body: &Markup) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" data-theme=[self.viewer.theme.attribute()] data-now=(ui::millis(self.viewer.now)) {
                (head(self.title, self.look_again))
                body hx-ext="sse" {
                    a.skip href="#main" { "Skip to the content" }
                    (self.topbar())
                    div.frame sse-connect=(live::PATH) {
                        (self.navigation())
                        main #main tabindex="-1" {
                            (lost_connection())
                            (body)
                        }
                        dialog #dialog tabindex="-1" {}
                    }
                }
            }
        }
    }

    /// The document around a dialog that was opened as a page.
    pub(super) fn render_dialog(&self, sheet: &Markup) -> Markup {
        self.render(&html! { div.card.dialog-page { (sheet) } })
    }

    /// Where a form leads, or its dialog again with what is wrong.
    pub(super) fn settle(
        &self,
        outcome: Result<String, Refusal>,
        dialog: impl FnOnce(&Refusal) -> Markup,
    ) -> Response {
        match outcome {
            Ok(path) => self.viewer.see_other(&path),
            Err(refusal) => {
                let page = self.render_dialog(&dialog(&refusal));
                (status(&refusal), page).into_response()
            }
        }
    }

    fn topbar(&self) -> Markup {
        let login = &self.viewer.actor.login;
        html! {
            header.topbar {
                button.button.plain.icon-only.nav-button type="button" popovertarget="nav" aria-label="Navigation" { (Icon::Menu) }
                a.brand href="/" { (logo()) "Stillpoint" }
                span.spring {}
                (ui::menu("account", &format!("Account {login}"), &html! {
                    (Icon::User) span.hide-small { (login) }
                }, "plain", &self.account_menu()))
            }
        }
    }

    fn account_menu(&self) -> Markup {
        let role = if self.viewer.actor.is_administrator() {
            "Administrator"
        } else {
            "Tenant"
        };
        html! {
            p.who { b { (self.viewer.actor.login) } br; span.small.faint { (role) } }
            hr;
            form method="post" action="/theme" data-theme-form {
                (ui::hidden("csrf_token", &self.viewer.csrf))
                (ui::hidden("back", &self.viewer.here))
                @for theme in [Theme::System, Theme::Light, Theme::Dark] {
                    button type="submit" name="theme" value=(theme.as_str())
                        aria-pressed=(if theme == self.viewer.theme { "true" } else { "false" })
                    { (Icon::Theme) (theme.label()) (Icon::Check) }
                }
            }
            hr;
            form method="post" action="/sign-out" {
                (ui::hidden("csrf_token", &self.viewer.csrf))
                button type="submit" { (Icon::Arrow) "Sign out" }
            }
        }
    }

    fn navigation(&self) -> Markup {
        html! {
            nav #nav .side popover aria-label="Main" {
                (self.links(None, START))
                (self.links(Some("Compute"), COMPUTE))
                (self.links(Some("Protection"), PROTECTION))
                (self.links(Some("Account"), ACCOUNT))
                @if self.viewer.actor.is_administrator() {
                    (self.links(Some("Administration"), ADMINISTRATION))
                }
            }
        }
    }

    fn links(&self, heading: Option<&str>, links: &[Link]) -> Markup {
        html! {
            @if let Some(heading) = heading { h2 { (heading) } }
            ul {
                @for (nav, href, label, icon) in links {
                    li { a href=(href) aria-current=[(*nav == self.nav).then_some("page")] { (icon) (label) } }
                }
            }
        }
    }
}

fn lost_connection() -> Markup {
    html! {
        p #connection .connection role="status" hidden {
            (Icon::Spinner) "The connection to the server is lost. What you see may be old; it comes back by itself."
        }
    }
}

/// The head of every document. No script and no style stands in a page itself.
pub(super) fn head(title: &str, look_again: Option<Duration>) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="htmx-config" content=(HTMX_CONFIG);
            title { (title) " · Stillpoint" }
            link rel="icon" type="image/svg+xml" href=(assets::url(assets::PICTURE));
            link rel="stylesheet" href=(assets::url(assets::STYLE));
            @for name in [assets::HTMX, assets::HTMX_SSE, assets::SCRIPT] {
                script src=(assets::url(name)) defer {}
            }
            @if let Some(time) = look_again {
                noscript { meta http-equiv="refresh" content=(time.as_secs().max(1)); }
            }
        }
    }
}

/// The way to a page: addresses and words, and the page's title last, without a link.
pub(super) fn crumbs(way: &[(&str, &str)]) -> Markup {
    html! {
        nav aria-label="Breadcrumb" {
            ol.crumbs { @for (href, label) in way { li { a href=(href) { (label) } } } }
        }
    }
}

/// The head of a page: its title, a sentence, and what can be done.
pub(super) fn page_head(title: &Markup, lead: &str, actions: &Markup) -> Markup {
    html! {
        div.page-head {
            div {
                h1 { (title) }
                @if !lead.is_empty() { p { (lead) } }
            }
            div.actions { (actions) }
        }
    }
}
