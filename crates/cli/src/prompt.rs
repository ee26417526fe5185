//! Questions, asked only of people.
//!
//! **Invariant:** without a terminal on both ends nothing is ever asked: the command ends at once
//! and says which option would have answered.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use anstream::eprint;

use crate::failure::{Failure, Result};
use crate::style::printable;

/// Whether a person can be asked.
fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks for `name` to be typed before something is lost, unless `yes` gave it already. `loss`
/// says what is lost.
pub fn confirm_name(name: &str, yes: Option<&str>, loss: &str) -> Result<()> {
    let typed = match yes {
        Some(typed) => typed.to_owned(),
        None if can_ask() => ask(&format!(
            "{loss}\nType the name {} to go on: ",
            quoted(name)
        ))?,
        None => {
            return Err(
                Failure::usage(format!("{loss} This needs your confirmation.")).hint(format!(
                    "nobody can be asked here; confirm with --yes={}",
                    quoted(name)
                )),
            );
        }
    };
    if typed == name {
        return Ok(());
    }
    let failure = Failure::usage("The name does not match; nothing was changed.");
    Err(failure.hint(format!("the name is {}", quoted(name))))
}

/// Asks for a line of text. `option` is the one that would have answered.
pub fn line(question: &str, option: &str) -> Result<String> {
    if !can_ask() {
        return Err(missing(question, option));
    }
    ask(&format!("{question}: "))
}

/// Asks for a line that is not shown. `option` is the one that would have answered.
pub fn secret(question: &str, option: &str) -> Result<String> {
    if !can_ask() {
        return Err(missing(question, option));
    }
    eprint!("{question}: ");
    console::Term::stderr()
        .read_secure_line()
        .map_err(|error| Failure::file("read the terminal", &error))
}

fn missing(question: &str, option: &str) -> Failure {
    Failure::usage(format!(
        "{question} is missing, and nobody can be asked here."
    ))
    .hint(format!("give it with {option}"))
}

fn ask(question: &str) -> Result<String> {
    eprint!("{}", printable(question));
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::file("read the terminal", &error))?;
    Ok(answer.trim_end_matches(['\r', '\n']).to_owned())
}

/// A word as a shell takes it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_can_be_pasted_into_a_shell() {
        assert_eq!(quoted("before-upgrade"), "before-upgrade");
        assert_eq!(quoted("before upgrade"), "'before upgrade'");
        assert_eq!(quoted("it's; rm -rf"), r"'it'\''s; rm -rf'");
    }

    #[test]
    fn a_wrong_name_changes_nothing() {
        assert!(confirm_name("db", Some("db"), "").is_ok());
        assert!(confirm_name("db", Some("DB"), "").is_err());
    }
}
