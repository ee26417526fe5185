//! The backup repository: a deduplicating, compressed, encrypted vault inside a backup target.
//!
//! `docs/vault-format.md` specifies the bytes; [`format`](mod@format) reads and writes them; the
//! rest is the engine: [`Vault::prepare_backup`] stores, [`PreparedBackup::commit`] makes it
//! count, [`Vault::restore`] brings it back, [`Vault::check`] proves it, [`rescue`] does all of
//! that with nothing but a target and the root key.
//!
//! What it guarantees:
//!
//! - objects are written once under names that are never reused; everything a manifest reaches
//!   was durable before the manifest was put;
//! - a backup counts from the moment its manifest is there, and only a caller whose fence still
//!   held could put it there;
//! - every chunk is proven on every read, and a restore succeeds only after what it wrote was
//!   read back and compared with the whole volume's hash;
//! - a chunk in a pack that failed verification is never shared again: the next backup of a volume
//!   that still has it stores it anew;
//! - what is damaged can be made whole: [`Vault::repair_backup`] stores anew what a source still has;
//! - [`Vault::collect`] removes what no backup reaches, beside backups that are being written, and
//!   [`Vault::repack`] empties packs that are mostly dead for it;
//! - deleting and reaping work on a target without a byte left;
//! - what is said to have changed can be proven: [`Vault::prepare_proof`] reads everything, stores
//!   what differs wherever it is, and names what was not said;
//! - any part of a backup can be read on its own: [`Vault::open_backup`];
//! - on a target that locks objects, everything that a backup needs is locked for as long as the
//!   backup was promised to stay;
//! - memory is bounded by [`Tuning`], not by the size of a volume.
//!
//! **Invariant:** it knows nothing of accounts, the API or SQL, and needs none of them: the target
//! and the key are enough. It never replaces an object, and deletes only what its caller
//! names and what [`Vault::collect`] proved dead.

mod backup;
mod buffers;
mod catalogue;
mod check;
mod collect;
mod copy;
mod crew;
mod direct;
mod error;
mod fetch;
mod format;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod ingest;
pub mod keys;
mod locking;
mod quarantine;
mod raw_file;
mod read_back;
mod reader;
mod reap;
mod rebuild;
mod renewal;
mod repack;
mod repair;
pub mod rescue;
mod reserve;
mod restore;
mod revert;
mod scrub;
pub mod target;
mod vault;
mod volume;

#[cfg(test)]
mod tests;

pub use backup::{BackupSpec, COMPRESSED_AT, PreparedBackup, Receipt};
pub use catalogue::BackupInfo;
pub use check::{CheckLevel, CheckReport, Problem};
pub use collect::{CollectPolicy, Collected, Outcome, Refusal};
pub use copy::{COPIED_FROM, Copied, TAKEN};
pub use error::Error;
pub use format::{AccountKey, CHUNK_LEN, ContentHash, KeyId, MAX_VOLUME_LEN, RootKey};
pub use ingest::Missed;
pub use locking::{KEEP_UNTIL, LOCKED_UNTIL};
pub use reader::{BackupReader, ReadCache};
pub use reap::{Reaped, Unreferenced};
pub use renewal::RENEWS;
pub use repack::{RepackPolicy, Repacked};
pub use repair::{Repaired, Source};
pub use restore::RestoreReport;
pub use revert::Reverted;
pub use scrub::{Scrubbed, scrub};
pub use vault::{Tuning, Vault, VaultSpec};
pub use volume::{ReadAt, VolumeReader, VolumeWriter};
