//! Real clients: what qemu-img reads from a served backup is the disk that was backed up.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use stillpoint_env::SimEnv;
use stillpoint_model::id::{AccountId, BackupId, VaultId, VolumeId};
use stillpoint_model::progress::NullMonitor;
use stillpoint_model::{ByteCount, Env};
use stillpoint_nbd::{Error, MAX_CONNECTIONS, Server};
use stillpoint_vault::target::{Fault, FaultTarget, MemoryTarget};
use stillpoint_vault::{
    BackupReader, BackupSpec, ReadAt, ReadCache, RootKey, Tuning, Vault, VaultSpec,
};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

/// A backup of a disk, served.
struct World {
    folder: TempDir,
    told: Arc<Mutex<Vec<String>>>,
    server: Option<Arc<Server>>,
    serving: Option<JoinHandle<Result<(), Error>>>,
}

impl World {
    /// Backs a disk up and serves the backup, after `meanwhile` had its way with the target.
    fn new(disk: &[u8], meanwhile: impl FnOnce(&MemoryTarget)) -> Self {
        let folder = TempDir::new().unwrap();
        let env = Arc::new(SimEnv::new(1));
        let target = Arc::new(MemoryTarget::new());
        fs::write(folder.path().join("disk"), disk).unwrap();
        let (vault, volume, backup) = back_up(&target, &env, &folder);
        meanwhile(&target);
        let cache = ReadCache::new(ByteCount::from_mib(4));
        let reader = vault.read_only().open_backup(volume, backup, &cache);
        Self::serve(folder, reader.unwrap(), |server| server)
    }

    /// A server over a target that is away for its first read after the backup was opened.
    fn away_once(patience: fn(Server) -> Server) -> Self {
        let folder = TempDir::new().unwrap();
        let env = Arc::new(SimEnv::new(1));
        let target = Arc::new(MemoryTarget::new());
        fs::write(folder.path().join("disk"), noise(1, &[0])).unwrap();
        let (vault, volume, backup) = back_up(&target, &env, &folder);
        let cache = ReadCache::new(ByteCount::from_mib(4));
        let open = |target: Arc<FaultTarget>| {
            let vault = Vault::open(target, vault.id(), &root_key(), env.clone()).unwrap();
            let reader = vault.read_only().open_backup(volume, backup, &cache);
            reader.unwrap()
        };
        let counting = Arc::new(FaultTarget::counting(target.clone()));
        drop(open(Arc::clone(&counting)));
        let faulty = FaultTarget::new(target, counting.calls(), Fault::FailBefore);
        Self::serve(folder, open(Arc::new(faulty)), patience)
    }

    fn serve(folder: TempDir, reader: BackupReader, patience: fn(Server) -> Server) -> Self {
        let told = Arc::new(Mutex::new(vec![]));
        let tell = {
            let told = told.clone();
            move |trouble: &str| told.lock().unwrap().push(trouble.to_owned())
        };
        let socket = folder.path().join("nbd");
        let server = Server::bind(&socket, reader, Box::new(tell)).unwrap();
        let server = Arc::new(patience(server));
        let serving = Arc::clone(&server);
        Self {
            folder,
            told,
            server: Some(server),
            serving: Some(std::thread::spawn(move || serving.serve())),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn address(&self) -> String {
        format!("nbd+unix:///?socket={}", self.path("nbd").display())
    }

    /// Whether `qemu-io` can read 64 KiB at a place.
    fn reads(&self, at: &str) -> bool {
        let mut command = Command::new("qemu-io");
        command.args(["-r", "-f", "raw", "-c", &format!("read {at} 64k")]);
        let output = command.arg(self.address()).output().expect("qemu-io");
        output.status.success()
    }

    /// `qemu-img` with the address as its last argument but these.
    fn qemu_img(&self, args: &[&str], rest: &[&str]) -> Output {
        let mut command = Command::new("qemu-img");
        command.args(args).arg(self.address()).args(rest);
        command.output().expect("qemu-img")
    }

    /// Ends the server, and drops it.
    fn end(&mut self) {
        if let (Some(server), Some(serving)) = (self.server.take(), self.serving.take()) {
            server.end();
            let served = serving.join();
            if !std::thread::panicking() {
                served.unwrap().unwrap();
            }
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.end();
    }
}

fn root_key() -> RootKey {
    RootKey::from_bytes([7; 32])
}

fn back_up(
    target: &Arc<MemoryTarget>,
    env: &Arc<SimEnv>,
    folder: &TempDir,
) -> (Vault, VolumeId, BackupId) {
    let spec = VaultSpec {
        vault_id: VaultId::generate(&**env),
        account_id: AccountId::generate(&**env),
    };
    let vault = Vault::open_or_create(target.clone(), spec, &root_key(), env.clone()).unwrap();
    let vault = vault.with_tuning(Tuning {
        pack_len: 4 << 20,
        ..Tuning::default()
    });
    let spec = BackupSpec {
        backup_id: BackupId::generate(&**env),
        volume_id: VolumeId::generate(&**env),
        parent: None,
        changed: None,
        metadata: BTreeMap::new(),
        keep_until: None,
    };
    let disk = File::open(folder.path().join("disk")).unwrap();
    let size = disk.metadata().unwrap().len();
    let source = ReadAt::new(disk, ByteCount::new(size));
    let prepared = vault.prepare_backup(&spec, &source, &NullMonitor).unwrap();
    prepared.commit(&mut || Ok(())).unwrap();
    (vault, spec.volume_id, spec.backup_id)
}

/// Noise in the mebibytes that are named, zeros elsewhere.
fn noise(mebibytes: u64, noisy: &[u64]) -> Vec<u8> {
    let mut disk = vec![0; usize::try_from(mebibytes * MIB).unwrap()];
    for at in noisy {
        let start = usize::try_from(at * MIB).unwrap();
        SimEnv::new(at + 1).fill_random(&mut disk[start..start + (1 << 20)]);
    }
    disk
}

#[test]
fn a_copy_is_the_disk_bit_for_bit() {
    // The last piece is no whole chunk.
    let mut disk = noise(70, &[0, 3, 4, 64, 69]);
    disk.truncate(disk.len() - 512);
    let world = World::new(&disk, |_| ());
    let out = world.path("out");
    let raw = ["convert", "-f", "raw", "-O", "raw"];
    let copied = world.qemu_img(&raw, &[out.to_str().unwrap()]);
    assert!(copied.status.success(), "{copied:?}");
    assert!(fs::read(out).unwrap() == disk, "the copy differs");
    assert_eq!(*world.told.lock().unwrap(), Vec::<String>::new());
}

#[test]
fn zeros_are_holes_to_whoever_asks() {
    let world = World::new(&noise(80, &[2, 3, 70]), |_| ());
    let mapped = world.qemu_img(&["map", "--output=json", "-f", "raw"], &[]);
    assert!(mapped.status.success(), "{mapped:?}");
    let text = String::from_utf8(mapped.stdout).unwrap();
    let field = |line: &str, name: &str| {
        let after = line.split(&format!("\"{name}\": ")).nth(1)?;
        Some(after.split([',', '}']).next()?.trim().to_owned())
    };
    let extents: Vec<_> = text
        .lines()
        .filter_map(|line| {
            let number = |name| field(line, name)?.parse::<u64>().ok();
            let data = field(line, "data")? == "true";
            Some((number("start")? / MIB, number("length")? / MIB, data))
        })
        .collect();
    assert_eq!(
        extents,
        [
            (0, 2, false),
            (2, 2, true),
            (4, 66, false),
            (70, 1, true),
            (71, 9, false)
        ]
    );
}

#[test]
fn nothing_can_be_written() {
    let world = World::new(&noise(1, &[0]), |_| ());
    let mut command = Command::new("qemu-io");
    let refused = command
        .args(["-f", "raw", "-c", "write 0 4k"])
        .arg(world.address())
        .output()
        .expect("qemu-io");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "{refused:?}");
    assert!(said.contains("Permission denied"), "{said}");
}

#[test]
fn damage_is_an_error_for_whoever_reads_it_and_is_told_once() {
    let world = World::new(&noise(4, &[0, 1, 3]), |target| {
        let names = target.names();
        let pack = names.iter().find(|name| name.as_str().contains("/packs/"));
        // In the middle of the second frame of the first pack.
        target.tamper(pack.unwrap(), |bytes| bytes[3 << 19] ^= 1);
    });
    assert!(world.reads("0"));
    assert!(!world.reads("1M") && !world.reads("1M"));
    assert!(world.reads("3M"));
    let told = world.told.lock().unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("is damaged"), "{told:?}");
}

#[test]
fn a_patient_server_waits_for_a_target_that_is_away() {
    assert!(!World::away_once(|server| server).reads("0"));
    let world = World::away_once(Server::patient);
    assert!(world.reads("0"));
    assert_eq!(world.told.lock().unwrap().len(), 1, "it is told");
}

#[test]
fn anothers_socket_in_its_place_stays() {
    let mut world = World::new(&noise(1, &[]), |_| ());
    let socket = world.path("nbd");
    let is_there = |world: &World| world.server.as_ref().unwrap().is_there();
    assert!(is_there(&world));
    fs::remove_file(&socket).unwrap();
    assert!(!is_there(&world));
    let _another = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert!(!is_there(&world));
    world.end();
    assert!(socket.exists());
}

#[test]
fn only_its_owner_may_connect_and_the_socket_goes_with_the_server() {
    let mut world = World::new(&noise(1, &[]), |_| ());
    let socket = world.path("nbd");
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    world.end();
    assert!(!socket.exists());
}

/// Requests that no client should make, on a connection that was agreed on in the old way.
#[test]
fn nonsense_costs_a_client_its_connection_or_an_error_and_nobody_else_anything() {
    let world = World::new(&noise(2, &[0]), |_| ());
    let connect = || {
        let mut stream = UnixStream::connect(world.path("nbd")).unwrap();
        stream.read_exact(&mut [0; 18]).unwrap();
        stream.write_all(&3u32.to_be_bytes()).unwrap();
        stream.write_all(b"IHAVEOPT\0\0\0\x01\0\0\0\0").unwrap();
        stream.read_exact(&mut [0; 10]).unwrap();
        stream
    };
    let request = |command: u16, offset: u64, len: u32| {
        let mut bytes = vec![0x25, 0x60, 0x95, 0x13, 0, 0];
        bytes.extend(command.to_be_bytes());
        bytes.extend(7u64.to_be_bytes());
        bytes.extend(offset.to_be_bytes());
        bytes.extend(len.to_be_bytes());
        bytes
    };
    let mut stream = connect();
    let refused = [
        (0, 2 * MIB, 1),
        (0, MIB, u32::MAX),
        (0, u64::MAX, 4096),
        (0, 0, 0),
        (4, 0, 4096),
        (7, 0, 4096),
        (99, 0, 1),
    ];
    for (command, offset, len) in refused {
        stream.write_all(&request(command, offset, len)).unwrap();
        let mut answer = [0; 16];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer[..4], [0x67, 0x44, 0x66, 0x98]);
        assert_ne!(answer[4..8], [0; 4], "{command} {offset} {len}");
        assert_eq!(answer[8..], 7u64.to_be_bytes());
    }
    let mut other = connect();
    stream.write_all(&request(1, 0, 4096)).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "it is cut off");
    other.write_all(&request(0, 0, 512)).unwrap();
    let mut answer = vec![0; 16 + 512];
    other.read_exact(&mut answer).unwrap();
    assert_eq!(answer[16..], noise(1, &[0])[..512]);
}

#[test]
fn too_many_clients_are_turned_away_until_one_leaves() {
    let world = World::new(&noise(1, &[]), |_| ());
    let connect = || UnixStream::connect(world.path("nbd")).unwrap();
    let is_greeted = |mut stream: &UnixStream| stream.read_exact(&mut [0; 18]).is_ok();
    let mut clients: Vec<_> = (0..MAX_CONNECTIONS).map(|_| connect()).collect();
    assert!(clients.iter().all(is_greeted));
    assert!(!is_greeted(&connect()));
    clients.pop();
    // Its place is free as soon as its end is noticed.
    while !is_greeted(&connect()) {
        std::thread::yield_now();
    }
}
