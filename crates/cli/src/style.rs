//! The little colour there is, and making text from elsewhere fit to print.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Starts the word `error`.
pub const ERROR: &str = "\u{1b}[1;31m";
/// Starts the words `hint` and `request`.
pub const NOTE: &str = "\u{1b}[36m";
/// Ends either.
pub const RESET: &str = "\u{1b}[0m";

/// The text with control characters spelled out: a description may hold anything, and a terminal
/// obeys what it is sent.
pub fn printable(text: &str) -> Cow<'_, str> {
    let hostile = |c: char| c.is_control() && c != '\n';
    if !text.chars().any(hostile) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if hostile(c) {
            let _ = write!(safe, "{}", c.escape_unicode());
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_told_what_to_do() {
        assert_eq!(printable("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\nc");
    }
}
