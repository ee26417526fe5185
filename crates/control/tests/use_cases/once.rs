//! One key, one request: whatever takes an `Idempotency-Key` does its work once.

use stillpoint_control::upload::{self, Begun};
use stillpoint_control::{ListQuery, operation, token};
use stillpoint_model::ByteCount;
use stillpoint_model::operation::OperationState;
use stillpoint_model::refusal::ProblemCode;

use crate::lab::{Lab, accepted, code, name};

const KEY: Option<&str> = Some("k");

#[tokio::test]
async fn a_token_is_made_once_and_its_secret_shown_again() {
    let lab = Lab::new().await;
    let (cx, me) = (&lab.cx, &lab.tenant);
    let first = token::create(cx, me, name("ci"), None, KEY).await;
    let second = token::create(cx, me, name("ci"), None, KEY).await;
    assert_eq!(first.expect("a token"), second.expect("the same"));
    let other = token::create(cx, me, name("cd"), None, KEY).await;
    assert_eq!(code(other), ProblemCode::IdempotencyMismatch);
    let all = token::list(cx, me, &ListQuery::default()).await;
    assert_eq!(all.expect("a list").items.len(), 1);
}

#[tokio::test]
async fn a_token_that_is_gone_is_not_made_again_under_its_key() {
    let lab = Lab::new().await;
    let (cx, me) = (&lab.cx, &lab.tenant);
    let made = token::create(cx, me, name("ci"), None, KEY).await;
    let (made, _) = made.expect("a token");
    token::revoke(cx, me, made.id).await.expect("revoked");
    let again = token::create(cx, me, name("ci"), None, KEY).await;
    assert_eq!(code(again), ProblemCode::NotEligible);
}

#[tokio::test]
async fn a_cancel_that_is_sent_again_is_answered_after_the_end() {
    let lab = Lab::new().await;
    let (cx, me) = (&lab.cx, &lab.tenant);
    let id = lab.volume(me, "web").await;
    let asked = accepted(lab.ask_snapshot(me, id).await).id;
    operation::cancel(cx, me, asked, KEY)
        .await
        .expect("a cancel");
    lab.settle().await;
    let again = operation::cancel(cx, me, asked, KEY).await;
    assert_eq!(again.expect("it").state, OperationState::Cancelled);
    let anew = operation::cancel(cx, me, asked, None).await;
    assert_eq!(code(anew), ProblemCode::NotEligible);
}

#[tokio::test]
async fn a_release_and_a_retry_that_are_sent_again_are_done_once() {
    let lab = Lab::new().await;
    let (cx, me, admin) = (&lab.cx, &lab.tenant, &lab.admin);
    let id = lab.volume(me, "web").await;
    let asked = accepted(lab.ask_snapshot(me, id).await).id;
    for _ in 0..2 {
        operation::release(cx, admin, asked, "stuck", KEY)
            .await
            .expect("released");
        lab.settle().await;
    }
    let other = operation::release(cx, admin, asked, "for another reason", KEY).await;
    assert_eq!(code(other), ProblemCode::IdempotencyMismatch);
    let again = Some("again");
    let first = operation::retry(cx, admin, asked, "fixed", again).await;
    lab.settle().await;
    let second = operation::retry(cx, admin, asked, "fixed", again).await;
    assert_eq!(first.expect("one").id, second.expect("the same").id);
}

#[tokio::test]
async fn an_upload_arrives_once_unless_it_broke_off() {
    let lab = Lab::new().await;
    let (cx, me) = (&lab.cx, &lab.tenant);
    let begin = async || upload::begin(cx, me, KEY).await;
    let Ok(Begun::New(lost)) = begin().await else {
        panic!("it is new");
    };
    assert_eq!(code(begin().await), ProblemCode::TooManyRequests);
    upload::abandon(cx, me, lost.id).await.expect("given up");
    let Ok(Begun::New(kept)) = begin().await else {
        panic!("it may be sent again");
    };
    assert_ne!(kept.id, lost.id);
    let size = ByteCount::from_mib(1);
    let whole = upload::complete(cx, me, kept.id, size).await;
    let whole = whole.expect("it arrived");
    assert_eq!(begin().await.expect("it"), Begun::Before(whole, size));
}
