//! Real mounts: what the kernel reads from a backup is the disk that was backed up.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::fs::{SeekFrom, seek};
use stillpoint_env::SimEnv;
use stillpoint_model::id::{AccountId, BackupId, VaultId, VolumeId};
use stillpoint_model::progress::NullMonitor;
use stillpoint_model::{ByteCount, Env};
use stillpoint_mount::{Error, Mounted, Unmount, Unmounter};
use stillpoint_vault::target::MemoryTarget;
use stillpoint_vault::{BackupSpec, ReadAt, ReadCache, RootKey, Tuning, Vault, VaultSpec};
use tempfile::TempDir;

const FRAME: u64 = 1 << 20;

/// A vault with one backup of a disk, mounted.
struct World {
    folder: TempDir,
    target: Arc<MemoryTarget>,
    backup: BackupId,
    disk: Vec<u8>,
    told: Arc<Mutex<Vec<String>>>,
    unmounter: Unmounter,
    serving: Option<JoinHandle<Result<(), Error>>>,
}

impl World {
    /// Backs a disk up and mounts the backup, after `meanwhile` had its way with the target.
    fn new(disk: Vec<u8>, meanwhile: impl FnOnce(&MemoryTarget)) -> Self {
        let folder = TempDir::new().unwrap();
        let env = Arc::new(SimEnv::new(1));
        let target = Arc::new(MemoryTarget::new());
        let vault = vault(&target, &env);
        let backup = back_up(&vault, &*env, folder.path(), &disk);
        meanwhile(&target);
        let info = vault.list_backups(None).unwrap().remove(0);
        let told = Arc::new(Mutex::new(vec![]));
        let tell = {
            let told = told.clone();
            move |trouble: &str| told.lock().unwrap().push(trouble.to_owned())
        };
        let dir = folder.path().join("mnt");
        fs::create_dir(&dir).unwrap();
        let cache = ReadCache::new(ByteCount::from_mib(4));
        let backups = vec![(vault.read_only(), info)];
        let mounted = Mounted::new(backups, &dir, &cache, Box::new(tell));
        let mut mounted = mounted.expect("/dev/fuse, and root or fusermount3");
        Self {
            unmounter: mounted.unmounter(),
            serving: Some(std::thread::spawn(move || mounted.serve())),
            folder,
            target,
            backup,
            disk,
            told,
        }
    }

    fn path(&self) -> PathBuf {
        let name = format!("{}.raw", self.backup);
        self.folder.path().join("mnt").join(name)
    }

    fn open(&self) -> File {
        File::open(self.path()).unwrap()
    }

    /// Waits until the session is over.
    fn ended(&mut self) {
        self.serving.take().unwrap().join().unwrap().unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.serving.is_some() {
            let unmounted = self.unmounter.unmount();
            if !std::thread::panicking() {
                assert_eq!(unmounted.unwrap(), Unmount::Gone);
                self.ended();
            }
        }
    }
}

fn vault(target: &Arc<MemoryTarget>, env: &Arc<SimEnv>) -> Vault {
    let spec = VaultSpec {
        vault_id: VaultId::generate(&**env),
        account_id: AccountId::generate(&**env),
    };
    let root = RootKey::generate(&**env);
    let vault = Vault::open_or_create(target.clone(), spec, &root, env.clone()).unwrap();
    vault.with_tuning(Tuning {
        pack_len: 4 << 20,
        ..Tuning::default()
    })
}

fn back_up(vault: &Vault, env: &dyn Env, folder: &Path, disk: &[u8]) -> BackupId {
    let path = folder.join("disk");
    fs::write(&path, disk).unwrap();
    let spec = BackupSpec {
        backup_id: BackupId::generate(env),
        volume_id: VolumeId::generate(env),
        parent: None,
        changed: None,
        metadata: BTreeMap::new(),
        keep_until: None,
    };
    let source = ReadAt::new(File::open(path).unwrap(), ByteCount::new(disk.len() as u64));
    let prepared = vault.prepare_backup(&spec, &source, &NullMonitor).unwrap();
    prepared.commit(&mut || Ok(())).unwrap();
    spec.backup_id
}

/// Noise in the frames that are named, zeros elsewhere.
fn noise(frames: u64, noisy: &[u64]) -> Vec<u8> {
    let mut disk = vec![0; usize::try_from(frames * FRAME).unwrap()];
    for frame in noisy {
        let start = usize::try_from(frame * FRAME).unwrap();
        SimEnv::new(frame + 1).fill_random(&mut disk[start..start + (1 << 20)]);
    }
    disk
}

#[test]
fn a_file_system_in_a_mounted_backup_is_clean_and_every_byte_is_as_it_was() {
    let folder = TempDir::new().unwrap();
    let image = folder.path().join("ext4");
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-d", concat!(env!("CARGO_MANIFEST_DIR"), "/src")])
        .args([image.to_str().unwrap(), "24M"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let world = World::new(fs::read(image).unwrap(), |_| ());

    let checked = Command::new("e2fsck").arg("-fn").arg(world.path()).output();
    let checked = checked.unwrap();
    assert!(checked.status.success(), "{checked:?}");
    assert!(
        fs::read(world.path()).unwrap() == world.disk,
        "the disk differs"
    );
    let names: Vec<_> = fs::read_dir(world.folder.path().join("mnt"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(names, [world.path()]);
    assert_eq!(*world.told.lock().unwrap(), Vec::<String>::new());
}

#[test]
fn zeros_are_holes_to_whoever_asks() {
    let world = World::new(noise(8, &[2, 5]), |_| ());
    let file = world.open();
    assert_eq!(seek(&file, SeekFrom::Data(0)), Ok(2 * FRAME));
    assert_eq!(seek(&file, SeekFrom::Hole(2 * FRAME + 5)), Ok(3 * FRAME));
    assert_eq!(seek(&file, SeekFrom::Data(3 * FRAME)), Ok(5 * FRAME));
    assert_eq!(seek(&file, SeekFrom::Hole(0)), Ok(0));
    let none = seek(&file, SeekFrom::Data(6 * FRAME));
    assert_eq!(none, Err(rustix::io::Errno::NXIO));
}

#[test]
fn nothing_can_be_written() {
    let world = World::new(noise(1, &[0]), |_| ());
    let refused = File::options().write(true).open(world.path()).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem);
    let refused = fs::remove_file(world.path()).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn damage_is_an_error_for_exactly_its_extents_and_is_told_once() {
    let world = World::new(noise(4, &[0, 1, 3]), |target| {
        let names = target.names();
        let pack = names.iter().find(|name| name.as_str().contains("/packs/"));
        // In the middle of the second frame of the first pack.
        target.tamper(pack.unwrap(), |bytes| bytes[3 << 19] ^= 1);
    });
    let before = world.target.names();
    let file = world.open();
    let mut block = vec![0; 4096];
    for at in (0..4 * FRAME).step_by(4096) {
        let damaged = at / FRAME == 1;
        match file.read_exact_at(&mut block, at) {
            Ok(()) => {
                assert!(!damaged, "byte {at}");
                let start = usize::try_from(at).unwrap();
                assert!(block == world.disk[start..start + 4096], "byte {at}");
            }
            Err(error) => {
                assert!(damaged, "byte {at}");
                assert_eq!(
                    error.raw_os_error(),
                    Some(rustix::io::Errno::IO.raw_os_error())
                );
            }
        }
    }
    let told = world.told.lock().unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("is damaged"), "{told:?}");
    assert_eq!(world.target.names(), before, "rescue writes nothing");
}

#[test]
fn a_file_that_is_open_is_served_to_the_end_after_the_folder_is_free() {
    let mut world = World::new(noise(2, &[1]), |_| ());
    let file = world.open();
    assert_eq!(world.unmounter.unmount().unwrap(), Unmount::InUse);
    assert!(!world.path().exists());
    let mut block = vec![0; 4096];
    file.read_exact_at(&mut block, FRAME).unwrap();
    let start = usize::try_from(FRAME).unwrap();
    assert!(block == world.disk[start..start + 4096]);
    drop(file);
    world.ended();
}
