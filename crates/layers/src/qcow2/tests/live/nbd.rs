//! A guest's view of a volume: just enough of NBD to write to an export and read it.
//!
//! From the protocol's specification (`doc/proto.md` of the NBD project): fixed newstyle
//! handshake, then simple replies.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const EXPORT_NAME: u32 = 1;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const READ: u16 = 0;
const WRITE: u16 = 1;
const FLUSH: u16 = 3;
const WRITE_ZEROES: u16 = 6;
/// The longest request that every server takes.
const MAX: usize = 1 << 20;

/// An open export.
pub(super) struct Nbd {
    stream: UnixStream,
    size: u64,
}

impl Nbd {
    pub(super) fn open(socket: &Path, export: &str) -> io::Result<Self> {
        let mut stream = UnixStream::connect(socket)?;
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting)?;
        let mut hello = 3u32.to_be_bytes().to_vec(); // fixed newstyle, no zeroes
        hello.extend(OPTION_MAGIC.to_be_bytes());
        hello.extend(EXPORT_NAME.to_be_bytes());
        hello.extend(u32::try_from(export.len()).unwrap().to_be_bytes());
        hello.extend(export.as_bytes());
        stream.write_all(&hello)?;
        let mut answer = [0; 10];
        stream.read_exact(&mut answer)?;
        let size = u64::from_be_bytes(answer[..8].try_into().unwrap());
        Ok(Self { stream, size })
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        for (index, piece) in data.chunks(MAX).enumerate() {
            let at = offset + (index * MAX) as u64;
            self.request(WRITE, at, piece.len(), piece, &mut [])?;
        }
        Ok(())
    }

    pub(super) fn zero(&mut self, offset: u64, len: usize) -> io::Result<()> {
        self.request(WRITE_ZEROES, offset, len, &[], &mut [])
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.request(FLUSH, 0, 0, &[], &mut [])
    }

    pub(super) fn read(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        for (index, piece) in buf.chunks_mut(MAX).enumerate() {
            let at = offset + (index * MAX) as u64;
            self.request(READ, at, piece.len(), &[], piece)?;
        }
        Ok(())
    }

    fn request(
        &mut self,
        kind: u16,
        offset: u64,
        len: usize,
        data: &[u8],
        into: &mut [u8],
    ) -> io::Result<()> {
        let mut request = REQUEST_MAGIC.to_be_bytes().to_vec();
        request.extend([0, 0]);
        request.extend(kind.to_be_bytes());
        request.extend([0; 8]);
        request.extend(offset.to_be_bytes());
        request.extend(u32::try_from(len).unwrap().to_be_bytes());
        request.extend(data);
        self.stream.write_all(&request)?;
        let mut reply = [0; 16];
        self.stream.read_exact(&mut reply)?;
        let error = u32::from_be_bytes(reply[4..8].try_into().unwrap());
        if error != 0 {
            let error = i32::try_from(error).unwrap_or(5);
            return Err(io::Error::from_raw_os_error(error));
        }
        self.stream.read_exact(into)
    }
}
