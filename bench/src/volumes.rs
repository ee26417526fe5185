//! The volumes that are measured, and how they are filled.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use stillpoint_env::SimEnv;
use stillpoint_model::{ByteCount, Env as _};

/// How many writes a used volume has seen.
pub const WRITES: u64 = 100_000;
/// How long each is.
const WRITE_BYTES: u64 = 4096;

/// A volume to measure with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Volume {
    /// Its size.
    pub size: ByteCount,
    /// Whether it has seen [`WRITES`] scattered writes, or none.
    pub written: bool,
}

/// Every volume that is measured.
pub const VOLUMES: [Volume; 6] = [
    Volume {
        size: ByteCount::from_gib(1),
        written: false,
    },
    Volume {
        size: ByteCount::from_gib(1),
        written: true,
    },
    Volume {
        size: ByteCount::from_gib(100),
        written: false,
    },
    Volume {
        size: ByteCount::from_gib(100),
        written: true,
    },
    Volume {
        size: ByteCount::from_gib(1024),
        written: false,
    },
    Volume {
        size: ByteCount::from_gib(1024),
        written: true,
    },
];

impl Volume {
    /// `1.00 TiB, used`: a column heading.
    pub fn title(self) -> String {
        format!(
            "{} {}",
            self.size,
            if self.written { "used" } else { "fresh" }
        )
    }

    /// A name for its files.
    pub fn slug(self) -> String {
        format!(
            "{}g-{}",
            self.size.get() >> 30,
            if self.written { "used" } else { "fresh" }
        )
    }

    /// Fills the raw device or file `path` as this volume should be: always the same blocks in
    /// the same random order.
    pub fn fill(self, path: &Path) {
        if !self.written {
            return;
        }
        let file = File::options()
            .write(true)
            .open(path)
            .expect("open the volume");
        let random = SimEnv::new(self.size.get());
        let mut block = vec![0; usize::try_from(WRITE_BYTES).expect("a small number")];
        random.fill_random(&mut block);
        for write in 0..WRITES {
            block[..8].copy_from_slice(&write.to_le_bytes());
            let offset = random.below(self.size.get() / WRITE_BYTES) * WRITE_BYTES;
            file.write_all_at(&block, offset)
                .expect("write to the volume");
        }
        file.sync_all().expect("flush the volume");
    }
}
