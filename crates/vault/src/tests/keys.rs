//! Another root key, a copy of the keys, and no keys at all.

use std::sync::Arc;

use stillpoint_model::ErrorKind;
use stillpoint_model::progress::NullMonitor;

use super::support::*;
use crate::format::KEY_OBJECT_LEN;
use crate::format::names::Names;
use crate::keys::{Rotation, destroy, export, import, mend, rotate};
use crate::target::{Fault, FaultTarget, Target};
use crate::*;

fn backed_up(seed: u64) -> (Bench, Disk, Receipt, RootKey) {
    let bench = Bench::new(seed);
    let mut disk = Disk::new(8 * CHUNK);
    disk.fill(3, seed);
    let receipt = bench.back_up(&disk, None, None);
    let next = RootKey::generate(&*bench.env);
    (bench, disk, receipt, next)
}

fn opens(bench: &Bench, root: &RootKey) -> Result<Vault, Error> {
    Vault::open(
        bench.target.clone(),
        bench.vault.id(),
        root,
        bench.env.clone(),
    )
}

#[test]
fn after_a_rotation_the_new_key_restores_and_the_old_one_opens_nothing() {
    let (mut bench, disk, receipt, next) = backed_up(1);
    let id = bench.vault.id();
    let rotated = rotate(&*bench.target, id, &bench.root, &next, &*bench.env).unwrap();
    let (wrapped, removed) = (true, 1);
    assert_eq!(
        rotated,
        Rotation {
            wrapped,
            removed,
            locked: 0
        }
    );
    assert!(matches!(
        opens(&bench, &bench.root),
        Err(Error::WrongKey { .. })
    ));
    let again = rotate(&*bench.target, id, &bench.root, &next, &*bench.env).unwrap();
    assert_eq!(again, Rotation::default());
    bench.vault = opens(&bench, &next).unwrap();
    assert_eq!(bench.restored(receipt.backup_id), disk);
}

#[test]
fn a_rotation_that_dies_anywhere_leaves_a_key_that_opens_and_is_done_again() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter] {
        for nth in 0.. {
            let (bench, .., next) = backed_up(2);
            let id = bench.vault.id();
            let failing = FaultTarget::new(bench.target.clone(), nth, fault);
            if rotate(&failing, id, &bench.root, &next, &*bench.env).is_ok() {
                assert!(nth > 4, "it was not made to fail");
                break;
            }
            let (old, new) = (opens(&bench, &bench.root), opens(&bench, &next));
            assert!(old.is_ok() || new.is_ok(), "{fault:?} at call {nth}");
            rotate(&*bench.target, id, &bench.root, &next, &*bench.env).unwrap();
            assert!(opens(&bench, &next).is_ok());
            assert!(opens(&bench, &bench.root).is_err());
        }
    }
}

#[test]
fn a_key_that_opens_nothing_rotates_nothing() {
    let (bench, .., next) = backed_up(3);
    let wrong = RootKey::generate(&*bench.env);
    let refused = rotate(&*bench.target, bench.vault.id(), &wrong, &next, &*bench.env);
    assert!(matches!(refused, Err(Error::WrongKey { .. })));
    assert!(opens(&bench, &bench.root).is_ok());
    assert!(opens(&bench, &next).is_err());
}

#[test]
fn keys_that_were_lost_or_damaged_come_back_from_a_copy() {
    let (bench, disk, receipt, _) = backed_up(4);
    let id = bench.vault.id();
    let copy = export(&*bench.target, &[id], &bench.root).unwrap();
    assert_eq!(import(&*bench.target, &copy, &bench.root).unwrap(), []);
    let name = Names { vault: id }.keys(1);
    for damage in [None, Some(b"not a keys object".as_slice())] {
        bench.target.delete(&name).unwrap();
        if let Some(bytes) = damage {
            bench.target.put_new(&name, bytes).unwrap();
        }
        assert!(opens(&bench, &bench.root).is_err());
        assert_eq!(import(&*bench.target, &copy, &bench.root).unwrap(), [id]);
        assert!(opens(&bench, &bench.root).is_ok());
    }
    assert_eq!(bench.restored(receipt.backup_id), disk);
}

#[test]
fn a_copy_from_before_a_rotation_replaces_no_keys() {
    let (bench, .., next) = backed_up(5);
    let id = bench.vault.id();
    let copy = export(&*bench.target, &[id], &bench.root).unwrap();
    // Down to one generation under the new key that has the name of the one in the copy.
    rotate(&*bench.target, id, &bench.root, &next, &*bench.env).unwrap();
    let renamed = copy.replacen(" 00000001 ", " 00000002 ", 1);
    let refused = import(&*bench.target, &renamed, &bench.root);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(opens(&bench, &next).is_ok());
}

#[test]
fn a_malformed_copy_puts_nothing() {
    let (bench, ..) = backed_up(6);
    let id = bench.vault.id();
    let copy = export(&*bench.target, &[id], &bench.root).unwrap();
    assert_eq!(destroy(&*bench.target, id).unwrap(), 1);
    let line = copy.lines().nth(1).unwrap();
    let cut = &copy[..copy.len() - 3];
    let flipped = copy.replace(&line[line.len() - 4..], "0000");
    for bad in [
        "",
        "stillpoint-wrapped-keys-2\n",
        cut,
        &flipped,
        &format!("{copy}x\n"),
    ] {
        assert!(import(&*bench.target, bad, &bench.root).is_err(), "{bad}");
        assert!(matches!(
            opens(&bench, &bench.root),
            Err(Error::VaultNotFound(_))
        ));
    }
    let other = RootKey::generate(&*bench.env);
    assert!(matches!(
        import(&*bench.target, &copy, &other),
        Err(Error::WrongKey { .. })
    ));
}

#[test]
fn destroyed_keys_open_nothing_though_every_pack_is_there() {
    let (bench, .., next) = backed_up(7);
    let id = bench.vault.id();
    let crash = FaultTarget::new(bench.target.clone(), 5, Fault::CrashBefore);
    assert!(rotate(&crash, id, &bench.root, &next, &*bench.env).is_err());
    assert_eq!(destroy(&*bench.target, id).unwrap(), 2, "both generations");
    for key in [&bench.root, &next] {
        assert!(matches!(opens(&bench, key), Err(Error::VaultNotFound(_))));
    }
    let target: Arc<dyn Target> = bench.target.clone();
    assert_eq!(rescue::vault_ids(&*target).unwrap(), [id]);
    assert_eq!(destroy(&*bench.target, id).unwrap(), 0);
}

fn rot_keys(bench: &Bench, generation: u32, at: usize) {
    let name = bench.vault.names.keys(generation);
    assert!(bench.target.tamper(&name, |bytes| bytes[at] ^= 1));
}

#[test]
fn keys_that_rot_while_the_vault_is_open_are_mended_wherever_they_rot() {
    let len = KEY_OBJECT_LEN;
    for at in (0..len).step_by(7) {
        let (mut bench, disk, receipt, _) = backed_up(7);
        rot_keys(&bench, 1, at);
        let named = !bench
            .vault
            .check_small_objects(&NullMonitor)
            .unwrap()
            .is_sound();
        assert!(named, "a flipped bit in byte {at} is not found");
        let bad = mend(&bench.vault, &bench.root).unwrap();
        assert_eq!(bad, Some(bench.vault.names.keys(1)), "byte {at}");
        bench.vault = opens(&bench, &bench.root).unwrap();
        assert_eq!(bench.restored(receipt.backup_id), disk);
        assert!(
            bench
                .vault
                .check_small_objects(&NullMonitor)
                .unwrap()
                .is_sound()
        );
        assert_eq!(
            mend(&bench.vault, &bench.root).unwrap(),
            None,
            "once is enough"
        );
    }
}

#[test]
fn a_mending_of_keys_that_dies_anywhere_is_done_again() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter] {
        for nth in 0.. {
            let (bench, ..) = backed_up(8);
            rot_keys(&bench, 1, 100);
            let mut failing = bench.vault.clone();
            failing.target = Arc::new(FaultTarget::new(bench.target.clone(), nth, fault));
            if mend(&failing, &bench.root).is_ok() {
                assert!(nth > 4, "it was not made to fail");
                break;
            }
            mend(&bench.vault, &bench.root).unwrap();
            let opened = opens(&bench, &bench.root).unwrap();
            let report = opened.check_small_objects(&NullMonitor).unwrap();
            assert!(report.is_sound(), "{fault:?} at {nth}: {report:?}");
        }
    }
}

#[test]
fn keys_that_were_destroyed_or_rotated_while_the_vault_is_open_do_not_come_back() {
    let (bench, .., next) = backed_up(9);
    let id = bench.vault.id();
    assert_eq!(mend(&bench.vault, &bench.root).unwrap(), None);
    rotate(&*bench.target, id, &bench.root, &next, &*bench.env).unwrap();
    assert_eq!(mend(&bench.vault, &bench.root).unwrap(), None);
    assert!(opens(&bench, &bench.root).is_err());
    destroy(&*bench.target, id).unwrap();
    assert_eq!(mend(&bench.vault, &bench.root).unwrap(), None);
    assert!(opens(&bench, &next).is_err());
}
