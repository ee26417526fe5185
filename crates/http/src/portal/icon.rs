//! Pictograms, drawn in the page: no request, and they take the colour of the text. Each stands
//! beside a word, so all are hidden from assistive technology.

use maud::{Markup, PreEscaped, html};

/// A pictogram on a grid of 24 by 24.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Icon {
    Alert,
    Archive,
    Arrow,
    Camera,
    Check,
    Clock,
    Clone,
    Close,
    Disk,
    Gear,
    Hold,
    Home,
    Info,
    Key,
    List,
    Lock,
    Machine,
    Menu,
    More,
    Node,
    Pause,
    Pencil,
    Play,
    Plug,
    Plus,
    Pool,
    Power,
    Resize,
    Restore,
    Search,
    Shield,
    Spinner,
    Target,
    Template,
    Terminal,
    Theme,
    Trash,
    Unplug,
    Upload,
    User,
}

impl Icon {
    #[expect(clippy::too_many_lines, reason = "a table, each drawing once")]
    const fn paths(self) -> &'static str {
        match self {
            Self::Alert => {
                r#"<path d="M12 8v5m0 3.5v.01M10.3 4 2.6 17.5A2 2 0 0 0 4.3 20.5h15.4a2 2 0 0 0 1.7-3L13.7 4a2 2 0 0 0-3.4 0Z"/>"#
            }
            Self::Archive => {
                r#"<path d="M4 8.5h16V19a1.5 1.5 0 0 1-1.5 1.5h-13A1.5 1.5 0 0 1 4 19ZM3 4h18v4.5H3ZM9.5 12.5h5"/>"#
            }
            Self::Arrow => r#"<path d="M5 12h14m-6-6 6 6-6 6"/>"#,
            Self::Camera => {
                r#"<path d="M4 7.5h3.5L9.5 5h5l2 2.5H20a1 1 0 0 1 1 1V18a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1V8.5a1 1 0 0 1 1-1Z"/><circle cx="12" cy="13" r="3.5"/>"#
            }
            Self::Check => r#"<path d="m5 12.5 4.5 4.5L19 7.5"/>"#,
            Self::Clock => r#"<circle cx="12" cy="12" r="8.5"/><path d="M12 7v5l3.3 2"/>"#,
            Self::Clone => {
                r#"<rect x="8.5" y="8.5" width="12" height="12" rx="2"/><path d="M15.5 5.5v-1a1 1 0 0 0-1-1h-10a1 1 0 0 0-1 1v10a1 1 0 0 0 1 1h1"/>"#
            }
            Self::Close => r#"<path d="m6 6 12 12M18 6 6 18"/>"#,
            Self::Disk => {
                r#"<ellipse cx="12" cy="6" rx="8" ry="3"/><path d="M4 6v12c0 1.7 3.6 3 8 3s8-1.3 8-3V6M4 12c0 1.7 3.6 3 8 3s8-1.3 8-3"/>"#
            }
            Self::Gear => {
                r#"<path d="M4 7h9m5 0h2M4 17h3m5 0h8"/><circle cx="15.5" cy="7" r="2.5"/><circle cx="9.5" cy="17" r="2.5"/>"#
            }
            Self::Hold => r#"<path d="M9 6v12m6-12v12"/>"#,
            Self::Home => {
                r#"<path d="M4 11 12 4l8 7v8.5a1 1 0 0 1-1 1h-4.5v-6h-5v6H5a1 1 0 0 1-1-1Z"/>"#
            }
            Self::Info => r#"<circle cx="12" cy="12" r="8.5"/><path d="M12 11v5m0-8.5v.01"/>"#,
            Self::Key => {
                r#"<circle cx="8" cy="15.5" r="4"/><path d="m11 12.5 8.5-8.5M16 7.5l3 3"/>"#
            }
            Self::List => r#"<path d="M9 6h11M9 12h11M9 18h11M4.5 6v.01M4.5 12v.01M4.5 18v.01"/>"#,
            Self::Lock => {
                r#"<rect x="5" y="10.5" width="14" height="10" rx="2"/><path d="M8 10.5V8a4 4 0 0 1 8 0v2.5"/>"#
            }
            Self::Machine => {
                r#"<rect x="6" y="6" width="12" height="12" rx="2"/><path d="M9.5 3v3m5-3v3m-5 12v3m5-3v3M3 9.5h3m-3 5h3m12-5h3m-3 5h3"/>"#
            }
            Self::Menu => r#"<path d="M4 7h16M4 12h16M4 17h16"/>"#,
            Self::More => r#"<path d="M12 5.5v.01M12 12v.01M12 18.5v.01" stroke-width="3"/>"#,
            Self::Node => {
                r#"<rect x="3.5" y="4" width="17" height="7" rx="1.5"/><rect x="3.5" y="13.5" width="17" height="7" rx="1.5"/><path d="M7 7.5v.01M7 17v.01"/>"#
            }
            Self::Pause => r#"<circle cx="12" cy="12" r="8.5"/><path d="M8.5 12h7"/>"#,
            Self::Pencil => r#"<path d="m4 20 1-4L16 5a2.1 2.1 0 0 1 3 3L8 19Z"/>"#,
            Self::Play => r#"<path d="M8 5.5v13l10.5-6.5Z"/>"#,
            Self::Plug => {
                r#"<path d="M9 3.5V8m6-4.5V8M6.5 8h11v3a5.5 5.5 0 0 1-11 0ZM12 16.5v4"/>"#
            }
            Self::Plus => r#"<path d="M12 5v14M5 12h14"/>"#,
            Self::Pool => {
                r#"<path d="m12 3.5 9 4.5-9 4.5L3 8Zm-9 9L12 17l9-4.5M3 16.5 12 21l9-4.5"/>"#
            }
            Self::Power => r#"<path d="M12 3.5v8M7 6.5a7.5 7.5 0 1 0 10 0"/>"#,
            Self::Resize => r#"<path d="M14 4h6v6m0-6-7 7m-3 9H4v-6m0 6 7-7"/>"#,
            Self::Restore => {
                r#"<path d="M4 12a8 8 0 1 0 2.5-5.8L4 8.5M4 4v4.5h4.5M12 8v4.5l3 1.8"/>"#
            }
            Self::Search => r#"<circle cx="11" cy="11" r="6.5"/><path d="m16 16 4.5 4.5"/>"#,
            Self::Shield => {
                r#"<path d="M12 3.5 5 6v5.5c0 4.3 3 7.5 7 9 4-1.5 7-4.7 7-9V6Zm-3 8.5 2.2 2.2L15.2 10"/>"#
            }
            Self::Spinner => r#"<path d="M12 3.5a8.5 8.5 0 1 1-8.5 8.5"/>"#,
            Self::Target => {
                r#"<circle cx="12" cy="12" r="8.5"/><circle cx="12" cy="12" r="4.5"/><path d="M12 12v.01"/>"#
            }
            Self::Template => {
                r#"<rect x="4" y="3.5" width="16" height="17" rx="2"/><path d="m12 7.5 4.5 2.4v4.9L12 17.2l-4.5-2.4V9.9Zm-4.5 2.4L12 12.3l4.5-2.4M12 12.3v4.9"/>"#
            }
            Self::Terminal => {
                r#"<rect x="3" y="4.5" width="18" height="15" rx="2"/><path d="m7 9.5 3 2.5-3 2.5m5.5 0H17"/>"#
            }
            Self::Theme => {
                r#"<circle cx="12" cy="12" r="8.5"/><path d="M12 3.5v17a8.5 8.5 0 0 0 0-17Z" fill="currentColor"/>"#
            }
            Self::Trash => {
                r#"<path d="M4.5 6.5h15M9.5 6V4h5v2m-8 .5.8 12.5a1.5 1.5 0 0 0 1.5 1.5h6.4a1.5 1.5 0 0 0 1.5-1.5l.8-12.5M10 10.5v6m4-6v6"/>"#
            }
            Self::Unplug => {
                r#"<path d="M9 3.5V8m6-4.5V8M6.5 8h11v3a5.5 5.5 0 0 1-11 0ZM12 16.5v4M4 4l16 16"/>"#
            }
            Self::Upload => r#"<path d="M12 15V4M7.5 8.5 12 4l4.5 4.5M5 20h14"/>"#,
            Self::User => {
                r#"<circle cx="12" cy="8" r="4"/><path d="M4.5 20.5c1-4 4-5.5 7.5-5.5s6.5 1.5 7.5 5.5"/>"#
            }
        }
    }
}

impl maud::Render for Icon {
    fn render(&self) -> Markup {
        let class = if *self == Self::Spinner {
            "icon spinner"
        } else {
            "icon"
        };
        html! {
            svg class=(class) viewBox="0 0 24 24" aria-hidden="true" { (PreEscaped(self.paths())) }
        }
    }
}

/// The mark beside the product's name.
pub(super) fn logo() -> Markup {
    html! {
        svg viewBox="0 0 32 32" aria-hidden="true" {
            rect width="32" height="32" rx="8" fill="#0b7372" {}
            circle cx="16" cy="16" r="9.5" fill="none" stroke="#fff" stroke-width="2.5" stroke-opacity=".55" {}
            circle cx="16" cy="16" r="4" fill="#fff" {}
        }
    }
}
