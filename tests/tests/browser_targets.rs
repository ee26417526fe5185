//! Backup targets in the portal, by hand: backups are copied into a second target, a collection is
//! confirmed, and damage is shown with what it affects.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::Path;

use stillpoint_client::Change;
use stillpoint_model::id::VolumeId;
use stillpoint_tests::browser::Browser;
use stillpoint_tests::folder::files_under;
use stillpoint_tests::person::{Login, Person};
use stillpoint_tests::server::Server;
use stillpoint_wire::upload::ImageFormat;

/// Everything is due every second, and nothing goes by itself.
const CARE: &str = "collect_every_s = 1\nkeep_deleted_s = 0\ngrace_s = 1\nfloor_mib = 0\n\
                    verify_every_s = 1";

fn start(folder: &Path) -> Server {
    let plan = include_str!("../../presets/stillpoint.toml");
    let plan = plan.replace("cooldown_s = 300", "cooldown_s = 0");
    fs::write(folder.join("plan.toml"), plan).unwrap();
    let second = folder.join("second");
    fs::create_dir(&second).unwrap();
    let settings = folder.join("settings.toml");
    let text = format!(
        "plan = \"plan.toml\"\n[care]\n{CARE}\n[second_target]\nkind = \"local\"\nfolder = \"{}\"\n",
        second.display()
    );
    fs::write(&settings, text).unwrap();
    Server::start_with(&["--config", settings.to_str().unwrap()])
}

fn import(tenant: &Person, folder: &Path, name: &str, seed: u8) -> VolumeId {
    let disk = folder.join(name);
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[seed]);
    let mut bytes = vec![0; 4 << 20];
    hasher.finalize_xof().fill(&mut bytes);
    fs::write(&disk, bytes).unwrap();
    tenant.import(name, &disk, ImageFormat::Raw)
}

fn sign_in(browser: &mut Browser, server: &Server) {
    let login = Login::administrator(server);
    browser.goto(server.url());
    browser.fill("Login", &login.login);
    browser.fill("Password", &login.password);
    browser.click("button", "Sign in");
    browser.wait_until("the start page", "location.pathname === '/'");
}

fn open(browser: &mut Browser, server: &Server, target: &str) {
    browser.goto(&format!("{}/admin/targets", server.url()));
    browser.click("link", target);
    browser.wait_until(
        "the page of the target",
        "location.pathname.startsWith('/admin/targets/')",
    );
}

fn pictures(browser: &mut Browser, pages: &[(&str, String)]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/screenshots");
    let pages: Vec<_> = pages
        .iter()
        .map(|(name, url)| ((*name).to_owned(), url.clone()))
        .collect();
    let faults = browser.take_pictures(&pages, &folder);
    assert!(faults.is_empty(), "{faults:?}");
}

/// Flips a byte in every pack.
fn rot(target: &Path) {
    let packs = files_under(target).into_iter();
    for pack in packs.filter(|path| path.iter().any(|part| part == "packs")) {
        let mut bytes = fs::read(&pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::remove_file(&pack).unwrap();
        fs::write(&pack, bytes).unwrap();
    }
}

#[test]
fn an_operator_sees_and_decides_what_becomes_of_a_target() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path());
    let tenant = Person::tenant(&server);
    let kept = import(&tenant, folder.path(), "kept", 1);
    let gone = import(&tenant, folder.path(), "gone", 2);
    tenant.backup(kept, "kept");
    let gone = tenant.backup(gone, "gone");

    let mut browser = Browser::start();
    sign_in(&mut browser, &server);
    open(&mut browser, &server, "local");
    browser.wait_for_text("None: every backup exists once");
    browser.click("button", "Copies");
    browser.select("Copy to", "second");
    browser.select("Look for what is new", "Every hour");
    browser.click("button", "Save");
    browser.wait_for_text("2 of 2 backups");
    browser.wait_for_text("copied to second every");
    let local = browser.url();

    tenant.delete_backup(&gone);
    browser.wait_for_text("A collection waits for your word");
    let confirm = browser.evaluate("document.querySelector('a[href$=\"/confirm\"]').href");
    let pages = [
        ("targets", format!("{}/admin/targets", server.url())),
        ("target-to-confirm", local.clone()),
        ("target-confirm", confirm.as_str().unwrap().to_owned()),
        ("target-copies", format!("{local}/copies")),
    ];
    pictures(&mut browser, &pages);
    browser.goto(&local);
    browser.click("link", "Look and confirm");
    browser.fill("Type demo to confirm", "demo");
    browser.click("button", "Remove them");
    browser.wait_until(
        "it is removed",
        "!document.body.innerText.includes('waits for your word') \
         && document.body.innerText.includes('1 backup')",
    );

    let id = kept.to_string();
    tenant.complete(async |client| {
        client
            .volume_delete(&id, Some("kept"), &Change::default())
            .await
    });
    rot(&server.data().join("target"));
    rot(&folder.path().join("second"));
    browser.wait_for_text("1 backup cannot be restored");
    browser.wait_for_text("kept of kept");
    open(&mut browser, &server, "second");
    browser.wait_for_text("cannot be restored");
    let second = browser.url();
    let pages = [("target-damaged", local), ("target-of-copies", second)];
    pictures(&mut browser, &pages);
    let errors = browser.page_errors();
    assert!(errors.is_empty(), "{errors:?}");
}
