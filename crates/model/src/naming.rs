//! What people may call things and say of them.
//!
//! [`crate::name::Name`] is what any name is; here is what a plan makes of it, and the limits of
//! descriptions, labels, sizes and typed confirmations.

use std::collections::{BTreeMap, BTreeSet};

use crate::name::Name;
use crate::plan::{Confirmation, Naming};
use crate::refusal::{ProblemCode, Refusal, WayOut};
use crate::{ByteCount, Timestamp};

/// Bytes of a description at most.
pub const MAX_DESCRIPTION_BYTES: usize = 64 << 10;
/// Labels of an item at most.
pub const MAX_LABELS: usize = 64;
/// Characters of a label's key at most.
pub const MAX_LABEL_KEY_CHARS: usize = 63;
/// Characters of a label's value at most.
pub const MAX_LABEL_VALUE_CHARS: usize = 255;

/// Whether an item may have this name under a plan; none asks for a generated one.
pub fn check_item_name(naming: &Naming, name: Option<&Name>) -> Result<(), Refusal> {
    let Some(name) = name else {
        return if naming.required {
            Err(Refusal::new(ProblemCode::NameInvalid, "Enter a name.").at("/name"))
        } else {
            Ok(())
        };
    };
    let max = usize::try_from(naming.max_chars).unwrap_or(usize::MAX);
    if name.chars() <= max {
        return Ok(());
    }
    let text = format!("A name has at most {max} characters here.");
    Err(Refusal::new(ProblemCode::NameInvalid, text).at("/name"))
}

/// The answer to a name that something else has; `what` is the noun of both.
pub fn name_taken(what: &str, name: &Name) -> Refusal {
    let text = format!("Another {what} is called \u{201c}{name}\u{201d}.");
    Refusal::new(ProblemCode::NameTaken, text)
        .at("/name")
        .or(WayOut::ChooseAnotherName)
}

/// A generated name: `snapshot-2026-11-21-093000`.
pub fn generated(prefix: &str, now: Timestamp) -> Option<Name> {
    let text = now.to_string();
    let (date, time) = text.split_once('T')?;
    let clock: String = time.chars().take(8).filter(char::is_ascii_digit).collect();
    format!("{prefix}-{date}-{clock}").parse().ok()
}

/// The name of what a volume held before it was put back: `before restore 2026-11-21 09:30:00`.
pub fn safety_name(now: Timestamp) -> Option<Name> {
    let text = now.to_string();
    let (date, time) = text.split_once('T')?;
    let clock = time.get(..8)?;
    format!("before restore {date} {clock}").parse().ok()
}

/// A generated name, or with `-2` and so on behind it the first that is not among `taken`.
pub fn first_free(generated: Name, taken: &BTreeSet<String>) -> Option<Name> {
    if !taken.contains(generated.as_str()) {
        return Some(generated);
    }
    // Of this many candidates one is free.
    (2..=taken.len() + 1)
        .map(|nth| format!("{generated}-{nth}"))
        .find(|name| !taken.contains(name))?
        .parse()
        .ok()
}

/// Whether an item may be described and labelled so.
pub fn check_texts(description: &str, labels: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let invalid = |text: String| Refusal::new(ProblemCode::InvalidRequest, text);
    if description.len() > MAX_DESCRIPTION_BYTES {
        let text = format!(
            "A description has at most {} KiB.",
            MAX_DESCRIPTION_BYTES >> 10
        );
        return Err(invalid(text).at("/description"));
    }
    if description
        .chars()
        .any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
    {
        let text = "A description has no control characters but line breaks and tabs.";
        return Err(invalid(text.into()).at("/description"));
    }
    if labels.len() > MAX_LABELS {
        return Err(invalid(format!("An item has at most {MAX_LABELS} labels.")).at("/labels"));
    }
    for (key, value) in labels {
        if !(1..=MAX_LABEL_KEY_CHARS).contains(&key.chars().count()) {
            let text = format!("A label's key has 1 to {MAX_LABEL_KEY_CHARS} characters.");
            return Err(invalid(text).at("/labels"));
        }
        if value.chars().count() > MAX_LABEL_VALUE_CHARS {
            let text = format!("A label's value has at most {MAX_LABEL_VALUE_CHARS} characters.");
            return Err(invalid(text).at("/labels"));
        }
        if key.chars().chain(value.chars()).any(char::is_control) {
            return Err(invalid("Labels have no control characters.".into()).at("/labels"));
        }
    }
    Ok(())
}

/// Whether what was typed confirms that `name` may be lost.
pub fn check_confirmation(
    confirmation: Confirmation,
    name: &Name,
    typed: Option<&str>,
) -> Result<(), Refusal> {
    let confirmed = match confirmation {
        Confirmation::Click => typed.is_none_or(|typed| typed == name.as_str()),
        Confirmation::TypeName => typed == Some(name.as_str()),
    };
    if confirmed {
        return Ok(());
    }
    let text = format!("Type the name \u{201c}{name}\u{201d} to confirm.");
    Err(Refusal::new(ProblemCode::InvalidRequest, text).at("/confirm"))
}

/// Whether a volume may have this size: whole MiB, at least one, at most `max`.
pub fn check_volume_size(size: ByteCount, max: ByteCount) -> Result<(), Refusal> {
    let text = if size > max {
        format!("A volume has at most {max}.")
    } else if size == ByteCount::ZERO || !size.is_multiple_of(1 << 20) {
        "A volume's size is a whole number of MiB, at least one.".to_owned()
    } else {
        return Ok(());
    };
    Err(Refusal::new(ProblemCode::InvalidRequest, text).at("/size_bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::UniqueWithin;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn a_generated_name_tells_the_time_and_counts_up() {
        let now: Timestamp = "2026-11-21T09:30:00.123456Z".parse().unwrap();
        let first = generated("snapshot", now).unwrap();
        assert_eq!(first, name("snapshot-2026-11-21-093000"));
        let mut taken = BTreeSet::new();
        let expected = ["", "-2", "-4", "-5"].map(|end| format!("{first}{end}"));
        taken.insert(format!("{first}-3"));
        for next in expected {
            let free = first_free(first.clone(), &taken).unwrap();
            assert_eq!(free.as_str(), next);
            taken.insert(next);
        }
    }

    #[test]
    fn a_plan_may_require_and_shorten_names() {
        let naming = Naming {
            required: true,
            max_chars: 3,
            unique_within: UniqueWithin::None,
        };
        let code = |given: Option<&Name>| check_item_name(&naming, given).map_err(|r| r.code);
        assert_eq!(code(None), Err(ProblemCode::NameInvalid));
        assert_eq!(code(Some(&name("four"))), Err(ProblemCode::NameInvalid));
        assert_eq!(code(Some(&name("äöü"))), Ok(()));
    }

    #[test]
    fn texts_have_limits() {
        let one = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let many = (0..65).map(|n| (n.to_string(), String::new())).collect();
        let long = "d".repeat(MAX_DESCRIPTION_BYTES + 1);
        for (description, labels) in [
            (long.as_str(), BTreeMap::new()),
            ("\u{0}", BTreeMap::new()),
            ("", many),
            ("", one("", "v")),
            ("", one(&"k".repeat(64), "v")),
            ("", one("k", &"v".repeat(256))),
            ("", one("k", "a\nb")),
        ] {
            assert!(check_texts(description, &labels).is_err(), "{labels:?}");
        }
        let fits = one(&"k".repeat(63), &"v".repeat(255));
        assert_eq!(check_texts(&long[1..], &fits), Ok(()));
    }

    #[test]
    fn only_the_exact_name_confirms() {
        let web = name("web");
        let ok = |typed| check_confirmation(Confirmation::TypeName, &web, typed).is_ok();
        assert!(ok(Some("web")));
        for wrong in [None, Some("Web"), Some("web "), Some("")] {
            assert!(!ok(wrong), "{wrong:?}");
        }
        assert!(check_confirmation(Confirmation::Click, &web, None).is_ok());
        assert!(check_confirmation(Confirmation::Click, &web, Some("other")).is_err());
    }

    #[test]
    fn a_size_is_whole_mebibytes() {
        let max = ByteCount::from_gib(1);
        for (bytes, fits) in [
            (0, false),
            (1, false),
            (1 << 20, true),
            (1 << 30, true),
            ((1 << 30) + 1, false),
        ] {
            assert_eq!(
                check_volume_size(ByteCount::new(bytes), max).is_ok(),
                fits,
                "{bytes}"
            );
        }
    }
}
