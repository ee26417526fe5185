//! The portal's pages about instances, without scripts: pages as text, forms as posts, and a node
//! that does its work in an instant.

use serde_json::json;

use crate::server::{Server, things};
use crate::visitor::{Visitor, filled, settled, shown};

fn id_of(home: &str) -> &str {
    home.strip_prefix("/instances/").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_list_teaches_how_to_fill_it() {
    let server = Server::start().await;
    let page = Visitor::sign_in(&server, "tenant")
        .await
        .open("/instances")
        .await;
    assert_eq!(page.status, 200);
    page.shows("No instances yet");
    page.shows("aria-current=\"page\"");
    assert!(
        page.tag("create").starts_with("<a "),
        "{}",
        page.tag("create")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_runs_instances_the_list_says_so() {
    let server = Server::start_without_instances().await;
    let tenant = Visitor::sign_in(&server, "tenant").await;
    let page = tenant.open("/instances").await;
    page.shows("No node of this installation runs instances.");
    page.hides("No instances yet");
    assert!(page.reason("create").contains("runs no instances"));
    // The dialog says the same, and a form that is sent all the same is refused.
    let dialog = tenant.open("/instances/new").await;
    dialog.shows("The node of this pool runs no instances.");
    let fields = [("root", "empty"), ("root-size", "1"), ("flavor", "tiny")];
    let refused = tenant.post("/instances/new", &fields).await;
    assert_eq!(refused.status, 409);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lifecycle_works_by_forms_alone() {
    let server = Server::start().await;
    let tenant = Visitor::sign_in(&server, "tenant").await;
    let disk = server.volume(&server.tenant, "disk").await;
    let existing = format!("data-{disk}");
    let fields = [
        ("name", "web"),
        ("flavor", "small"),
        ("root", "empty"),
        ("root-size", "64"),
        ("root-size-unit", "mib"),
        ("root-name", "boot"),
        (existing.as_str(), "on"),
        ("new-2-size", "1"),
        ("new-2-name", "logs"),
        ("start", "on"),
    ];
    let home = tenant.accepted("/instances/new", &fields).await;
    settled(&server).await;
    let page = tenant.open(&home).await;
    for text in ["web", "Active", "small", "1.00 GiB", "boot", "disk", "logs"] {
        page.shows(text);
    }
    page.shows(&format!("href=\"/volumes/{disk}\""));

    let power = async |dialog: &str, fields: &[(&str, &str)]| {
        let next = tenant.accepted(&format!("{home}/{dialog}"), fields).await;
        assert_eq!(next, home);
        settled(&server).await;
        let body = shown(&server, &format!("/v1{home}")).await.body;
        body["power"].as_str().unwrap().to_owned()
    };
    assert_eq!(power("pause", &[]).await, "paused");
    tenant.open(&home).await.shows("Paused");
    assert_eq!(power("resume", &[]).await, "running");
    let graceful = [("how", "graceful"), ("bound_s", "30"), ("then_force", "on")];
    assert_eq!(power("stop", &graceful).await, "off");
    assert_eq!(power("start", &[]).await, "running");
    assert_eq!(power("stop", &[("how", "forced")]).await, "off");
    power("rename", &[("name", "web-2")]).await;
    tenant.open("/instances?q=web-2").await.shows(&home);

    let delete = format!("{home}/delete");
    let next = tenant.accepted(&delete, &[("confirm", "web-2")]).await;
    assert_eq!(next, "/instances");
    settled(&server).await;
    assert_eq!(tenant.open(&home).await.status, 404);
    assert_eq!(
        shown(&server, "/v1/volumes/boot").await.body["state"],
        "available"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sees_or_moves_what_is_anothers() {
    let server = Server::start().await;
    let things = things(&server, &server.tenant).await;
    let neighbour = Visitor::sign_in(&server, "neighbour").await;
    let (instance, volume) = (&things.instance, &things.volume);
    let before = shown(&server, &format!("/v1/instances/{instance}")).await;
    let home = format!("/instances/{instance}");
    assert_eq!(neighbour.open(&home).await.status, 404);
    for dialog in [
        "start", "stop", "pause", "resume", "rename", "delete", "attach",
    ] {
        let path = format!("{home}/{dialog}");
        assert_eq!(neighbour.open(&path).await.status, 404, "{path}");
        let fields = [("confirm", "vm"), ("name", "mine"), ("volume", volume)];
        assert_eq!(neighbour.post(&path, &fields).await.status, 404, "{path}");
    }
    for path in [
        format!("/volumes/{volume}/attach"),
        format!("/volumes/{volume}/detach"),
        format!("{home}/volumes/{volume}/detach"),
    ] {
        assert_eq!(neighbour.open(&path).await.status, 404, "{path}");
    }
    for path in ["/instances", "/instances?q=vm", "/instances/new"] {
        let page = neighbour.open(path).await;
        assert_eq!(page.status, 200, "{path}");
        page.hides(instance);
        page.hides(volume);
        page.hides(&things.snapshot);
    }
    let fields = [("root", "volume"), ("root-volume", volume.as_str())];
    assert_eq!(neighbour.post("/instances/new", &fields).await.status, 404);
    let after = shown(&server, &format!("/v1/instances/{instance}")).await;
    assert_eq!(after.body, before.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_possible_is_disabled_and_says_why() {
    let server = Server::start().await;
    let id = server.instance(&server.tenant, "vm", false).await;
    let tenant = Visitor::sign_in(&server, "tenant").await;
    for path in [format!("/instances/{id}"), "/instances".to_owned()] {
        let page = tenant.open(&path).await;
        // The three share a reason, which is shown below the last of them.
        let reason = format!("aria-describedby=\"instance_resume-{id}-reason\"");
        for label in ["Stop", "Pause", "Resume"] {
            let mut buttons = page.html.split("<button");
            let button = buttons.find(|b| b.contains(&format!("</svg>{label}</button>")));
            let button = button.unwrap_or_else(|| panic!("{label} is no button"));
            assert!(
                button.contains("disabled") && button.contains(&reason),
                "{button}"
            );
        }
        page.tag(&format!("instance_resume-{id}-reason"));
        page.shows("The instance is stopped.");
    }
    for dialog in ["stop", "pause", "resume"] {
        let path = format!("/instances/{id}/{dialog}");
        tenant.open(&path).await.shows("The instance is stopped.");
        let refused = tenant.post(&path, &[("how", "forced")]).await;
        assert_eq!(refused.status, 409, "{dialog}");
        refused.shows("not_eligible");
    }
    // The volume that it boots from goes nowhere while it runs, and the way out leads to Stop.
    tenant
        .accepted(&format!("/instances/{id}/start"), &[])
        .await;
    settled(&server).await;
    let page = tenant.open(&format!("/instances/{id}")).await;
    page.shows("The root volume of a running instance cannot be detached.");
    let delete = tenant.open(&format!("/instances/{id}/delete")).await;
    delete.shows("its power is cut");
    page.shows(&format!(
        "<a class=\"way\" href=\"/instances/{id}/stop\">Stop the instance</a>"
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_is_shown_with_its_cancel_while_it_runs() {
    let server = Server::start().await;
    let id = server.instance(&server.tenant, "vm", false).await;
    let tenant = Visitor::sign_in(&server, "tenant").await;
    server.holding.send_replace(true);
    let home = tenant
        .accepted(&format!("/instances/{id}/start"), &[])
        .await;
    let page = tenant.open(&home).await;
    page.shows("Start in progress");
    page.shows("Phase: ");
    page.shows("/cancel\"");
    // Without scripts, too, the page looks again.
    page.shows("http-equiv=\"refresh\"");
    assert!(page.reason("start").contains("Instance is busy"));
    let start_page = tenant.open("/").await;
    start_page.shows("Start of vm in progress");
    start_page.shows("Your instances");
    server.holding.send_replace(false);
    settled(&server).await;
    let page = tenant.open(&home).await;
    page.hides("Start in progress");
    page.shows(&format!("/operations?instance={id}"));
    let activity = tenant.open(&format!("/operations?instance={id}")).await;
    activity.shows("Instance creation");
    activity.shows(&format!("href=\"/instances/{id}\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_are_attached_and_detached_from_both_sides() {
    let server = Server::start().await;
    let id = server.instance(&server.tenant, "vm", true).await;
    let (home, tenant) = (
        format!("/instances/{id}"),
        Visitor::sign_in(&server, "tenant").await,
    );
    let dialog = tenant.open(&format!("{home}/attach")).await;
    dialog.shows("No volume of yours is free.");
    let disk = server.volume(&server.tenant, "disk").await;
    let dialog = tenant.open(&format!("{home}/attach")).await;
    assert!(dialog.has_option(&disk));

    let attach = format!("{home}/attach");
    let next = tenant.accepted(&attach, &[("volume", &disk)]).await;
    assert_eq!(next, home);
    settled(&server).await;
    let volume = format!("/volumes/{disk}");
    let page = tenant.open(&volume).await;
    page.shows(&format!("href=\"{home}\""));
    page.shows("Detach the volume first.");

    let here = format!("{home}/volumes/{disk}/detach");
    tenant.open(&here).await.shows("Detach volume");
    assert_eq!(tenant.accepted(&here, &[]).await, home);
    settled(&server).await;
    assert_eq!(tenant.open(&here).await.status, 404);

    let dialog = tenant.open(&format!("{volume}/attach")).await;
    assert!(dialog.has_option(&id));
    let attach = format!("{volume}/attach");
    let next = tenant.accepted(&attach, &[("instance", &id)]).await;
    assert_eq!(next, volume);
    settled(&server).await;
    let next = tenant.accepted(&format!("{volume}/detach"), &[]).await;
    assert_eq!(next, volume);
    settled(&server).await;
    let refused = tenant.open(&format!("{volume}/detach")).await;
    refused.shows("The volume is attached to nothing.");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_takes_the_name_and_the_chosen_volumes_alone() {
    let server = Server::start().await;
    let id = server.instance(&server.tenant, "vm", false).await;
    let (disk, root) = (
        server.volume(&server.tenant, "disk").await,
        shown(&server, "/v1/volumes/vm-root").await.id(),
    );
    let tenant = Visitor::sign_in(&server, "tenant").await;
    let delete = format!("/instances/{id}/delete");
    tenant
        .accepted(&format!("/instances/{id}/attach"), &[("volume", &disk)])
        .await;
    settled(&server).await;
    let dialog = tenant.open(&delete).await;
    dialog.shows("Type vm to confirm");
    dialog.hides("its power is cut");
    let box_of_root = format!("delete-{root}");
    for confirm in ["", "VM", "disk"] {
        let page = tenant
            .post(&delete, &[("confirm", confirm), (&box_of_root, "on")])
            .await;
        assert!(page.status >= 400, "{confirm:?}");
        // What was chosen is still chosen.
        page.shows(&format!("name=\"{box_of_root}\" value=\"on\" checked"));
    }
    tenant
        .accepted(&delete, &[("confirm", "vm"), (&box_of_root, "on")])
        .await;
    settled(&server).await;
    let gone = server.get(&server.tenant, "/v1/volumes/vm-root").await;
    assert_eq!(gone.status, 404);
    let kept = shown(&server, "/v1/volumes/disk").await.body;
    assert_eq!(kept["state"], "available");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_boots_from_what_was_chosen() {
    let server = Server::start().await;
    let things = things(&server, &server.tenant).await;
    let tenant = Visitor::sign_in(&server, "tenant").await;
    let dialog = tenant.open("/instances/new").await;
    for value in [
        things.volume.clone(),
        format!("snapshot:{}", things.snapshot),
        format!("backup:{}", things.backup),
    ] {
        assert!(dialog.has_option(&value), "{value}: {}", dialog.html);
    }
    let source = format!("backup:{}", things.backup);
    let fields = [
        ("root", "source"),
        ("root-source", source.as_str()),
        ("name", "copy"),
    ];
    let home = tenant.accepted("/instances/new", &fields).await;
    settled(&server).await;
    let copy = shown(&server, &format!("/v1/instances/{}", id_of(&home))).await;
    // The box was not checked, so it does not run.
    assert_eq!(copy.body["power"], "off");
    let root = shown(&server, "/v1/volumes/copy-root").await.body;
    assert_eq!(
        root["origin"],
        json!({"kind": "backup", "id": things.backup})
    );

    let fields = [
        ("root", "volume"),
        ("root-volume", things.volume.as_str()),
        ("start", "on"),
    ];
    let home = tenant.accepted("/instances/new", &fields).await;
    settled(&server).await;
    tenant.open(&home).await.shows("Root: it boots from this");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_stands_beside_its_field_and_nothing_typed_is_lost() {
    let server = Server::start().await;
    let tenant = Visitor::sign_in(&server, "tenant").await;
    let fields = [
        ("name", "web"),
        ("root", "empty"),
        ("root-size", "1"),
        ("new-3-size", "0.0001"),
    ];
    let page = tenant.post("/instances/new", &fields).await;
    assert_eq!(page.status, 400);
    assert!(page.tag("field-new-3-size").contains("aria-invalid"));
    page.shows("name=\"name\" value=\"web\"");
    let none = shown(&server, "/v1/instances").await.body;
    assert_eq!(none["items"], json!([]));
    // A form from elsewhere, or without its token, does nothing.
    let forged = tenant.http.post(format!("{}/instances/new", tenant.url));
    let answer = tenant.send(filled(forged, &fields)).await;
    assert_eq!(answer.status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_console_is_a_tab_and_no_markup() {
    let server = Server::start().await;
    let id = server.instance(&server.tenant, "vm", true).await;
    let path = format!("/instances/{id}/console");
    let tenant = Visitor::sign_in(&server, "tenant").await;
    let overview = tenant.open(&format!("/instances/{id}")).await;
    overview.shows(&format!("href=\"{path}\""));
    let page = tenant.open(&path).await;
    page.shows("boot\n&lt;b&gt;web login:&lt;/b&gt;");
    let neighbour = Visitor::sign_in(&server, "neighbour").await;
    assert_eq!(neighbour.open(&path).await.status, 404);
}
