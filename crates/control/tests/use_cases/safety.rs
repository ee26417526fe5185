//! The safety snapshot that a roll back leaves: what its owner reads of it.

use stillpoint_control::Change;
use stillpoint_control::item::ItemQuery;
use stillpoint_control::restore::{self, RestoreCreate, RestoreMode, RestorePointRef};
use stillpoint_control::snapshot;
use stillpoint_model::id::{SnapshotId, VolumeId};
use stillpoint_model::item::{Consistency, ItemKind, Trigger};
use stillpoint_model::snapshot::Snapshot;

use crate::lab::{Lab, accepted, plan};

async fn roll_back(lab: &Lab, id: SnapshotId, volume: &str) {
    let request = RestoreCreate {
        source: RestorePointRef {
            kind: ItemKind::Snapshot,
            item: id.into(),
        },
        mode: RestoreMode::InPlace {
            confirm: Some(volume.to_owned()),
        },
    };
    accepted(restore::create(&lab.cx, &lab.tenant, request, &Change::default()).await);
    lab.settle().await;
}

async fn safety_snapshots(lab: &Lab) -> Vec<Snapshot> {
    let page = snapshot::list(&lab.cx, &lab.tenant, &ItemQuery::default()).await;
    let views = page.expect("a list").items.into_iter();
    views
        .map(|view| view.snapshot)
        .filter(|item| item.trigger == Trigger::Safety)
        .collect()
}

async fn volume_with_snapshot(lab: &Lab, name: &str) -> (VolumeId, SnapshotId) {
    let id = lab.volume(&lab.tenant, name).await;
    (id, lab.snapshot(&lab.tenant, id).await)
}

#[tokio::test]
async fn a_safety_snapshot_tells_when_it_was_made_and_what_it_holds() {
    let lab = Lab::new().await;
    let (id, taken) = volume_with_snapshot(&lab, "web").await;
    let before = lab.show(&lab.tenant, id).await.volume;
    roll_back(&lab, taken, "web").await;
    let [safety] = &safety_snapshots(&lab).await[..] else {
        panic!("one safety snapshot");
    };
    let made = safety.created_at.to_string().replace('T', " ");
    let when = safety.name.as_str().strip_prefix("before restore ");
    assert_eq!(when.map(str::len), Some("2026-11-21 03:30:06".len()));
    assert_eq!(when.map(|text| &text[..10]), Some(&made[..10]));
    assert!(!safety.name.as_str().contains('T'), "{}", safety.name);
    assert_eq!(safety.sizes.provisioned, before.size);
    assert_eq!(safety.sizes.used, before.used);
    assert_eq!(safety.consistency, Some(Consistency::Stopped));
    assert_eq!(safety.layer, before.tip);
    assert!(safety.duration_ms.is_some());
}

#[tokio::test]
async fn safety_snapshots_of_the_same_second_have_different_names() {
    let mut plan = plan();
    plan.pacing.cooldown_s = 0;
    let lab = Lab::with(plan, true).await;
    let (_, web) = volume_with_snapshot(&lab, "web").await;
    let (_, mail) = volume_with_snapshot(&lab, "mail").await;
    roll_back(&lab, web, "web").await;
    roll_back(&lab, mail, "mail").await;
    let names: Vec<_> = safety_snapshots(&lab).await;
    let [second, first] = &names[..] else {
        panic!("two safety snapshots");
    };
    assert_ne!(first.name, second.name);
}
