//! A real browser: Debian's Chromium, spoken with over the Chrome DevTools Protocol.
//!
//! Chromium takes the protocol on two inherited file descriptors, so neither a driver program
//! nor a port is needed. Elements are found as a person or a screen reader finds them, by role
//! and accessible name, and are clicked and typed into with real input events. Every step waits
//! until it can be done and fails after [`PATIENCE`], saying what was on the page instead.
//!
//! Left out: several tabs, file dialogs, other browsers.

mod protocol;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::bound_command;
use crate::wait::{PATIENCE, until};
use protocol::Session;

/// Chromium as a test wants it: no window, no network but the page's, no first-run pages.
const FLAGS: [&str; 15] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--mute-audio",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
];

/// The protocol comes on descriptors 3 and 4; its own output goes to the log.
const LAUNCH: &str = r#"log=$1; shift; exec chromium "$@" 3<&0 4>&1 0</dev/null >"$log" 2>&1"#;

/// What a page may ask the browser whether the user prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColorScheme {
    /// Dark text on a light page.
    Light,
    /// Light text on a dark page.
    Dark,
}

/// A browser with a profile of its own and one page. Dropping it ends it.
pub struct Browser {
    session: Session,
    // Removed last: the browser writes to it until it has ended.
    profile: TempDir,
}

impl Browser {
    /// Starts a browser with an empty page of 1280 x 900.
    ///
    /// # Panics
    /// When Chromium does not start.
    #[track_caller]
    pub fn start() -> Self {
        let profile = tempfile::Builder::new()
            .prefix("stillpoint-browser.")
            .tempdir()
            .expect("a folder");
        let mut command = bound_command("bash");
        command
            .args(["-c", LAUNCH, "chromium"])
            .arg(profile.path().join("chromium.log"))
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stderr(Stdio::null());
        let session = Session::start(command);
        let mut browser = Self { session, profile };
        browser.set_viewport(1280, 900);
        browser
    }

    /// Lays the page out for a window of this size, in CSS pixels. Below 600 it is a phone.
    pub fn set_viewport(&mut self, width: u32, height: u32) {
        self.command(
            "Emulation.setDeviceMetricsOverride",
            &json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 }),
        );
    }

    /// Says which colours the user prefers.
    pub fn set_color_scheme(&mut self, scheme: ColorScheme) {
        let value = match scheme {
            ColorScheme::Light => "light",
            ColorScheme::Dark => "dark",
        };
        self.command(
            "Emulation.setEmulatedMedia",
            &json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] }),
        );
    }

    /// Switches scripts of pages off or on, from the next page on.
    pub fn set_javascript(&mut self, enabled: bool) {
        self.command(
            "Emulation.setScriptExecutionDisabled",
            &json!({ "value": !enabled }),
        );
    }

    /// Opens `url` and waits until the page and what it needs are loaded.
    ///
    /// # Panics
    /// When there is no answer at all. An error page of the server is an answer.
    #[track_caller]
    pub fn goto(&mut self, url: &str) {
        self.session.forget_events();
        let answer = self.command("Page.navigate", &json!({ "url": url }));
        if let Some(error) = answer["errorText"].as_str() {
            panic!("{url}: {error}");
        }
        if answer.get("loaderId").is_some() {
            self.session
                .wait_for_event("Page.loadEventFired")
                .unwrap_or_else(|e| panic!("{url}: {e}"));
        }
    }

    /// The address of the page.
    #[track_caller]
    pub fn url(&mut self) -> String {
        self.evaluate("location.href")
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The text a reader sees.
    #[track_caller]
    pub fn text(&mut self) -> String {
        self.evaluate("document.body.innerText")
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The value of a JavaScript expression; promises are awaited.
    ///
    /// # Panics
    /// When it throws.
    #[track_caller]
    pub fn evaluate(&mut self, expression: &str) -> Value {
        self.session
            .evaluate(expression)
            .unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// Waits until a JavaScript expression is true; `what` says what that means.
    ///
    /// # Panics
    /// When it never is.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, expression: &str) {
        until(
            PATIENCE,
            format_args!("{what} ({expression})"),
            || match self.session.evaluate(expression)? {
                Value::Bool(true) => Ok(()),
                other => Err(format!("it is {other}")),
            },
        );
    }

    /// Waits until the page shows `text`.
    ///
    /// # Panics
    /// With what the page shows, when it never does.
    #[track_caller]
    pub fn wait_for_text(&mut self, text: &str) {
        until(PATIENCE, format_args!("the text {text:?}"), || {
            let shown = self.session.evaluate("document.body.innerText")?;
            let shown = shown.as_str().unwrap_or_default();
            if shown.contains(text) {
                Ok(())
            } else {
                Err(format!("the page shows:\n{shown}"))
            }
        });
    }

    /// Waits until there is an element of this role and accessible name.
    ///
    /// # Panics
    /// With what of that role there is, when it never comes.
    #[track_caller]
    pub fn wait_for(&mut self, role: &str, name: &str) {
        until(PATIENCE, format_args!("{role} {name:?}"), || {
            self.session.find(role, name)
        });
    }

    /// Whether there is an element of this role and accessible name now.
    pub fn has(&mut self, role: &str, name: &str) -> bool {
        self.session.find(role, name).is_ok()
    }

    /// Whether the element is there and can be used.
    ///
    /// # Panics
    /// When it never comes.
    #[track_caller]
    pub fn is_enabled(&mut self, role: &str, name: &str) -> bool {
        until(PATIENCE, format_args!("{role} {name:?}"), || {
            let element = self.session.find(role, name)?;
            self.session.is_enabled(element)
        })
    }

    /// What assistive technology reads out after the element's name: for a disabled action, the
    /// reason.
    ///
    /// # Panics
    /// When the element never comes.
    #[track_caller]
    pub fn description(&mut self, role: &str, name: &str) -> String {
        until(PATIENCE, format_args!("{role} {name:?}"), || {
            self.session.description(role, name)
        })
    }

    /// Waits until the element is there, visible, enabled and not covered, and clicks it.
    ///
    /// # Panics
    /// With what kept it from being clicked.
    #[track_caller]
    pub fn click(&mut self, role: &str, name: &str) {
        until(
            PATIENCE,
            format_args!("a clickable {role} {name:?}"),
            || {
                let element = self.session.find(role, name)?;
                if !self.session.is_enabled(element)? {
                    return Err("it is disabled".to_owned());
                }
                self.session.click(element)
            },
        );
    }

    /// Replaces what stands in the field labelled `name` by typing `text`.
    ///
    /// # Panics
    /// When there is no such field.
    #[track_caller]
    pub fn fill(&mut self, name: &str, text: &str) {
        until(PATIENCE, format_args!("a field {name:?}"), || {
            let element = self.session.find("textbox", name)?;
            self.session.type_over(element, text)
        });
    }

    /// Chooses the option `option` of the list labelled `name`.
    ///
    /// # Panics
    /// When there is no such list or option.
    #[track_caller]
    pub fn select(&mut self, name: &str, option: &str) {
        until(PATIENCE, format_args!("{option:?} in {name:?}"), || {
            let element = self.session.find("combobox", name)?;
            self.session.select(element, option)
        });
    }

    /// Presses a key that has a name: `Enter`, `Escape`, `Tab`.
    #[track_caller]
    pub fn press(&mut self, key: &str) {
        self.session
            .press(key)
            .unwrap_or_else(|error| panic!("{key}: {error}"));
    }

    /// Errors and refused resources that the page has reported so far: each is a bug.
    pub fn page_errors(&mut self) -> Vec<String> {
        self.session.page_errors()
    }

    /// How many CSS pixels the page is wider than the window; more than 0 is a layout bug.
    #[track_caller]
    pub fn horizontal_overflow(&mut self) -> i64 {
        let root = "document.documentElement";
        self.evaluate(&format!("{root}.scrollWidth - {root}.clientWidth"))
            .as_i64()
            .unwrap_or(0)
    }

    /// Writes a picture of the whole page to `folder/name.png`.
    ///
    /// # Panics
    /// When it cannot be taken or written.
    #[track_caller]
    pub fn screenshot(&mut self, folder: &Path, name: &str) -> PathBuf {
        // A page that just came has no layout before its first frame.
        let size = until(PATIENCE, "a page that is laid out", || {
            let mut layout = self.session.command("Page.getLayoutMetrics", &json!({}))?;
            let size = layout["cssContentSize"].take();
            match size["width"].as_f64() {
                Some(width) if width > 0.0 => Ok(size),
                _ => Err(format!("{size}")),
            }
        });
        let clip =
            json!({ "x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1 });
        let picture = self.command(
            "Page.captureScreenshot",
            &json!({ "format": "png", "captureBeyondViewport": true, "clip": clip }),
        );
        let bytes = BASE64
            .decode(picture["data"].as_str().unwrap_or_default())
            .expect("base64");
        fs::create_dir_all(folder).expect("the folder for screenshots");
        let path = folder.join(format!("{name}.png"));
        fs::write(&path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// Takes a picture of each page (its name, its address), on a desktop and on a phone, light and
    /// dark, and answers what is broken: pages that are wider than their window.
    #[track_caller]
    pub fn take_pictures(&mut self, pages: &[(String, String)], folder: &Path) -> Vec<String> {
        let mut faults = Vec::new();
        for (width, height) in [(1280, 900), (360, 740)] {
            self.set_viewport(width, height);
            for (scheme, word) in [(ColorScheme::Light, "light"), (ColorScheme::Dark, "dark")] {
                self.set_color_scheme(scheme);
                for (name, url) in pages {
                    self.goto(url);
                    self.screenshot(folder, &format!("{name}-{width}-{word}"));
                    let overflow = self.horizontal_overflow();
                    if overflow > 0 {
                        faults.push(format!("{name} is {overflow} px too wide at {width}"));
                    }
                }
            }
        }
        self.set_viewport(1280, 900);
        faults
    }

    #[track_caller]
    fn command(&mut self, method: &str, params: &Value) -> Value {
        self.session
            .command(method, params)
            .unwrap_or_else(|error| {
                let log = fs::read_to_string(self.profile.path().join("chromium.log"));
                panic!("{method}: {error}\n{}", log.unwrap_or_default())
            })
    }
}
