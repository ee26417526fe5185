//! What the work on every byte costs at the least: reading it, looking for zeros, BLAKE3 of each
//! chunk, zstd of each MiB that is not zeros, AES-256-GCM of what comes out; one thread, no
//! deduplication, nothing written.

use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use stillpoint_vault::{CHUNK_LEN, VolumeReader};

use super::Step;
use super::cost::{Cost, Figures};
use super::disks::Disks;
use super::ours::open_disk;

/// Its row.
pub const NAME: &str = "the primitives alone, zstd 3";

const FRAME_LEN: usize = 1 << 20;
const LEVEL: i32 = 3;

/// Measures them on disk A.
pub fn measure(disks: &Disks, folder: &Path) -> (Cost, Figures) {
    let disk: PathBuf = disks.of(Step::First).to_owned();
    let script = r#""$BENCH" --vault primitives"#;
    super::cost::measure(NAME, script, &[("DISK", disk)], folder)
}

/// Does it, in this process.
pub fn child(disk: &Path) {
    let source = open_disk(disk);
    let mut work = Work::new();
    let mut buffer = vec![0; FRAME_LEN];
    let mut at = 0;
    while let Some(range) = source.next_data(at).expect("where data is") {
        let end = range.end().min(source.size().get());
        let mut from = range.offset.max(at);
        while from < end {
            let len = usize::try_from(end - from).map_or(FRAME_LEN, |len| len.min(FRAME_LEN));
            source.read_at(from, &mut buffer[..len]).expect("its data");
            buffer[..len]
                .chunks(CHUNK_LEN)
                .for_each(|chunk| work.chunk(chunk));
            from += len as u64;
        }
        at = end;
    }
    work.frame();
    println!("stored_mib={}", work.stored >> 20);
}

struct Work {
    key: LessSafeKey,
    compressor: zstd::bulk::Compressor<'static>,
    plain: Vec<u8>,
    sealed: Vec<u8>,
    frames: u64,
    stored: usize,
}

impl Work {
    fn new() -> Self {
        let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).expect("a key");
        Self {
            key: LessSafeKey::new(key),
            compressor: zstd::bulk::Compressor::new(LEVEL).expect("a compressor"),
            plain: Vec::with_capacity(FRAME_LEN),
            sealed: Vec::with_capacity(2 * FRAME_LEN),
            frames: 0,
            stored: 0,
        }
    }

    fn chunk(&mut self, chunk: &[u8]) {
        if chunk.iter().all(|byte| *byte == 0) {
            return;
        }
        std::hint::black_box(blake3::keyed_hash(&[7; 32], chunk));
        self.plain.extend_from_slice(chunk);
        if self.plain.len() >= FRAME_LEN {
            self.frame();
        }
    }

    fn frame(&mut self) {
        self.sealed.clear();
        self.compressor
            .compress_to_buffer(&self.plain, &mut self.sealed)
            .expect("room enough");
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&self.frames.to_le_bytes());
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key
            .seal_in_place_append_tag(nonce, Aad::empty(), &mut self.sealed)
            .expect("it is sealed");
        self.frames += 1;
        self.stored += self.sealed.len();
        self.plain.clear();
    }
}
