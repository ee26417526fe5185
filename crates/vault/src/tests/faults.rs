//! The target fails or the process dies at every single call.

use std::sync::Arc;

use stillpoint_model::progress::NullMonitor;

use super::support::*;
use crate::target::{Fault, FaultTarget};
use crate::*;

const FAULTS: [Fault; 5] = [
    Fault::FailBefore,
    Fault::FailAfter,
    Fault::CrashBefore,
    Fault::CrashAfter,
    Fault::FullFrom,
];

fn disks() -> (Disk, Disk) {
    let mut first = Disk::new(500 * CHUNK);
    (0..16).for_each(|chunk| first.fill(chunk * 5, chunk + 1));
    let mut second = first.clone();
    (0..28).for_each(|chunk| second.fill(chunk * 7, chunk + 1000));
    (second.clone(), std::mem::replace(&mut second, first))
}

/// One whole backup through a failing target; whether somebody was told that it is available.
fn attempt(vault: &Vault, spec: &BackupSpec<'_>, disk: &Disk) -> Result<Receipt, Error> {
    let prepared = vault.prepare_backup(spec, disk, &NullMonitor)?;
    let receipt = prepared.commit(&mut || Ok(()))?;
    vault.read_back(spec.volume_id, spec.backup_id, &NullMonitor)?;
    Ok(receipt)
}

/// Runs the second backup with a fault at call `nth`; false when it has fewer calls.
fn back_up_with(fault: Fault, nth: u64) -> bool {
    let bench = Bench::new(nth);
    let (second, first) = disks();
    let kept = bench.back_up(&first, None, None);
    let before = bench.target.names();
    let failing = Arc::new(FaultTarget::new(bench.target.clone(), nth, fault));
    let spec = bench.spec(bench.id(), Some(kept.backup_id), None);
    let told = bench
        .through(failing.clone())
        .and_then(|vault| attempt(&vault, &spec, &second));
    if failing.calls() <= nth {
        assert!(told.is_ok(), "{told:?}");
        return false;
    }
    // A new process on a working target.
    let vault = bench.through(bench.target.clone()).unwrap();
    let reaped = vault.reap_backup(bench.volume, spec.backup_id).unwrap();
    assert!(
        told.is_err() || reaped.committed,
        "{fault:?} at {nth}: told, and then reaped"
    );
    assert_eq!(
        vault.unreferenced().unwrap(),
        Unreferenced::default(),
        "{fault:?} at {nth}"
    );
    if reaped.committed {
        vault
            .read_back(bench.volume, spec.backup_id, &NullMonitor)
            .unwrap();
        assert_eq!(bench.restored(spec.backup_id), second, "{fault:?} at {nth}");
    } else {
        assert_eq!(bench.target.names(), before, "{fault:?} at {nth}");
        attempt(&vault, &spec, &second).unwrap();
        assert_eq!(bench.restored(spec.backup_id), second, "{fault:?} at {nth}");
    }
    assert!(
        vault
            .check(CheckLevel::Decrypt, &NullMonitor)
            .unwrap()
            .is_sound()
    );
    assert_eq!(bench.restored(kept.backup_id), first, "{fault:?} at {nth}");
    true
}

#[test]
fn a_backup_that_dies_at_any_call_leaves_nothing_or_a_whole_backup() {
    for fault in FAULTS {
        let mut nth = 0;
        while back_up_with(fault, nth) {
            nth += 1;
        }
        assert!(nth > 15, "{fault:?}: only {nth} calls");
    }
}

/// Reaps a prepared run with a fault at call `nth`; false when it has fewer calls.
fn reap_with(fault: Fault, nth: u64) -> bool {
    let bench = Bench::new(nth);
    let (second, first) = disks();
    let kept = bench.back_up(&first, None, None);
    let before = bench.target.names();
    let spec = bench.spec(bench.id(), Some(kept.backup_id), None);
    let prepared = bench
        .vault
        .prepare_backup(&spec, &second, &NullMonitor)
        .unwrap();
    let failing = Arc::new(FaultTarget::new(bench.target.clone(), nth, fault));
    let reap = |vault: &Vault| vault.reap_backup(bench.volume, spec.backup_id);
    drop(
        bench
            .through(failing.clone())
            .and_then(|vault| reap(&vault)),
    );
    if failing.calls() <= nth {
        return false;
    }
    // The stopped run wakes up in the middle of it and must not commit a backup that lacks parts.
    let late = prepared.commit(&mut || Ok(()));
    let reaped = reap(&bench.vault).unwrap();
    if late.is_ok() {
        assert!(reaped.committed, "{fault:?} at {nth}");
        assert_eq!(bench.restored(spec.backup_id), second, "{fault:?} at {nth}");
    } else {
        assert_eq!(bench.target.names(), before, "{fault:?} at {nth}");
    }
    assert_eq!(bench.restored(kept.backup_id), first);
    true
}

#[test]
fn a_reaping_that_dies_at_any_call_is_finished_by_the_next() {
    for fault in FAULTS {
        let mut nth = 0;
        while reap_with(fault, nth) {
            nth += 1;
        }
        assert!(nth > 8, "{fault:?}: only {nth} calls");
    }
}

#[test]
fn deleting_works_on_a_full_target() {
    let bench = Bench::new(31);
    let (second, first) = disks();
    let kept = bench.back_up(&first, None, None);
    let spec = bench.spec(bench.id(), Some(kept.backup_id), None);
    drop(
        bench
            .vault
            .prepare_backup(&spec, &second, &NullMonitor)
            .unwrap(),
    );
    let full = Arc::new(FaultTarget::new(bench.target.clone(), 0, Fault::FullFrom));
    let vault = bench.through(full).unwrap();
    assert_eq!(
        vault
            .reap_backup(bench.volume, spec.backup_id)
            .unwrap()
            .runs,
        1
    );
    assert_eq!(vault.unreferenced().unwrap(), Unreferenced::default());
}
