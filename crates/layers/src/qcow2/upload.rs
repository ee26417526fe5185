//! stub
use crate::{
    Error,
    driver::{LayerMap, Run},
};
use std::fs::File;
use stillpoint_model::ByteCount;
/// stub
pub(crate) struct Upload;
impl Upload {
    pub(crate) fn open(_: File) -> Result<Self, Error> {
        Err(Error::Unsupported("read qcow2 images"))
    }
}
impl LayerMap for Upload {
    fn size(&self) -> ByteCount {
        ByteCount::ZERO
    }
    fn run_at(&self, _: u64) -> Result<Run, Error> {
        Err(Error::Unsupported(""))
    }
    fn read_data(&self, _: u64, _: &mut [u8]) -> Result<(), Error> {
        Err(Error::Unsupported(""))
    }
}
