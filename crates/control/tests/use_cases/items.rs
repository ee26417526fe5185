//! What an item says of its capture is what the node found out.

use stillpoint_control::{backup, snapshot};

use crate::lab::Lab;

#[tokio::test]
async fn an_item_promises_what_the_node_reached() {
    let lab = Lab::new().await;
    let id = lab.volume(&lab.tenant, "web").await;
    let taken = lab.snapshot(&lab.tenant, id).await;
    let taken = snapshot::show(&lab.cx, &lab.tenant, &taken.into()).await;
    let taken = taken.expect("a snapshot").snapshot;
    assert_eq!(taken.consistency, Some(Lab::REACHED));
    let stored = lab.backup(&lab.tenant, id).await;
    let stored = backup::show(&lab.cx, &lab.tenant, &stored.into()).await;
    let stored = stored.expect("a backup").backup;
    assert_eq!(stored.consistency, Some(Lab::REACHED));
}
