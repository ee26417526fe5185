//! Files in TOML, and errors that say where the mistake is and what was probably meant.
//!
//! ```text
//! error[config]: /etc/stillpoint.toml, line 3: unknown key `lisen`
//! hint: did you mean `listen`?
//! ```

use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::failure::{Exit, Failure, Result};

/// Reads a file whose type refuses unknown keys.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).map_err(|error| {
        Failure::new(
            Exit::Usage,
            "config",
            format!("cannot read {}: {error}", path.display()),
        )
    })?;
    parse(&text, path)
}

/// Reads what `path` holds; `path` is only named.
pub fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T> {
    toml::from_str(text).map_err(|error| explain(&error, key_of::<T>(text), text, path))
}

/// The key whose value is wrong, with those of the tables around it. The parser names it only
/// when it reads a table, where there are no lines any more.
fn key_of<T: DeserializeOwned>(text: &str) -> Option<String> {
    let table: toml::Table = toml::from_str(text).ok()?;
    let error = T::deserialize(table).err()?.to_string();
    let place = error.lines().find_map(|line| line.strip_prefix("in `"))?;
    place.strip_suffix('`').map(str::to_owned)
}

fn explain(error: &toml::de::Error, at: Option<String>, text: &str, path: &Path) -> Failure {
    let place = match error.span() {
        Some(span) => format!("{}, line {}", path.display(), line_of(text, span.start)),
        None => path.display().to_string(),
    };
    let Some((key, allowed)) = unknown_key(error.message()) else {
        let problem = error.message().replace('\n', "; ");
        let at = at.map_or_else(String::new, |key| format!("key `{key}`: "));
        return Failure::new(Exit::Usage, "config", format!("{place}: {at}{problem}"));
    };
    let failure = Failure::new(
        Exit::Usage,
        "config",
        format!("{place}: unknown key `{key}`"),
    );
    match nearest(key, &allowed) {
        Some(meant) => failure.hint(format!("did you mean `{meant}`?")),
        None => failure.hint(format!("the keys here are: {}", allowed.join(", "))),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|b| *b == b'\n').count()
}

/// The key and the allowed ones, out of serde's sentence for an unknown field.
fn unknown_key(message: &str) -> Option<(&str, Vec<&str>)> {
    if !message.starts_with("unknown field") {
        return None;
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    Some((quoted.next()?, quoted.collect()))
}

/// The allowed key that looks most like `key`, when one does.
fn nearest<'a>(key: &str, allowed: &[&'a str]) -> Option<&'a str> {
    const ALIKE: f64 = 0.75;
    allowed
        .iter()
        .map(|candidate| (strsim::jaro_winkler(key, candidate), *candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read by serde")]
    struct Sample {
        listen: Option<String>,
        data: Option<String>,
        nested: Option<Nested>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read by serde")]
    struct Nested {
        depth: u32,
    }

    fn explain(text: &str) -> String {
        let failure = parse::<Sample>(text, Path::new("s.toml")).expect_err("a mistake");
        anstream::adapter::strip_str(&failure.to_string()).to_string()
    }

    #[test]
    fn a_typo_is_answered_with_the_key_that_was_meant() {
        insta::assert_snapshot!(explain("data = \"x\"\n\nlisten_on = \"y\"\n"), @r"
        error[config]: s.toml, line 3: unknown key `listen_on`
        hint: did you mean `listen`?
        ");
        insta::assert_snapshot!(explain("zzz = 1"), @r"
        error[config]: s.toml, line 1: unknown key `zzz`
        hint: the keys here are: listen, data, nested
        ");
    }

    #[test]
    fn a_wrong_type_names_line_and_key_and_broken_syntax_its_line() {
        insta::assert_snapshot!(explain("\nlisten = 8420"), @"error[config]: s.toml, line 2: key `listen`: invalid type: integer `8420`, expected a string");
        insta::assert_snapshot!(explain("data = \"x\"\n[nested]\n\ndepth = \"deep\""), @r#"error[config]: s.toml, line 4: key `nested.depth`: invalid type: string "deep", expected u32"#);
        insta::assert_snapshot!(explain("data = \"x"), @r#"
        error[config]: s.toml, line 1: invalid basic string, expected `"`
        "#);
    }
}
