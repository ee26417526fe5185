//! The numbers of the protocol, and reading and writing them. Everything is big-endian.
//!
//! Source: the NBD project's `doc/proto.md`.

use std::io::{self, Read};

/// What the server says first.
pub const GREETING: u64 = 0x4e42_444d_4147_4943;
/// What begins an option, and follows the greeting.
pub const OPTION: u64 = 0x4948_4156_454f_5054;
/// What begins the answer to an option.
pub const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
/// What begins a request.
pub const REQUEST: u32 = 0x2560_9513;
/// What begins an answer that is not structured.
pub const SIMPLE_REPLY: u32 = 0x6744_6698;
/// What begins a part of a structured answer.
pub const CHUNK: u32 = 0x668e_33ef;

/// Flags of the handshake, of both sides: fixed newstyle, and no zeros after an export's name.
pub const FIXED_NEWSTYLE: u16 = 1;
/// The second of them.
pub const NO_ZEROES: u16 = 2;

/// Options.
pub mod option {
    /// Begin, in the old way.
    pub const EXPORT_NAME: u32 = 1;
    /// End.
    pub const ABORT: u32 = 2;
    /// What is there?
    pub const LIST: u32 = 3;
    /// What is it like?
    pub const INFO: u32 = 6;
    /// Begin.
    pub const GO: u32 = 7;
    /// Structured replies, please.
    pub const STRUCTURED_REPLY: u32 = 8;
    /// Which kinds of block status are there?
    pub const LIST_META_CONTEXT: u32 = 9;
    /// These kinds of block status, please.
    pub const SET_META_CONTEXT: u32 = 10;
}

/// Answers to options.
pub mod reply {
    /// Done.
    pub const ACK: u32 = 1;
    /// An export.
    pub const SERVER: u32 = 2;
    /// Something about the export.
    pub const INFO: u32 = 3;
    /// A kind of block status.
    pub const META_CONTEXT: u32 = 4;
    /// There is no such option.
    pub const UNSUPPORTED: u32 = 0x8000_0001;
    /// It cannot be read.
    pub const INVALID: u32 = 0x8000_0003;
    /// There is no such export.
    pub const UNKNOWN: u32 = 0x8000_0006;
    /// It is longer than this server reads.
    pub const TOO_BIG: u32 = 0x8000_0009;
}

/// What is said about an export.
pub mod info {
    /// Its size and flags.
    pub const EXPORT: u16 = 0;
    /// The sizes of reads.
    pub const BLOCK_SIZE: u16 = 3;
}

/// Flags of an export.
pub mod export {
    /// There are flags.
    pub const HAS_FLAGS: u16 = 1;
    /// It is read only.
    pub const READ_ONLY: u16 = 1 << 1;
    /// A structured answer can be had in one piece; here it always is.
    pub const SEND_DF: u16 = 1 << 7;
    /// Several connections see the same.
    pub const MULTI_CONN: u16 = 1 << 8;
}

/// Commands of requests.
pub mod command {
    /// Read.
    pub const READ: u16 = 0;
    /// Write.
    pub const WRITE: u16 = 1;
    /// End, without an answer.
    pub const DISCONNECT: u16 = 2;
    /// Make durable what was written.
    pub const FLUSH: u16 = 3;
    /// Give up a range.
    pub const TRIM: u16 = 4;
    /// Write zeros.
    pub const WRITE_ZEROES: u16 = 6;
    /// Where are the zeros?
    pub const BLOCK_STATUS: u16 = 7;
    /// Of [`BLOCK_STATUS`]: one range is enough.
    pub const FLAG_REQ_ONE: u16 = 1 << 3;
}

/// Parts of structured answers.
pub mod chunk {
    /// The last one.
    pub const DONE: u16 = 1;
    /// Data at an offset.
    pub const OFFSET_DATA: u16 = 1;
    /// Zeros at an offset.
    pub const OFFSET_HOLE: u16 = 2;
    /// Where the zeros are.
    pub const BLOCK_STATUS: u16 = 5;
    /// It failed.
    pub const ERROR: u16 = 0x8001;
}

/// What went wrong with a request.
pub mod errno {
    /// It is not permitted.
    pub const EPERM: u32 = 1;
    /// It cannot be read.
    pub const EIO: u32 = 5;
    /// It makes no sense.
    pub const EINVAL: u32 = 22;
    /// There is no such command.
    pub const ENOTSUP: u32 = 95;
}

/// Of `base:allocation`: a hole that reads as zeros.
pub const HOLE_OF_ZEROS: u32 = 3;

/// Reads a number.
pub fn u16(from: &mut impl Read) -> io::Result<u16> {
    let mut bytes = [0; 2];
    from.read_exact(&mut bytes)?;
    Ok(u16::from_be_bytes(bytes))
}

/// Reads a number.
pub fn u32(from: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

/// Reads a number.
pub fn u64(from: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
}

/// A client that breaks the protocol.
pub fn broken(how: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, how)
}

/// A message in the making.
#[derive(Default)]
pub struct Message(pub Vec<u8>);

impl Message {
    /// Adds a number.
    pub fn u16(mut self, number: u16) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    /// Adds a number.
    pub fn u32(mut self, number: u32) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    /// Adds a number.
    pub fn u64(mut self, number: u64) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    /// Adds bytes.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }
}
