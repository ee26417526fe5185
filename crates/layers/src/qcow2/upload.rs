//! Images that other people made.

use std::fs::File;

use stillpoint_model::ByteCount;

use super::FormatError;
use super::header::{Header, ReadError};
use super::map::Map;
use crate::Error;
use crate::driver::{LayerMap, Run};

/// An uploaded qcow2 image that stands alone.
pub(crate) struct Upload {
    map: Map,
}

impl Upload {
    /// Checks everything that the image claims about itself.
    pub(crate) fn open(file: File) -> Result<Self, Error> {
        let file_len = file.metadata().map_err(Error::ImageUnreadable)?.len();
        let header = Header::read(&file, file_len).map_err(refused)?;
        if header.backing_name.is_some() {
            return Err(Error::ImageRefused(FormatError::BackingFile));
        }
        if header.is_dirty {
            return Err(Error::ImageRefused(FormatError::Dirty));
        }
        let map = Map::open(file, file_len, header).map_err(refused)?;
        map.check_uses().map_err(refused)?;
        Ok(Self { map })
    }
}

impl LayerMap for Upload {
    fn size(&self) -> ByteCount {
        ByteCount::new(self.map.header.size)
    }

    fn run_at(&self, offset: u64) -> Result<Run, Error> {
        self.map.run_at(offset).map_err(refused)
    }

    fn read_data(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        self.map.read_data(offset, buf).map_err(refused)
    }
}

fn refused(error: ReadError) -> Error {
    match error {
        ReadError::Io(error) => Error::ImageUnreadable(error),
        ReadError::Format(error) => Error::ImageRefused(error),
    }
}
