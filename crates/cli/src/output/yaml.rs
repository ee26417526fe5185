//! JSON values as YAML 1.2, in block style.
//!
//! Our own, because what is asked for is small (objects, lists and scalars, out only) and the
//! YAML libraries are abandoned or young. Every string that could be read as something else is
//! written as JSON, which YAML 1.2 contains, so the risk is a superfluous quote.

use std::fmt::Write as _;

use serde_json::Value;

/// The value as a document, without the last line's end.
pub fn document(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => block(value, 0, &mut text),
        Value::Array(items) if !items.is_empty() => block(value, 0, &mut text),
        _ => text.push_str(&scalar(value)),
    }
    text.trim_end_matches('\n').to_owned()
}

/// A non-empty object or list, each entry on lines of its own. The first entry starts where the
/// text stands, so that an object can follow the dash of its list.
fn block(value: &Value, indent: usize, text: &mut String) {
    match value {
        Value::Object(fields) => {
            for (n, (key, value)) in fields.iter().enumerate() {
                start_line(n, indent, text);
                let _ = write!(text, "{}:", string(key));
                entry(value, indent, text);
            }
        }
        Value::Array(items) => {
            for (n, value) in items.iter().enumerate() {
                start_line(n, indent, text);
                text.push('-');
                item(value, indent, text);
            }
        }
        _ => text.push_str(&scalar(value)),
    }
}

fn start_line(n: usize, indent: usize, text: &mut String) {
    if n > 0 || text.ends_with('\n') {
        text.push_str(&" ".repeat(indent));
    }
}

/// What follows `key:`.
fn entry(value: &Value, indent: usize, text: &mut String) {
    if is_block(value) {
        text.push('\n');
        block(value, indent + 2, text);
    } else {
        let _ = writeln!(text, " {}", scalar(value));
    }
}

/// What follows the dash of a list.
fn item(value: &Value, indent: usize, text: &mut String) {
    text.push(' ');
    if is_block(value) {
        block(value, indent + 2, text);
    } else {
        let _ = writeln!(text, "{}", scalar(value));
    }
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => string(text),
        other => other.to_string(),
    }
}

/// Plain when nothing but letters, digits and a few harmless signs is in it, it starts with a
/// letter, and it is no word that means something else.
fn string(text: &str) -> String {
    const WORDS: [&str; 10] = [
        "true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan",
    ];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-./+".contains(c))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if plain {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nests_lists_and_objects() {
        let value = json!({
            "name": "db", "size": 10, "note": "yes", "empty": {}, "none": null,
            "labels": {"a b": "c: d"},
            "items": [{"id": "0193", "sizes": {"used": 1}}, [1, 2], "x"],
        });
        insta::assert_snapshot!(document(&value), @r#"
        empty: {}
        items:
          - id: "0193"
            sizes:
              used: 1
          - - 1
            - 2
          - x
        labels:
          "a b": "c: d"
        name: db
        none: null
        note: "yes"
        size: 10
        "#);
    }
}
