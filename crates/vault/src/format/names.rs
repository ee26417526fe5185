//! Where the objects of a vault are.

use stillpoint_model::id::{BackupId, RunId, VaultId, VolumeId};
use uuid::Uuid;

use super::pack::PackId;
use crate::target::ObjectName;

/// The names of one vault's objects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names {
    pub vault: VaultId,
}

/// What a name in a vault says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Keys(u32),
    Run(BackupId, RunId),
    Pack(PackId),
    Index(RunId, u32),
    /// What packs of a run hash to.
    Sums(RunId, u32),
    Manifest(VolumeId, BackupId),
    Tombstone(VolumeId, BackupId),
    /// That a backup was read back.
    Proof(VolumeId, BackupId),
    /// That another backup has what this one held.
    Renewal(VolumeId, BackupId),
    /// A pack that failed verification.
    Quarantined(PackId),
    /// What a collection condemned.
    Plan(u32),
    /// What a collection removes.
    Doom(u32),
    /// A collection that ended.
    Done(u32),
    Reserve,
}

impl Names {
    fn made(self, rest: std::fmt::Arguments<'_>) -> ObjectName {
        ObjectName::made(format!("{}/{rest}", self.vault))
    }

    pub(crate) fn prefix(self, rest: &str) -> String {
        format!("{}/{rest}", self.vault)
    }

    pub(crate) fn keys(self, generation: u32) -> ObjectName {
        self.made(format_args!("keys/{generation:08x}"))
    }

    pub(crate) fn run(self, backup: BackupId, run: RunId) -> ObjectName {
        self.made(format_args!("runs/{backup}/{run}"))
    }

    pub(crate) fn runs_of(self, backup: BackupId) -> String {
        self.prefix(&format!("runs/{backup}/"))
    }

    pub(crate) fn pack(self, pack: PackId) -> ObjectName {
        self.made(format_args!("packs/{}/{:08x}", pack.run, pack.seq))
    }

    pub(crate) fn packs_of(self, run: RunId) -> String {
        self.prefix(&format!("packs/{run}/"))
    }

    pub(crate) fn index(self, run: RunId, seq: u32) -> ObjectName {
        self.made(format_args!("index/{run}/{seq:08x}"))
    }

    pub(crate) fn indexes_of(self, run: RunId) -> String {
        self.prefix(&format!("index/{run}/"))
    }

    pub(crate) fn sums(self, run: RunId, seq: u32) -> ObjectName {
        self.made(format_args!("sums/{run}/{seq:08x}"))
    }

    pub(crate) fn sums_of(self, run: RunId) -> String {
        self.prefix(&format!("sums/{run}/"))
    }

    pub(crate) fn manifest(self, volume: VolumeId, backup: BackupId) -> ObjectName {
        self.made(format_args!("volumes/{volume}/{backup}.manifest"))
    }

    pub(crate) fn tombstone(self, volume: VolumeId, backup: BackupId) -> ObjectName {
        self.made(format_args!("volumes/{volume}/{backup}.tombstone"))
    }

    pub(crate) fn proof(self, volume: VolumeId, backup: BackupId) -> ObjectName {
        self.made(format_args!("volumes/{volume}/{backup}.proven"))
    }

    pub(crate) fn renewal(self, volume: VolumeId, backup: BackupId) -> ObjectName {
        self.made(format_args!("volumes/{volume}/{backup}.renewed"))
    }

    pub(crate) fn mark(self, pack: PackId) -> ObjectName {
        self.made(format_args!("quarantine/{}/{:08x}", pack.run, pack.seq))
    }

    pub(crate) fn marks_of(self, run: RunId) -> String {
        self.prefix(&format!("quarantine/{run}/"))
    }

    pub(crate) fn plan(self, epoch: u32) -> ObjectName {
        self.made(format_args!("epochs/{epoch:08x}.plan"))
    }

    pub(crate) fn doom(self, epoch: u32) -> ObjectName {
        self.made(format_args!("epochs/{epoch:08x}.doom"))
    }

    pub(crate) fn done(self, epoch: u32) -> ObjectName {
        self.made(format_args!("epochs/{epoch:08x}.done"))
    }

    pub(crate) fn reserve(self) -> ObjectName {
        self.made(format_args!("reserve"))
    }

    pub(crate) fn volume(self, volume: VolumeId) -> String {
        self.prefix(&format!("volumes/{volume}/"))
    }

    /// What a name says; none when it is no name of this vault's.
    pub(crate) fn parse(self, name: &ObjectName) -> Option<Named> {
        let rest = name.as_str().strip_prefix(&format!("{}/", self.vault))?;
        if rest == "reserve" {
            return Some(Named::Reserve);
        }
        let mut parts = rest.split('/');
        let named = match (parts.next()?, parts.next()?, parts.next()) {
            ("keys", generation, None) => Named::Keys(seq(generation)?),
            ("runs", backup, Some(run)) => Named::Run(backup.parse().ok()?, run.parse().ok()?),
            ("packs", run, Some(number)) => Named::Pack(pack(run, number)?),
            ("quarantine", run, Some(number)) => Named::Quarantined(pack(run, number)?),
            ("index", run, Some(number)) => Named::Index(run.parse().ok()?, seq(number)?),
            ("sums", run, Some(number)) => Named::Sums(run.parse().ok()?, seq(number)?),
            ("epochs", file, None) => {
                let (number, kind) = file.split_once('.')?;
                let number = seq(number)?;
                match kind {
                    "plan" => Named::Plan(number),
                    "doom" => Named::Doom(number),
                    "done" => Named::Done(number),
                    _ => return None,
                }
            }
            ("volumes", volume, Some(file)) => {
                let volume = volume.parse().ok()?;
                let (backup, kind) = file.split_once('.')?;
                let backup = backup.parse().ok()?;
                match kind {
                    "manifest" => Named::Manifest(volume, backup),
                    "tombstone" => Named::Tombstone(volume, backup),
                    "proven" => Named::Proof(volume, backup),
                    "renewed" => Named::Renewal(volume, backup),
                    _ => return None,
                }
            }
            _ => return None,
        };
        parts.next().is_none().then_some(named)
    }
}

fn pack(run: &str, number: &str) -> Option<PackId> {
    Some(PackId {
        run: run.parse().ok()?,
        seq: seq(number)?,
    })
}

/// Eight lower-case hex digits: one spelling per number.
fn seq(text: &str) -> Option<u32> {
    super::hash::from_hex::<4>(text).map(u32::from_be_bytes)
}

macro_rules! id_bytes {
    ($($id:ident),*) => {$(
        impl IdBytes for $id {
            fn to_bytes(self) -> [u8; 16] {
                self.as_uuid().into_bytes()
            }

            fn of_bytes(bytes: [u8; 16]) -> Self {
                Self::from_uuid(Uuid::from_bytes(bytes))
            }
        }
    )*};
}

/// Ids as the 16 bytes that objects hold.
pub(crate) trait IdBytes: Sized {
    fn to_bytes(self) -> [u8; 16];
    fn of_bytes(bytes: [u8; 16]) -> Self;
}

id_bytes!(BackupId, RunId, VaultId, VolumeId);
