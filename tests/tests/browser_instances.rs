//! Instances in the portal, by hand: a real guest is made, cut off, started again, read and captured.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use stillpoint_client::ListQuery;
use stillpoint_tests::browser::Browser;
use stillpoint_tests::debian;
use stillpoint_tests::person::{Login, Person};
use stillpoint_tests::server::Server;
use stillpoint_wire::item::{Consistency, ItemState};
use stillpoint_wire::upload::ImageFormat;

fn sign_in(browser: &mut Browser, server: &Server) {
    let login = Login::tenant(server);
    browser.goto(server.url());
    browser.fill("Login", &login.login);
    browser.fill("Password", &login.password);
    browser.click("button", "Sign in");
    browser.wait_until("the start page", "location.pathname === '/'");
}

/// Presses the page's button `name`, and the one of its dialog.
fn press(browser: &mut Browser, name: &str, choose: Option<&str>) {
    browser.click("button", name);
    browser.wait_for("dialog", &format!("{name} instance"));
    if let Some(choice) = choose {
        browser.click("radio", choice);
    }
    browser.click("button", name);
}

#[test]
fn a_guest_is_made_cut_off_started_and_captured_by_hand() {
    let server = Server::start_with_instances(|plan| plan.pacing.cooldown_s = 0);
    let tenant = Person::tenant(&server);
    let root = tenant.import("web-root", &debian::small_guest(), ImageFormat::Raw);
    let mut browser = Browser::start();
    sign_in(&mut browser, &server);

    browser.goto(&format!("{}/instances", server.url()));
    browser.wait_for_text("No instances yet");
    browser.click("button", "New Instance");
    browser.wait_for("dialog", "New Instance");
    browser.fill("Name (optional)", "web");
    browser.click("button", "Create Instance");
    browser.wait_for_text("Active");
    browser.wait_for_text("Root: it boots from this");
    assert_eq!(server.machines().len(), 1);

    let cut = "Cut the power At once, as if the plug were pulled.";
    press(&mut browser, "Stop", Some(cut));
    browser.wait_for_text("Stopped");
    assert_eq!(server.machines(), []);
    press(&mut browser, "Start", None);
    browser.wait_for_text("Active");
    assert_eq!(server.machines().len(), 1);

    // What its guest writes comes by itself.
    browser.click("link", "Console");
    browser.wait_for_text("web is up");

    let instances = tenant.get(async |c| c.instance_list(&ListQuery::default()).await);
    tenant.wait_until_ready(instances.items[0].id);
    browser.goto(&format!("{}/volumes/{root}/snapshots", server.url()));
    browser.click("button", "Take Snapshot");
    browser.fill("Name (optional)", "while it runs");
    browser.click("button", "Take Snapshot");
    browser.wait_for_text("while it runs");
    browser.wait_for_text("Available");
    let snapshots = tenant.get(async |c| c.snapshot_list(None, &ListQuery::default()).await);
    let snapshot = &snapshots.items[0];
    assert_eq!(snapshot.state, ItemState::Available);
    assert_eq!(snapshot.consistency, Some(Consistency::Filesystem));
    assert_eq!(browser.page_errors(), Vec::<String>::new());
}
