//! A volume in memory, a vault to put it in, and the shortest way to back it up.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use stillpoint_env::SimEnv;
use stillpoint_model::compression::CompressionLevel;
use stillpoint_model::id::{AccountId, BackupId, VaultId, VolumeId};
use stillpoint_model::progress::NullMonitor;
use stillpoint_model::{ByteCount, ByteRange, Env};

use crate::target::{MemoryTarget, Target};
use crate::*;

pub const CHUNK: u64 = CHUNK_LEN as u64;

/// A sparse volume in memory, by chunks. Counts what is read of it.
#[derive(Default)]
pub struct Disk {
    pub size: u64,
    pub chunks: BTreeMap<u64, Vec<u8>>,
    pub read: AtomicU64,
}

impl Clone for Disk {
    fn clone(&self) -> Self {
        Self {
            size: self.size,
            chunks: self.chunks.clone(),
            read: AtomicU64::new(0),
        }
    }
}

impl PartialEq for Disk {
    fn eq(&self, other: &Self) -> bool {
        let data = |disk: &Self| -> BTreeMap<u64, Vec<u8>> {
            let nonzero = |(_, chunk): &(&u64, &Vec<u8>)| chunk.iter().any(|&b| b != 0);
            disk.chunks
                .iter()
                .filter(nonzero)
                .map(|(at, chunk)| (*at, chunk.clone()))
                .collect()
        };
        self.size == other.size && data(self) == data(other)
    }
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Disk of {} bytes with {} chunks",
            self.size,
            self.chunks.len()
        )
    }
}

impl Disk {
    pub fn new(size: u64) -> Self {
        Self {
            size,
            ..Self::default()
        }
    }

    /// Fills a chunk with data that only its seed determines. Seed zero is zeros.
    pub fn fill(&mut self, chunk: u64, seed: u64) {
        assert!(chunk * CHUNK < self.size);
        let mut data = vec![0; CHUNK_LEN];
        if seed != 0 {
            let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            for (i, byte) in data.iter_mut().enumerate() {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                // Half of it compresses.
                *byte = if i % 2 == 0 { x.to_le_bytes()[0] } else { 7 };
            }
            let room = (self.size - chunk * CHUNK).min(CHUNK) as usize;
            data[room..].fill(0);
        }
        self.chunks.insert(chunk, data);
    }

    pub fn resize(&mut self, size: u64) {
        self.size = size;
        self.chunks.retain(|chunk, _| chunk * CHUNK < size);
        if let Some(last) = self.chunks.get_mut(&(size / CHUNK)) {
            last[(size % CHUNK) as usize..].fill(0);
        }
    }

    fn copy_out(&self, offset: u64, buf: &mut [u8]) {
        assert!(offset + buf.len() as u64 <= self.size, "read past the end");
        assert!(offset.is_multiple_of(CHUNK));
        for (chunk, part) in (offset / CHUNK..).zip(buf.chunks_mut(CHUNK_LEN)) {
            match self.chunks.get(&chunk) {
                Some(data) => part.copy_from_slice(&data[..part.len()]),
                None => part.fill(0),
            }
        }
    }

    fn next(&self, offset: u64) -> Option<ByteRange> {
        let (chunk, _) = self.chunks.range(offset / CHUNK..).next()?;
        Some(ByteRange::new(chunk * CHUNK, CHUNK))
    }
}

impl VolumeReader for Disk {
    fn size(&self) -> ByteCount {
        ByteCount::new(self.size)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.read.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.copy_out(offset, buf);
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<ByteRange>> {
        Ok(self.next(offset))
    }
}

impl VolumeWriter for Mutex<Disk> {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut disk = self.lock().unwrap();
        assert!(offset.is_multiple_of(CHUNK));
        assert!(
            offset + data.len() as u64 <= disk.size,
            "written past the end"
        );
        for (chunk, data) in (offset / CHUNK..).zip(data.chunks(CHUNK_LEN)) {
            let mut whole = data.to_vec();
            whole.resize(CHUNK_LEN, 0);
            disk.chunks.insert(chunk, whole);
        }
        Ok(())
    }

    fn write_zeros(&self, range: ByteRange) -> io::Result<()> {
        let mut disk = self.lock().unwrap();
        assert!(range.offset.is_multiple_of(CHUNK) && range.end() <= disk.size);
        disk.chunks
            .retain(|c, _| c * CHUNK < range.offset || c * CHUNK >= range.end());
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.lock().unwrap().copy_out(offset, buf);
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<ByteRange>> {
        Ok(self.lock().unwrap().next(offset))
    }
}

/// A disk of so many chunks full of words, which compress the better the harder one tries.
pub fn words(chunks: u64) -> Disk {
    let mut disk = Disk::new(chunks * CHUNK);
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    };
    let known: Vec<Vec<u8>> = (0..4096)
        .map(|_| random().to_le_bytes()[..(random() % 6) as usize + 3].to_vec())
        .collect();
    for chunk in 0..chunks {
        let mut data = Vec::with_capacity(2 * CHUNK_LEN);
        while data.len() < CHUNK_LEN {
            data.extend(&known[(random() % random().max(1) % 4096) as usize]);
        }
        data.truncate(CHUNK_LEN);
        disk.chunks.insert(chunk, data);
    }
    disk
}

/// A vault on a memory target, with everything needed to use it.
pub struct Bench {
    pub env: Arc<SimEnv>,
    pub target: Arc<MemoryTarget>,
    pub root: RootKey,
    pub vault: Vault,
    pub volume: VolumeId,
}

/// Small packs, so that a test has several.
pub const SMALL: Tuning = Tuning {
    zstd_level: 1,
    workers: 2,
    uploads: 2,
    pack_len: 200 << 10,
    index_entries: 4096,
};

impl Bench {
    pub fn new(seed: u64) -> Self {
        let env = Arc::new(SimEnv::new(seed));
        let target = Arc::new(MemoryTarget::new());
        let root = RootKey::generate(&*env);
        let spec = VaultSpec {
            vault_id: VaultId::generate(&*env),
            account_id: AccountId::generate(&*env),
        };
        let vault = Vault::open_or_create(target.clone(), spec, &root, env.clone())
            .unwrap()
            .with_tuning(SMALL);
        let volume = VolumeId::generate(&*env);
        Self {
            env,
            target,
            root,
            vault,
            volume,
        }
    }

    /// The same, compressing at this level.
    pub fn compressing_at(self, level: u8) -> Self {
        let level = CompressionLevel::try_from(level).unwrap();
        Self {
            vault: self.vault.clone().compressing_at(level),
            ..self
        }
    }

    /// The same vault through another target.
    pub fn through(&self, target: Arc<dyn Target>) -> Result<Vault, Error> {
        let vault = Vault::open(target, self.vault.id(), &self.root, self.env.clone())?;
        Ok(vault.with_tuning(SMALL))
    }

    pub fn id(&self) -> BackupId {
        self.env.advance(std::time::Duration::from_millis(1));
        BackupId::generate(&*self.env)
    }

    pub fn spec<'a>(
        &self,
        backup_id: BackupId,
        parent: Option<BackupId>,
        changed: Option<&'a [ByteRange]>,
    ) -> BackupSpec<'a> {
        let metadata = BTreeMap::from([("name".to_owned(), "web-1".to_owned())]);
        BackupSpec {
            backup_id,
            volume_id: self.volume,
            parent,
            changed,
            metadata,
            keep_until: None,
        }
    }

    pub fn back_up(
        &self,
        disk: &Disk,
        parent: Option<BackupId>,
        changed: Option<&[ByteRange]>,
    ) -> Receipt {
        let spec = self.spec(self.id(), parent, changed);
        let prepared = self
            .vault
            .prepare_backup(&spec, disk, &NullMonitor)
            .unwrap();
        let receipt = prepared.commit(&mut || Ok(())).unwrap();
        self.vault
            .read_back(self.volume, receipt.backup_id, &NullMonitor)
            .unwrap();
        receipt
    }

    /// Restores over a volume full of other data.
    pub fn restored(&self, backup: BackupId) -> Disk {
        let size = self
            .vault
            .describe(self.volume, backup)
            .unwrap()
            .provisioned
            .get();
        let mut disk = Disk::new(size);
        for chunk in 0..size.div_ceil(CHUNK).min(64) {
            disk.fill(chunk, 99_999 + chunk);
        }
        let disk = Mutex::new(disk);
        let report = self
            .vault
            .restore(self.volume, backup, &disk, &NullMonitor)
            .unwrap();
        assert_eq!(report.provisioned.get(), size);
        disk.into_inner().unwrap()
    }

    pub fn now_env(&self) -> Arc<dyn Env> {
        self.env.clone()
    }
}

pub fn chunks(first: u64, count: u64) -> ByteRange {
    ByteRange::new(first * CHUNK, count * CHUNK)
}
