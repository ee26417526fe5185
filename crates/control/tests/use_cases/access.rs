//! Passwords, sessions, tokens, and the audit.

use std::time::Duration;

use stillpoint_control::admin::{self, AuditQuery};
use stillpoint_control::auth::{self, Credential};
use stillpoint_control::{ListQuery, token, upkeep};
use stillpoint_model::Env;
use stillpoint_model::audit::AuditRecord;
use stillpoint_model::id::RequestId;
use stillpoint_model::refusal::ProblemCode;
use stillpoint_store::audit::audit_insert;

use crate::lab::{Lab, PASSWORD, code, name, refused};

fn request(lab: &Lab) -> RequestId {
    RequestId::generate(&*lab.env)
}

#[tokio::test]
async fn a_password_opens_a_session_that_ends() {
    let lab = Lab::new().await;
    let wrong = auth::sign_in(&lab.cx, "tenant", "wrong", request(&lab)).await;
    let unknown = auth::sign_in(&lab.cx, "nobody", PASSWORD, request(&lab)).await;
    assert_eq!(refused(wrong), refused(unknown));
    let signed = auth::sign_in(&lab.cx, "tenant", PASSWORD, request(&lab))
        .await
        .expect("in");
    let secret = signed.session_secret.expose();
    assert!(auth::is_csrf_token(secret, &signed.csrf_token));
    assert!(!auth::is_csrf_token(secret, ""));
    let who = auth::authenticate(&lab.cx, Credential::Session(secret), request(&lab)).await;
    assert_eq!(who.expect("an actor").user_id, lab.tenant.user_id);
    let bearer = auth::authenticate(&lab.cx, Credential::Bearer(secret), request(&lab)).await;
    assert_eq!(code(bearer), ProblemCode::Unauthenticated);
    auth::sign_out(&lab.cx, secret).await.expect("out");
    let after = auth::authenticate(&lab.cx, Credential::Session(secret), request(&lab)).await;
    assert_eq!(code(after), ProblemCode::Unauthenticated);
    let debug = format!("{signed:?}");
    assert!(!debug.contains(secret));
}

#[tokio::test]
async fn a_session_is_over_when_its_time_is() {
    let lab = Lab::new().await;
    let signed = auth::sign_in(&lab.cx, "tenant", PASSWORD, request(&lab))
        .await
        .expect("in");
    let secret = signed.session_secret.expose();
    let ask =
        async || auth::authenticate(&lab.cx, Credential::Session(secret), request(&lab)).await;
    assert!(ask().await.is_ok());
    lab.env.advance(Duration::from_hours(13));
    assert_eq!(code(ask().await), ProblemCode::Unauthenticated);
    upkeep::trim(&lab.cx).await.expect("trimmed");
    assert_eq!(code(ask().await), ProblemCode::Unauthenticated);
}

#[tokio::test]
async fn a_token_works_until_it_is_revoked() {
    let lab = Lab::new().await;
    let (token, secret) = token::create(&lab.cx, &lab.tenant, name("ci"), None, None)
        .await
        .expect("a token");
    assert!(secret.expose().starts_with("stp_"));
    assert!(secret.expose().starts_with(&token.prefix));
    let ask = async || {
        auth::authenticate(&lab.cx, Credential::Bearer(secret.expose()), request(&lab)).await
    };
    assert!(ask().await.is_ok());
    let listed = token::list(&lab.cx, &lab.tenant, &ListQuery::default())
        .await
        .expect("a list");
    assert_eq!(listed.items[0].last_used_at, Some(lab.env.now()));
    let theirs = token::revoke(&lab.cx, &lab.other, token.id).await;
    assert_eq!(code(theirs), ProblemCode::NotFound);
    assert!(ask().await.is_ok());
    token::revoke(&lab.cx, &lab.tenant, token.id)
        .await
        .expect("revoked");
    assert_eq!(code(ask().await), ProblemCode::Unauthenticated);
}

#[tokio::test]
async fn a_token_expires() {
    let lab = Lab::new().await;
    let end = lab.env.now().saturating_add(Duration::from_secs(5));
    let (_, secret) = token::create(&lab.cx, &lab.tenant, name("ci"), Some(end), None)
        .await
        .expect("a token");
    let ask = async || {
        auth::authenticate(&lab.cx, Credential::Bearer(secret.expose()), request(&lab)).await
    };
    assert!(ask().await.is_ok());
    lab.env.advance(Duration::from_secs(5));
    assert_eq!(code(ask().await), ProblemCode::Unauthenticated);
    let past = token::create(&lab.cx, &lab.tenant, name("ci"), Some(end), None).await;
    assert_eq!(refused(past).pointer.as_deref(), Some("/expires_at"));
}

#[tokio::test]
async fn each_mutation_leaves_one_record_and_the_chain_holds() {
    let lab = Lab::new().await;
    let count = async || {
        admin::verify_audit(&lab.cx, &lab.admin)
            .await
            .expect("a look")
            .expect("whole")
    };
    let before = count().await;
    let id = lab.volume(&lab.tenant, "web").await;
    assert_eq!(count().await, before + 1);
    lab.snapshot(&lab.tenant, id).await;
    assert_eq!(count().await, before + 2);
    drop(
        lab.ask_volume(&lab.tenant, "web", &stillpoint_control::Change::default())
            .await,
    );
    assert_eq!(count().await, before + 2, "a refusal changes nothing");
    let query = AuditQuery {
        before: None,
        limit: 1,
    };
    let newest = admin::audit(&lab.cx, &lab.admin, &query)
        .await
        .expect("a look");
    assert_eq!(
        (newest[0].login.as_str(), newest[0].action.as_str()),
        ("tenant", "snapshot_create")
    );
}

#[tokio::test]
async fn a_record_that_does_not_fit_is_found() {
    let lab = Lab::new().await;
    lab.volume(&lab.tenant, "web").await;
    let query = AuditQuery {
        before: None,
        limit: 1,
    };
    let newest = admin::audit(&lab.cx, &lab.admin, &query)
        .await
        .expect("a look")
        .remove(0);
    let forged = AuditRecord {
        sequence: newest.sequence + 1,
        ..newest
    };
    let place = forged.sequence;
    lab.db
        .write(move |tx| Box::pin(async move { audit_insert(tx, &forged).await }))
        .await
        .expect("written");
    let found = admin::verify_audit(&lab.cx, &lab.admin)
        .await
        .expect("a look");
    assert_eq!(found, Err(place));
}
