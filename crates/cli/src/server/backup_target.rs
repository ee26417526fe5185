//! The backup target of an installation: tried before its first use, and never exchanged unseen.
//!
//! What was chosen is noted in the data folder once it passed the probe. Later starts attach the
//! same target without asking it anything, so that a target that is away stops backups and nothing
//! else. That it enforces locks, where it is asked to lock, is tried and noted in the same way. Another
//! target under old backups would make new ones land where the old ones are not;
//! that is refused.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use anstream::eprintln;
use stillpoint_model::Env;
use stillpoint_vault::Error;
use stillpoint_vault::target::{LockMode, ObjectLock, Target, probe, probe_locks};

use super::data_dir::DataDir;
use crate::failure::{Exit, Failure, Result};
use crate::private_file::write_once;
use crate::target::{Place, unusable};

/// What the note says about a target.
pub fn note_of(place: &Place) -> String {
    match place {
        Place::Nowhere => "none\n".to_owned(),
        Place::Folder(None) => "local\n".to_owned(),
        Place::Folder(Some(folder)) => format!("local {}\n", folder.display()),
        Place::Mount(folder) => format!("nfs {}\n", folder.display()),
        Place::Bucket(settings) => {
            let endpoint = settings.endpoint.as_deref().unwrap_or("amazon");
            format!("s3 {} {endpoint}\n", settings.address())
        }
    }
}

/// Which of the targets of an installation.
pub struct Slot {
    /// Its table in the settings.
    table: &'static str,
    /// Where it is noted.
    note: PathBuf,
    /// The folder of its own that it has when none is named.
    own: Option<PathBuf>,
    /// What it was before there was a choice.
    before_notes: Option<Place>,
}

impl Slot {
    /// Where backups are made into.
    pub fn first(data: &DataDir) -> Self {
        Self {
            table: "target",
            note: data.target_note(),
            own: Some(data.target()),
            // Installations from before there was a choice have the folder of their own.
            before_notes: data.database().exists().then_some(Place::Folder(None)),
        }
    }

    /// Where it is noted that it enforces locks.
    fn lock_note(&self) -> PathBuf {
        self.note.with_extension("locks")
    }

    /// Where copies of backups go.
    pub fn second(data: &DataDir) -> Self {
        Self {
            table: "second_target",
            note: data.second_target_note(),
            own: None,
            before_notes: None,
        }
    }
}

/// What was noted, if a target was chosen before.
pub fn noted(slot: &Slot) -> Result<Option<String>> {
    let path = &slot.note;
    match fs::read_to_string(path) {
        Ok(note) => Ok(Some(note)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(slot.before_notes.as_ref().map(note_of))
        }
        Err(error) => Err(Failure::file(
            format_args!("read {}", path.display()),
            &error,
        )),
    }
}

/// Refuses another target than the one that was chosen, `before` this start.
pub fn keep_to(before: Option<&str>, place: &Place, slot: &Slot) -> Result<()> {
    let now = note_of(place);
    let nowhere = note_of(&Place::Nowhere);
    let Some(before) = before.filter(|before| *before != now && *before != nowhere) else {
        return Ok(());
    };
    let text = format!(
        "the backups of this installation are in the target `{}`, and the settings name `{}`",
        before.trim(),
        now.trim()
    );
    let (note, table) = (&slot.note, slot.table);
    Err(Failure::new(Exit::Usage, "backup_target", text)
        .hint(format!("set [{table}] back to what it was"))
        .hint(format!(
            "if that is the same target under another address, write `{}` into {}",
            now.trim(),
            note.display()
        )))
}

/// Gets the target ready. One that is used for the first time is tried.
pub fn attach(
    before: Option<&str>,
    place: &Place,
    slot: &Slot,
    env: &Arc<dyn Env>,
) -> Result<Option<Arc<dyn Target>>> {
    let now = note_of(place);
    let target = place.open(slot.own.clone(), env)?;
    let is_new = before != Some(now.as_str());
    if let Some(target) = &target
        && (is_new || !matches!(place, Place::Bucket(_)))
    {
        try_it(&**target, &**env)?;
    }
    if let (Some(target), Place::Bucket(settings)) = (&target, place)
        && let Some(mode) = settings.object_lock
    {
        try_locks(&**target, mode, (is_new, slot), &**env)?;
    }
    if is_new {
        // Only that there was none gives way to another note.
        let note = &slot.note;
        match fs::remove_file(note) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::file(
                    format_args!("remove {}", note.display()),
                    &error,
                ));
            }
            _ => write_once(note, now.as_bytes())?,
        };
    }
    Ok(target)
}

/// Gets the second target ready. One that the settings name no longer is left alone: its copies stay
/// there, and are not cared for.
pub fn attach_second(
    place: &Place,
    data: &DataDir,
    env: &Arc<dyn Env>,
) -> Result<Option<Arc<dyn Target>>> {
    let slot = Slot::second(data);
    let before = noted(&slot)?;
    if *place == Place::Nowhere {
        if let Some(before) = before {
            let target = before.trim();
            tracing::warn!(
                target,
                "the settings name no second target: nothing is copied"
            );
        }
        return Ok(None);
    }
    keep_to(before.as_deref(), place, &slot)?;
    attach(before.as_deref(), place, &slot, env)
}

/// Tries whether locks are enforced, unless a new target was tried just now or this one was before.
fn try_locks(
    target: &dyn Target,
    mode: LockMode,
    (was_tried, slot): (bool, &Slot),
    env: &dyn Env,
) -> Result<()> {
    let note = slot.lock_note();
    let word = format!("{}\n", mode.word());
    if fs::read_to_string(&note).is_ok_and(|noted| noted == word) {
        return Ok(());
    }
    if !was_tried {
        probe_locks(target, env).map_err(|error| locks_failed(&error))?;
    }
    match fs::remove_file(&note) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Failure::file(
            format_args!("remove {}", note.display()),
            &error,
        )),
        _ => write_once(&note, word.as_bytes()).map(drop),
    }
}

fn locks_failed(error: &Error) -> Failure {
    let failure = unusable(error);
    match error {
        Error::UnfitTarget(_) => failure.hint("nothing that is there was changed"),
        _ => failure.hint("a backup target that begins to lock must answer when the server starts"),
    }
}

fn try_it(target: &dyn Target, env: &dyn Env) -> Result<()> {
    let fitness = probe(target, env).map_err(|error| {
        let failure = unusable(&error);
        match error {
            Error::UnfitTarget(_) => failure.hint("no backup was stored there; choose another"),
            _ => failure.hint("a new backup target must answer when the server starts"),
        }
    })?;
    if fitness.object_lock == ObjectLock::Available {
        tracing::info!("the backup target has Object Lock");
    }
    if fitness.refuses_altered_bodies == Some(false) {
        eprintln!(
            "The backup target does not check what it receives: what is damaged on the way is \
             found when a backup is read back."
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use stillpoint_env::SimEnv;

    use super::*;

    fn first(data: &DataDir) -> Slot {
        Slot::first(data)
    }

    fn data() -> (tempfile::TempDir, DataDir) {
        let folder = tempfile::tempdir().expect("a folder");
        let data = DataDir::open(&folder.path().join("data")).expect("a data folder");
        (folder, data)
    }

    #[test]
    fn another_target_under_old_backups_is_refused() {
        let (folder, data) = data();
        let env: Arc<dyn Env> = Arc::new(SimEnv::new(1));
        let own = Place::Folder(None);
        assert_eq!(noted(&first(&data)).expect("a note"), None);
        attach(None, &own, &first(&data), &env).expect("attached");
        let before = noted(&first(&data)).expect("a note");
        keep_to(before.as_deref(), &own, &first(&data)).expect("the same");
        let other = Place::Folder(Some(folder.path().to_owned()));
        let refusal = keep_to(before.as_deref(), &other, &first(&data)).expect_err("another");
        assert!(
            refusal.to_string().contains("are in the target `local`"),
            "{refusal}"
        );
    }

    #[test]
    fn none_gives_way_to_a_target() {
        let (_folder, data) = data();
        let env: Arc<dyn Env> = Arc::new(SimEnv::new(1));
        assert!(
            attach(None, &Place::Nowhere, &first(&data), &env)
                .expect("none")
                .is_none()
        );
        let before = noted(&first(&data)).expect("a note");
        keep_to(before.as_deref(), &Place::Folder(None), &first(&data)).expect("a first one");
        attach(before.as_deref(), &Place::Folder(None), &first(&data), &env).expect("attached");
        assert_eq!(
            noted(&first(&data)).expect("a note").as_deref(),
            Some("local\n")
        );
    }

    #[test]
    fn an_installation_from_before_has_its_own_folder() {
        let (_folder, data) = data();
        fs::write(data.database(), "").expect("a database");
        assert_eq!(
            noted(&first(&data)).expect("a note").as_deref(),
            Some("local\n")
        );
    }

    #[test]
    fn a_second_target_may_go_and_come_back_but_not_change() {
        let (folder, data) = data();
        let env: Arc<dyn Env> = Arc::new(SimEnv::new(1));
        let second = |name: &str| Place::Folder(Some(folder.path().join(name)));
        let attached = |place: &Place| attach_second(place, &data, &env);
        fs::create_dir(folder.path().join("copies")).expect("a folder");
        assert!(attached(&Place::Nowhere).expect("none yet").is_none());
        assert!(attached(&second("copies")).expect("a first one").is_some());
        assert!(attached(&Place::Nowhere).expect("left alone").is_none());
        assert!(attached(&second("copies")).expect("the same").is_some());
        let refusal = attached(&second("elsewhere")).err().expect("another");
        assert!(refusal.to_string().contains("[second_target]"), "{refusal}");
    }
}
