//! What is wrong inside a body.

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use stillpoint_model::refusal::ProblemCode::{
    InvalidRequest, NameInvalid, NameTaken, NotFound, TooLarge, UnsupportedMediaType,
};

use super::Table;
use crate::server::MIB;

pub(super) fn names(table: &mut Table<'_>) {
    let long = "n".repeat(121);
    let huge = "n".repeat(900_000);
    for name in [
        "",
        " ",
        " a",
        "a ",
        "a\u{0}b",
        "a\nb",
        "a\tb",
        "a\u{7f}b",
        "a\u{202e}txt.exe",
        "a\u{200b}b",
        "a\u{2028}b",
        "\u{feff}a",
        "a\u{e0041}b",
        "a/b",
        "../../etc/passwd",
        ".",
        "..",
        "0193b5a2-7c1e-7d4f-9a51-0c2d6d5e8f10",
        "0193b5a27c1e7d4f9a510c2d6d5e8f10",
        &long,
        &huge,
    ] {
        let body = json!({"name": name, "size_bytes": 64 * MIB});
        table.post("/v1/volumes", &body, NameInvalid, "/name");
    }
    for name in [
        json!(5),
        json!(null),
        json!(["a"]),
        json!({"a": "b"}),
        json!(true),
    ] {
        let body = json!({"name": name, "size_bytes": 64 * MIB});
        table.post("/v1/volumes", &body, InvalidRequest, "/name");
    }
    table.post(
        "/v1/volumes",
        &json!({"size_bytes": 64 * MIB}),
        InvalidRequest,
        "/name",
    );
    let taken = json!({"name": "disk", "size_bytes": 64 * MIB});
    table.post("/v1/volumes", &taken, NameTaken, "/name");
}

pub(super) fn names_of_items(table: &mut Table<'_>) {
    for path in ["/v1/snapshots", "/v1/backups"] {
        let long = json!({"volume": "disk", "name": "n".repeat(51)});
        table.post(path, &long, NameInvalid, "/name");
        table.post(
            path,
            &json!({"volume": "disk", "name": "a\u{202e}b"}),
            NameInvalid,
            "/name",
        );
    }
    table.post(
        "/v1/snapshots",
        &json!({"volume": "disk", "name": "snap"}),
        NameTaken,
        "/name",
    );
    table.post(
        "/v1/backups",
        &json!({"volume": "disk", "name": "bak"}),
        NameTaken,
        "/name",
    );
    let volume = format!("/v1/volumes/{}", table.mine.volume);
    table.patch(&volume, &json!({"name": "a/b"}), NameInvalid, "/name");
    table.post(
        &format!("{volume}/clone"),
        &json!({"name": "disk"}),
        NameTaken,
        "/name",
    );
}

pub(super) fn sizes(table: &mut Table<'_>) {
    let too_large = 65 * 1024 * 1024 * MIB;
    for size in [
        json!(0),
        json!(1),
        json!(511),
        json!(4095),
        json!(64 * MIB + 1),
        json!(64 * MIB + 512),
        json!(64 * MIB + 4096),
        json!(too_large),
        json!(u64::MAX),
        json!(-1),
        json!(-64 * (1 << 20)),
        json!(1.5),
        json!(1e30),
        json!("64"),
        json!("64 GiB"),
        json!(true),
        json!([64]),
        json!({"bytes": 64}),
        json!(null),
    ] {
        let body = json!({"name": "new", "size_bytes": size});
        table.post("/v1/volumes", &body, InvalidRequest, "/size_bytes");
    }
    for text in [
        "18446744073709551616",
        "1e6",
        "67108864.0",
        "0x4000000",
        "067108864",
        "NaN",
    ] {
        let body = format!("{{\"name\": \"new\", \"size_bytes\": {text}}}");
        let at = if matches!(text, "0x4000000" | "067108864" | "NaN") {
            "-"
        } else {
            "/size_bytes"
        };
        table.raw(&format!("size {text}"), body, InvalidRequest, at);
    }
    let resize = format!("/v1/volumes/{}/resize", table.mine.volume);
    for size in [
        json!(0),
        json!(64 * MIB + 1),
        json!(too_large),
        json!("big"),
    ] {
        table.post(
            &resize,
            &json!({"size_bytes": size}),
            InvalidRequest,
            "/size_bytes",
        );
    }
    table.post(&resize, &json!({}), InvalidRequest, "/size_bytes");
}

pub(super) fn bodies(table: &mut Table<'_>) {
    let deep = format!(
        "{{\"name\": {}1{}}}",
        "[".repeat(50_000),
        "]".repeat(50_000)
    );
    let good = "{\"name\": \"new\", \"size_bytes\": 67108864}";
    for (what, body) in [
        ("nothing", ""),
        ("an open brace", "{"),
        ("null", "null"),
        ("an array", "[]"),
        ("a string", "\"new\""),
        ("a trailing comma", "{\"name\": \"new\",}"),
        ("single quotes", "{'name': 'new'}"),
        ("a comment", "{/* */}"),
        ("a byte order mark", "\u{feff}{}"),
        (
            "a lone surrogate",
            "{\"name\": \"\\ud800\", \"size_bytes\": 67108864}",
        ),
    ] {
        table.raw(what, body.to_owned(), InvalidRequest, "-");
    }
    table.raw("two values", format!("{good}{good}"), InvalidRequest, "");
    table.raw(
        "bytes that are no text",
        b"{\"name\": \"\xff\xfe\"}".to_vec(),
        InvalidRequest,
        "-",
    );
    table.raw("UTF-16", b"\xff\xfe{\0}\0".to_vec(), InvalidRequest, "");
    table.raw("a deep nest", deep, InvalidRequest, "/name");
    let twice = "{\"name\": \"new\", \"name\": \"old\", \"size_bytes\": 67108864}";
    table.raw("a field twice", twice, InvalidRequest, "/name");
    table.raw("2 MiB of blanks", " ".repeat(2 << 20), TooLarge, "-");
    table.raw(
        "2 MiB of name",
        format!("{{\"name\": \"{}\"}}", "n".repeat(2 << 20)),
        TooLarge,
        "-",
    );
    for content_type in [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/xml",
    ] {
        let mut request = table.ask(Method::POST, "/v1/volumes").body(good);
        if !content_type.is_empty() {
            request = request.header(CONTENT_TYPE, content_type);
        }
        table.add(
            &format!("type {content_type:?}"),
            request,
            UnsupportedMediaType,
            "-",
        );
    }
}

pub(super) fn fields(table: &mut Table<'_>) {
    let volumes = "/v1/volumes";
    let nobody = "0193b5a2-7c1e-7d4f-9a51-0c2d6d5e8f10";
    let base = |extra: Value| {
        let mut body = json!({"name": "new", "size_bytes": 64 * MIB});
        body.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        body
    };
    table.post(volumes, &base(json!({"sise": 1})), InvalidRequest, "/sise");
    table.post(
        volumes,
        &base(json!({"account_id": nobody})),
        InvalidRequest,
        "/account_id",
    );
    table.post(
        volumes,
        &base(json!({"role": "boot"})),
        InvalidRequest,
        "/role",
    );
    table.post(volumes, &base(json!({"pool": 7})), InvalidRequest, "/pool");
    table.post(
        volumes,
        &base(json!({"pool": "no-such-pool"})),
        NotFound,
        "/pool",
    );
    table.post(volumes, &base(json!({"pool": nobody})), NotFound, "/pool");
    let image = |upload: Value, format: Value| json!({"name": "new", "upload": {"id": upload, "format": format}});
    table.post(
        volumes,
        &json!({"name": "new"}),
        InvalidRequest,
        "/size_bytes",
    );
    let both = base(json!({"upload": {"id": nobody, "format": "raw"}}));
    table.post(volumes, &both, InvalidRequest, "/size_bytes");
    table.post(
        volumes,
        &image(json!("x"), json!("raw")),
        InvalidRequest,
        "/upload/id",
    );
    table.post(
        volumes,
        &image(json!(nobody), json!("vmdk")),
        InvalidRequest,
        "/upload/format",
    );
    let shapeless = json!({"name": "new", "upload": {"id": nobody}});
    table.post(volumes, &shapeless, InvalidRequest, "/upload/format");
    table.post(
        volumes,
        &image(json!(nobody), json!("raw")),
        NotFound,
        "/upload/id",
    );
}

pub(super) fn fields_of_items(table: &mut Table<'_>) {
    for path in ["/v1/snapshots", "/v1/backups"] {
        table.post(path, &json!({"name": "new"}), InvalidRequest, "/volume");
        table.post(path, &json!({"volume": ""}), NotFound, "/volume");
        table.post(path, &json!({"volume": "no-such-volume"}), NotFound, "-");
        table.post(path, &json!({"volume": 5}), InvalidRequest, "/volume");
        let with = |key: &str, value: Value| json!({"volume": "disk", key: value});
        table.post(
            path,
            &with("description", json!(7)),
            InvalidRequest,
            "/description",
        );
        let long = json!("d".repeat(65_537));
        table.post(
            path,
            &with("description", long),
            InvalidRequest,
            "/description",
        );
        table.post(path, &with("labels", json!([])), InvalidRequest, "/labels");
        table.post(
            path,
            &with("labels", json!({"a": 1})),
            InvalidRequest,
            "/labels/a",
        );
        table.post(
            path,
            &with("labels", json!({"": "x"})),
            InvalidRequest,
            "/labels",
        );
        table.post(
            path,
            &with("labels", json!({"k": "a\u{0}"})),
            InvalidRequest,
            "/labels",
        );
        table.post(
            path,
            &with("protected", json!(true)),
            InvalidRequest,
            "/protected",
        );
    }
    let twice = "{\"volume\": \"disk\", \"labels\": {\"a\": \"1\", \"a\": \"2\"}}";
    let request = table
        .server
        .raw(&table.server.tenant, "/v1/snapshots", twice);
    table.add("a label twice", request, InvalidRequest, "/labels");
    let verify = format!("/v1/backups/{}/verify", table.mine.backup);
    table.post(&verify, &json!({"deep": "yes"}), InvalidRequest, "/deep");
}

pub(super) fn restores(table: &mut Table<'_>) {
    let path = "/v1/restores";
    let snap = json!({"kind": "snapshot", "item": "snap"});
    let with = |key: &str, value: Value, mode: &str| json!({"source": snap.clone(), "mode": mode, key: value});
    table.post(
        path,
        &json!({"mode": "new_volume"}),
        InvalidRequest,
        "/source",
    );
    table.post(
        path,
        &json!({"source": snap.clone()}),
        InvalidRequest,
        "/mode",
    );
    table.post(
        path,
        &json!({"source": snap.clone(), "mode": "both"}),
        InvalidRequest,
        "/mode",
    );
    let tape = json!({"source": {"kind": "tape", "item": "x"}, "mode": "new_volume"});
    table.post(path, &tape, InvalidRequest, "/source/kind");
    let nothing = json!({"source": {"kind": "backup"}, "mode": "new_volume"});
    table.post(path, &nothing, InvalidRequest, "/source/item");
    table.post(
        path,
        &with("confirm", json!("disk"), "new_volume"),
        InvalidRequest,
        "/confirm",
    );
    table.post(
        path,
        &with("name", json!("x"), "in_place"),
        InvalidRequest,
        "/name",
    );
    table.post(
        path,
        &with("pool", json!("pool-1"), "in_place"),
        InvalidRequest,
        "/pool",
    );
    table.post(
        path,
        &with("confirm", json!("disc"), "in_place"),
        InvalidRequest,
        "/confirm",
    );
    table.post(
        path,
        &with("confirm", json!("DISK"), "in_place"),
        InvalidRequest,
        "/confirm",
    );
    table.post(
        path,
        &json!({"source": snap, "mode": "in_place"}),
        InvalidRequest,
        "/confirm",
    );
    table.post(
        path,
        &with("name", json!("disk"), "new_volume"),
        NameTaken,
        "/name",
    );
    let gone = json!({"source": {"kind": "snapshot", "item": "none"}, "mode": "new_volume"});
    table.post(path, &gone, NotFound, "-");
}
