//! Every parser of a vault's bytes under hostile input, by name: for `fuzz/` and for the tests.
//!
//! What is sealed in a vault is sealed here first, so that the bytes get past the seal: they are what
//! somebody with the key could have written. No parser may panic, and what one accepts must be the
//! only way to write what it says, where the document knows only one.

use stillpoint_model::id::{RunId, VaultId};

use crate::buffers::Aligned;
use crate::format::epoch::{Doom, Plan};
use crate::format::index::Index;
use crate::format::manifest::Manifest;
use crate::format::names::{IdBytes, Named, Names};
use crate::format::object::{Class, Flags, HEADER_LEN, Header, ObjectKey, Segment};
use crate::format::pack::{FrameOpener, PackId, Spot, directory, scan};
use crate::format::run::{Note, Renewal};
use crate::format::sums;
use crate::format::tree::{
    LEAF_LEVEL, MAX_LEVEL, NodeRef, open_interior, open_leaf, scan_nodes, seal_node,
};
use crate::format::{KeyObject, RootKey, VaultKeys};
use crate::target::ObjectName;

const VAULT: [u8; 16] = [0x11; 16];

/// A parser under test.
pub type Parser = fn(&[u8]);

/// All of them, by the name of their fuzz target.
pub const PARSERS: [(&str, Parser); 16] = [
    ("header", |bytes| {
        let _ = Header::decode(bytes);
    }),
    ("manifest", |bytes| {
        if let Ok(manifest) = Manifest::decode(bytes) {
            assert_eq!(manifest.encode(), bytes);
        }
    }),
    ("index", |bytes| {
        if let Ok(index) = Index::decode(bytes) {
            assert_eq!(index.encode(), bytes);
        }
    }),
    ("note", |bytes| {
        if let Ok(note) = Note::decode(bytes) {
            assert_eq!(note.encode(), bytes);
        }
    }),
    ("renewal", |bytes| {
        if let Ok(renewal) = Renewal::decode(bytes) {
            assert_eq!(renewal.encode(), bytes);
        }
    }),
    ("plan", |bytes| {
        if let Ok(plan) = Plan::decode(bytes) {
            assert_eq!(plan.encode(), bytes);
        }
    }),
    ("doom", |bytes| {
        if let Ok(doom) = Doom::decode(bytes) {
            assert_eq!(doom.encode(), bytes);
        }
    }),
    ("sums", |bytes| {
        let wanted = Header::new(Class::Sums, VAULT, [0x22; 16], [0; 16]);
        let object = [bytes, blake3::hash(bytes).as_bytes()].concat();
        if let Ok(sums) = sums::decode(&wanted, &object)
            && let Ok(header) = Header::decode(&object)
        {
            assert_eq!(sums::encode(&header, sums), object);
        }
    }),
    ("keys", |bytes| {
        let _ = KeyObject::decode(bytes, VaultId::of_bytes(VAULT));
    }),
    ("root_key", |bytes| {
        drop(std::str::from_utf8(bytes).map(RootKey::parse));
    }),
    ("name", name),
    ("frame", frame),
    ("directory", pack_directory),
    ("leaf", leaf),
    ("interior", interior),
    ("pack", |bytes| {
        with_key(|keys, key, id| pack(keys, key, id, bytes))
    }),
];

/// Runs the parser of a name. Panics when there is none, or when it is not as it should be.
pub fn parse(name: &str, bytes: &[u8]) {
    let found = PARSERS.iter().find(|(known, _)| *known == name);
    assert!(found.is_some(), "there is no parser {name}");
    found.into_iter().for_each(|(_, parser)| parser(bytes));
}

/// Calls with keys, and with a pack and its key.
fn with_key(work: impl FnOnce(&VaultKeys, &ObjectKey, PackId)) {
    let keys = VaultKeys::new(VAULT, zeroize::Zeroizing::new([0x44; 32]), Flags::default());
    let id = PackId {
        run: RunId::of_bytes([0x22; 16]),
        seq: 7,
    };
    if let Ok(key) = keys.object(&id.header(VAULT)) {
        work(&keys, &key, id);
    }
}

/// What a listing gives: a name says one thing, and only it is how that is written.
fn name(bytes: &[u8]) {
    let names = Names {
        vault: VaultId::of_bytes(VAULT),
    };
    let text = String::from_utf8_lossy(bytes);
    let Ok(name) = ObjectName::new(names.prefix(&text)) else {
        return;
    };
    let again = match names.parse(&name) {
        None => return,
        Some(Named::Keys(generation)) => names.keys(generation),
        Some(Named::Run(backup, run)) => names.run(backup, run),
        Some(Named::Pack(pack)) => names.pack(pack),
        Some(Named::Index(run, seq)) => names.index(run, seq),
        Some(Named::Sums(run, seq)) => names.sums(run, seq),
        Some(Named::Manifest(volume, backup)) => names.manifest(volume, backup),
        Some(Named::Tombstone(volume, backup)) => names.tombstone(volume, backup),
        Some(Named::Proof(volume, backup)) => names.proof(volume, backup),
        Some(Named::Renewal(volume, backup)) => names.renewal(volume, backup),
        Some(Named::Quarantined(pack)) => names.mark(pack),
        Some(Named::Plan(epoch)) => names.plan(epoch),
        Some(Named::Doom(epoch)) => names.doom(epoch),
        Some(Named::Done(epoch)) => names.done(epoch),
        Some(Named::Reserve) => names.reserve(),
    };
    assert_eq!(again, name);
}

/// Splits off the length in the first two bytes, as far as there is so much.
fn split(bytes: &[u8]) -> (usize, &[u8]) {
    match bytes.split_first_chunk::<2>() {
        Some((len, rest)) => (usize::from(u16::from_le_bytes(*len)), rest),
        None => (0, bytes),
    }
}

/// The length of a frame header, the header, and the body, sealed as a frame.
fn frame(bytes: &[u8]) {
    let (len, rest) = split(bytes);
    let (head, body) = rest.split_at(len.min(rest.len()));
    let (mut head, mut body) = (head.to_vec(), body.to_vec());
    with_key(|keys, key, _| {
        let offset = HEADER_LEN as u64;
        let prefix: Vec<u8> = [head.len() + 16, body.len() + 16]
            .into_iter()
            .flat_map(|len| u32::try_from(len).unwrap_or(0).to_le_bytes())
            .collect();
        let sealed = key
            .seal(Segment::FrameHeader, offset + 8, &prefix, &mut head)
            .and_then(|()| {
                let at = offset + 8 + head.len() as u64;
                key.seal(Segment::FrameBody, at, &prefix, &mut body)
            });
        let mut frame = [prefix, head, body].concat();
        let spot = spot(HEADER_LEN, frame.len());
        if let (Ok(()), Ok(mut opener)) = (sealed, FrameOpener::new()) {
            let mut plain = Aligned::default();
            drop(opener.open(key, &keys.hasher, spot, &mut frame, &mut plain));
        }
    });
}

/// The length of what is before a directory, and the directory, sealed into a pack.
fn pack_directory(bytes: &[u8]) {
    let (len, rest) = split(bytes);
    let mut sealed = rest.to_vec();
    with_key(|_, key, _| {
        let at = HEADER_LEN + len;
        if key
            .seal(Segment::Directory, at as u64, &[], &mut sealed)
            .is_ok()
        {
            let mut pack = vec![0; at];
            pack.append(&mut sealed);
            let footer = u32::try_from(pack.len() - at).unwrap_or(0);
            pack.extend(footer.to_le_bytes());
            drop(directory(key, &pack));
        }
    });
}

fn spot(offset: usize, len: usize) -> Spot {
    let small = |number| u32::try_from(number).unwrap_or(u32::MAX);
    Spot {
        offset: small(offset),
        len: small(len),
    }
}

fn leaf(bytes: &[u8]) {
    node(bytes, LEAF_LEVEL, |keys, key, at, sealed| {
        drop(open_leaf(key, &keys.hasher, at, 0, sealed));
    });
}

fn interior(bytes: &[u8]) {
    for level in LEAF_LEVEL + 1..=MAX_LEVEL {
        node(bytes, level, |keys, key, at, sealed| {
            drop(open_interior(key, &keys.hasher, at, level, 0, sealed));
        });
    }
}

/// Seals bytes as a node.
fn node(bytes: &[u8], level: u8, open: impl Fn(&VaultKeys, &ObjectKey, &NodeRef, &mut [u8])) {
    with_key(|keys, key, pack| {
        let Ok(mut sealed) = seal_node(key, HEADER_LEN as u64, level, 0, bytes.to_vec()) else {
            return;
        };
        let at = NodeRef {
            hash: [0; 32],
            chunks: 0,
            pack,
            spot: spot(HEADER_LEN, sealed.len()),
        };
        open(keys, key, &at, &mut sealed);
    });
}

fn pack(keys: &VaultKeys, key: &ObjectKey, id: PackId, bytes: &[u8]) {
    let header = id.header(VAULT);
    if let Ok(mut opener) = FrameOpener::new() {
        let mut plain = Aligned::default();
        let mut bytes = bytes.to_vec();
        drop(scan(
            &mut opener,
            key,
            &keys.hasher,
            &header,
            &mut bytes,
            &mut plain,
        ));
    }
    drop(directory(key, bytes));
    let _ = scan_nodes(key, &header, &mut bytes.to_vec());
}

#[cfg(test)]
mod tests {
    use super::{PARSERS, parse};
    use crate::format::tests::seeds;

    /// So many for each parser; `fuzz/` goes on from there.
    const CASES: u64 = 1500;

    /// Numbers that only the seed decides.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            let bound = u64::try_from(bound.max(1)).unwrap();
            usize::try_from(self.0 % bound).unwrap()
        }
    }

    fn mutate(bytes: &mut Vec<u8>, chance: &mut Chance) {
        let at = chance.below(bytes.len());
        match chance.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.extend_from_within(at..),
            2 => {
                let wild = [0, 1, 2, 64, 65, 4096, 4097, 1 << 24, u32::MAX - 1, u32::MAX];
                let wild = wild[chance.below(wild.len())].to_le_bytes();
                let room = bytes.len().min(at + 4) - at;
                bytes[at..at + room].copy_from_slice(&wild[..room]);
            }
            3 => bytes.insert(at, 0),
            _ if bytes.is_empty() => bytes.push(0),
            4 => bytes[at] = u8::try_from(chance.below(256)).unwrap(),
            _ => bytes[at] ^= 1 << chance.below(8),
        }
    }

    #[test]
    fn every_parser_survives_what_is_nearly_right() {
        let seeds = seeds();
        for (name, _) in PARSERS {
            let own: Vec<_> = seeds.iter().filter(|(of, _)| *of == name).collect();
            assert!(!own.is_empty(), "{name} has no seed");
            let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
            for _ in 0..CASES {
                let mut bytes = own[chance.below(own.len())].1.clone();
                for _ in 0..chance.below(5) {
                    mutate(&mut bytes, &mut chance);
                }
                parse(name, &bytes);
            }
        }
    }

    #[test]
    fn every_parser_has_a_fuzz_target() {
        let manifest = include_str!("../../../fuzz/Cargo.toml");
        for (name, _) in PARSERS {
            let target = format!("name = \"{name}\"\npath = \"parser.rs\"");
            assert!(manifest.contains(&target), "{name}");
        }
    }
}
