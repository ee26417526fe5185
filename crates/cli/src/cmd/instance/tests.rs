use serde_json::json;

use super::*;

/// `web` with its root and two more volumes.
fn web() -> Instance {
    let volume = |n: u32, name: &str| {
        json!({
            "id": format!("019b76da-a800-710d-a48c-ea4c0967000{n}"), "name": name, "role": "data",
            "place": n, "size_bytes": 1 << 30, "state": "in-use",
        })
    };
    let volumes = [(0, "web-root"), (1, "logs"), (2, "db")].map(|(n, name)| volume(n, name));
    serde_json::from_value(json!({
        "id": "019b76da-a800-710d-a48c-ea4c09676b8e", "name": "web", "state": "active",
        "power": "paused", "ready": true, "load_percent": 7,
        "flavor": {"name": "tiny", "vcpus": 1, "memory_bytes": 256 << 20, "gpu": null},
        "volumes": volumes, "active_operation": null, "confirm_delete": "click",
        "pool_id": "019b76da-a800-710d-a48c-ea4c09676b8f", "pool": "pool-1", "node": "node-1",
        "region": "here", "failure": null, "created_at": "2026-11-21T09:30:00Z",
        "started_at": "2026-11-21T09:31:00Z", "version": 3, "actions": [],
    }))
    .unwrap()
}

fn named(these: &[&str]) -> DoomedArgs {
    DoomedArgs {
        these: these.iter().map(|&name| name.into()).collect(),
        all: false,
    }
}

#[test]
fn a_deletion_says_what_goes_and_what_stays() {
    let web = web();
    let said = |doomed: DoomedArgs| loss(&web, &doomed.of(&web).unwrap());
    assert_eq!(
        said(named(&[])),
        "This deletes the instance web. Volumes that stay: web-root, logs, db."
    );
    assert_eq!(
        said(named(&["db", "019B76DA-A800-710D-A48C-EA4C09670000"])),
        "This deletes the instance web and the data of its volumes web-root, db. \
         Volumes that stay: logs."
    );
    let all = DoomedArgs {
        these: Vec::new(),
        all: true,
    };
    assert_eq!(
        said(all),
        "This deletes the instance web and the data of its volumes web-root, logs, db."
    );
}

#[test]
fn a_volume_of_something_else_is_not_deleted_with_it() {
    assert!(named(&["db", "other"]).of(&web()).is_err());
}

#[test]
fn a_stop_says_only_what_was_asked() {
    let asked = |force, within: Option<u64>, never_force| {
        let within = within.map(Duration::from_secs);
        let args = StopArgs {
            force,
            within,
            never_force,
        };
        serde_json::to_value(args.request().unwrap()).unwrap()
    };
    assert_eq!(asked(false, None, false), json!({"how": "graceful"}));
    assert_eq!(asked(true, None, false), json!({"how": "forced"}));
    assert_eq!(
        asked(false, Some(90), true),
        json!({"how": "graceful", "bound_s": 90, "then_force": false})
    );
}
