//! Many at once: one winner for a volume, one operation for a key.

use std::collections::BTreeSet;

use stillpoint_control::{Answer, Change, Error, operation};
use stillpoint_model::refusal::ProblemCode;

use crate::lab::{Lab, accepted, code, plan};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_race_for_a_volume_exactly_one_wins() {
    let lab = std::sync::Arc::new(Lab::new().await);
    let id = lab.volume(&lab.tenant, "web").await;
    for round in 0..20 {
        let racers = (0..8).map(|n| {
            let lab = lab.clone();
            tokio::spawn(async move {
                if n % 2 == 0 {
                    lab.ask_snapshot(&lab.tenant, id).await
                } else {
                    lab.ask_backup(&lab.tenant, id).await
                }
            })
        });
        let mut winners = Vec::new();
        for racer in racers.collect::<Vec<_>>() {
            match racer.await.expect("a task") {
                Ok(Answer::Accepted(operation)) => winners.push(operation.id),
                Ok(Answer::Preview(_)) => panic!("a preview"),
                Err(Error::Refused(refusal)) => assert_eq!(refusal.code, ProblemCode::VolumeBusy),
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        operation::cancel(&lab.cx, &lab.tenant, winners[0], None)
            .await
            .expect("a cancel");
        lab.settle().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_request_is_the_same_request() {
    let mut plan = plan();
    plan.pacing.in_flight_per_account = 1_000;
    let lab = std::sync::Arc::new(Lab::with(plan, true).await);
    for round in 0..200_usize {
        let at_once = if round % 50 == 0 { 64 } else { 2 + round % 7 };
        let change = Change {
            idempotency_key: Some(format!("key {round}")),
            ..Change::default()
        };
        let twins: Vec<_> = (0..at_once)
            .map(|_| {
                let (lab, change) = (lab.clone(), change.clone());
                let text = format!("volume {round}");
                tokio::spawn(async move { lab.ask_volume(&lab.tenant, &text, &change).await })
            })
            .collect();
        let mut operations = BTreeSet::new();
        for twin in twins {
            operations.insert(accepted(twin.await.expect("a task")).id);
        }
        assert_eq!(operations.len(), 1, "round {round}");
    }
}

#[tokio::test]
async fn a_key_stands_for_one_request_of_one_account() {
    let lab = Lab::new().await;
    let change = Change {
        idempotency_key: Some("k".into()),
        ..Change::default()
    };
    let first = accepted(lab.ask_volume(&lab.tenant, "a", &change).await);
    let other = lab.ask_volume(&lab.tenant, "b", &change).await;
    assert_eq!(code(other), ProblemCode::IdempotencyMismatch);
    let theirs = accepted(lab.ask_volume(&lab.other, "a", &change).await);
    assert_ne!(first.id, theirs.id);
    lab.settle().await;
    let again = accepted(lab.ask_volume(&lab.tenant, "a", &change).await);
    assert_eq!(again.id, first.id);
    assert!(again.state.is_terminal());
    for key in ["", "\n", &"k".repeat(256)] {
        let change = Change {
            idempotency_key: Some(key.into()),
            ..Change::default()
        };
        let asked = lab.ask_volume(&lab.tenant, "c", &change).await;
        assert_eq!(code(asked), ProblemCode::InvalidRequest, "{key:?}");
    }
}
