//! Vaults are cared for on a schedule: what a node is asked, and what becomes of its answers.

use std::time::Duration;

use stillpoint_control::admin::{self, TargetCare};
use stillpoint_control::reconcile::vault_care;
use stillpoint_control::{Error, backup};
use stillpoint_model::account::Actor;
use stillpoint_model::care::{
    BackupKey, BadObject, Collection, CollectionState, Mending, VaultCare, Verification,
    VerifyLevel,
};
use stillpoint_model::id::BackupId;
use stillpoint_model::item::ItemState;
use stillpoint_model::refusal::ProblemCode;
use stillpoint_model::task::{Assignment, TaskOutcome, TaskSpec};
use stillpoint_model::{ByteCount, Env as _};

use crate::lab::{Lab, by_name};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

impl Lab {
    /// The care that is due now, if any is.
    pub async fn care(&self) -> Option<Assignment> {
        vault_care::offer_due(&self.cx).await.expect("offered");
        loop {
            let taken = self.board.take(self.installed.node_id).await;
            match taken.expect("the board") {
                // What operations and pools ask for is not looked at here.
                Some(task) if task.operation_id.is_some() || task.spec == TaskSpec::PoolTidy => {}
                task => return task,
            }
        }
    }

    pub async fn answer(&self, task: &Assignment, outcome: TaskOutcome) {
        let said = self.board.finish(task.task_id, task.fence, Ok(outcome));
        said.await.expect("heard");
        self.settle().await;
    }

    pub async fn collected(&self, task: &Assignment, collection: Collection) {
        self.answer(task, TaskOutcome::Collected { collection })
            .await;
    }

    pub async fn verified(&self, task: &Assignment, bad: Vec<BadObject>) {
        self.repaired(task, bad, Vec::new()).await;
    }

    pub async fn mended(&self, task: &Assignment, mending: Mending) {
        self.answer(task, TaskOutcome::Mended { mending }).await;
    }

    async fn repaired(&self, task: &Assignment, bad: Vec<BadObject>, repaired: Vec<BackupId>) {
        let TaskSpec::VaultVerify { level, backups, .. } = &task.spec else {
            panic!("{task:?}");
        };
        let verification = Verification {
            level: *level,
            backups: backups.iter().map(|key| key.backup_id).collect(),
            bad,
            repaired,
            uncovered: 0,
        };
        self.answer(task, TaskOutcome::Verified { verification })
            .await;
    }

    async fn vault(&self) -> VaultCare {
        let seen = admin::target(&self.cx, &self.admin, &by_name("target-1")).await;
        seen.expect("a target").vaults.remove(0).care
    }

    pub async fn state_of(&self, id: BackupId) -> ItemState {
        let seen = backup::show(&self.cx, &self.tenant, &id.into()).await;
        seen.expect("a backup").backup.state
    }

    /// Has the next collection ask for the confirmation of so much.
    pub async fn ask_for_confirmation(&self, mib: u64) {
        // The vault is seen, then it is due.
        assert_eq!(self.care().await, None);
        self.advance(7 * HOUR).await;
        let task = self.care().await.expect("a collection");
        let asks = Collection {
            would_free: Some(ByteCount::from_mib(mib)),
            ..collection(CollectionState::NeedsConfirmation)
        };
        self.collected(&task, asks).await;
    }

    pub async fn confirm(&self, actor: &Actor, mib: u64) -> Result<TargetCare, Error> {
        let vault = self.vault().await.vault_id;
        let bytes = (vault, ByteCount::from_mib(mib));
        admin::confirm_collection(&self.cx, actor, &by_name("target-1"), bytes, None).await
    }
}

pub fn collection(state: CollectionState) -> Collection {
    Collection {
        state,
        backups: 0,
        packs: 0,
        freed: ByteCount::ZERO,
        spared: 0,
        locked: 0,
        until: None,
        open_runs: Vec::new(),
        would_free: None,
        reason: None,
        emptied: None,
    }
}

/// A laboratory with a backup whose vault was seen, and that backup's key.
pub async fn with_a_backup() -> (Lab, BackupKey) {
    let lab = Lab::new().await;
    let volume_id = lab.volume(&lab.tenant, "web").await;
    let backup_id = lab.backup(&lab.tenant, volume_id).await;
    lab.settle().await;
    assert_eq!(lab.care().await, None, "nothing is due at first");
    let key = BackupKey {
        volume_id,
        backup_id,
    };
    (lab, key)
}

pub fn refusal(answer: Result<TargetCare, Error>) -> ProblemCode {
    match answer {
        Err(Error::Refused(refusal)) => refusal.code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_collection_is_told_what_must_be_there() {
    let (lab, key) = with_a_backup().await;
    lab.advance(7 * HOUR).await;
    let task = lab.care().await.expect("a collection");
    let TaskSpec::VaultCollect {
        known, reap, terms, ..
    } = &task.spec
    else {
        panic!("{task:?}");
    };
    assert_eq!((known.as_slice(), reap.as_slice()), (&[key][..], &[][..]));
    assert_eq!(terms.floor, ByteCount::from_gib(1));
    assert_eq!(lab.care().await, None, "one at a time");
    let done = Collection {
        packs: 3,
        freed: ByteCount::from_mib(12),
        ..collection(CollectionState::Done)
    };
    lab.collected(&task, done.clone()).await;
    let vault = lab.vault().await;
    assert_eq!(vault.collection, Some(done));
    assert_eq!(vault.freed, ByteCount::from_mib(12));
    assert_eq!(lab.care().await, None, "the next is due in six hours");
}

#[tokio::test]
async fn what_is_too_much_waits_for_an_administrator_and_is_allowed_once() {
    let (lab, _) = with_a_backup().await;
    lab.advance(7 * HOUR).await;
    assert_eq!(
        refusal(lab.confirm(&lab.admin, 9).await),
        ProblemCode::NotEligible
    );
    let task = lab.care().await.expect("a collection");
    let asks = Collection {
        would_free: Some(ByteCount::from_mib(9)),
        ..collection(CollectionState::NeedsConfirmation)
    };
    lab.collected(&task, asks).await;
    assert_eq!(lab.care().await, None);
    assert_eq!(
        refusal(lab.confirm(&lab.tenant, 9).await),
        ProblemCode::Forbidden
    );
    assert_eq!(
        refusal(lab.confirm(&lab.admin, 8).await),
        ProblemCode::InvalidRequest
    );
    lab.confirm(&lab.admin, 9).await.expect("confirmed");
    let task = lab.care().await.expect("at once");
    let TaskSpec::VaultCollect { terms, .. } = &task.spec else {
        panic!("{task:?}");
    };
    assert_eq!(terms.confirmed, ByteCount::from_mib(9));
    lab.collected(&task, collection(CollectionState::WaitsForGrace))
        .await;
    assert_eq!(lab.vault().await.confirmed, ByteCount::ZERO);
}

#[tokio::test]
async fn runs_whose_operation_is_over_are_taken_back_and_others_are_not() {
    let (lab, key) = with_a_backup().await;
    lab.rest().await;
    let under_way = lab.begin_backup(&lab.tenant, key.volume_id).await;
    lab.advance(7 * HOUR).await;
    let task = lab.care().await.expect("a collection");
    let live = BackupKey {
        volume_id: key.volume_id,
        backup_id: under_way,
    };
    let waits = Collection {
        open_runs: vec![key, live],
        ..collection(CollectionState::WaitsForRuns)
    };
    let said = lab.board.finish(
        task.task_id,
        task.fence,
        Ok(TaskOutcome::Collected { collection: waits }),
    );
    said.await.expect("heard");
    lab.step_engine().await;
    let task = lab.care().await.expect("at once");
    let TaskSpec::VaultCollect { reap, .. } = &task.spec else {
        panic!("{task:?}");
    };
    assert_eq!(reap.as_slice(), [key]);
}

#[tokio::test]
async fn damage_degrades_all_that_it_affects_until_that_is_found_sound() {
    let (lab, first) = with_a_backup().await;
    let other_volume = lab.volume(&lab.tenant, "db").await;
    lab.advance(20 * DAY).await;
    let young = lab.backup(&lab.tenant, other_volume).await;
    let collect = lab.care().await.expect("a collection");
    lab.collected(&collect, collection(CollectionState::NothingToDo))
        .await;
    lab.advance(11 * DAY).await;
    let task = lab.care().await.expect("a verification");
    let TaskSpec::VaultVerify { level, backups, .. } = &task.spec else {
        panic!("{task:?}");
    };
    assert_eq!(
        (*level, backups.as_slice()),
        (VerifyLevel::Decrypt, &[first][..])
    );
    let bad = BadObject {
        object: "packs/1".to_owned(),
        what: "it is missing".to_owned(),
        affected: vec![first.backup_id, young],
    };
    lab.verified(&task, vec![bad.clone()]).await;
    assert_eq!(lab.vault().await.damage, [bad]);
    for id in [first.backup_id, young] {
        assert_eq!(lab.state_of(id).await, ItemState::Degraded);
    }
    // Put back by an operator: each is found sound the next day.
    lab.advance(2 * DAY).await;
    let mut seen = 0;
    while let Some(task) = lab.care().await {
        match &task.spec {
            TaskSpec::VaultVerify { .. } => {
                seen += 1;
                lab.verified(&task, Vec::new()).await;
            }
            TaskSpec::VaultMend { .. } => lab.mended(&task, Mending::default()).await,
            _ => {
                lab.collected(&task, collection(CollectionState::NothingToDo))
                    .await
            }
        }
    }
    assert_eq!(seen, 2);
    for id in [first.backup_id, young] {
        assert_eq!(lab.state_of(id).await, ItemState::Available);
    }
    assert!(lab.vault().await.damage.is_empty());
}

#[tokio::test]
async fn care_that_was_lost_is_made_anew_with_what_is_true_then() {
    let (lab, first) = with_a_backup().await;
    lab.advance(7 * HOUR).await;
    let lost = lab.care().await.expect("a collection");
    lab.env.advance(Duration::from_secs(31));
    lab.settle().await;
    let second = lab.backup(&lab.tenant, first.volume_id).await;
    let task = lab.care().await.expect("a collection");
    assert_ne!(task.task_id, lost.task_id);
    let TaskSpec::VaultCollect { known, .. } = &task.spec else {
        panic!("{task:?}");
    };
    assert!(known.iter().any(|key| key.backup_id == second));
    let late = Ok(TaskOutcome::Collected {
        collection: collection(CollectionState::Done),
    });
    assert!(
        lab.board
            .finish(lost.task_id, lost.fence, late)
            .await
            .is_err()
    );
    assert_eq!(lab.vault().await.collection, None);
}

#[tokio::test]
async fn care_that_failed_is_tried_again_and_says_why() {
    let (lab, _) = with_a_backup().await;
    lab.advance(7 * HOUR).await;
    let task = lab.care().await.expect("a collection");
    lab.answer(&task, TaskOutcome::Done).await;
    assert!(lab.vault().await.failure.is_some());
    assert_eq!(lab.care().await, None);
    lab.advance(HOUR).await;
    let task = lab.care().await.expect("again");
    lab.collected(&task, collection(CollectionState::NothingToDo))
        .await;
    assert_eq!(lab.vault().await.failure, None);
}

/// What is offered until nothing is due, in one word each; everything is as it should be.
async fn all_that_is_due(lab: &Lab) -> Vec<&'static str> {
    let mut done = Vec::new();
    while let Some(task) = lab.care().await {
        done.push(match &task.spec {
            TaskSpec::VaultVerify { .. } => {
                lab.verified(&task, Vec::new()).await;
                "verify"
            }
            TaskSpec::VaultMend { .. } => {
                lab.mended(&task, Mending::default()).await;
                "mend"
            }
            _ => {
                let nothing = collection(CollectionState::NothingToDo);
                lab.collected(&task, nothing).await;
                "collect"
            }
        });
    }
    done
}

#[tokio::test]
async fn small_objects_are_looked_at_as_often_as_backups() {
    let (lab, _) = with_a_backup().await;
    lab.advance(29 * DAY).await;
    assert_eq!(all_that_is_due(&lab).await, ["collect"]);
    for _ in 0..2 {
        lab.advance(DAY + HOUR).await;
        let mut done = all_that_is_due(&lab).await;
        done.sort_unstable();
        assert_eq!(done, ["collect", "mend", "verify"]);
        lab.advance(28 * DAY + 23 * HOUR).await;
        assert_eq!(all_that_is_due(&lab).await, ["collect"]);
    }
}

#[tokio::test]
async fn what_was_mended_is_shown_and_degrades_no_backup() {
    let (lab, key) = with_a_backup().await;
    lab.advance(31 * DAY).await;
    let task = loop {
        let task = lab.care().await.expect("a look at small objects");
        match &task.spec {
            TaskSpec::VaultMend { .. } => break task,
            TaskSpec::VaultVerify { .. } => lab.verified(&task, Vec::new()).await,
            _ => {
                let nothing = collection(CollectionState::NothingToDo);
                lab.collected(&task, nothing).await;
            }
        }
    };
    let bad = |object: &str| BadObject {
        object: object.to_owned(),
        what: "its seal is broken".to_owned(),
        affected: Vec::new(),
    };
    let mending = Mending {
        objects: 9,
        mended: vec![bad("sums/1")],
        left: vec![bad("quarantine/1")],
    };
    lab.mended(&task, mending.clone()).await;
    let vault = lab.vault().await;
    assert_eq!(
        (vault.mending, vault.mended_at),
        (Some(mending), Some(lab.env.now()))
    );
    assert!(vault.damage.is_empty());
    assert_eq!(lab.state_of(key.backup_id).await, ItemState::Available);
    assert_eq!(lab.care().await, None);
}

#[tokio::test]
async fn a_look_at_small_objects_that_failed_is_made_again_soon() {
    let (lab, _) = with_a_backup().await;
    lab.advance(31 * DAY).await;
    let mut failed = false;
    while let Some(task) = lab.care().await {
        match &task.spec {
            TaskSpec::VaultMend { .. } => {
                lab.answer(&task, TaskOutcome::Done).await;
                failed = true;
            }
            TaskSpec::VaultVerify { .. } => lab.verified(&task, Vec::new()).await,
            _ => {
                let nothing = collection(CollectionState::NothingToDo);
                lab.collected(&task, nothing).await;
            }
        }
    }
    assert!(failed);
    lab.advance(HOUR).await;
    assert_eq!(all_that_is_due(&lab).await, ["mend"]);
}
