//! What a guest wrote to its serial console.
//!
//! It is read from the instance's node when somebody asks, and kept nowhere else. A guest writes
//! what it likes, and what it writes ends in terminals: only text, line ends and tabs come out.

use stillpoint_model::ByteCount;
use stillpoint_model::account::Actor;
use stillpoint_model::question::{Question, Said};
use stillpoint_model::refusal::{ProblemCode, Refusal};

use crate::error::Result;
use crate::reference::own_instance;
use crate::{Context, Reference};

/// So much of a console is shown.
const SHOWN: ByteCount = ByteCount::new(64 << 10);

/// The end of what the guest of an instance wrote, at most 64 KiB; empty when it never ran.
pub async fn read(cx: &Context, actor: &Actor, instance: &Reference) -> Result<String> {
    let mut conn = cx.db().read().await?;
    let instance = own_instance(&mut conn, actor, instance).await?;
    drop(conn);
    let node_id = cx.places().pool(instance.pool_id)?.node_id;
    let question = Question::Console {
        instance_id: instance.id,
        max: SHOWN,
    };
    match cx.questions().ask(node_id, question).await {
        Some(Said::Console { bytes }) => {
            let cut = u64::try_from(bytes.len()).is_ok_and(|len| len >= SHOWN.get());
            Ok(readable(&bytes, cut))
        }
        Some(Said::Nothing) | None => {
            let text =
                "The node of this instance does not say what its guest wrote. Try again later.";
            Err(Refusal::new(ProblemCode::NodeOffline, text).into())
        }
    }
}

/// The text among what a guest wrote: without escape sequences and control characters. Of what was
/// cut off in front, the rest of a line is left out.
fn readable(bytes: &[u8], cut: bool) -> String {
    let whole = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) if cut => &bytes[end + 1..],
        _ => bytes,
    };
    let text = String::from_utf8_lossy(whole);
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => skip_escape(&mut rest),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// Reads over what follows an escape character: a control sequence, a string, or one character.
fn skip_escape(rest: &mut std::str::Chars<'_>) {
    let mut ahead = rest.clone();
    match ahead.next() {
        Some('[') => {
            *rest = ahead.clone();
            // Parameters, and one character that ends it. What is neither was no part of it.
            while let Some(c) = ahead.next() {
                if !matches!(c, ' '..='~') {
                    return;
                }
                *rest = ahead.clone();
                if matches!(c, '@'..='~') {
                    return;
                }
            }
        }
        // A title or the like: until the bell or the end of the line.
        Some(']' | 'P' | '_' | '^' | 'X') => {
            *rest = ahead;
            while let Some(c) = rest.clone().next() {
                if c == '\n' || c == '\u{1b}' {
                    return;
                }
                rest.next();
                if c == '\u{7}' {
                    return;
                }
            }
        }
        // Which character set, and the like: two characters.
        Some('(' | ')' | '*' | '+' | '#' | '%') => {
            ahead.next();
            *rest = ahead;
        }
        Some(c) if c != '\n' => *rest = ahead,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_writes_is_text_and_nothing_else() {
        for (written, shown) in [
            ("login: ", "login: "),
            ("[  0.1] up\r\n\ttab\n", "[  0.1] up\n\ttab\n"),
            ("\u{1b}[1;31mred\u{1b}[0m", "red"),
            ("\u{1b}[2J\u{1b}[Hclear", "clear"),
            ("\u{1b}]0;a title\u{7}after", "after"),
            ("\u{1b}]0;a title\u{1b}\\after", "after"),
            ("\u{1b}]never ends\nnext", "\nnext"),
            ("\u{1b}(Bascii\u{1b}cx", "asciix"),
            ("\u{9b}31m\u{0}\u{8}", "31m"),
            ("\u{1b}", ""),
            ("\u{1b}[", ""),
            ("\u{1b}[3\nline", "\nline"),
        ] {
            assert_eq!(readable(written.as_bytes(), false), shown, "{written:?}");
        }
        assert_eq!(readable(b"a\xff\xfeb", false), "a\u{fffd}\u{fffd}b");
    }

    #[test]
    fn half_a_line_is_left_out() {
        assert_eq!(readable(b"alf a line\nwhole\n", true), "whole\n");
        assert_eq!(readable(b"one long line", true), "one long line");
    }
}
