//! The header that every object starts with, and the sealing of its segments.
//!
//! Each object is encrypted under a key of its own, derived from the vault's key and the whole
//! header (class, ids, flags, salt): an object that is renamed, moved to another vault, or served
//! in the place of another does not open. Within an object a nonce is the kind of the segment and
//! its offset, so that none is used twice.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroize;

use super::wire::{Malformed, Reader, Writer};

/// Length of the header.
pub(crate) const HEADER_LEN: usize = 80;

/// Length of what the AEAD appends.
pub(crate) const TAG_LEN: usize = 16;

const MAGIC: &[u8; 8] = b"STILLPNT";
const VERSION: u16 = 1;

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Class {
    /// The vault's wrapped keys.
    Keys = 1,
    /// A run that is under way.
    Run = 2,
    /// Frames of chunks.
    Pack = 3,
    /// Nodes of trees.
    TreePack = 4,
    /// Where the chunks of some packs are.
    Index = 5,
    /// One backup.
    Manifest = 6,
    /// The deletion of a backup.
    Tombstone = 7,
    /// What takes a manifest's place while its run is reaped.
    Void = 8,
    /// Room to give up when the target is full.
    Reserve = 9,
    /// A pack that failed verification.
    Mark = 10,
    /// A backup that was read back.
    Proof = 11,
    /// What a collection condemned.
    Plan = 12,
    /// What a collection removes.
    Doom = 13,
    /// A collection that ended.
    Done = 14,
    /// That another backup has what a damaged one held.
    Renewal = 15,
    /// What packs hash to.
    Sums = 16,
}

impl Class {
    fn from_byte(byte: u8) -> Result<Self, Malformed> {
        Ok(match byte {
            1 => Self::Keys,
            2 => Self::Run,
            3 => Self::Pack,
            4 => Self::TreePack,
            5 => Self::Index,
            6 => Self::Manifest,
            7 => Self::Tombstone,
            8 => Self::Void,
            9 => Self::Reserve,
            10 => Self::Mark,
            11 => Self::Proof,
            12 => Self::Plan,
            13 => Self::Doom,
            14 => Self::Done,
            15 => Self::Renewal,
            16 => Self::Sums,
            _ => return Err(Malformed::Unknown("its class")),
        })
    }
}

/// What a program must know to do something with an object: one bit per feature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    /// To read it.
    pub read: u32,
    /// To write into the vault.
    pub write: u32,
    /// To collect or delete in the vault.
    pub collect: u32,
}

/// The header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub class: Class,
    pub seq: u32,
    pub flags: Flags,
    pub vault: [u8; 16],
    pub id: [u8; 16],
    pub salt: [u8; 16],
}

impl Header {
    /// A header without flags.
    pub(crate) fn new(class: Class, vault: [u8; 16], id: [u8; 16], salt: [u8; 16]) -> Self {
        Self {
            class,
            seq: 0,
            flags: Flags::default(),
            vault,
            id,
            salt,
        }
    }

    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut w = Writer::default();
        w.raw(MAGIC)
            .u16(VERSION)
            .u8(self.class as u8)
            .u8(0)
            .u32(self.seq);
        w.u32(self.flags.read)
            .u32(self.flags.write)
            .u32(self.flags.collect)
            .u32(0);
        w.raw(&self.vault).raw(&self.id).raw(&self.salt);
        let mut out = [0; HEADER_LEN];
        out.copy_from_slice(&w.finish());
        out
    }

    /// Parses a header; bytes after it are ignored.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        if r.take(8)? != MAGIC {
            return Err(Malformed::Wrong(
                "it does not start as an object of a vault",
            ));
        }
        if r.u16()? != VERSION {
            return Err(Malformed::Unknown("its format version"));
        }
        let class = Class::from_byte(r.u8()?)?;
        r.zeros(1)?;
        let seq = r.u32()?;
        let flags = Flags {
            read: r.u32()?,
            write: r.u32()?,
            collect: r.u32()?,
        };
        r.zeros(4)?;
        Ok(Self {
            class,
            seq,
            flags,
            vault: r.array()?,
            id: r.array()?,
            salt: r.array()?,
        })
    }

    /// Parses a header and checks that it is of the object that was asked for, and that nothing
    /// unknown here is needed to read it.
    pub(crate) fn expect(bytes: &[u8], wanted: &Header) -> Result<Self, Malformed> {
        let header = Self::of_same(bytes, wanted)?;
        header.require_readable()?;
        Ok(header)
    }

    /// Parses a header and checks that it is of the object that was asked for.
    pub(crate) fn of_same(bytes: &[u8], wanted: &Header) -> Result<Self, Malformed> {
        let header = Self::decode(bytes)?;
        let same = header.class == wanted.class
            && header.seq == wanted.seq
            && header.vault == wanted.vault
            && header.id == wanted.id;
        if !same {
            return Err(Malformed::Wrong("it is another object"));
        }
        Ok(header)
    }

    /// Whether nothing unknown here is needed to read it. Of a small object that is known once it was
    /// opened: before that, a flag may be a bit that rotted.
    pub(crate) fn require_readable(&self) -> Result<(), Malformed> {
        match self.flags.read {
            0 => Ok(()),
            _ => Err(Malformed::Unknown("a feature needed to read it")),
        }
    }
}

/// The kinds of sealed segments: the first half of their nonces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Segment {
    FrameHeader = 1,
    FrameBody = 2,
    Directory = 3,
    Node = 4,
    Body = 5,
    AccountKey = 6,
    VaultKey = 7,
}

/// The key of one object.
pub(crate) struct ObjectKey {
    key: LessSafeKey,
    header: [u8; HEADER_LEN],
}

impl ObjectKey {
    /// Derives the key of the object with this header, for `context`, from a 32-byte secret.
    pub(crate) fn derive(context: &str, secret: &[u8; 32], header: &Header) -> Option<Self> {
        let header = header.encode();
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(secret).update(&header);
        let mut key = *hasher.finalize().as_bytes();
        hasher.zeroize();
        let unbound = UnboundKey::new(&AES_256_GCM, &key);
        key.zeroize();
        Some(Self {
            key: LessSafeKey::new(unbound.ok()?),
            header,
        })
    }

    fn nonce(kind: Segment, offset: u64) -> Nonce {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&(kind as u32).to_le_bytes());
        nonce[4..].copy_from_slice(&offset.to_le_bytes());
        Nonce::assume_unique_for_key(nonce)
    }

    fn aad(&self, extra: &[u8]) -> Aad<Vec<u8>> {
        Aad::from([&self.header, extra].concat())
    }

    /// Encrypts `buf` in place and appends the tag. `offset` is where the result goes.
    pub(crate) fn seal(
        &self,
        kind: Segment,
        offset: u64,
        extra: &[u8],
        buf: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        self.key
            .seal_in_place_append_tag(Self::nonce(kind, offset), self.aad(extra), buf)
            .map_err(|_| Malformed::Wrong("it cannot be encrypted"))
    }

    /// As [`ObjectKey::seal`], for what is at the end of `buf`, from `at` on.
    pub(crate) fn seal_tail(
        &self,
        kind: Segment,
        extra: &[u8],
        buf: &mut Vec<u8>,
        at: usize,
    ) -> Result<(), Malformed> {
        let wrong = Malformed::Wrong("it cannot be encrypted");
        let tail = buf.get_mut(at..).ok_or(wrong)?;
        let tag = self
            .key
            .seal_in_place_separate_tag(Self::nonce(kind, at as u64), self.aad(extra), tail)
            .map_err(|_| wrong)?;
        buf.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Decrypts `sealed` in place and gives the plain bytes.
    pub(crate) fn open<'a>(
        &self,
        kind: Segment,
        offset: u64,
        extra: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a [u8], Malformed> {
        match self
            .key
            .open_in_place(Self::nonce(kind, offset), self.aad(extra), sealed)
        {
            Ok(plain) => Ok(plain),
            Err(_) => Err(Malformed::Wrong("it is not authentic")),
        }
    }
}

/// Seals an object that is a header and one body.
pub(crate) fn seal_object(
    key: &ObjectKey,
    header: &Header,
    mut body: Vec<u8>,
) -> Result<Vec<u8>, Malformed> {
    key.seal(Segment::Body, HEADER_LEN as u64, &[], &mut body)?;
    let mut object = header.encode().to_vec();
    object.append(&mut body);
    Ok(object)
}

/// Opens the body of an object that is a header and one body.
pub(crate) fn open_object(key: &ObjectKey, object: &mut [u8]) -> Result<Vec<u8>, Malformed> {
    let sealed = object
        .get_mut(HEADER_LEN..)
        .ok_or(Malformed::Wrong("it ends too early"))?;
    key.open(Segment::Body, HEADER_LEN as u64, &[], sealed)
        .map(<[u8]>::to_vec)
}
