//! Instance snapshots and images in the portal, by hand: a real guest is captured as an image while
//! it runs, another is started from that, and the first goes back.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::path::Path;

use stillpoint_client::{Change, ListQuery};
use stillpoint_model::ByteCount;
use stillpoint_model::id::InstanceId;
use stillpoint_tests::browser::Browser;
use stillpoint_tests::debian;
use stillpoint_tests::person::{Login, Person};
use stillpoint_tests::server::Server;
use stillpoint_wire::instance::{InstanceCreate, InstanceDisk, InstanceStop, StopHow};
use stillpoint_wire::instance_snapshot::InstanceSnapshot;
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

/// A guest with a data disk, that runs and whose agent answers.
fn boot(tenant: &Person) -> InstanceId {
    let root = tenant.import("web-root", &debian::small_guest(), ImageFormat::Raw);
    let request = InstanceCreate {
        name: Some("web".into()),
        root: InstanceDisk {
            volume: Some(root.to_string()),
            ..InstanceDisk::default()
        },
        data: vec![InstanceDisk {
            size_bytes: Some(ByteCount::from_mib(16)),
            ..InstanceDisk::default()
        }],
        ..InstanceCreate::default()
    };
    let made = tenant.complete(async |c| c.instance_create(&request, &Change::default()).await);
    let id = made.instance_id.unwrap();
    tenant.wait_until_ready(id);
    id
}

fn stop(tenant: &Person, id: InstanceId) {
    let (id, how) = (
        id.to_string(),
        InstanceStop {
            how: StopHow::Forced,
            ..InstanceStop::default()
        },
    );
    tenant.complete(async |c| c.instance_stop(&id, &how, &Change::default()).await);
}

/// The only instance snapshot.
fn captured(tenant: &Person) -> InstanceSnapshot {
    let all = tenant.get(async |c| c.instance_snapshot_list(None, &ListQuery::default()).await);
    all.items.into_iter().next().expect("one")
}

#[test]
fn a_guest_becomes_an_image_another_starts_from_it_and_the_first_goes_back() {
    let server = Server::start_with_instances(|plan| plan.pacing.cooldown_s = 0);
    let tenant = Person::tenant(&server);
    let web = boot(&tenant);
    let mut browser = Browser::start();
    sign_in(&mut browser, &server);

    // Captured while it runs, and an image at once.
    browser.goto(&format!("{}/instances/{web}/snapshots", server.url()));
    browser.wait_for_text("No snapshots of this instance yet");
    browser.click("button", "Take Snapshot");
    browser.wait_for("dialog", "Take Snapshot");
    browser.wait_for_text("the guest's file systems are frozen");
    browser.fill("Name (optional)", "configured");
    browser.click(
        "checkbox",
        "Create as image A template that new instances boot from. There are both in the end, or neither.",
    );
    browser.fill("Name of the image (optional)", "golden");
    browser.click("button", "Take Snapshot");
    browser.wait_for_text("configured");
    browser.wait_for_text("Available");
    let snapshot = captured(&tenant);
    assert_eq!(snapshot.state, ItemState::Available);
    assert_eq!(snapshot.consistency, Some(Consistency::Filesystem));

    // Another starts from the image.
    browser.goto(&format!("{}/images", server.url()));
    browser.wait_for_text("golden");
    browser.click("button", "Actions for golden");
    browser.click("link", "Create Instance");
    browser.wait_for("dialog", "New Instance");
    browser.fill("Name (optional)", "copy");
    browser.click("button", "Create Instance");
    browser.wait_for_text("Active");
    assert_eq!(server.machines().len(), 2);
    let faults = pictures(&mut browser, &server, web, &snapshot);
    assert_eq!(faults, Vec::<String>::new());

    // The first goes back, when its name was typed.
    stop(&tenant, web);
    let page = format!("{}/instance-snapshots/{}", server.url(), snapshot.id);
    browser.goto(&page);
    browser.click("button", "Actions for configured");
    browser.click("link", "Rebuild");
    browser.wait_for("dialog", "Rebuild instance");
    browser.wait_for_text("What will be lost");
    assert!(
        !browser.is_enabled("button", "Rebuild"),
        "nothing was typed"
    );
    browser.fill("Type web to confirm", "web");
    browser.click("button", "Rebuild");
    browser.wait_until(
        "the instance's page",
        &format!("location.pathname === '/instances/{web}'"),
    );
    browser.wait_for_text("Stopped");
    browser.goto(&page);
    browser.click("button", "Actions for configured");
    browser.click("link", "Delete");
    browser.fill("Type configured to confirm", "configured");
    browser.click("button", "Delete instance snapshot");
    browser.wait_for_text("No snapshots of this instance yet");
    assert_eq!(browser.page_errors(), Vec::<String>::new());
}

/// What the pages about instances and images look like with something on them.
fn pictures(
    browser: &mut Browser,
    server: &Server,
    web: InstanceId,
    snapshot: &InstanceSnapshot,
) -> Vec<String> {
    let whole = snapshot.id;
    let pages = [
        ("instance", format!("/instances/{web}")),
        (
            "instance-snapshots-of",
            format!("/instances/{web}/snapshots"),
        ),
        (
            "instance-snapshot-new",
            format!("/instances/{web}/snapshots/new"),
        ),
        ("instance-snapshots", "/instance-snapshots".into()),
        ("instance-snapshot-choose", "/instance-snapshots/new".into()),
        ("instance-snapshot", format!("/instance-snapshots/{whole}")),
        (
            "instance-snapshot-restore",
            format!("/instance-snapshots/{whole}/restore"),
        ),
        (
            "instance-snapshot-rebuild",
            format!("/instance-snapshots/{whole}/rebuild"),
        ),
        (
            "instance-snapshot-delete",
            format!("/instance-snapshots/{whole}/delete"),
        ),
        ("snapshots-with-parts", "/snapshots".into()),
        ("images-of-instances", "/images".into()),
        ("image-of-instance", "/images/golden".into()),
        ("instance-new-of-image", "/instances/new".into()),
    ];
    let url = server.url();
    let pages = pages.map(|(name, path)| (name.to_owned(), format!("{url}{path}")));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/screenshots");
    browser.take_pictures(&pages, &folder)
}
