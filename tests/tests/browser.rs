//! The portal in a real browser: the main job by hand, live pages, and what each page looks like.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};

use stillpoint_client::{Change, ListQuery, OperationFilter};
use stillpoint_env::SystemEnv;
use stillpoint_model::id::{ImageId, SnapshotId, VolumeId};
use stillpoint_model::{ByteCount, Env as _};
use stillpoint_tests::browser::Browser;
use stillpoint_tests::person::{Login, Person};
use stillpoint_tests::server::Server;
use stillpoint_wire::backup::BackupCreate;
use stillpoint_wire::image::ImageCreate;
use stillpoint_wire::item::ItemKind;
use stillpoint_wire::restore::RestoreSource;
use stillpoint_wire::upload::ImageFormat;
use stillpoint_wire::volume::{AttachedState, AttachmentReport, VolumeCreate};

/// Long enough to be seen counting, short enough to wait for.
const COOLDOWN_S: u32 = 4;

fn start() -> (Server, Person) {
    let server = Server::start_with_plan(|plan| plan.pacing.cooldown_s = COOLDOWN_S);
    let tenant = Person::tenant(&server);
    (server, tenant)
}

fn new_volume(tenant: &Person, name: &str) -> VolumeId {
    let request = VolumeCreate {
        name: name.into(),
        size_bytes: Some(ByteCount::from_gib(1)),
        ..VolumeCreate::default()
    };
    let made = tenant.complete(async |c| c.volume_create(&request, &Change::default()).await);
    made.volume_id.unwrap()
}

fn sign_in(browser: &mut Browser, server: &Server, login: &Login) {
    browser.goto(server.url());
    browser.fill("Login", &login.login);
    browser.fill("Password", &login.password);
    browser.click("button", "Sign in");
    browser.wait_until("the start page", "location.pathname === '/'");
}

#[test]
fn a_snapshot_a_countdown_and_a_roll_back_by_hand() {
    let (server, tenant) = start();
    let volume = new_volume(&tenant, "web");
    let mut browser = Browser::start();
    sign_in(&mut browser, &server, &Login::tenant(&server));

    browser.goto(&format!("{}/volumes/{volume}/snapshots", server.url()));
    browser.click("button", "Take Snapshot");
    browser.wait_for("dialog", "Take Snapshot");
    browser.fill("Name (optional)", "before the upgrade");
    browser.click("button", "Take Snapshot");
    browser.wait_for_text("before the upgrade");
    // The page was never loaded anew, and now it counts.
    browser.wait_for_text("Volume is in cooldown. Try again in");
    assert!(!browser.is_enabled("button", "Take Snapshot"));
    assert!(
        browser
            .description("button", "Take Snapshot")
            .contains("cooldown")
    );
    browser.evaluate("window.stayed = true");
    browser.wait_until(
        "the button works again by itself",
        "!document.body.innerText.includes('in cooldown') \
         && !document.querySelector('button[id=take-snapshot]:disabled') \
         && document.querySelector('#take-snapshot') !== null",
    );
    assert_eq!(browser.evaluate("window.stayed"), true);

    let snapshots = tenant.get(async |c| c.snapshot_list(None, &ListQuery::default()).await);
    let id = snapshots.items[0].id;
    browser.goto(&format!("{}/snapshots/{id}/restore", server.url()));
    browser.click(
        "radio",
        "Roll back web The volume goes back to this point in time, under the same name.",
    );
    browser.wait_for_text("What will be lost");
    assert!(
        !browser.is_enabled("button", "Restore"),
        "nothing was typed yet"
    );
    browser.fill("Type web to confirm", "web");
    browser.click("button", "Restore");
    browser.wait_until(
        "the volume's page",
        &format!("location.pathname.startsWith('/volumes/{volume}')"),
    );
    browser.goto(&format!("{}/volumes/{volume}/snapshots", server.url()));
    browser.wait_for_text("before restore");
    assert_eq!(browser.page_errors(), Vec::<String>::new());
}

#[test]
fn a_button_that_was_just_refreshed_still_opens_its_dialog() {
    let (server, tenant) = start();
    let volume = new_volume(&tenant, "web");
    let mut browser = Browser::start();
    sign_in(&mut browser, &server, &Login::tenant(&server));
    browser.goto(&format!("{}/volumes/{volume}/snapshots", server.url()));
    browser.wait_for("button", "Take Snapshot");
    browser.evaluate("window.stayed = true");
    // A click as early as a person's can be: the first thing after the region was replaced.
    browser.evaluate(
        "new Promise((done) => {
           const button = () => document.getElementById('take-snapshot');
           const old = button();
           const seen = new MutationObserver(() => {
             if (!button() || button() === old) return;
             seen.disconnect();
             button().click();
             done();
           });
           seen.observe(document.body, { childList: true, subtree: true });
           htmx.trigger(old.closest('[data-live]'), 'portal:refresh');
         })",
    );
    browser.wait_for("dialog", "Take Snapshot");
    assert_eq!(browser.evaluate("window.stayed"), true);
}

#[test]
fn a_button_is_not_replaced_while_it_is_pressed() {
    let (server, tenant) = start();
    let volume = new_volume(&tenant, "web");
    let mut browser = Browser::start();
    sign_in(&mut browser, &server, &Login::tenant(&server));
    browser.goto(&format!("{}/volumes/{volume}/snapshots", server.url()));
    browser.wait_for("button", "Take Snapshot");
    for end in ["pointerup", "pointercancel"] {
        // Resolves to whether the pressed button outlived a refresh.
        let stayed = browser.evaluate(
            "new Promise((done) => {
               window.pressed = document.getElementById('take-snapshot');
               pressed.dispatchEvent(new Event('pointerdown', { bubbles: true }));
               const region = pressed.closest('[data-live]');
               const over = () => setTimeout(() => done(pressed.isConnected));
               region.addEventListener('htmx:afterRequest', over, { once: true });
               htmx.trigger(region, 'portal:refresh');
             })",
        );
        assert_eq!(stayed, true);
        browser.evaluate(&format!(
            "document.dispatchEvent(new Event('{end}', {{ bubbles: true }}))"
        ));
        browser.wait_until("the refresh comes after all", "!pressed.isConnected");
    }
}

#[test]
fn a_running_operation_moves_on_the_page() {
    let (server, tenant) = start();
    let volume = import_noise(&tenant, "busy", 256);
    let mut browser = Browser::start();
    sign_in(&mut browser, &server, &Login::tenant(&server));
    browser.goto(&format!("{}/volumes/{volume}/backups", server.url()));
    browser.wait_for("button", "Create Backup");
    browser.evaluate("window.stayed = true");

    let request = BackupCreate {
        volume: volume.to_string(),
        ..BackupCreate::default()
    };
    let running = tenant.begin(async |c| c.backup_create(&request, &Change::default()).await);
    browser.wait_for_text("Backup in progress");
    assert!(!browser.is_enabled("button", "Create Backup"));
    assert!(
        browser
            .description("button", "Create Backup")
            .contains("Volume is busy")
    );
    tenant.end_of(&running);
    browser.wait_until(
        "the banner goes by itself",
        "!document.body.innerText.includes('Backup in progress')",
    );
    assert_eq!(browser.evaluate("window.stayed"), true);
    assert_eq!(browser.page_errors(), Vec::<String>::new());
}

/// A volume that takes a moment to back up.
fn import_noise(tenant: &Person, name: &str, mib: usize) -> VolumeId {
    let folder = tempfile::tempdir_in(stillpoint_tests::cache_folder()).unwrap();
    let image = folder.path().join("noise.raw");
    let mut noise = vec![0; mib << 20];
    SystemEnv::new().fill_random(&mut noise);
    std::fs::write(&image, &noise).unwrap();
    tenant.import(name, &image, ImageFormat::Raw)
}

#[test]
fn the_restore_dialog_blocks_with_reasons() {
    let (server, tenant) = start();
    let volume = new_volume(&tenant, "web");
    let snapshot = tenant.snapshot(volume, "before");
    let attachment = AttachmentReport {
        instance: "web-1".into(),
        state: AttachedState::Running,
    };
    let id = volume.to_string();
    Person::administrator(&server)
        .get(async |c| c.volume_attachment_report(&id, &attachment).await);

    let mut browser = Browser::start();
    sign_in(&mut browser, &server, &Login::tenant(&server));
    browser.goto(&format!(
        "{}/snapshots/{}/restore",
        server.url(),
        snapshot.id
    ));
    let name = "Roll back web The volume goes back to this point in time, under the same name.";
    assert!(!browser.is_enabled("radio", name));
    let reason = browser.description("radio", name);
    assert!(
        reason.contains("Cannot restore in-place while attached"),
        "{reason}"
    );
    assert!(reason.contains("Stop the instance") && reason.contains("Detach the volume"));
    // The other way stays open.
    browser.fill("Name of the new volume (optional)", "web-copy");
    browser.click("button", "Restore");
    browser.wait_for_text("web-copy");
    assert_eq!(browser.page_errors(), Vec::<String>::new());
}

#[test]
fn the_main_job_works_without_scripts() {
    let (server, tenant) = start();
    let volume = new_volume(&tenant, "web");
    let mut browser = Browser::start();
    browser.set_javascript(false);
    sign_in_without_scripts(&mut browser, &server);
    browser.goto(&format!("{}/volumes/{volume}/snapshots", server.url()));
    browser.click("button", "Take Snapshot");
    browser.fill("Name (optional)", "by hand");
    browser.click("button", "Take Snapshot");
    browser.wait_for("link", "by hand");
}

fn sign_in_without_scripts(browser: &mut Browser, server: &Server) {
    let login = Login::tenant(server);
    browser.goto(server.url());
    browser.fill("Login", &login.login);
    browser.fill("Password", &login.password);
    browser.click("button", "Sign in");
    browser.wait_for("link", "Volumes");
}

/// An image of a snapshot.
fn golden(tenant: &Person, snapshot: SnapshotId) -> ImageId {
    let request = ImageCreate {
        name: Some("golden".into()),
        description: Some("What every web server starts as".into()),
        source: Some(RestoreSource {
            kind: ItemKind::Snapshot,
            item: snapshot.to_string(),
        }),
        ..ImageCreate::default()
    };
    let made = tenant.complete(async |c| c.image_create(&request, &Change::default()).await);
    made.image_id.unwrap()
}

/// The pages about images.
fn pages_of(image: ImageId) -> [(&'static str, String); 6] {
    [
        ("images", "/images".into()),
        ("image", format!("/images/{image}")),
        ("image-new", "/images/new".into()),
        ("image-upload", "/images/upload".into()),
        ("image-volume", format!("/images/{image}/volume")),
        ("image-delete", format!("/images/{image}/delete")),
    ]
}

/// Every page of the portal, with something on it.
struct Gallery {
    pages: Vec<(String, String)>,
}

impl Gallery {
    fn of(server: &Server, tenant: &Person) -> Self {
        let volume = import_noise(tenant, "database", 8);
        let snapshot = tenant.snapshot(volume, "before the upgrade");
        let empty = new_volume(
            tenant,
            "a-volume-with-a-rather-long-name-as-people-give-them",
        );
        let backup = tenant.backup(empty, "nightly");
        tenant.restore_new(ItemKind::Backup, backup.id, "database-copy");
        let image = golden(tenant, snapshot.id);
        let operations = tenant.get(async |c| {
            c.operation_list(&OperationFilter::default(), &ListQuery::default())
                .await
        });
        let operation = operations.items[0].id;
        let url = server.url();
        let page = |name: &str, path: String| (name.to_owned(), format!("{url}{path}"));
        let mut pages = vec![
            page("overview", "/".into()),
            page("instances", "/instances".into()),
            page("instance-new", "/instances/new".into()),
            page("volumes", "/volumes".into()),
            page("volume-new", "/volumes/new".into()),
            page("volume-import", "/volumes/import".into()),
            page("volume", format!("/volumes/{volume}")),
            page("volume-snapshots", format!("/volumes/{volume}/snapshots")),
            page("volume-backups", format!("/volumes/{empty}/backups")),
            page(
                "volume-snapshots-none",
                format!("/volumes/{empty}/snapshots"),
            ),
            page("volume-resize", format!("/volumes/{volume}/resize")),
            page("volume-clone", format!("/volumes/{volume}/clone")),
            page("volume-delete", format!("/volumes/{volume}/delete")),
            page("volume-attach", format!("/volumes/{volume}/attach")),
            page("snapshot-new", format!("/volumes/{empty}/snapshots/new")),
            page("backup-new", format!("/volumes/{empty}/backups/new")),
            page("snapshots", "/snapshots".into()),
            page("snapshot", format!("/snapshots/{}", snapshot.id)),
            page(
                "snapshot-restore",
                format!("/snapshots/{}/restore?mode=in-place", snapshot.id),
            ),
            page(
                "snapshot-rename",
                format!("/snapshots/{}/rename", snapshot.id),
            ),
            page(
                "snapshot-delete",
                format!("/snapshots/{}/delete", snapshot.id),
            ),
            page("backups", "/backups".into()),
            page("backup", format!("/backups/{}", backup.id)),
            page("backup-verify", format!("/backups/{}/verify", backup.id)),
            page("instance-snapshots-none", "/instance-snapshots".into()),
            page("operations", "/operations".into()),
            page("operation", format!("/operations/{operation}")),
            page("tokens", "/settings/tokens".into()),
            page("token-new", "/settings/tokens/new".into()),
            page("not-found", "/nowhere".into()),
        ];
        pages.extend(pages_of(image).map(|(name, path)| page(name, path)));
        Self { pages }
    }

    fn of_the_administrator(server: &Server) -> Self {
        let url = server.url();
        let pages = ["nodes", "pools", "targets"]
            .map(|name| (format!("admin-{name}"), format!("{url}/admin/{name}")));
        Self {
            pages: pages.into(),
        }
    }

    fn take(&self, browser: &mut Browser, folder: &Path) -> Vec<String> {
        browser.take_pictures(&self.pages, folder)
    }
}

#[test]
fn every_page_fits_and_has_its_picture_taken() {
    let (server, tenant) = start();
    let folder = screenshots();
    let mut browser = Browser::start();
    let sign_in_page = Gallery {
        pages: vec![("sign-in".into(), format!("{}/sign-in", server.url()))],
    };
    let mut faults = sign_in_page.take(&mut browser, &folder);
    sign_in(&mut browser, &server, &Login::tenant(&server));
    faults.extend(Gallery::of(&server, &tenant).take(&mut browser, &folder));

    let mut browser_of_admin = Browser::start();
    sign_in(
        &mut browser_of_admin,
        &server,
        &Login::administrator(&server),
    );
    faults.extend(Gallery::of_the_administrator(&server).take(&mut browser_of_admin, &folder));
    // The page that is not there answers 404, which the browser reports.
    let errors = browser
        .page_errors()
        .into_iter()
        .chain(browser_of_admin.page_errors());
    faults.extend(errors.filter(|error| !error.contains("/nowhere")));
    assert_eq!(faults, Vec::<String>::new());
}

fn screenshots() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/screenshots")
}
