//! Completion scripts.

use crate::run::run;

#[test]
fn every_shell_gets_a_script_that_knows_the_nouns() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = run(&["completion", shell]);
        assert_eq!(ended.code, 0, "{shell}: {}", ended.stderr);
        assert!(ended.stdout.contains("snapshot"), "{shell}");
    }
}
