//! Volumes that are used before they are whole: the work without an operation that fills them.

use std::time::Duration;

use stillpoint_control::reconcile::volume_fill;
use stillpoint_model::ErrorKind;
use stillpoint_model::id::VolumeId;
use stillpoint_model::saga::Request;
use stillpoint_model::task::{Assignment, TaskSpec};

use crate::ground::Wanted;
use crate::lab::Lab;
use crate::matrix::{OF_BACKUP, content, done, failure, from_backup, restore_new, start};

/// A volume that shows the backup of the scenario, and the task that fills it.
async fn begun() -> (Lab, VolumeId, Assignment) {
    let lab = Lab::new(1).await;
    let start = start(&lab).await;
    let wanted = restore_new(&lab, &start, from_backup(&lab, &start), true);
    let volume = wanted.volume.expect("a new volume");
    done(&lab, wanted).await;
    let task = offered(&lab).await.expect("a task");
    assert_eq!(task.spec, TaskSpec::VolumeFill { volume_id: volume });
    (lab, volume, task)
}

async fn offered(lab: &Lab) -> Option<Assignment> {
    volume_fill::offer_due(&lab.ground.cx)
        .await
        .expect("offered");
    lab.take().await
}

async fn is_whole(lab: &Lab, volume: VolumeId) -> bool {
    let row = lab.ground.volume(volume).await;
    row.expect("the volume").filling.is_none()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_whole_when_its_fill_ended() {
    let (lab, volume, task) = begun().await;
    assert!(offered(&lab).await.is_none(), "one task at a time");
    let result = lab.perform(&task);
    lab.finish(&task, result).await.expect("heard");
    lab.settle().await;
    assert!(is_whole(&lab, volume).await);
    assert!(lab.fills().await.is_empty());
    assert!(lab.volume_content(volume) == content(OF_BACKUP));
    assert!(offered(&lab).await.is_none(), "nothing is left to do");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_that_failed_says_why_and_is_tried_again() {
    let (lab, volume, task) = begun().await;
    let failed = failure(ErrorKind::Retry);
    lab.finish(&task, Err(failed)).await.expect("heard");
    lab.settle().await;
    let fill = lab.fills().await.remove(0);
    assert_eq!(fill.failure.as_deref(), Some("It did not work."));
    assert!(offered(&lab).await.is_none(), "not at once");
    lab.ground.env.advance(Duration::from_mins(1));
    lab.board.hello(lab.node_id).await.expect("hello");
    let again = offered(&lab).await.expect("a task");
    let result = lab.perform(&again);
    lab.finish(&again, result).await.expect("heard");
    lab.settle().await;
    assert!(is_whole(&lab, volume).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_whose_node_died_is_done_by_its_next_run() {
    let (mut lab, volume, lost) = begun().await;
    lab.restart().await;
    lab.fill().await;
    assert!(is_whole(&lab, volume).await);
    assert!(
        lab.finish(&lost, Err(failure(ErrorKind::Retry)))
            .await
            .is_err()
    );
    assert!(lab.volume_content(volume) == content(OF_BACKUP));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_deleted_meanwhile_leaves_no_fill() {
    let (lab, volume, task) = begun().await;
    let deletion = Wanted {
        request: Request::VolumeDelete,
        pool: lab.pool_id,
        volume: Some(volume),
        snapshot: None,
        backup: None,
        instance: None,
        image: None,
        whole: None,
    };
    let deleted = lab.ground.accept(deletion).await;
    lab.settle().await;
    let delete = lab.take().await.expect("a task");
    let result = lab.perform(&delete);
    lab.finish(&delete, result).await.expect("heard");
    lab.settle().await;
    let result = lab.perform(&task);
    assert!(
        result.is_ok(),
        "a volume that is gone is no failure: {result:?}"
    );
    lab.finish(&task, result).await.expect("heard");
    lab.run_to_rest().await;
    assert!(lab.ground.operation(deleted).await.state.is_terminal());
    assert!(lab.ground.volume(volume).await.is_none());
    assert!(lab.fills().await.is_empty());
    assert!(offered(&lab).await.is_none());
}
