//! Images: names, sizes, caps, what is started from one, and what becomes of it.

use stillpoint_control::image::{self, ImageCreate, ImageSource, ImageView};
use stillpoint_control::instance::{self, DiskRequest, InstanceCreate};
use stillpoint_control::instance_snapshot::{self, InstanceSnapshotCreate};
use stillpoint_control::item::ItemCreate;
use stillpoint_control::restore::RestorePointRef;
use stillpoint_control::volume::{VolumeFromImage, create_from_image};
use stillpoint_control::{Answer, Change, Error, operation, snapshot, volume};
use stillpoint_model::ByteCount;
use stillpoint_model::account::Actor;
use stillpoint_model::id::{ImageId, InstanceSnapshotId, SnapshotId};
use stillpoint_model::image::ImageOrigin;
use stillpoint_model::instance::StopMode;
use stillpoint_model::item::{ItemKind, ItemState};
use stillpoint_model::operation::OperationState;
use stillpoint_model::refusal::ProblemCode;
use stillpoint_model::volume::{VolumeOrigin, VolumeRole};

use crate::instance_snapshots::captured;
use crate::instances::{ask_instance, instance_of};
use crate::lab::{Lab, accepted, by_name, name, refused};

async fn ask_image(
    lab: &Lab,
    actor: &Actor,
    text: &str,
    snapshot: SnapshotId,
) -> Result<Answer, Error> {
    let request = ImageCreate {
        item: ItemCreate {
            name: Some(name(text)),
            ..ItemCreate::default()
        },
        source: ImageSource::RestorePoint(RestorePointRef {
            kind: ItemKind::Snapshot,
            item: snapshot.into(),
        }),
        pool: None,
    };
    image::create(&lab.cx, actor, request, &Change::default()).await
}

/// An image that is available.
pub async fn image_of(lab: &Lab, actor: &Actor, text: &str, snapshot: SnapshotId) -> ImageId {
    let operation = accepted(ask_image(lab, actor, text, snapshot).await);
    lab.settle().await;
    operation.image_id.expect("an image")
}

async fn golden(lab: &Lab) -> (SnapshotId, ImageId) {
    let volume = lab.volume(&lab.tenant, "disk").await;
    let snapshot = lab.snapshot(&lab.tenant, volume).await;
    (
        snapshot,
        image_of(lab, &lab.tenant, "golden", snapshot).await,
    )
}

async fn show(lab: &Lab, id: ImageId) -> ImageView {
    let shown = image::show(&lab.cx, &lab.tenant, &id.into()).await;
    shown.expect("the image")
}

fn started(text: &str, size: Option<ByteCount>) -> VolumeFromImage {
    VolumeFromImage {
        name: name(text),
        image: by_name("golden"),
        size,
        role: VolumeRole::Root,
        pool: None,
    }
}

#[tokio::test]
async fn an_image_is_made_and_names_what_it_was_made_of() {
    let lab = Lab::new().await;
    let (snapshot, id) = golden(&lab).await;
    let view = show(&lab, id).await;
    assert_eq!(view.image.state, ItemState::Available);
    assert!(view.image.layer.is_some() && view.image.size > ByteCount::ZERO);
    assert!(view.permissions.iter().all(|p| p.answer.is_ok()));
    // The snapshot may go; the image says what it was.
    let shown = snapshot::show(&lab.cx, &lab.tenant, &snapshot.into()).await;
    let was = shown.expect("it").snapshot.name;
    let typed = Some(was.as_str());
    let change = Change::default();
    let gone = snapshot::delete(&lab.cx, &lab.tenant, &snapshot.into(), typed, &change).await;
    accepted(gone);
    lab.settle().await;
    let view = show(&lab, id).await;
    assert_eq!(view.image.state, ItemState::Available);
    assert_eq!(view.image.origin_name, Some(was));
}

#[tokio::test]
async fn what_an_image_is_made_of_stays_until_it_is_made() {
    let lab = Lab::new().await;
    let volume = lab.volume(&lab.tenant, "disk").await;
    let snapshot = lab.snapshot(&lab.tenant, volume).await;
    accepted(ask_image(&lab, &lab.tenant, "golden", snapshot).await);
    let change = Change::default();
    let typed = snapshot::show(&lab.cx, &lab.tenant, &snapshot.into()).await;
    let typed = typed.expect("it").snapshot.name;
    let (cx, me) = (&lab.cx, &lab.tenant);
    let asked = snapshot::delete(cx, me, &snapshot.into(), Some(typed.as_str()), &change).await;
    let busy = refused(asked);
    assert_eq!(busy.code, ProblemCode::VolumeBusy);
    assert_eq!(busy.text, "This item is in use by operation: image");
}

#[tokio::test]
async fn a_name_is_an_images_alone_in_its_project() {
    let lab = Lab::new().await;
    let (snapshot, _) = golden(&lab).await;
    let taken = refused(ask_image(&lab, &lab.tenant, "golden", snapshot).await);
    assert_eq!(taken.code, ProblemCode::NameTaken);
    // The names of other accounts are theirs.
    let volume = lab.volume(&lab.other, "disk").await;
    let snapshot = lab.snapshot(&lab.other, volume).await;
    image_of(&lab, &lab.other, "golden", snapshot).await;
}

#[tokio::test]
async fn a_volume_of_an_image_is_as_large_or_larger() {
    let lab = Lab::new().await;
    let (_, id) = golden(&lab).await;
    let size = show(&lab, id).await.image.size;
    let (cx, me, change) = (&lab.cx, &lab.tenant, Change::default());
    let small = size.saturating_sub(ByteCount::from_mib(1));
    let asked = create_from_image(cx, me, started("small", Some(small)), &change).await;
    let smaller = refused(asked);
    assert_eq!(smaller.code, ProblemCode::InvalidRequest);
    assert_eq!(smaller.pointer.as_deref(), Some("/size_bytes"));
    let large = size + ByteCount::from_gib(1);
    for (text, asked, made) in [("same", None, size), ("large", Some(large), large)] {
        let asked = create_from_image(cx, me, started(text, asked), &change).await;
        let operation = accepted(asked);
        assert_eq!(operation.image_id, Some(id));
        lab.settle().await;
        let of = operation.volume_id.expect("a volume");
        let volume = volume::show(cx, me, &of.into()).await.expect("it").volume;
        assert_eq!(volume.origin, Some(VolumeOrigin::Image(id)), "{text}");
        assert_eq!(volume.size, made, "{text}");
    }
}

#[tokio::test]
async fn two_instances_are_made_of_one_image_at_once() {
    let lab = Lab::new().await;
    let (_, id) = golden(&lab).await;
    let (cx, me, change) = (&lab.cx, &lab.tenant, Change::default());
    let mut asked = Vec::new();
    for text in ["one", "two"] {
        let request = InstanceCreate {
            root: DiskRequest::Image {
                name: None,
                image: by_name("golden"),
                size: None,
            },
            ..ask_instance(text)
        };
        let answer = instance::create(cx, me, request, &change).await;
        asked.push(accepted(answer).id);
    }
    // Nobody deletes it meanwhile.
    let held = refused(image::delete(cx, me, &id.into(), Some("golden"), &change).await);
    assert_eq!(held.code, ProblemCode::VolumeBusy);
    lab.settle().await;
    for id in asked {
        let ended = operation::show(cx, me, id).await.expect("it");
        assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
    }
    // What was made of it is in nobody's way.
    accepted(image::delete(cx, me, &id.into(), Some("golden"), &change).await);
    lab.settle().await;
    let gone = image::show(cx, me, &id.into()).await;
    assert_eq!(refused(gone).code, ProblemCode::NotFound);
}

#[tokio::test]
async fn a_snapshot_becomes_an_image_at_once() {
    let lab = Lab::new().await;
    let volume = lab.volume(&lab.tenant, "disk").await;
    let (cx, me, change) = (&lab.cx, &lab.tenant, Change::default());
    let item = ItemCreate::default();
    let web = volume.into();
    let asked =
        snapshot::create_with_image(cx, me, &web, item.clone(), name("golden"), &change).await;
    let operation = accepted(asked);
    lab.settle().await;
    lab.rest().await;
    let image = show(&lab, operation.image_id.expect("an image"))
        .await
        .image;
    assert_eq!(image.state, ItemState::Available);
    let taken = snapshot::show(cx, me, &operation.snapshot_id.expect("one").into()).await;
    let taken = taken.expect("it").snapshot;
    assert_eq!(image.origin_name, Some(taken.name));
    assert_eq!(image.consistency, taken.consistency);
    // A name that is taken is found out before anything is captured.
    let again = snapshot::create_with_image(cx, me, &web, item, name("golden"), &change).await;
    let taken = refused(again);
    assert_eq!(taken.code, ProblemCode::NameTaken);
    assert_eq!(taken.pointer.as_deref(), Some("/image"));
}

async fn ask_of_whole(lab: &Lab, text: &str, whole: InstanceSnapshotId) -> Result<Answer, Error> {
    let request = ImageCreate {
        item: ItemCreate {
            name: Some(name(text)),
            ..ItemCreate::default()
        },
        source: ImageSource::InstanceSnapshot(whole.into()),
        pool: None,
    };
    image::create(&lab.cx, &lab.tenant, request, &Change::default()).await
}

#[tokio::test]
async fn an_image_of_an_instance_snapshot_is_its_root_and_outlives_it() {
    let lab = Lab::new().await;
    let web = instance_of(&lab, &lab.tenant, "web").await;
    let whole = captured(&lab, &lab.tenant, web, "before").await;
    let (cx, me, change) = (&lab.cx, &lab.tenant, Change::default());
    let asked = accepted(ask_of_whole(&lab, "golden", whole).await);
    let before = instance_snapshot::show(cx, me, &whole.into()).await;
    let before = before.expect("the whole").instance_snapshot;
    assert_eq!(
        asked.snapshot_id,
        before.root().map(|root| root.snapshot_id)
    );
    // What it is made of stays until it is made, as a whole.
    let delete = || async {
        instance_snapshot::delete(cx, me, &whole.into(), Some("before"), &change).await
    };
    assert_eq!(refused(delete().await).code, ProblemCode::VolumeBusy);
    lab.settle().await;
    accepted(delete().await);
    lab.settle().await;
    let image = show(&lab, asked.image_id.expect("an image")).await.image;
    assert_eq!(image.state, ItemState::Available);
    assert_eq!(image.origin, ImageOrigin::InstanceSnapshot(whole));
    assert_eq!(image.origin_name, Some(name("before")));
    assert_eq!(image.consistency, before.consistency);
}

/// A snapshot of an instance whose root becomes an image at once.
fn with_image(image: &str) -> InstanceSnapshotCreate {
    InstanceSnapshotCreate {
        image: Some(name(image)),
        ..InstanceSnapshotCreate::default()
    }
}

#[tokio::test]
async fn an_instance_snapshot_becomes_an_image_at_once() {
    let lab = Lab::new().await;
    let web = instance_of(&lab, &lab.tenant, "web").await;
    let (cx, me, change) = (&lab.cx, &lab.tenant, Change::default());
    accepted(instance::stop(cx, me, &web.into(), StopMode::Forced, &change).await);
    lab.settle().await;
    let ask = || async {
        let request = with_image("golden");
        instance_snapshot::create(cx, me, &web.into(), request, &change).await
    };
    let asked = accepted(ask().await);
    lab.settle().await;
    lab.rest().await;
    let whole = asked.instance_snapshot_id.expect("the whole");
    let image = show(&lab, asked.image_id.expect("an image")).await.image;
    assert_eq!(image.state, ItemState::Available);
    assert_eq!(image.origin, ImageOrigin::InstanceSnapshot(whole));
    let shown = instance_snapshot::show(cx, me, &whole.into()).await;
    let shown = shown.expect("the whole").instance_snapshot;
    assert_eq!(shown.state, ItemState::Available);
    assert_eq!(image.consistency, shown.consistency);
    // A name that is taken is found out before anything is captured.
    let taken = refused(ask().await);
    assert_eq!(taken.code, ProblemCode::NameTaken);
    assert_eq!(taken.pointer.as_deref(), Some("/image"));
}

#[tokio::test]
async fn without_a_root_there_is_no_image() {
    let lab = Lab::new().await;
    let web = instance_of(&lab, &lab.tenant, "web").await;
    let (cx, me, change) = (&lab.cx, &lab.tenant, Change::default());
    let data = lab.volume(me, "data").await;
    accepted(instance::stop(cx, me, &web.into(), StopMode::Forced, &change).await);
    lab.settle().await;
    accepted(volume::attach(cx, me, &data.into(), &web.into(), &change).await);
    lab.settle().await;
    accepted(volume::detach(cx, me, &by_name("web-root"), &change).await);
    lab.settle().await;
    let request = with_image("golden");
    let asked = instance_snapshot::create(cx, me, &web.into(), request, &change).await;
    assert_eq!(refused(asked).pointer.as_deref(), Some("/image"));
    let item = ItemCreate::default();
    let taken = instance_snapshot::create(cx, me, &web.into(), item, &change).await;
    let whole = accepted(taken).instance_snapshot_id.expect("the whole");
    lab.settle().await;
    let no = refused(ask_of_whole(&lab, "golden", whole).await);
    assert_eq!(no.code, ProblemCode::NotEligible);
    assert_eq!(no.pointer.as_deref(), Some("/instance_snapshot"));
}
