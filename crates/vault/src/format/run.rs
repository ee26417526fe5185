//! Small objects about backups: the record of a run, the void that blocks its manifest while it
//! is reaped, tombstones and renewals.

use stillpoint_model::Timestamp;
use stillpoint_model::id::{BackupId, RunId, VolumeId};

use super::names::IdBytes;
use super::wire::{Malformed, Reader, Writer};

/// The longest of these objects.
pub(crate) const MAX_NOTE_OBJECT_LEN: u64 = 4096;

/// What a run does.
const KIND_BACKUP: u8 = 1;

/// What these objects say: the run and the volume they are about, and when they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub run_id: RunId,
    pub volume_id: VolumeId,
    pub at: Timestamp,
    /// In the record of a run: the newest epoch of collection that was there before the record was
    /// put. Elsewhere zero.
    pub epoch: u32,
}

/// That another backup of the volume has what a damaged one held. The note is of the other's run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Renewal {
    pub note: Note,
    /// The backup that has it.
    pub by: BackupId,
}

impl Renewal {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.note.encode();
        bytes.extend(self.by.to_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let split = bytes
            .len()
            .checked_sub(16)
            .ok_or(Malformed::Wrong("it is too short"))?;
        let (note, by) = bytes.split_at(split);
        let mut r = Reader::new(by);
        let by = BackupId::of_bytes(r.array()?);
        r.finish()?;
        let note = Note::decode(note)?;
        Ok(Self { note, by })
    }
}

impl Note {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.u8(KIND_BACKUP).raw(&[0; 3]).u32(self.epoch);
        w.raw(&self.run_id.to_bytes());
        w.raw(&self.volume_id.to_bytes()).i64(self.at.as_micros());
        w.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        if r.u8()? != KIND_BACKUP {
            return Err(Malformed::Unknown("its kind"));
        }
        r.zeros(3)?;
        let epoch = r.u32()?;
        let run_id = RunId::of_bytes(r.array()?);
        let volume_id = VolumeId::of_bytes(r.array()?);
        let at = Timestamp::from_micros(r.i64()?);
        r.finish()?;
        Ok(Self {
            run_id,
            volume_id,
            at,
            epoch,
        })
    }
}
