//! What is wrong about instances.

use reqwest::Method;
use serde_json::{Value, json};
use stillpoint_model::refusal::ProblemCode::{
    InvalidRequest, NameInvalid, NameTaken, NotEligible, NotFound,
};

use super::Table;
use crate::server::MIB;

/// A request for an instance with an empty root, and this beside it.
fn with(key: &str, value: &Value) -> Value {
    json!({"root": {"size_bytes": 64 * MIB}, key: value})
}

pub(super) fn creations(table: &mut Table<'_>) {
    let path = "/v1/instances";
    let snap = json!({"kind": "snapshot", "item": "snap"});
    for (body, code, pointer) in [
        (json!({}), InvalidRequest, "/root"),
        (json!({"root": {}}), InvalidRequest, "/root"),
        (json!({"root": []}), InvalidRequest, "-"),
        (json!({"root": {"size": 5}}), InvalidRequest, "-"),
        (
            json!({"root": {"size_bytes": 5}}),
            InvalidRequest,
            "/root/size_bytes",
        ),
        (
            json!({"root": {"size_bytes": -1}}),
            InvalidRequest,
            "/root/size_bytes",
        ),
        (
            json!({"root": {"size_bytes": MIB, "volume": "disk"}}),
            InvalidRequest,
            "/root",
        ),
        (
            json!({"root": {"volume": "disk", "source": snap}}),
            InvalidRequest,
            "/root",
        ),
        (
            json!({"root": {"volume": "none"}}),
            NotFound,
            "/root/volume",
        ),
        (
            json!({"root": {"volume": "vm-root"}}),
            NotEligible,
            "/root/volume",
        ),
        (
            json!({"root": {"volume": "disk", "name": "a"}}),
            InvalidRequest,
            "/root/name",
        ),
        (
            json!({"root": {"size_bytes": MIB, "name": "a/b"}}),
            NameInvalid,
            "/root/name",
        ),
        (
            json!({"root": {"size_bytes": MIB, "name": "disk"}}),
            NameTaken,
            "/root/name",
        ),
        (
            json!({"root": {"source": {"kind": "tape", "item": "x"}}}),
            InvalidRequest,
            "/root/source/kind",
        ),
        (
            json!({"root": {"source": {"kind": "backup", "item": "none"}}}),
            NotFound,
            "/root/source/item",
        ),
        (with("name", &json!("vm")), NameTaken, "/name"),
        (with("name", &json!("../vm")), NameInvalid, "/name"),
        (with("flavor", &json!("gigantic")), NotFound, "/flavor"),
        (with("pool", &json!("none")), NotFound, "/pool"),
        (with("start", &json!("yes")), InvalidRequest, "/start"),
    ] {
        table.post(path, &body, code, pointer);
    }
}

pub(super) fn data(table: &mut Table<'_>) {
    let snap = json!({"kind": "snapshot", "item": "snap"});
    for (body, code, pointer) in [
        (with("data", &json!({})), InvalidRequest, "/data"),
        (
            with("data", &json!([{"volume": "disk"}, {}])),
            InvalidRequest,
            "/data/1",
        ),
        (
            with("data", &json!([{"volume": "disk"}, {"volume": "none"}])),
            NotFound,
            "/data/1/volume",
        ),
        (
            with("data", &json!([{"volume": "disk"}, {"volume": "disk"}])),
            InvalidRequest,
            "/data/1/volume",
        ),
        (
            with("data", &json!([{"size_bytes": 5}])),
            InvalidRequest,
            "/data/0/size_bytes",
        ),
        (
            with("data", &json!([{"source": snap}, {"source": snap}])),
            InvalidRequest,
            "/data",
        ),
        (
            with("data", &json!(vec![json!({"size_bytes": MIB}); 16])),
            InvalidRequest,
            "/data",
        ),
    ] {
        table.post("/v1/instances", &body, code, pointer);
    }
}

pub(super) fn of_others(table: &mut Table<'_>) {
    let (volume, instance) = (table.theirs.volume.clone(), table.theirs.instance.clone());
    for verb in ["start", "stop", "pause", "resume"] {
        let path = format!("/v1/instances/{instance}/{verb}");
        table.post(&path, &json!({}), NotFound, "-");
    }
    let theirs = json!({"instance": instance});
    table.post("/v1/volumes/disk/attach", &theirs, NotFound, "/instance");
    for (verb, body) in [("attach", json!({"instance": "vm"})), ("detach", json!({}))] {
        let path = format!("/v1/volumes/{volume}/{verb}");
        table.post(&path, &body, NotFound, "-");
    }
    let root = json!({"root": {"volume": volume}});
    table.post("/v1/instances", &root, NotFound, "/root/volume");
    table.get("/v1/operations?instance=none", NotFound, "-");
}

pub(super) fn the_rest(table: &mut Table<'_>) {
    let vm = "/v1/instances/vm";
    table.get("/v1/instances/none", NotFound, "-");
    table.get("/v1/instances?state=active", InvalidRequest, "?state");
    table.get("/v1/flavors?limit=1", InvalidRequest, "?limit");
    table.patch(vm, &json!({}), InvalidRequest, "-");
    table.patch(vm, &json!({"flavor": "large"}), InvalidRequest, "/flavor");
    table.patch(vm, &json!({"name": "a/b"}), NameInvalid, "/name");
    let stop = format!("{vm}/stop");
    for (body, pointer) in [
        (json!({"how": "softly"}), "/how"),
        (json!({"how": "forced", "bound_s": 5}), "/bound_s"),
        (json!({"how": "forced", "then_force": true}), "/then_force"),
        (json!({"bound_s": 0}), "/bound_s"),
        (json!({"bound_s": 601}), "/bound_s"),
        (json!({"mode": "forced"}), "/mode"),
    ] {
        table.post(&stop, &body, InvalidRequest, pointer);
    }
    for verb in ["stop", "pause", "resume"] {
        table.post(&format!("{vm}/{verb}"), &json!({}), NotEligible, "-");
    }
    let attach = "/v1/volumes/disk/attach";
    table.post(attach, &json!({}), InvalidRequest, "/instance");
    table.post(attach, &json!({"instance": "none"}), NotFound, "/instance");
    table.post("/v1/volumes/disk/detach", &json!({}), NotEligible, "-");
    for (query, code, pointer) in [
        ("", InvalidRequest, "?confirm"),
        ("?confirm=VM", InvalidRequest, "?confirm"),
        (
            "?confirm=vm&delete_volumes=disk",
            InvalidRequest,
            "?delete_volumes",
        ),
        (
            "?confirm=vm&delete_volumes=none",
            NotFound,
            "?delete_volumes",
        ),
        ("?confirm=vm&delete_volumes=", NotFound, "?delete_volumes"),
        (
            "?confirm=vm&delete_volumes=vm-root&delete_all_volumes=true",
            InvalidRequest,
            "?delete_volumes",
        ),
        (
            "?confirm=vm&delete_all_volumes=1",
            InvalidRequest,
            "?delete_all_volumes",
        ),
        (
            "?confirm=vm&delete_volume=vm-root",
            InvalidRequest,
            "?delete_volume",
        ),
        (
            "?confirm=vm&override_cooldown=true",
            InvalidRequest,
            "?override_cooldown",
        ),
    ] {
        let path = format!("{vm}{query}");
        let request = table.ask(Method::DELETE, &path);
        table.add(&format!("DELETE {path}"), request, code, pointer);
    }
}
