//! Every help text, as a whole: read them as their readers will.

use crate::run::run;

/// The verbs that a noun's help names.
fn verbs(noun: &str) -> Vec<String> {
    let help = run(&[noun, "--help"]).stdout;
    let section = help.split("Commands:").nth(1).unwrap_or_default();
    section
        .lines()
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_whitespace().next().map(String::from))
        .collect()
}

#[test]
fn the_first_help_names_every_noun_and_the_exit_codes() {
    insta::assert_snapshot!(run(&["--help"]).stdout);
}

#[test]
fn each_noun_explains_its_verbs() {
    let nouns = [
        "volume",
        "snapshot",
        "backup",
        "image",
        "restore",
        "instance",
        "flavor",
        "operation",
        "auth",
        "admin",
        "api",
        "server",
        "vault",
        "pool",
        "completion",
    ];
    for noun in nouns {
        let mut text = run(&[noun, "--help"]).stdout;
        for verb in verbs(noun) {
            text += &format!("\n=== {noun} {verb}\n");
            let help = run(&[noun, &verb, "--help"]).stdout;
            // The noun's own help shows this once.
            text += help
                .split("\nConnection and output:")
                .next()
                .unwrap_or_default();
        }
        insta::assert_snapshot!(noun, text);
    }
}

#[test]
fn no_help_shows_a_token_of_the_environment() {
    let home = tempfile::tempdir().expect("a home");
    let output = crate::run::command(home.path())
        .args(["volume", "list", "--help"])
        .env("STILLPOINT_TOKEN", "stp_secret")
        .output()
        .expect("started");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("stp_secret"));
}
