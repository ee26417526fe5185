use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Outer {
    #[serde(rename = "size_bytes")]
    _size: u64,
    #[serde(rename = "inner", default)]
    _inner: Option<Inner>,
    #[serde(rename = "labels", default)]
    _labels: BTreeMap<String, u8>,
    #[serde(rename = "list", default)]
    _list: Vec<u8>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inner {
    #[serde(rename = "kind")]
    _kind: Kind,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Snapshot,
}

fn pointer_of(text: &str) -> String {
    let error = read_json::<Outer>(text.as_bytes()).unwrap_err();
    error.refusal().pointer.clone().unwrap()
}

#[test]
fn an_error_points_at_the_field_that_is_wrong() {
    let cases = [
        (r#"{"size_bytes": "8"}"#, "/size_bytes"),
        (r#"{"size_bytes": -1}"#, "/size_bytes"),
        (r#"{"size_bytes": 1e30}"#, "/size_bytes"),
        (r#"{"size_bytes": 18446744073709551616}"#, "/size_bytes"),
        (r#"{}"#, "/size_bytes"),
        (r#"{"size_bytes": 1, "size_bytes": 2}"#, "/size_bytes"),
        (r#"{"size_bytes": 1, "sise": 2}"#, "/sise"),
        (
            r#"{"size_bytes": 1, "inner": {"kind": "tape"}}"#,
            "/inner/kind",
        ),
        (r#"{"size_bytes": 1, "inner": {}}"#, "/inner/kind"),
        (
            r#"{"size_bytes": 1, "labels": {"a/b~c": 300}}"#,
            "/labels/a~1b~0c",
        ),
        (r#"{"size_bytes": 1, "list": [1, 2, "x"]}"#, "/list/2"),
        (r#"{"size_bytes": 1} trailing"#, ""),
        ("", ""),
        ("[]", ""),
    ];
    for (text, pointer) in cases {
        assert_eq!(pointer_of(text), pointer, "{text}");
    }
}

#[test]
fn a_deep_nest_is_refused() {
    let text = format!(
        "{{\"size_bytes\": {}1{}}}",
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    assert_eq!(pointer_of(&text), "/size_bytes");
}

#[test]
fn an_explanation_is_bounded_and_plain() {
    let text = explain(&format!("\u{202e}\u{0}{}", "x".repeat(1_000_000)));
    assert!(text.starts_with("\u{fffd}\u{fffd}x"));
    assert!(text.len() < 400, "{}", text.len());
}

#[test]
fn only_a_strong_tag_of_ours_matches() {
    let parse = |text: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert(IF_MATCH, axum::http::HeaderValue::from_static(text));
        if_match(&headers)
    };
    assert_eq!(parse("\"7\"").unwrap(), Some(7));
    assert_eq!(parse("*").unwrap(), None);
    for text in [
        "W/\"7\"",
        "7",
        "\"x\"",
        "\"7\", \"8\"",
        "",
        "\"99999999999999999999\"",
    ] {
        let code = parse(text).unwrap_err().refusal().code;
        assert_eq!(code, ProblemCode::PreconditionFailed, "{text}");
    }
}
