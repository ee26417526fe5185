//! Names of objects: `part/part/part`, nothing that a file system or a bucket could misread.

use std::fmt;

/// The longest name.
const MAX_LEN: usize = 200;

/// The name of an object in a target: parts of `a-z`, `0-9`, `-` and `.` joined by `/`. No part
/// is empty or starts with a dot, so no name escapes its root.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(String);

/// The text is no name of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of an object: parts of a-z, 0-9, `-` and `.`, joined by `/`")]
pub struct InvalidName;

impl ObjectName {
    /// Checks a name.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidName> {
        let name = name.into();
        let fine = name.len() <= MAX_LEN
            && name.split('/').all(|part| {
                !part.is_empty()
                    && !part.starts_with('.')
                    && part
                        .bytes()
                        .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
            });
        if fine {
            Ok(Self(name))
        } else {
            Err(InvalidName)
        }
    }

    /// A name that this crate put together from ids and fixed words.
    pub(crate) fn made(name: String) -> Self {
        debug_assert!(Self::new(name.clone()).is_ok(), "{name}");
        Self(name)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_could_escape_its_root() {
        for name in [
            "", "/a", "a/", "a//b", "../a", "a/../b", ".a", "a/.b", "A", "a b", "a\0", "é",
        ] {
            assert_eq!(ObjectName::new(name), Err(InvalidName), "{name:?}");
        }
        assert_eq!(ObjectName::new("a".repeat(201)), Err(InvalidName));
        assert!(ObjectName::new("a-1/b.manifest/0").is_ok());
    }
}
