//! Backups are copied into a second target on a schedule, and what is deleted stays there for long.

use std::time::Duration;

use stillpoint_control::admin::{self, CopiesSet, CopiesView, TargetCare};
use stillpoint_control::{Change, Error, backup};
use stillpoint_model::ByteCount;
use stillpoint_model::care::{BackupKey, BadObject, CollectionState, CopyPass, NotCopied};
use stillpoint_model::item::ItemState;
use stillpoint_model::operation::{Phase, Progress};
use stillpoint_model::refusal::ProblemCode;
use stillpoint_model::task::{Assignment, Report, TaskOutcome, TaskSpec};

use crate::care::{collection, refusal, with_a_backup};
use crate::lab::{Lab, accepted, by_name};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

impl Lab {
    pub async fn copy_every(&self, every: Duration) -> Result<TargetCare, Error> {
        self.copies_from("target-1", "target-2", every).await
    }

    async fn copies_from(
        &self,
        from: &str,
        to: &str,
        every: Duration,
    ) -> Result<TargetCare, Error> {
        let wanted = CopiesSet {
            to: by_name(to),
            every_s: u32::try_from(every.as_secs()).expect("seconds"),
        };
        admin::set_copies(&self.cx, &self.admin, &by_name(from), Some(wanted), None).await
    }

    /// How the copies are, as they are shown with the backups.
    async fn copies(&self) -> CopiesView {
        let seen = admin::target(&self.cx, &self.admin, &by_name("target-1")).await;
        let vault = seen.expect("a target").vaults.remove(0);
        vault.copies.expect("copies")
    }

    async fn copied(&self, task: &Assignment, pass: CopyPass) {
        self.answer(task, TaskOutcome::Copied { pass }).await;
    }

    /// Answers everything that is due but copying, as sound, and gives that.
    async fn next_copying(&self) -> Option<Assignment> {
        while let Some(task) = self.care().await {
            match &task.spec {
                TaskSpec::VaultCopy { .. } => return Some(task),
                TaskSpec::VaultVerify { .. } => self.verified(&task, Vec::new()).await,
                _ => {
                    self.collected(&task, collection(CollectionState::NothingToDo))
                        .await;
                }
            }
        }
        None
    }
}

fn what(task: &Assignment) -> (&[BackupKey], &[BackupKey]) {
    match &task.spec {
        TaskSpec::VaultCopy {
            from,
            to,
            backups,
            delete,
        } => {
            assert_eq!(
                (from.vault_id, from.account_id),
                (to.vault_id, to.account_id)
            );
            assert_ne!(from.target_id, to.target_id);
            (backups, delete)
        }
        other => panic!("{other:?}"),
    }
}

fn pass(copied: &[BackupKey], deleted: &[BackupKey]) -> CopyPass {
    let ids = |keys: &[BackupKey]| keys.iter().map(|key| key.backup_id).collect();
    CopyPass {
        copied: ids(copied),
        deleted: ids(deleted),
        stored: ByteCount::from_mib(1),
        ..CopyPass::default()
    }
}

/// A laboratory whose backup was copied.
async fn with_a_copy() -> (Lab, BackupKey) {
    let (lab, key) = with_a_backup().await;
    lab.copy_every(DAY).await.expect("a rule");
    let task = lab.care().await.expect("a copy");
    assert_eq!(what(&task), (&[key][..], &[][..]));
    lab.copied(&task, pass(&[key], &[])).await;
    assert_eq!(lab.next_copying().await, None, "nothing is left to copy");
    (lab, key)
}

#[tokio::test]
async fn copies_go_from_where_backups_are_made_to_where_only_copies_are() {
    let (lab, _) = with_a_backup().await;
    for (from, to) in [("target-1", "target-1"), ("target-2", "target-2")] {
        let answer = lab.copies_from(from, to, DAY).await;
        assert_eq!(refusal(answer), ProblemCode::NotEligible);
    }
    let often = lab.copy_every(Duration::from_secs(1)).await;
    assert_eq!(refusal(often), ProblemCode::InvalidRequest);
    let nowhere = lab.copies_from("target-1", "target-3", DAY).await;
    assert_eq!(refusal(nowhere), ProblemCode::NotFound);
    let asked = CopiesSet {
        to: by_name("target-2"),
        every_s: 3600,
    };
    let forbidden = admin::set_copies(
        &lab.cx,
        &lab.tenant,
        &by_name("target-1"),
        Some(asked),
        None,
    )
    .await;
    assert_eq!(refusal(forbidden), ProblemCode::Forbidden);
}

#[tokio::test]
async fn what_is_new_is_copied_once_and_looked_for_again_after_the_period() {
    let (lab, first) = with_a_copy().await;
    let copies = lab.copies().await;
    assert_eq!((copies.counts.copied, copies.counts.waiting), (1, 0));
    assert!(copies.active && copies.filling.passed_at.is_some());
    lab.rest().await;
    let second = lab.backup(&lab.tenant, first.volume_id).await;
    assert_eq!(lab.next_copying().await, None, "not before a day is over");
    let counts = lab.copies().await.counts;
    assert_eq!((counts.waiting, counts.behind), (1, 0));
    lab.advance(25 * HOUR).await;
    assert_eq!(lab.copies().await.counts.behind, 1);
    let task = lab.next_copying().await.expect("a copy");
    assert_eq!(what(&task).0.len(), 1);
    assert_eq!(what(&task).0[0].backup_id, second);
    let keys = what(&task).0.to_vec();
    lab.copied(&task, pass(&keys, &[])).await;
    assert_eq!(lab.copies().await.counts.behind, 0);
}

#[tokio::test]
async fn what_could_not_be_copied_is_behind_and_says_why() {
    let (lab, key) = with_a_backup().await;
    lab.copy_every(HOUR).await.expect("a rule");
    let task = lab.next_copying().await.expect("a copy");
    let left = NotCopied {
        backup_id: key.backup_id,
        why: "packs/1 is damaged".to_owned(),
    };
    let came = CopyPass {
        left: vec![left.clone()],
        ..CopyPass::default()
    };
    lab.copied(&task, came).await;
    assert_eq!(lab.next_copying().await, None, "it waits for the next time");
    lab.advance(2 * HOUR).await;
    let copies = lab.copies().await;
    assert_eq!(copies.counts.behind, 1);
    assert_eq!(copies.filling.last.expect("a pass").left, [left]);
    assert!(lab.next_copying().await.is_some());
}

#[tokio::test]
async fn a_pass_that_was_cut_off_keeps_what_it_copied_and_goes_on_soon() {
    let (lab, key) = with_a_backup().await;
    lab.copy_every(DAY).await.expect("a rule");
    let task = lab.next_copying().await.expect("a copy");
    let cut = CopyPass {
        cut_off: Some("the target does not answer".to_owned()),
        ..pass(&[key], &[])
    };
    lab.copied(&task, cut).await;
    let copies = lab.copies().await;
    assert_eq!(copies.counts.copied, 1);
    assert_eq!(
        copies.filling.failure.as_deref(),
        Some("the target does not answer")
    );
    lab.advance(HOUR).await;
    assert_eq!(lab.next_copying().await, None, "all of it was there");
    assert_eq!(lab.copies().await.filling.failure, None);
}

#[tokio::test]
async fn a_pass_that_failed_says_why_and_leaves_the_other_care_alone() {
    let (lab, _) = with_a_backup().await;
    lab.copy_every(DAY).await.expect("a rule");
    let task = lab.next_copying().await.expect("a copy");
    lab.answer(&task, TaskOutcome::Done).await;
    let copies = lab.copies().await;
    assert!(copies.filling.failure.is_some());
    assert_eq!(copies.care.failure, None);
    assert_eq!(lab.next_copying().await, None);
    lab.advance(HOUR).await;
    assert!(lab.next_copying().await.is_some());
}

#[tokio::test]
async fn a_copy_outlives_its_backup_until_the_time_for_copies_is_over() {
    let (lab, key) = with_a_copy().await;
    lab.rest().await;
    let named = key.backup_id.into();
    let shown = backup::show(&lab.cx, &lab.tenant, &named).await;
    let name = shown.expect("a backup").backup.name;
    let change = Change::default();
    let gone = backup::delete(&lab.cx, &lab.tenant, &named, Some(name.as_str()), &change).await;
    accepted(gone);
    lab.settle().await;
    lab.advance(2 * DAY).await;
    assert_eq!(lab.next_copying().await, None);
    let copies = lab.copies().await;
    assert_eq!((copies.counts.of_deleted, copies.counts.copied), (1, 0));
    assert!(copies.next_deletion.is_some());
    lab.advance(11 * DAY).await;
    assert_eq!(
        lab.next_copying().await,
        None,
        "two weeks from when it was seen"
    );
    lab.advance(4 * DAY).await;
    let task = lab.next_copying().await.expect("a deletion");
    assert_eq!(what(&task), (&[][..], &[key][..]));
    lab.copied(&task, pass(&[], &[key])).await;
    assert_eq!(lab.copies().await.counts.of_deleted, 0);
}

#[tokio::test]
async fn the_vault_of_copies_is_collected_with_what_must_be_in_it() {
    let (lab, key) = with_a_copy().await;
    lab.advance(7 * HOUR).await;
    let mut seen = 0;
    while let Some(task) = lab.care().await {
        let TaskSpec::VaultCollect { vault, known, .. } = &task.spec else {
            panic!("{task:?}");
        };
        if vault.target_id != lab.installed.target_id.expect("a target") {
            assert_eq!(known.as_slice(), [key]);
            seen += 1;
        }
        lab.collected(&task, collection(CollectionState::NothingToDo))
            .await;
    }
    assert_eq!(seen, 1);
}

#[tokio::test]
async fn damage_of_a_copy_is_told_of_the_copy_and_costs_no_backup() {
    let (lab, key) = with_a_copy().await;
    lab.advance(31 * DAY).await;
    let bad = BadObject {
        object: "packs/1".to_owned(),
        what: "it is missing".to_owned(),
        affected: vec![key.backup_id],
    };
    let mut seen = Vec::new();
    while let Some(task) = lab.care().await {
        let TaskSpec::VaultVerify { vault, twin, .. } = &task.spec else {
            lab.collected(&task, collection(CollectionState::NothingToDo))
                .await;
            continue;
        };
        let twin = twin.expect("the other one");
        assert_eq!(twin.vault_id, vault.vault_id);
        assert_ne!(twin.target_id, vault.target_id);
        seen.push(vault.target_id);
        let is_copy = vault.target_id != lab.installed.target_id.expect("a target");
        let found = if is_copy {
            vec![bad.clone()]
        } else {
            Vec::new()
        };
        lab.verified(&task, found).await;
    }
    assert_eq!(seen.len(), 2, "the vault and its copies");
    assert_eq!(lab.state_of(key.backup_id).await, ItemState::Available);
    let shown = admin::target(&lab.cx, &lab.admin, &by_name("target-2")).await;
    let vault = shown.expect("a target").vaults.remove(0);
    assert_eq!(vault.care.damage, [bad]);
    assert_eq!((vault.holds.backups, vault.holds.degraded), (1, 1));
}

#[tokio::test]
async fn copies_that_nobody_wants_any_more_stay_and_get_nothing_new() {
    let (lab, first) = with_a_copy().await;
    let ended = admin::set_copies(&lab.cx, &lab.admin, &by_name("target-1"), None, None).await;
    assert!(ended.expect("ended").copies.is_none());
    lab.rest().await;
    lab.backup(&lab.tenant, first.volume_id).await;
    lab.advance(3 * DAY).await;
    assert_eq!(lab.next_copying().await, None);
    let copies = lab.copies().await;
    assert!(!copies.active);
    assert_eq!(copies.counts.copied, 1);
}

#[tokio::test]
async fn the_target_of_copies_is_in_the_region_that_the_settings_say() {
    let lab = Lab::new().await;
    for (target, region) in [("target-1", "here"), ("target-2", "elsewhere-1")] {
        let seen = admin::target(&lab.cx, &lab.admin, &by_name(target)).await;
        assert_eq!(seen.expect("a target").target.region_name, region);
    }
}

#[tokio::test]
async fn how_far_the_copying_is_is_shown_with_the_backups() {
    let (lab, _) = with_a_backup().await;
    lab.copy_every(DAY).await.expect("a rule");
    let task = lab.care().await.expect("a copy");
    assert_eq!(lab.copies().await.copying(), None, "nothing was said yet");
    for mib in [0, 10, 20] {
        let report = Report {
            task_id: task.task_id,
            fence: task.fence,
            progress: Progress {
                bytes_done: ByteCount::from_mib(mib),
                bytes_total: Some(ByteCount::from_mib(40)),
                ..Progress::start(Phase::Copying)
            },
        };
        lab.board.report(report).await.expect("heard");
        lab.env.advance(Duration::from_secs(10));
    }
    let seen = lab.copies().await.copying().expect("it goes on");
    assert_eq!(
        (seen.percent(), seen.rate_bytes_per_s),
        (Some(50), Some(ByteCount::from_mib(1)))
    );
    assert_eq!(seen.eta(), Some(Duration::from_secs(20)));
}
