//! What the API answers, as the stub sends it.

use serde_json::{Value, json};

/// The volume `db`.
pub const VOLUME_ID: &str = "0193b5a2-7c1e-7d4f-9a51-000000000001";
/// Its snapshot `first`.
pub const SNAPSHOT_ID: &str = "0193b5a2-7c1e-7d4f-9a51-000000000002";
pub const IMAGE_ID: &str = "019b76da-a800-7000-8000-0000000001a6";
/// Its backup `nightly`.
pub const BACKUP_ID: &str = "0193b5a2-7c1e-7d4f-9a51-000000000003";
/// An operation on it.
pub const OPERATION_ID: &str = "0193b5a2-7c1e-7d4f-9a51-000000000004";
/// The instance `web`.
pub const INSTANCE_ID: &str = "0193b5a2-7c1e-7d4f-9a51-000000000005";
/// Its root.
pub const ROOT_ID: &str = "0193b5a2-7c1e-7d4f-9a51-000000000006";
/// The snapshot `before` of `web`.
pub const WHOLE_ID: &str = "0193b5a2-7c1e-7d4f-9a51-000000000007";
/// Anything else that has an id.
pub const OTHER_ID: &str = "0193b5a2-7c1e-7d4f-9a51-00000000000f";

/// A volume at rest.
pub fn volume(name: &str) -> Value {
    json!({
        "id": VOLUME_ID, "name": name, "role": "data",
        "size_bytes": 10_737_418_240_u64, "used_bytes": 1_610_612_736_u64,
        "state": "available", "attachment": null, "origin": null,
        "filling": null, "active_operation": null, "cooldown_until": null,
        "cooldown_remaining_s": 0,
        "snapshots": 2, "backups": 1, "caps": {"max_snapshots": 5, "max_backups": 10},
        "confirm": confirm(),
        "plan": "stillpoint", "compression_level": 3, "keep_backups_s": null, "pool_id": OTHER_ID, "pool": "local", "region": "here",
        "failure": null, "created_at": "2026-11-21T09:30:00.123456Z", "version": 1, "actions": [],
    })
}

/// A volume that is attached, and of which a backup is being made.
pub fn busy_volume(name: &str) -> Value {
    let mut volume = volume(name);
    volume["state"] = json!("in-use");
    volume["attachment"] = json!({
        "instance": "web-1", "instance_id": INSTANCE_ID, "place": 1, "state": "running",
    });
    volume["origin"] = json!({"kind": "snapshot", "id": SNAPSHOT_ID});
    volume["active_operation"] = json!({
        "id": OPERATION_ID, "kind": "backup_create", "phase": "data capture", "percent": 45,
        "bytes_done": 4500, "bytes_total": 10000, "rate": 100, "eta_s": 55, "cancellable": true,
    });
    volume
}

/// An instance that runs, with a root and the volume `db`.
pub fn instance(name: &str) -> Value {
    let volume = |id: &str, name: &str, role: &str, place: u32| {
        json!({
            "id": id, "name": name, "role": role, "place": place,
            "size_bytes": 10_737_418_240_u64, "state": "in-use",
        })
    };
    let root = volume(ROOT_ID, &format!("{name}-root"), "root", 0);
    json!({
        "id": INSTANCE_ID, "name": name, "state": "active", "power": "running", "ready": true,
        "load_percent": 7, "flavor": flavor("small", None),
        "volumes": [root, volume(VOLUME_ID, "db", "data", 1)], "active_operation": null,
        "confirm_delete": "type_name", "pool_id": OTHER_ID, "pool": "local", "node": "node-1",
        "region": "here", "failure": null, "created_at": "2026-11-21T09:30:00.123456Z",
        "started_at": "2026-11-21T09:30:05.123456Z", "version": 4, "actions": [],
    })
}

/// An instance that stands still, and is just being stopped.
pub fn busy_instance(name: &str) -> Value {
    let mut instance = instance(name);
    instance["power"] = json!("paused");
    instance["ready"] = json!(false);
    instance["load_percent"] = Value::Null;
    instance["active_operation"] = json!({
        "id": OPERATION_ID, "kind": "instance_stop", "phase": "machine", "percent": null,
        "bytes_done": 0, "bytes_total": null, "rate": null, "eta_s": null, "cancellable": false,
    });
    instance
}

/// What instances are made of.
pub fn flavor(name: &str, gpu: Option<&str>) -> Value {
    json!({"name": name, "vcpus": 2, "memory_bytes": 4_294_967_296_u64, "gpu": gpu})
}

/// An operation of this kind on the instance `web` alone.
pub fn instance_operation(kind: &str, state: &str) -> Value {
    let mut operation = operation(state);
    for field in ["volume_id", "volume_name", "snapshot_id"] {
        operation[field] = Value::Null;
    }
    operation["kind"] = json!(kind);
    operation["instance_id"] = json!(INSTANCE_ID);
    operation["instance_name"] = json!("web");
    operation
}

/// An operation of this kind on the image `golden` alone.
pub fn image_operation(kind: &str, state: &str) -> Value {
    let mut operation = operation(state);
    for field in ["volume_id", "volume_name", "snapshot_id"] {
        operation[field] = Value::Null;
    }
    operation["kind"] = json!(kind);
    operation["image_id"] = json!(IMAGE_ID);
    operation["image_name"] = json!("golden");
    operation
}

/// An image of this name, of the snapshot `first`.
pub fn image(name: &str) -> Value {
    json!({
        "id": IMAGE_ID, "name": name, "description": "", "labels": {"by": "me"},
        "state": "available", "origin": {"kind": "snapshot", "id": SNAPSHOT_ID},
        "origin_name": "first", "consistency": "stopped", "size_bytes": 10_737_418_240_u64,
        "used_bytes": 1_073_741_824, "duration_ms": 35, "protected": false, "failure": null,
        "operation_id": null, "active_operation": null, "confirm_delete": "type_name",
        "pool_id": ROOT_ID, "pool": "local", "region": "here",
        "created_at": "2026-11-21T09:31:00Z", "version": 3, "actions": [],
    })
}

/// The snapshot `first` of `db`.
pub fn snapshot() -> Value {
    json!({
        "id": SNAPSHOT_ID, "name": "first", "description": "before, the \"upgrade\"",
        "labels": {"by": "me"}, "volume_id": VOLUME_ID, "volume_name": "db",
        "source_exists": true, "state": "available", "consistency": "stopped",
        "trigger": "manual", "sizes": sizes(), "duration_ms": 420, "protected": false,
        "failure": null, "operation_id": null, "created_at": "2026-11-21T09:31:00Z",
        "expires_at": null, "version": 3, "active_operation": null, "confirm": confirm(),
        "actions": [],
    })
}

/// The snapshot `before` of the instance `web`, with its root and the volume `db`.
pub fn whole_snapshot() -> Value {
    let part = |id: &str, name: &str, role: &str, place: u32| {
        json!({
            "volume_id": id, "name": name, "role": role, "place": place,
            "size_bytes": 10_737_418_240_u64, "snapshot_id": SNAPSHOT_ID,
        })
    };
    json!({
        "id": WHOLE_ID, "name": "before", "description": "before the upgrade",
        "labels": {"by": "me"}, "instance_id": INSTANCE_ID, "instance_name": "web",
        "source_exists": true, "state": "available", "consistency": "filesystem",
        "trigger": "manual", "sizes": sizes(), "flavor": flavor("small", None),
        "volumes": [part(ROOT_ID, "web-root", "root", 0), part(VOLUME_ID, "db", "data", 1)],
        "duration_ms": 420, "protected": false, "failure": null, "operation_id": null,
        "created_at": "2026-11-21T09:31:00Z", "version": 3, "active_operation": null,
        "confirm": confirm(), "actions": [],
    })
}

/// The backup `nightly` of `db`.
pub fn backup() -> Value {
    json!({
        "id": BACKUP_ID, "name": "nightly", "description": "", "labels": {},
        "volume_id": VOLUME_ID, "volume_name": "db", "source_exists": false,
        "target_id": OTHER_ID, "target": "local", "state": "available", "consistency": "stopped",
        "trigger": "scheduled", "sizes": sizes(), "bytes_read": 1_610_612_736_u64,
        "content_hash": "ab12", "verified_at": "2026-11-21T09:33:00Z", "duration_ms": 65_000,
        "protected": true, "failure": null, "operation_id": null,
        "created_at": "2026-11-21T09:32:00Z", "version": 3, "active_operation": null,
        "confirm": confirm(), "actions": [],
    })
}

fn confirm() -> Value {
    json!({"restore_in_place": "type_name", "delete": "type_name"})
}

fn sizes() -> Value {
    json!({
        "provisioned_bytes": 10_737_418_240_u64, "used_bytes": 1_610_612_736_u64,
        "changed_bytes": 8_388_608, "stored_bytes": 8_454_144, "freed_if_deleted_bytes": 4096,
    })
}

/// The operation that takes the snapshot `first`.
pub fn operation(state: &str) -> Value {
    let over = matches!(state, "succeeded" | "failed" | "cancelled");
    json!({
        "id": OPERATION_ID, "kind": "snapshot_create", "state": state, "volume_id": VOLUME_ID,
        "volume_name": "db", "snapshot_id": SNAPSHOT_ID, "backup_id": null, "user_id": OTHER_ID,
        "phase": if over { "done" } else { "data capture" }, "percent": null,
        "bytes_done": 0, "bytes_total": null, "rate": null, "eta_s": null,
        "cancellable": !over, "failure": null, "created_at": "2026-11-21T09:31:00Z",
        "started_at": "2026-11-21T09:31:00Z", "progressed_at": "2026-11-21T09:31:00Z",
        "finished_at": over.then_some("2026-11-21T09:31:00.42Z"), "version": 2,
    })
}

/// One page, the only one.
pub fn page(items: &[Value]) -> Value {
    json!({"items": items, "next_page": null})
}

/// A problem document.
pub fn problem(code: &str, status: u16, detail: &str) -> Value {
    json!({
        "type": format!("urn:stillpoint:problem:{code}"), "title": "T", "status": status,
        "detail": detail, "code": code, "request_id": OTHER_ID,
    })
}
