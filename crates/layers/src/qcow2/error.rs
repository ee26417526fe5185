//! Why a file is not read as qcow2.

/// Why a file is not read as qcow2. Each says what was found, none names a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The first bytes are not `QFI\xfb`.
    #[error("it is no qcow2 image")]
    BadMagic,
    /// It was declared raw and begins as a qcow2 image.
    #[error("it was declared raw and is a qcow2 image")]
    NotRaw,
    /// It is not a regular file.
    #[error("it is no regular file")]
    NotAFile,
    /// A version other than 2 and 3.
    #[error("version {0} of the format is not supported")]
    Version(u32),
    /// It names another file to read from.
    #[error("it names a backing file")]
    BackingFile,
    /// Its data is in another file.
    #[error("it keeps its data in another file")]
    DataFile,
    /// It is encrypted.
    #[error("it is encrypted")]
    Encrypted,
    /// It has snapshots inside.
    #[error("it holds internal snapshots")]
    InternalSnapshots,
    /// A feature that cannot be ignored and that nobody here knows.
    #[error("it needs features that are not supported: {0:#x}")]
    Features(u64),
    /// It was not closed properly.
    #[error("it was not closed properly")]
    Dirty,
    /// It is marked as corrupt.
    #[error("it is marked as corrupt")]
    MarkedCorrupt,
    /// A field of the header has a value that it cannot have.
    #[error("its header is wrong: {0}")]
    Header(&'static str),
    /// A table or a piece of data is outside the file.
    #[error("its {what} at {offset:#x} lies outside the file")]
    OutsideFile {
        /// What it is.
        what: &'static str,
        /// Where it should be.
        offset: u64,
    },
    /// A table or a piece of data is not where one may begin.
    #[error("its {what} at {offset:#x} is not aligned")]
    Unaligned {
        /// What it is.
        what: &'static str,
        /// Where it should be.
        offset: u64,
    },
    /// Two things claim the same place.
    #[error("its {what} at {offset:#x} overlaps with something else")]
    Overlap {
        /// What it is.
        what: &'static str,
        /// Where it should be.
        offset: u64,
    },
    /// An entry of a table contradicts itself.
    #[error("its entry for offset {0:#x} contradicts itself")]
    Entry(u64),
    /// A compressed cluster does not unpack to a whole one.
    #[error("its compressed data for offset {0:#x} does not unpack")]
    Compressed(u64),
    /// Its compressed data would unpack to far more than compression explains.
    #[error("it unpacks to {unpacked} bytes, which is more than {sent} bytes can hold")]
    Unpacks {
        /// The length of the file.
        sent: u64,
        /// What its tables say that it holds.
        unpacked: u64,
    },
    /// The file is shorter than its header says.
    #[error("it is cut off")]
    Truncated,
}
