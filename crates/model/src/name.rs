//! Names that people give to things.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A name: 1 to [`Name::MAX_CHARS`] characters, printable, trimmed, no `/`, and never an id, so
/// that a name works wherever an id does. A plan may allow fewer characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The longest name that any plan can allow.
    pub const MAX_CHARS: usize = 120;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How many characters a person counts in it.
    pub fn chars(&self) -> usize {
        self.0.chars().count()
    }
}

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing was given.
    #[error("Enter a name of 1 to {max} characters.", max = Name::MAX_CHARS)]
    Empty,
    /// More characters than any plan allows.
    #[error("A name has at most {max} characters.", max = Name::MAX_CHARS)]
    TooLong,
    /// Blank at the start or the end.
    #[error("A name neither starts nor ends with a space.")]
    Untrimmed,
    /// A control or invisible formatting character, or a slash.
    #[error("A name has no control characters, no invisible characters and no slash.")]
    ForbiddenCharacter,
    /// A URL takes it for a folder, so that nothing could be called by it.
    #[error("A name is neither `.` nor `..`.")]
    Dots,
    /// It would be taken for an id.
    #[error("A name must not look like an id.")]
    LooksLikeId,
}

/// Characters that print nothing or turn the text around them: an invitation to deceive.
fn is_forbidden(c: char) -> bool {
    c.is_control()
        || c == '/'
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.is_empty() {
            return Err(InvalidName::Empty);
        }
        if text.chars().count() > Self::MAX_CHARS {
            return Err(InvalidName::TooLong);
        }
        if text.trim() != text {
            return Err(InvalidName::Untrimmed);
        }
        if text.chars().any(is_forbidden) {
            return Err(InvalidName::ForbiddenCharacter);
        }
        if matches!(text, "." | "..") {
            return Err(InvalidName::Dots);
        }
        if Uuid::try_parse(text).is_ok() {
            return Err(InvalidName::LooksLikeId);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_people_write() {
        for text in [
            "a",
            "before upgrade",
            "Größe 12.5",
            "数据库",
            "db-1_2026:11",
            "x\u{301}",
        ] {
            assert!(text.parse::<Name>().is_ok(), "{text:?}");
        }
    }

    #[test]
    fn refuses_what_deceives() {
        let long = "n".repeat(Name::MAX_CHARS + 1);
        for (text, why) in [
            ("", InvalidName::Empty),
            (long.as_str(), InvalidName::TooLong),
            (" a", InvalidName::Untrimmed),
            ("a\n", InvalidName::Untrimmed),
            ("a\u{0}b", InvalidName::ForbiddenCharacter),
            ("a\u{202e}b", InvalidName::ForbiddenCharacter),
            ("../etc", InvalidName::ForbiddenCharacter),
            (".", InvalidName::Dots),
            ("..", InvalidName::Dots),
            (
                "0193b5a2-7c1e-7d4f-9a51-0c2d6d5e8f10",
                InvalidName::LooksLikeId,
            ),
            ("0193b5a27c1e7d4f9a510c2d6d5e8f10", InvalidName::LooksLikeId),
        ] {
            assert_eq!(text.parse::<Name>(), Err(why), "{text:?}");
        }
    }
}
