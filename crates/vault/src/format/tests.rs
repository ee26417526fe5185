//! The document's vectors, and parsers under random and damaged bytes.

use proptest::prelude::*;
use stillpoint_model::id::{AccountId, BackupId, RunId, VaultId, VolumeId};
use stillpoint_model::{ByteCount, Timestamp};
use zeroize::Zeroizing;

use super::epoch::{Doom, Plan};
use super::hash::hex;
use super::index::{Index, IndexFrame, IndexPack};
use super::manifest::Manifest;
use super::names::{IdBytes, Names};
use super::object::{Class, HEADER_LEN, Header, open_object, seal_object};
use super::pack::{Codec, FrameOpener, PackBuilder, PackId, Spot, directory, scan};
use super::run::{Note, Renewal};
use super::tree::{
    Extent, FrameLoc, Interior, LEAF_LEVEL, Leaf, NodeRef, encode_interior, encode_leaf,
    open_interior, open_leaf, seal_node,
};
use super::*;
use crate::buffers::Aligned;

const VAULT: [u8; 16] = [0x11; 16];
const RUN: [u8; 16] = [0x22; 16];
const SALT: [u8; 16] = [0x55; 16];

fn keys() -> VaultKeys {
    VaultKeys::new(VAULT, Zeroizing::new([0x44; 32]), object::Flags::default())
}

fn pack_id() -> PackId {
    PackId {
        run: RunId::of_bytes(RUN),
        seq: 7,
    }
}

/// A pack of one frame of two chunks: 16 KiB of `A`, 16 KiB of `B`.
fn a_pack(codec: Codec) -> (Vec<u8>, Spot) {
    let keys = keys();
    let header = pack_id().header(VAULT);
    let mut plain = vec![b'A'; CHUNK_LEN];
    plain.extend(vec![b'B'; CHUNK_LEN]);
    let ids: Vec<_> = plain
        .chunks(CHUNK_LEN)
        .map(|chunk| keys.hasher.chunk(chunk))
        .collect();
    let body = match codec {
        Codec::Raw => plain,
        Codec::Zstd => zstd::bulk::compress(&plain, 3).unwrap(),
    };
    let mut builder = PackBuilder::new(keys.object(&header).unwrap(), &header, vec![]);
    let spot = builder.push(&ids, codec, &body).unwrap();
    (builder.finish().unwrap(), spot)
}

fn a_leaf() -> Leaf {
    let keys = keys();
    let mut spans = vec![None; FANOUT];
    let (a, b) = (
        keys.hasher.chunk(&[b'A'; CHUNK_LEN]),
        keys.hasher.chunk(&[b'B'; CHUNK_LEN]),
    );
    let zero = keys.hasher.zero(0);
    let ids = [a, b].into_iter().chain((2..64).map(|_| zero));
    spans[0] = Some(keys.hasher.node(1, ids));
    let (pack, spot) = a_pack(Codec::Raw);
    let pack_len = u32::try_from(pack.len()).unwrap();
    let frames = vec![FrameLoc {
        pack: pack_id(),
        pack_len,
        spot,
    }];
    let extents = vec![Extent {
        first: 0,
        count: 2,
        frame: 0,
        slot: 0,
    }];
    Leaf {
        frames,
        extents,
        spans,
    }
}

fn a_node_ref(hash: hash::Hash, chunks: u64, len: usize) -> NodeRef {
    let pack = PackId {
        run: RunId::of_bytes(RUN),
        seq: pack::FIRST_TREE_SEQ,
    };
    let spot = Spot {
        offset: 80,
        len: u32::try_from(len).unwrap(),
    };
    NodeRef {
        hash,
        chunks,
        pack,
        spot,
    }
}

fn a_sealed_leaf() -> (Vec<u8>, NodeRef) {
    let (keys, leaf) = (keys(), a_leaf());
    let hash = leaf.hash(&keys.hasher);
    let at = a_node_ref(hash, 2, encode_leaf(&leaf).len() + 16);
    let key = keys.object(&at.pack.header(VAULT)).unwrap();
    (
        seal_node(&key, 80, LEAF_LEVEL, 0, encode_leaf(&leaf)).unwrap(),
        at,
    )
}

fn a_manifest() -> Manifest {
    let (_, root) = a_sealed_leaf();
    Manifest {
        volume_id: VolumeId::of_bytes([0x33; 16]),
        run_id: RunId::of_bytes(RUN),
        parent: None,
        created: Timestamp::from_micros(1_795_000_000_000_000),
        size: ByteCount::from_mib(1),
        changed: ByteCount::new(32768),
        stored: ByteCount::new(1000),
        bytes_read: ByteCount::from_mib(1),
        tracked: 0,
        content_hash: keys().hasher.content(1 << 20, LEAF_LEVEL, root.hash),
        root: Some(root),
        metadata: [("name".to_owned(), "web-1".to_owned())].into(),
    }
}

fn an_index() -> Index {
    let frame = IndexFrame {
        spot: Spot {
            offset: 80,
            len: 200,
        },
        prefixes: vec![1, 2],
    };
    Index {
        volume_id: VolumeId::of_bytes([0x33; 16]),
        backup_id: BackupId::of_bytes([0x66; 16]),
        packs: vec![IndexPack {
            seq: 7,
            len: 400,
            frames: vec![frame],
        }],
    }
}

fn a_key_object() -> Vec<u8> {
    let root = RootKey::from_bytes([0x01; 32]);
    let object = KeyObject {
        header: Header {
            seq: 1,
            ..Header::new(Class::Keys, VAULT, VAULT, SALT)
        },
        account_id: AccountId::from_uuid(uuid::Uuid::from_bytes([0x77; 16])),
        root_key_id: root.id(),
    };
    object
        .seal(&root, &AccountKey::from_bytes([0x02; 32]), &[0x44; 32])
        .unwrap()
}

fn a_sealed_manifest() -> Vec<u8> {
    let header = Header::new(Class::Manifest, VAULT, [0x66; 16], SALT);
    let key = keys().object(&header).unwrap();
    seal_object(&key, &header, a_manifest().encode()).unwrap()
}

/// The vectors of the document, by name.
fn vectors() -> Vec<(&'static str, String)> {
    let keys = keys();
    let (raw_pack, _) = a_pack(Codec::Raw);
    let (leaf, leaf_at) = a_sealed_leaf();
    vec![
        (
            "root key id",
            RootKey::from_bytes([0x01; 32]).id().to_string(),
        ),
        ("keys object", hex(&a_key_object())),
        ("zero chunk id", hex(&keys.hasher.zero(0))),
        ("zero span hash", hex(&keys.hasher.zero(1))),
        ("chunk A id", hex(&keys.hasher.chunk(&[b'A'; CHUNK_LEN]))),
        (
            "raw pack BLAKE3",
            blake3::hash(&raw_pack).to_hex().to_string(),
        ),
        ("raw pack header", hex(&raw_pack[..HEADER_LEN])),
        (
            "raw pack frame head",
            hex(&raw_pack[HEADER_LEN..HEADER_LEN + 96]),
        ),
        ("leaf plain", hex(&encode_leaf(&a_leaf()))),
        ("leaf hash", hex(&leaf_at.hash)),
        ("leaf sealed", hex(&leaf)),
        ("content hash", a_manifest().content_hash.to_string()),
        ("manifest object", hex(&a_sealed_manifest())),
        ("sums object", hex(&some_sums())),
    ]
}

/// What the raw pack hashes to.
fn some_sums() -> Vec<u8> {
    let (pack, _) = a_pack(Codec::Raw);
    let header = Header::new(Class::Sums, VAULT, RUN, [0; 16]);
    sums::encode(&header, vec![sums::Sum::of(7, &pack).unwrap()])
}

#[test]
fn the_documents_vectors_are_what_the_code_writes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/vault-format.md");
    let document = std::fs::read_to_string(path).unwrap();
    let squeeze = |text: &str| text.split_whitespace().collect::<String>();
    let lacks = |line: &String| !squeeze(&document).contains(&squeeze(line));
    let lines = vectors()
        .into_iter()
        .map(|(name, value)| format!("{name} = {value};"));
    let missing: Vec<String> = lines.filter(lacks).collect();
    assert!(
        missing.is_empty(),
        "the document lacks:\n{}",
        missing.join("\n")
    );
}

#[test]
fn everything_reads_back() {
    let keys = keys();
    for codec in [Codec::Raw, Codec::Zstd] {
        let (mut pack, spot) = a_pack(codec);
        let key = keys.object(&pack_id().header(VAULT)).unwrap();
        assert_eq!(directory(&key, &pack).unwrap(), [(spot, 0)]);
        let (sound, verdict) = scan(
            &mut FrameOpener::new().unwrap(),
            &key,
            &keys.hasher,
            &pack_id().header(VAULT),
            &mut pack,
            &mut Aligned::default(),
        );
        assert_eq!((sound.len(), verdict), (1, Ok(())));
    }
    let (mut leaf, at) = a_sealed_leaf();
    let key = keys.object(&at.pack.header(VAULT)).unwrap();
    assert_eq!(
        open_leaf(&key, &keys.hasher, &at, 0, &mut leaf).unwrap(),
        a_leaf()
    );
    let mut node = Interior::empty();
    node.children[5] = Some(at);
    let hash = node.hash(&keys.hasher, 3);
    let at = a_node_ref(hash, 2, 0);
    let mut sealed = seal_node(&key, 80, 3, 9, encode_interior(&node)).unwrap();
    assert_eq!(
        open_interior(&key, &keys.hasher, &at, 3, 9, &mut sealed).unwrap(),
        node
    );
    assert_eq!(
        Manifest::decode(&a_manifest().encode()).unwrap(),
        a_manifest()
    );
    assert_eq!(Index::decode(&an_index().encode()).unwrap(), an_index());
    let object = a_key_object();
    let vault_id = VaultId::of_bytes(VAULT);
    let opened = KeyObject::decode(&object, vault_id).unwrap();
    let again = opened
        .open(&object, &RootKey::from_bytes([0x01; 32]))
        .unwrap();
    assert_eq!(again.hasher.zero(0), keys.hasher.zero(0));
}

#[test]
fn a_node_does_not_open_in_another_place() {
    let (leaf, at) = a_sealed_leaf();
    let keys = keys();
    let key = keys.object(&at.pack.header(VAULT)).unwrap();
    assert!(open_leaf(&key, &keys.hasher, &at, 1, &mut leaf.clone()).is_err());
    let moved = NodeRef {
        spot: Spot {
            offset: 81,
            ..at.spot
        },
        ..at
    };
    assert!(open_leaf(&key, &keys.hasher, &moved, 0, &mut leaf.clone()).is_err());
}

#[test]
fn unknown_versions_classes_and_flags_are_unsupported_not_damaged() {
    let header = Header::new(Class::Manifest, VAULT, [0x66; 16], SALT);
    let flagged = Header {
        flags: object::Flags {
            read: 4,
            ..header.flags
        },
        ..header
    };
    let mut versioned = header.encode();
    versioned[8] = 2;
    let mut classed = header.encode();
    classed[10] = 99;
    for bytes in [flagged.encode(), versioned, classed] {
        let error = Header::expect(&bytes, &header).unwrap_err();
        assert!(matches!(error, wire::Malformed::Unknown(_)), "{error:?}");
    }
    let later = Header {
        flags: object::Flags {
            write: 1,
            collect: 1,
            read: 0,
        },
        ..header
    };
    assert!(
        Header::expect(&later.encode(), &header).is_ok(),
        "it can still be read"
    );
}

/// Every parser; none may panic.
fn parse_all(bytes: &[u8]) {
    for (_, parse) in crate::fuzzing::PARSERS {
        parse(bytes);
    }
}

/// What is right, for each parser by name.
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let key = (
        VolumeId::of_bytes([0x33; 16]),
        BackupId::of_bytes([0x66; 16]),
    );
    let at = Timestamp::from_micros(1);
    let plan = Plan {
        at,
        backups: vec![(key, [1; 32])],
        kept: vec![key, key],
        packs: vec![pack_id()],
        runs: vec![RunId::of_bytes(RUN)],
    };
    let doom = Doom {
        at,
        backups: vec![key],
        packs: vec![pack_id(), pack_id()],
        runs: vec![],
    };
    let note = Note {
        run_id: RunId::of_bytes(RUN),
        volume_id: key.0,
        at,
        epoch: 3,
    };
    let empty = Manifest {
        root: None,
        ..a_manifest()
    };
    let names = Names {
        vault: VaultId::of_bytes(VAULT),
    };
    let mut all = vec![
        ("header", pack_id().header(VAULT).encode().to_vec()),
        ("manifest", a_manifest().encode()),
        ("manifest", empty.encode()),
        ("index", an_index().encode()),
        ("note", note.encode()),
        ("renewal", Renewal { note, by: key.1 }.encode()),
        ("plan", plan.encode()),
        ("doom", doom.encode()),
        ("sums", {
            let object = some_sums();
            object[..object.len() - 32].to_vec()
        }),
        ("keys", a_key_object()),
        (
            "root_key",
            RootKey::from_bytes([1; 32]).to_text().as_bytes().to_vec(),
        ),
        ("frame", a_plain_frame(Codec::Raw)),
        ("frame", a_plain_frame(Codec::Zstd)),
        ("directory", a_plain_directory()),
        ("leaf", encode_leaf(&a_leaf())),
        ("interior", encode_interior(&an_interior())),
        ("pack", a_pack(Codec::Zstd).0),
    ];
    let vault = names.prefix("");
    for name in [
        names.keys(1),
        names.pack(pack_id()),
        names.index(RunId::of_bytes(RUN), 0xab),
        names.manifest(key.0, key.1),
        names.proof(key.0, key.1),
        names.renewal(key.0, key.1),
        names.doom(7),
        names.sums(RunId::of_bytes(RUN), 0xcd),
    ] {
        all.push(("name", name.as_str().replace(&vault, "").into_bytes()));
    }
    all
}

fn an_interior() -> Interior {
    let mut node = Interior::empty();
    node.children[5] = Some(a_node_ref([9; 32], 17, 300));
    node
}

/// The length of a frame's header, the header, the body: as `fuzzing` seals them.
fn a_plain_frame(codec: Codec) -> Vec<u8> {
    let plain = vec![b'A'; CHUNK_LEN];
    let mut head = vec![codec as u8, 0, 1, 0, 0, 0, 0, 0];
    head.extend(keys().hasher.chunk(&plain));
    let body = match codec {
        Codec::Raw => plain,
        Codec::Zstd => zstd::bulk::compress(&plain, 3).unwrap(),
    };
    let len = u16::try_from(head.len()).unwrap().to_le_bytes();
    [len.to_vec(), head, body].concat()
}

/// A directory of two frames of 100 and 200 bytes, and how much is before it.
fn a_plain_directory() -> Vec<u8> {
    let mut bytes = 300_u16.to_le_bytes().to_vec();
    for number in [2_u32, 80, 100, 0, 0, 180, 200, 0, 0] {
        bytes.extend(number.to_le_bytes());
    }
    bytes
}

#[test]
fn what_is_written_in_two_ways_is_refused() {
    let manifest = Manifest {
        root: None,
        metadata: [("a", "1"), ("b", "2")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..a_manifest()
    };
    let bytes = manifest.encode();
    assert_eq!(Manifest::decode(&bytes), Ok(manifest));
    let mut swapped = bytes.clone();
    let notes = bytes.len() - 20;
    swapped[notes..].rotate_left(10);
    assert!(Manifest::decode(&swapped).is_err(), "notes out of order");
    let mut rooted = bytes;
    rooted[notes - 4 - 1] = 1;
    assert!(Manifest::decode(&rooted).is_err(), "a root that is none");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        parse_all(&bytes);
    }

    /// What a key holder could have written wrongly: plain bytes with flips and cuts.
    #[test]
    fn damaged_plain_bytes_never_panic(
        which in 0_usize..4,
        at in any::<proptest::sample::Index>(),
        bit in 0_u8..8,
        cut in any::<proptest::sample::Index>(),
    ) {
        let plain = [
            a_manifest().encode(),
            an_index().encode(),
            encode_leaf(&a_leaf()),
            encode_interior(&an_interior()),
        ];
        let mut bytes = plain[which].clone();
        let spot = at.index(bytes.len());
        bytes[spot] ^= 1 << bit;
        parse_all(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        parse_all(&bytes);
    }

    /// Every flip and every cut of a sealed object is found.
    #[test]
    fn damaged_sealed_bytes_are_always_found(
        which in 0_usize..4,
        at in any::<proptest::sample::Index>(),
        bit in 0_u8..8,
        cut in any::<proptest::sample::Index>(),
    ) {
        let keys = keys();
        let vault_id = VaultId::of_bytes(VAULT);
        let header = Header::new(Class::Manifest, VAULT, [0x66; 16], SALT);
        let opens = |mut bytes: Vec<u8>| match which {
            0 => Header::expect(&bytes, &header)
                .and_then(|header| keys.object(&header))
                .and_then(|key| open_object(&key, &mut bytes))
                .is_ok(),
            1 => KeyObject::decode(&bytes, vault_id)
                .and_then(|object| object.open(&bytes, &RootKey::from_bytes([0x01; 32])))
                .is_ok(),
            2 => {
                let header = pack_id().header(VAULT);
                let key = keys.object(&header).unwrap();
                scan(&mut FrameOpener::new().unwrap(), &key, &keys.hasher, &header, &mut bytes, &mut Aligned::default()).1.is_ok()
            }
            _ => {
                let (_, at) = a_sealed_leaf();
                let key = keys.object(&at.pack.header(VAULT)).unwrap();
                open_leaf(&key, &keys.hasher, &at, 0, &mut bytes).is_ok()
            }
        };
        let whole = [a_sealed_manifest(), a_key_object(), a_pack(Codec::Zstd).0, a_sealed_leaf().0];
        prop_assert!(opens(whole[which].clone()));
        let mut flipped = whole[which].clone();
        let spot = at.index(flipped.len());
        flipped[spot] ^= 1 << bit;
        prop_assert!(!opens(flipped), "flip at {}", spot);
        let mut short = whole[which].clone();
        short.truncate(cut.index(short.len()));
        prop_assert!(!opens(short));
    }
}
