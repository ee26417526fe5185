//! A volume's record as a file.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};
use stillpoint_model::id::VolumeId;
use stillpoint_model::layer_tree::VolumeRecord;

use super::Qcow2Driver;
use crate::Error;

/// The name's end of a record's file.
const ENDING: &str = ".json";

/// The format of a record that says nothing about open volumes.
const PLAIN: u32 = 1;
/// The format of a record that does: who does not know it must not take it for whole.
const LIVE: u32 = 2;
/// The format of a record of a volume that is being filled: who does not know it would show zeros
/// for data.
const FILLING: u32 = 3;

/// What the file holds. The checksum is the BLAKE3 hash of the rest, as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordFile {
    content: Content,
    checksum: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    format: u32,
    volume: VolumeId,
    record: VolumeRecord,
}

impl Content {
    fn checksum(&self) -> Result<String, serde_json::Error> {
        Ok(blake3::hash(&serde_json::to_vec(self)?)
            .to_hex()
            .to_string())
    }
}

/// The name of a record's file in its folder.
pub(super) fn record_name(volume: VolumeId) -> String {
    format!("{volume}{ENDING}")
}

/// The volume whose record has this name.
pub(super) fn record_volume(name: &str) -> Option<VolumeId> {
    name.strip_suffix(ENDING)?.parse().ok()
}

impl Qcow2Driver {
    pub(super) fn write_record(
        &self,
        volume: VolumeId,
        record: &VolumeRecord,
    ) -> Result<(), Error> {
        let content = Content {
            format: match record {
                record if record.filling.is_some() => FILLING,
                record if record.is_live() => LIVE,
                _ => PLAIN,
            },
            volume,
            record: record.clone(),
        };
        let bytes = content
            .checksum()
            .and_then(|checksum| serde_json::to_vec(&RecordFile { content, checksum }));
        let bytes = bytes.map_err(|e| Error::io("writing a record", io::Error::other(e)))?;
        self.replace(&self.path.join("volumes").join(record_name(volume)), &bytes)
    }

    pub(super) fn read_record(&self, volume: VolumeId) -> Result<VolumeRecord, Error> {
        let damaged = |reason: String| Error::RecordDamaged { volume, reason };
        let path = self.path.join("volumes").join(record_name(volume));
        let bytes = fs::read(path).map_err(|e| damaged(e.to_string()))?;
        let file: RecordFile =
            serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if ![PLAIN, LIVE, FILLING].contains(&file.content.format) {
            return Err(damaged(format!("its format is {}", file.content.format)));
        }
        if file.content.volume != volume {
            return Err(damaged("it is another volume's".to_owned()));
        }
        if file.content.checksum().ok() != Some(file.checksum) {
            return Err(damaged("its checksum is wrong".to_owned()));
        }
        Ok(file.content.record)
    }
}
