//! Images: made, started from and deleted; and what is told when something is in the way.

use reqwest::Method;
use serde_json::{Value, json};
use stillpoint_client::wire::image::{ImageCreate, ImageOrigin};
use stillpoint_client::wire::instance::{InstanceCreate, InstanceDisk};
use stillpoint_client::wire::item::{ItemKind, ItemPatch, ItemState};
use stillpoint_client::wire::operation::{OperationKind, OperationState};
use stillpoint_client::wire::restore::RestoreSource;
use stillpoint_client::wire::snapshot::SnapshotCreate;
use stillpoint_client::wire::volume::{VolumeCreate, VolumeOrigin, VolumeRole};
use stillpoint_client::{Answer, Change, ListQuery};
use stillpoint_model::ByteCount;

use crate::server::{MIB, Server, things};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "a table, one entry each")]
async fn what_is_wrong_with_a_request_is_pointed_at() {
    let server = Server::start().await;
    let things = things(&server, &server.tenant).await;
    let source = json!({"kind": "snapshot", "item": things.snapshot});
    let upload = json!({"id": things.volume, "format": "raw"});
    let image = |more: Value| {
        let mut body = json!({"name": "new"});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    let (images, volumes) = ("/v1/images", "/v1/volumes");
    let of = |kind: &str, item: &str| json!({"source": {"kind": kind, "item": item}});
    let root = |disk: Value| json!({"name": "web", "root": disk});
    for (path, body, code, pointer) in [
        (images, image(json!({})), "invalid_request", "/source"),
        (
            images,
            image(json!({"source": source, "upload": upload})),
            "invalid_request",
            "/source",
        ),
        (
            images,
            image(json!({"source": source, "instance_snapshot": "whole"})),
            "invalid_request",
            "/source",
        ),
        (
            images,
            image(json!({"instance_snapshot": "no"})),
            "not_found",
            "/instance_snapshot",
        ),
        (
            images,
            image(of("snapshot", "no")),
            "not_found",
            "/source/item",
        ),
        (
            images,
            image(of("backup", "no")),
            "not_found",
            "/source/item",
        ),
        (
            images,
            image(of("image", "no")),
            "invalid_request",
            "/source/kind",
        ),
        (
            images,
            image(json!({"upload": upload})),
            "not_found",
            "/upload/id",
        ),
        (
            images,
            json!({"name": "golden", "source": source}),
            "name_taken",
            "/name",
        ),
        (
            volumes,
            image(json!({"image": "no"})),
            "not_found",
            "/image",
        ),
        (
            volumes,
            image(json!({"image": "golden", "size_bytes": MIB})),
            "invalid_request",
            "/size_bytes",
        ),
        (
            volumes,
            image(json!({"image": "golden", "upload": upload})),
            "invalid_request",
            "/upload",
        ),
        (
            "/v1/instances",
            root(json!({"image": "no"})),
            "not_found",
            "/root/image",
        ),
        (
            "/v1/instances",
            root(json!({"image": "golden", "size_bytes": MIB})),
            "invalid_request",
            "/root/size_bytes",
        ),
        (
            "/v1/instances",
            root(json!({"image": "golden", "volume": "disk"})),
            "invalid_request",
            "/root",
        ),
        (
            "/v1/snapshots",
            json!({"volume": "disk", "image": "golden"}),
            "name_taken",
            "/image",
        ),
    ] {
        let refused = server.post(&server.tenant, path, &body).await;
        assert_eq!(refused.code(), code, "{path} {body}: {refused:?}");
        let pointed = &refused.body["errors"][0]["pointer"];
        assert_eq!(pointed, pointer, "{path} {body}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_at_its_cap_is_told_where_its_images_are() {
    let server = Server::start().await;
    let things = things(&server, &server.tenant).await;
    for n in 1..20 {
        let name = format!("image {n}");
        server.image(&server.tenant, "snap", &name).await;
    }
    let body = json!({"source": {"kind": "snapshot", "item": things.snapshot}});
    let full = server.post(&server.tenant, "/v1/images", &body).await;
    assert_eq!((full.status, full.code()), (409, "image_limit"), "{full:?}");
    assert_eq!(full.body["resolutions"][0]["href"], "/v1/images");
    let taken = json!({"volume": "disk", "image": "silver"});
    let full = server.post(&server.tenant, "/v1/snapshots", &taken).await;
    assert_eq!(full.code(), "image_limit", "{full:?}");
    let path = format!("/v1/images/{}?confirm=golden", things.image);
    let request = server
        .request(Method::DELETE, &path)
        .bearer_auth(&server.tenant.token);
    let deleted = server.send(request).await;
    server.done(&server.tenant, &deleted).await;
    let made = server.post(&server.tenant, "/v1/images", &body).await;
    server.done(&server.tenant, &made).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "each request once, in one story")]
async fn the_typed_client_reads_and_asks_all_of_it() {
    let server = Server::start().await;
    server.volume(&server.tenant, "disk").await;
    let client = server.client(&server.tenant);
    let change = Change::default();
    let finish = async |answer: Answer| match answer {
        Answer::Accepted(operation) => client.wait(operation.id, |_| ()).await.unwrap(),
        Answer::Preview(preview) => panic!("{preview:?}"),
    };
    let request = SnapshotCreate {
        volume: "disk".into(),
        image: Some("golden".into()),
        ..SnapshotCreate::default()
    };
    let taken = finish(client.snapshot_create(&request, &change).await.unwrap()).await;
    assert_eq!(taken.state, OperationState::Succeeded);
    let golden = client.image_show("golden").await.unwrap();
    assert_eq!(Some(golden.id), taken.image_id);
    assert_eq!(golden.state, ItemState::Available);
    assert_eq!(
        golden.origin,
        ImageOrigin::Snapshot(taken.snapshot_id.unwrap().as_uuid())
    );
    let listed = client.image_list(&ListQuery::default()).await.unwrap();
    assert_eq!(listed.items, std::slice::from_ref(&golden));

    let request = ImageCreate {
        name: Some("silver".into()),
        source: Some(RestoreSource {
            kind: ItemKind::Snapshot,
            item: taken.snapshot_id.unwrap().to_string(),
        }),
        ..ImageCreate::default()
    };
    let made = finish(client.image_create(&request, &change).await.unwrap()).await;
    assert_eq!(made.kind, OperationKind::ImageCreate);
    assert_eq!(made.image_name.as_ref().map(|n| n.as_str()), Some("silver"));

    let request = VolumeCreate {
        name: "started".into(),
        image: Some("golden".into()),
        ..VolumeCreate::default()
    };
    let made = finish(client.volume_create(&request, &change).await.unwrap()).await;
    assert_eq!(made.state, OperationState::Succeeded);
    let started = client.volume_show("started").await.unwrap();
    assert_eq!(started.role, VolumeRole::Root);
    assert_eq!(
        started.origin,
        Some(VolumeOrigin::Image(golden.id.as_uuid()))
    );

    let request = InstanceCreate {
        name: Some("web".into()),
        root: InstanceDisk {
            image: Some("golden".into()),
            size_bytes: Some(ByteCount::from_mib(128)),
            ..InstanceDisk::default()
        },
        ..InstanceCreate::default()
    };
    let made = finish(client.instance_create(&request, &change).await.unwrap()).await;
    assert_eq!(made.state, OperationState::Succeeded);
    let web = client.instance_show("web").await.unwrap();
    assert_eq!(web.volumes[0].size_bytes, ByteCount::from_mib(128));

    let patch = ItemPatch {
        name: Some("bronze".into()),
        protected: Some(true),
        ..ItemPatch::default()
    };
    let id = golden.id.to_string();
    let bronze = client.image_update(&id, &patch, &change).await.unwrap();
    assert!(bronze.protected && bronze.version > golden.version);
    let kept = client.image_delete(&id, Some("bronze"), &change).await;
    assert!(kept.unwrap_err().to_string().contains("protected"));
    let patch = ItemPatch {
        protected: Some(false),
        ..ItemPatch::default()
    };
    client.image_update(&id, &patch, &change).await.unwrap();
    let deleted = client.image_delete(&id, Some("bronze"), &change).await;
    let deleted = finish(deleted.unwrap()).await;
    assert_eq!(deleted.state, OperationState::Succeeded);
    assert!(client.image_show("bronze").await.is_err());
}
