//! The harness itself: what every other end-to-end test relies on.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use stillpoint_tests::browser::{Browser, ColorScheme};
use stillpoint_tests::debian::debian_disk;
use stillpoint_tests::hash::{check_ext4, file_hash};
use stillpoint_tests::mount::{ExportedVolume, MountedVolume};
use stillpoint_tests::process::run;

/// A qcow2 copy of the Debian disk in the layout of our pools, and the graph that opens it.
fn debian_qcow2(folder: &Path) -> (PathBuf, [String; 2]) {
    let image = folder.join("disk.qcow2");
    run(Command::new("qemu-img")
        .args([
            "convert",
            "-f",
            "raw",
            "-O",
            "qcow2",
            "-o",
            "extended_l2=on,cluster_size=128k",
        ])
        .arg(debian_disk())
        .arg(&image));
    let file = format!(r#"{{"driver":"file","node-name":"file","filename":{image:?}}}"#);
    let tip = r#"{"driver":"qcow2","node-name":"tip","file":"file","backing":null}"#;
    (image, [file, tip.to_owned()])
}

#[test]
fn the_debian_disk_is_a_sound_file_system_with_300_mb_of_files() {
    let disk = debian_disk();
    check_ext4(&disk);
    let used = Command::new("du")
        .args(["--block-size=1", "--total"])
        .arg(&disk)
        .output()
        .unwrap();
    let used: u64 = String::from_utf8(used.stdout)
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(used >= 300_000_000, "the disk holds {used} bytes");
}

#[test]
fn changes_through_the_file_system_reach_the_layers() {
    let folder = tempfile::tempdir().unwrap();
    let (_, graph) = debian_qcow2(folder.path());

    let mounted = MountedVolume::open(&graph);
    assert!(mounted.root().join("etc/debian_version").exists());
    fs::write(mounted.root().join("srv/hello"), b"still there").unwrap();
    mounted.close();

    let exported = ExportedVolume::open(&graph, false);
    check_ext4(&exported.path());
    let changed = file_hash(&exported.path());
    exported.close();
    assert_ne!(changed, file_hash(&debian_disk()));

    let mounted = MountedVolume::open(&graph);
    assert_eq!(
        fs::read(mounted.root().join("srv/hello")).unwrap(),
        b"still there"
    );
    mounted.close();
}

#[test]
fn a_panic_while_mounted_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (_, graph) = debian_qcow2(folder.path());

    let inner = graph.clone();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mounted = MountedVolume::open(&inner);
        sender.send(mounted.root().to_owned()).unwrap();
        File::create(mounted.root().join("srv/unfinished")).unwrap();
        panic!("as a failing assertion would");
    })
    .join()
    .unwrap_err();

    let root = receiver.recv().unwrap();
    assert!(!root.exists());
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(root.to_str().unwrap()), "{mounts}");
    // The image's lock is free again.
    MountedVolume::open(&graph).close();
}

#[test]
fn the_browser_finds_by_role_and_name_and_uses_the_page_as_a_person_would() {
    const PAGE: &str = "data:text/html,<title>t</title><meta name=viewport content='width=device-width'>
        <style>@media (prefers-color-scheme: dark) { body { background: rgb(1,2,3) } }</style>
        <label>Name <input></label>
        <label>Colour <select><option>red<option>green</select></label>
        <button disabled aria-describedby=why onclick='document.title=1'>Later</button><span id=why>Cooling down</span>
        <button onclick='said.textContent = `Hello, ${document.querySelector(`input`).value}, ${document.querySelector(`select`).value}`'>Greet</button>
        <p id=said></p>
        <script>setTimeout(() => document.querySelector('[disabled]').disabled = false, 300)</script>";
    let mut browser = Browser::start();
    browser.goto(PAGE);

    assert_eq!(browser.description("button", "Later"), "Cooling down");
    browser.fill("Name", "Ada");
    browser.select("Colour", "green");
    browser.click("button", "Greet");
    browser.wait_for_text("Hello, Ada, green");
    browser.click("button", "Later");
    browser.wait_until("the title changed", "document.title === '1'");
    assert!(!browser.has("button", "Elsewhere"));

    browser.set_color_scheme(ColorScheme::Dark);
    let background = browser.evaluate("getComputedStyle(document.body).backgroundColor");
    assert_eq!(background, "rgb(1, 2, 3)");
    browser.set_viewport(360, 800);
    assert_eq!(browser.evaluate("innerWidth"), 360);
    assert_eq!(browser.horizontal_overflow(), 0);

    let folder = tempfile::tempdir().unwrap();
    let picture = fs::read(browser.screenshot(folder.path(), "page")).unwrap();
    assert!(picture.starts_with(b"\x89PNG"));
    assert_eq!(browser.page_errors(), Vec::<String>::new());
}
