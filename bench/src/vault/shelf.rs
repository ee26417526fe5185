//! Where the contenders store: in folders, or in buckets of a server on this machine.

use std::path::{Path, PathBuf};

use stillpoint_model::ByteCount;
use stillpoint_tests::bucket::BucketServer;

use super::contenders::Contender;

/// What all contenders store in buckets in one round, and half as much again.
const ROOM: ByteCount = ByteCount::from_gib(8);

/// The kinds of places.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Folders on one file system.
    Folders,
    /// Buckets of Ceph's gateway, in memory.
    Buckets,
}

impl Kind {
    /// Its name in the output.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Folders => "in folders",
            Self::Buckets => "in buckets of a server on this machine",
        }
    }

    /// Whether a contender can store there.
    pub const fn suits(self, contender: &Contender) -> bool {
        match self {
            Self::Folders => true,
            Self::Buckets => contender.uses_buckets,
        }
    }

    /// An empty one: it starts the server of the buckets.
    pub fn open(self) -> Shelf {
        match self {
            Self::Folders => Shelf::Folders,
            Self::Buckets => Shelf::Buckets(BucketServer::with_room(ROOM)),
        }
    }
}

/// The places of one round.
pub enum Shelf {
    /// A folder for each.
    Folders,
    /// A bucket for each.
    Buckets(BucketServer),
}

impl Shelf {
    /// Makes an empty repository: a folder below `folder`, or a bucket called `bucket`. What it
    /// gives is `$REPO`.
    pub fn make(&mut self, folder: &Path, bucket: &str) -> PathBuf {
        match self {
            Self::Folders => {
                let repository = folder.join("repository");
                std::fs::create_dir_all(&repository).expect("a folder");
                repository
            }
            Self::Buckets(server) => {
                server.make_bucket(bucket);
                format!("s3:{}/{bucket}", server.endpoint()).into()
            }
        }
    }

    /// How much a repository holds.
    pub fn size_of(&mut self, repository: &Path, bucket: &str) -> ByteCount {
        match self {
            Self::Folders => size_below(repository),
            Self::Buckets(server) => server.size_of(bucket),
        }
    }

    /// What lets a contender in.
    pub fn credentials(&self) -> Option<(&'static str, PathBuf)> {
        match self {
            Self::Folders => None,
            Self::Buckets(server) => Some(("AWS_SHARED_CREDENTIALS_FILE", server.credentials())),
        }
    }
}

/// The lengths of all files below a folder.
fn size_below(folder: &Path) -> ByteCount {
    let mut total = ByteCount::ZERO;
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let meta = entry.metadata().expect("its size");
        total += match meta.is_dir() {
            true => size_below(&entry.path()),
            false => ByteCount::new(meta.len()),
        };
    }
    total
}
