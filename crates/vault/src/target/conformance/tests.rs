//! The suite on the targets of this machine, and on one that must not pass.

use stillpoint_env::{SimEnv, SystemEnv};

use super::*;
use crate::Error;
use crate::target::VersionedTarget;
use crate::target::probe::probe_locks;

#[test]
fn memory_conforms() {
    conforms(&(Arc::new(MemoryTarget::new()) as _), &SystemEnv::new());
}

#[test]
fn memory_with_versions_conforms() {
    let target = VersionedTarget::new(Arc::new(SimEnv::new(1)));
    keeps_the_rules(&(Arc::new(target) as _));
}

#[test]
fn local_conforms() {
    let dir = tempfile::tempdir().unwrap();
    conforms(
        &(Arc::new(LocalTarget::open(dir.path()).unwrap()) as _),
        &SystemEnv::new(),
    );
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "it leaves no directory"
    );
}

#[test]
fn local_with_named_parts_conforms() {
    let dir = tempfile::tempdir().unwrap();
    conforms(
        &(Arc::new(LocalTarget::with_named_parts(dir.path()).unwrap()) as _),
        &SystemEnv::new(),
    );
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "it leaves no directory"
    );
}

#[test]
fn local_passes_over_what_a_crash_left_and_removes_it_when_told() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("packs/r")).unwrap();
    std::fs::write(dir.path().join(".packs+r+00000000.0.part"), b"half").unwrap();
    let target = LocalTarget::open(dir.path()).unwrap();
    assert_eq!(target.list("", None, 10).unwrap(), ListPage::default());
    target.abandon("packs/r/").unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn local_takes_a_lost_mount_for_no_empty_target() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("mount");
    std::fs::create_dir(&root).unwrap();
    let target = LocalTarget::open(&root).unwrap();
    std::fs::remove_dir(&root).unwrap();
    assert!(target.list("", None, 10).is_err());
    assert!(target.list("a/", None, 10).is_err());
}

#[test]
fn two_handles_of_a_directory_are_one_place() {
    let dir = tempfile::tempdir().unwrap();
    let open = || LocalTarget::open(dir.path()).unwrap();
    are_one(&open(), &open());
}

/// A look-alike that ignores the condition of a conditional create.
struct Replacing(MemoryTarget);

impl Target for Replacing {
    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), TargetError> {
        self.0.delete(name)?;
        match self.0.put_new(name, bytes) {
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            other => other,
        }
    }
    fn get(&self, name: &ObjectName, range: ByteRange) -> Result<Vec<u8>, TargetError> {
        self.0.get(name, range)
    }
    fn head(&self, name: &ObjectName) -> Result<ByteCount, TargetError> {
        self.0.head(name)
    }
    fn list(&self, p: &str, after: Option<&str>, limit: usize) -> Result<ListPage, TargetError> {
        self.0.list(p, after, limit)
    }
    fn delete(&self, name: &ObjectName) -> Result<(), TargetError> {
        self.0.delete(name)
    }
}

#[test]
fn the_probe_leaves_what_it_locked_and_the_next_one_takes_it_away() {
    let env = Arc::new(SimEnv::new(1));
    let target = VersionedTarget::new(env.clone());
    probe(&target, &*env).unwrap();
    let left = target.names();
    assert_eq!(left.len(), 1, "{left:?}");
    env.advance(std::time::Duration::from_secs(3600));
    probe_locks(&target, &*env).unwrap();
    assert_eq!(target.names().len(), 1);
    assert_ne!(target.names(), left);
}

#[test]
fn the_probe_refuses_a_target_that_deletes_what_is_locked() {
    let env = Arc::new(SimEnv::new(1));
    let target = VersionedTarget::ignoring_locks(env.clone());
    let error = probe(&target, &*env).unwrap_err();
    let why = stillpoint_model::error::with_causes(&error);
    assert!(why.contains("deleted a locked object"), "{why}");
    assert!(why.contains("`object_lock`"), "{why}");
}

#[test]
fn the_probe_refuses_a_target_that_replaces() {
    let error = probe(&Replacing(MemoryTarget::new()), &SimEnv::new(1)).unwrap_err();
    assert!(matches!(error, Error::UnfitTarget(_)), "{error}");
}
