//! The guard's process.

use rustix::process::{Pid, getsid};

use super::{FileSystems, PATIENCE, Stage, guard_program};
use crate::guard::{Ended, Frozen, GuardProgram};

/// The guard, which notes its number in this file.
fn noted(file: &std::path::Path) -> GuardProgram {
    let guard = guard_program();
    let note = r#"echo $$ >"$0"; exec "$@""#;
    let words = [
        "-c",
        note,
        file.to_str().unwrap(),
        guard.program.to_str().unwrap(),
    ];
    GuardProgram {
        program: "sh".into(),
        args: words
            .map(str::to_owned)
            .into_iter()
            .chain(guard.args)
            .collect(),
    }
}

#[test]
fn it_has_a_session_of_its_own_before_anything_is_frozen() {
    let stage = Stage::new();
    let player = stage.cast(&[]);
    let guest = FileSystems::default();
    player.agent(move |command| guest.answer(command));
    let file = stage.folder.path().join("guard");
    let socket = player.folder.agent();
    let frozen = Frozen::begin(&noted(&file), &socket, PATIENCE).unwrap();
    let number = std::fs::read_to_string(file).unwrap();
    let guard = Pid::from_raw(number.trim().parse().unwrap());
    assert_eq!(getsid(guard).ok(), guard);
    assert_eq!(frozen.end(), Ended::Held);
}
