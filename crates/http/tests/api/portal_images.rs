//! The portal's pages about images and instance snapshots, without scripts.

use serde_json::json;

use crate::server::{Server, things};
use crate::visitor::{Visitor, settled, shown};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_list_of_images_teaches_how_to_fill_it() {
    let server = Server::start().await;
    let tenant = Visitor::sign_in(&server, "tenant").await;
    let page = tenant.open("/images").await;
    page.shows("No images yet");
    page.shows("0</b> of 20 images");
    assert!(page.tag("create").starts_with("<a "));
    assert!(page.tag("upload").starts_with("<a "));
    let search = tenant.open("/images?q=golden").await;
    search.shows("Nothing matches");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_made_of_what_was_chosen_and_booted_from() {
    let server = Server::start().await;
    let things = things(&server, &server.tenant).await;
    let tenant = Visitor::sign_in(&server, "tenant").await;
    let listed = tenant.open("/images").await;
    listed.shows(&format!("href=\"/snapshots/{}\"", things.snapshot));
    listed.shows(&format!("/instances/new?image={}", things.image));
    let whole = format!("instance-snapshot:{}", things.instance_snapshot);
    let dialog = tenant.open("/images/new").await;
    for value in [
        whole.clone(),
        format!("snapshot:{}", things.snapshot),
        format!("backup:{}", things.backup),
    ] {
        assert!(dialog.has_option(&value), "{value}: {}", dialog.html);
    }
    let fields = [("name", "silver"), ("source", whole.as_str())];
    let home = tenant.accepted("/images/new", &fields).await;
    settled(&server).await;
    let page = tenant.open(&home).await;
    page.shows("Available");
    page.shows(&format!(
        "href=\"/instance-snapshots/{}\"",
        things.instance_snapshot
    ));

    // "Create instance from image" leads to the form with it chosen.
    let id = home.strip_prefix("/images/").unwrap();
    let form = tenant.open(&format!("/instances/new?image={id}")).await;
    form.shows(&format!("<option value=\"{id}\" selected>"));
    form.shows("name=\"root\" value=\"image\" checked");
    let fields = [("root", "image"), ("root-image", id), ("name", "copy")];
    tenant.accepted("/instances/new", &fields).await;
    settled(&server).await;
    let root = shown(&server, "/v1/volumes/copy-root").await.body;
    assert_eq!(root["origin"], json!({"kind": "image", "id": id}));
    // A volume of it is larger on request, never smaller.
    let path = format!("{home}/volume");
    let fields = [
        ("name", "disk-2"),
        ("size_bytes", "1"),
        ("size_bytes-unit", "mib"),
    ];
    let small = tenant.post(&path, &fields).await;
    assert!(small.tag("field-size_bytes").contains("aria-invalid"));
    let fields = [("name", "disk-2"), ("size_bytes", "1")];
    tenant.accepted(&path, &fields).await;
    settled(&server).await;
    let made = shown(&server, "/v1/volumes/disk-2").await.body;
    assert_eq!(made["size_bytes"], 1 << 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_sent_becomes_an_image() {
    let server = Server::start().await;
    let tenant = Visitor::sign_in(&server, "tenant").await;
    let fields = [("name", "golden"), ("format", "raw")];
    let sent = tenant.post_disk("/images/upload", &fields, "disk").await;
    assert_eq!(sent.status, 303, "{}", sent.html);
    settled(&server).await;
    let image = shown(&server, "/v1/images/golden").await.body;
    assert_eq!(image["origin"], json!({"kind": "upload"}));
    let unknown = [("name", "silver"), ("format", "vmdk")];
    let refused = tenant.post_disk("/images/upload", &unknown, "disk").await;
    assert_eq!(refused.status, 400, "{}", refused.html);
    refused.shows("value=\"silver\"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_renamed_protected_and_deleted_by_forms() {
    let server = Server::start().await;
    let things = things(&server, &server.tenant).await;
    let tenant = Visitor::sign_in(&server, "tenant").await;
    let home = format!("/images/{}", things.image);
    let at = |dialog: &str| format!("{home}/{dialog}");
    let fields = [("name", "silver"), ("labels", "by=me")];
    assert_eq!(tenant.accepted(&at("rename"), &fields).await, home);
    tenant.open(&home).await.shows("by=me");
    let on = [("protected", "yes")];
    tenant.accepted(&at("protect"), &on).await;
    // What cannot be deleted says so, and leads to the way out.
    let page = tenant.open(&home).await;
    page.shows("This item is protected.");
    page.shows(&format!("href=\"{}\"", at("protect")));
    let kept = tenant.post(&at("delete"), &[("confirm", "silver")]).await;
    assert_eq!(kept.status, 409);
    tenant
        .accepted(&at("protect"), &[("protected", "no")])
        .await;
    let wrong = tenant.post(&at("delete"), &[("confirm", "golden")]).await;
    assert!(wrong.status >= 400);
    let list = tenant
        .accepted(&at("delete"), &[("confirm", "silver")])
        .await;
    assert_eq!(list, "/images");
    settled(&server).await;
    assert_eq!(tenant.open(&home).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_cap_the_way_out_leads_to_the_images() {
    let server = Server::start().await;
    things(&server, &server.tenant).await;
    for n in 1..20 {
        let name = format!("image {n}");
        server.image(&server.tenant, "snap", &name).await;
    }
    let tenant = Visitor::sign_in(&server, "tenant").await;
    let page = tenant.open("/images").await;
    assert!(page.reason("create").contains("Image limit reached."));
    assert!(page.reason("create").contains("href=\"/images\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_is_captured_put_back_copied_and_forgotten_by_forms() {
    let server = Server::start().await;
    let id = server.instance(&server.tenant, "vm", false).await;
    let tenant = Visitor::sign_in(&server, "tenant").await;
    let tab = format!("/instances/{id}/snapshots");
    tenant
        .open(&tab)
        .await
        .shows("No snapshots of this instance yet");
    let fields = [("name", "before"), ("as_image", "on")];
    let after = tenant.accepted(&format!("{tab}/new"), &fields).await;
    assert_eq!(after, tab);
    settled(&server).await;
    server.rest();
    let page = tenant.open(&tab).await;
    page.shows("before");
    page.shows("Stopped");
    // The image has the snapshot's name, for it was given none.
    shown(&server, "/v1/images/before").await;
    let whole = shown(&server, "/v1/instance-snapshots/before").await.id();
    let at = |dialog: &str| format!("/instance-snapshots/{whole}/{dialog}");
    let page = tenant.open(&format!("/instance-snapshots/{whole}")).await;
    page.shows("Root: it boots from this");
    page.shows(&format!("/images/new?source=instance-snapshot%3A{whole}"));

    let dialog = tenant.open(&at("rebuild")).await;
    dialog.shows("What will be lost");
    dialog.shows("Type vm to confirm");
    let wrong = tenant.post(&at("rebuild"), &[("confirm", "before")]).await;
    assert!(wrong.status >= 400);
    let home = tenant.accepted(&at("rebuild"), &[("confirm", "vm")]).await;
    assert_eq!(home, format!("/instances/{id}"));
    settled(&server).await;
    server.rest();

    let home = tenant.accepted(&at("restore"), &[("name", "twin")]).await;
    settled(&server).await;
    tenant.open(&home).await.shows("twin-root");

    let fields = [("confirm", "before")];
    assert_eq!(tenant.accepted(&at("delete"), &fields).await, tab);
    settled(&server).await;
    tenant
        .open(&tab)
        .await
        .shows("No snapshots of this instance yet");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_instance_is_not_put_back_and_the_ways_out_are_links() {
    let server = Server::start().await;
    let things = things(&server, &server.tenant).await;
    let start = format!("/v1/instances/{}/start", things.instance);
    let started = server.post(&server.tenant, &start, &json!({})).await;
    server.done(&server.tenant, &started).await;
    let tenant = Visitor::sign_in(&server, "tenant").await;
    let whole = format!("/instance-snapshots/{}", things.instance_snapshot);
    let dialog = tenant.open(&format!("{whole}/rebuild")).await;
    dialog.shows("Stop the instance first.");
    dialog.shows(&format!("href=\"/instances/{}/stop\"", things.instance));
    dialog.shows(&format!("href=\"{whole}/restore\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_leads_to_the_whole_that_it_goes_with() {
    let server = Server::start().await;
    let things = things(&server, &server.tenant).await;
    let tenant = Visitor::sign_in(&server, "tenant").await;
    let whole = format!("/instance-snapshots/{}", things.instance_snapshot);
    let list = tenant.open("/snapshots?volume=vm-root").await;
    list.shows("Part of an instance snapshot");
    list.shows("This snapshot is part of an instance snapshot, and is deleted with it.");
    list.shows(&format!("class=\"way\" href=\"{whole}\""));
    // All of them are listed, too, and one is taken of an instance that is chosen there.
    let all = tenant.open("/instance-snapshots").await;
    all.shows(&format!("href=\"{whole}\""));
    let new = tenant.open("/instance-snapshots/new").await;
    assert!(new.has_option(&things.instance), "{}", new.html);
    new.shows("vm - tiny");
    let fields = [("instance", things.instance.as_str()), ("name", "again")];
    tenant.accepted("/instance-snapshots/new", &fields).await;
    settled(&server).await;
    shown(&server, "/v1/instance-snapshots/again").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_to_others_has_no_page() {
    let server = Server::start().await;
    let things = things(&server, &server.tenant).await;
    let neighbour = Visitor::sign_in(&server, "neighbour").await;
    for path in [
        format!("/images/{}", things.image),
        format!("/images/{}/delete", things.image),
        format!("/instances/{}/snapshots", things.instance),
        format!("/instances/{}/snapshots/new", things.instance),
        format!("/instance-snapshots/{}", things.instance_snapshot),
        format!("/instance-snapshots/{}/restore", things.instance_snapshot),
    ] {
        assert_eq!(neighbour.open(&path).await.status, 404, "{path}");
    }
    neighbour.open("/images").await.hides("golden");
    let list = neighbour.open("/instance-snapshots").await;
    list.hides(&things.instance_snapshot);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_phases_of_a_snapshot_are_in_sight_while_it_is_taken() {
    let server = Server::start().await;
    let id = server.instance(&server.tenant, "vm", false).await;
    let tenant = Visitor::sign_in(&server, "tenant").await;
    let tab = format!("/instances/{id}/snapshots");
    server.holding.send_replace(true);
    tenant
        .accepted(&format!("{tab}/new"), &[("name", "before")])
        .await;
    let whole = shown(&server, "/v1/instance-snapshots/before").await.id();
    for path in [&tab, &format!("/instance-snapshots/{whole}")] {
        let page = tenant.open(path).await;
        page.shows("Instance snapshot in progress");
        for phase in ["Initiation", "Data capture", "Verification", "Clean-up"] {
            page.shows(phase);
        }
        // It is looked at again without scripts, too.
        page.shows("http-equiv=\"refresh\"");
    }
    server.holding.send_replace(false);
    settled(&server).await;
    tenant.open(&tab).await.hides("Initiation");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_instance_there_is_nothing_to_capture() {
    let server = Server::start().await;
    let tenant = Visitor::sign_in(&server, "tenant").await;
    let list = tenant.open("/instance-snapshots").await;
    list.shows("No instance snapshots yet");
    let reason = list.reason("take-snapshot");
    assert_eq!(reason, "No active instances available.");
}
