#!/usr/bin/python3
"""A second reader of Stillpoint's vaults, written from docs/vault-format.md alone.

It lists the backups of a target that is a folder, and restores one with nothing but the target and
the root key. It shares no code with Stillpoint, so what it restores proves the document. Besides
Python it needs Debian's python3-cryptography (AES-GCM) and python3-zstandard.

It proves every chunk and every node as it reads them, then reads back what it wrote, hashes that,
and compares it with the manifest. It never writes to the target.

    second_reader.py list    TARGET --key FILE
    second_reader.py restore TARGET --key FILE --backup ID OUT
    second_reader.py vectors DOCUMENT
"""

import argparse
import os
import re
import struct
import sys
import uuid
from array import array
from datetime import datetime, timedelta, timezone
from pathlib import Path

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CHUNK = 16384
SPAN = 64  # chunks
LEAF = 4096  # chunks
ZERO = bytes(CHUNK)
NOBODY = bytes(16)

KEYS, PACK, TREE_PACK, MANIFEST, TOMBSTONE, VOID, RENEWAL = 1, 3, 4, 6, 7, 8, 15  # section 2
FRAME_HEADER, FRAME_BODY, NODE, BODY, ACCOUNT_KEY, VAULT_KEY = 1, 2, 4, 5, 6, 7  # section 4


class Damaged(Exception):
    """An object is not what it should be."""


class Unsupported(Exception):
    """An object needs a newer reader."""


def need(condition, what):
    if not condition:
        raise Damaged(what)


# --- BLAKE3 ---------------------------------------------------------------------------------------
# From its specification. Python is slow, but its long integers are not: one holds a word of *many*
# blocks, 64 bits for each, so that carries and rotations stay inside a lane, and one pass of the
# compression function serves them all.

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
CHUNK_START, CHUNK_END, PARENT, ROOT, KEYED, CONTEXT, MATERIAL = 1, 2, 4, 8, 16, 32, 64
COLUMNS_AND_DIAGONALS = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)


def to_lanes(words):
    return int.from_bytes(array("Q", words).tobytes(), "little")


def from_lanes(lanes, count):
    return array("Q", lanes.to_bytes(8 * count, "little"))


def compress(cv, block, counters, length, flags, count):
    """The compression function for `count` blocks at once; returns their 8 words of output."""
    ones = to_lanes([1] * count)
    mask = ones * 0xFFFFFFFF
    v = list(cv) + [ones * word for word in IV[:4]] + [counters, 0, ones * length, ones * flags]
    m = block
    for _ in range(7):
        for i, (a, b, c, d) in enumerate(COLUMNS_AND_DIAGONALS):
            va, vb, vc, vd = v[a], v[b], v[c], v[d]
            va = (va + vb + m[2 * i]) & mask
            vd ^= va
            vd = (vd >> 16 | vd << 16) & mask
            vc = (vc + vd) & mask
            vb ^= vc
            vb = (vb >> 12 | vb << 20) & mask
            va = (va + vb + m[2 * i + 1]) & mask
            vd ^= va
            vd = (vd >> 8 | vd << 24) & mask
            vc = (vc + vd) & mask
            vb ^= vc
            vb = (vb >> 7 | vb << 25) & mask
            v[a], v[b], v[c], v[d] = va, vb, vc, vd
        m = [m[i] for i in PERMUTATION]
    return [v[i] ^ v[i + 8] for i in range(8)]


def leaves(data, size, counters, key, flags, last):
    """Chaining values of pieces of `size` (at most 1024) bytes; `last` is for their last block."""
    count = max(1, len(data) // max(1, size))
    blocks = max(1, -(-size // 64))
    data = data if size == 64 * blocks else data.ljust(64 * blocks, b"\0")  # then count is 1
    words, counters = array("I", data), to_lanes(counters)
    cv = [to_lanes([word] * count) for word in key]
    for i in range(blocks):
        block = [to_lanes(words[16 * i + w :: 16 * blocks]) for w in range(16)]
        ends = (CHUNK_START if i == 0 else 0) | (CHUNK_END | last if i == blocks - 1 else 0)
        length = 64 if i < blocks - 1 else size - 64 * i
        cv = compress(cv, block, counters, length, flags | ends, count)
    return [from_lanes(word, count) for word in cv]


def parents(cvs, inputs, key, flags):
    """Joins chaining values in pairs until each of the inputs has one. An odd last one moves up."""
    while len(cvs[0]) > inputs:
        pairs = len(cvs[0]) // 2
        block = [to_lanes(word[side : 2 * pairs : 2]) for side in (0, 1) for word in cvs]
        root = ROOT if len(cvs[0]) == 2 * inputs else 0
        cv = [to_lanes([word] * pairs) for word in key]
        joined = compress(cv, block, 0, 64, flags | PARENT | root, pairs)
        cvs = [from_lanes(new, pairs) + old[2 * pairs :] for new, old in zip(joined, cvs)]
    digests = [array("I", (word[i] for word in cvs)).tobytes() for i in range(inputs)]
    return digests


def key_words(key):
    return struct.unpack("<8I", key)


def blake3(data, key=IV, flags=0):
    if len(data) <= 1024:
        return parents(leaves(data, len(data), [0], key, flags, ROOT), 1, key, flags)[0]
    whole = (len(data) - 1) // 1024
    first = leaves(data[: 1024 * whole], 1024, range(whole), key, flags, 0)
    tail = data[1024 * whole :]
    last = leaves(tail, len(tail), [whole], key, flags, 0)
    return parents([a + b for a, b in zip(first, last)], 1, key, flags)[0]


def keyed(key, data):
    return blake3(data, key_words(key), KEYED)


def keyed_chunks(key, data):
    """The keyed hash of each 16 KiB of the data."""
    n, key = len(data) // CHUNK, key_words(key)
    cvs = leaves(data, 1024, list(range(16)) * n, key, KEYED, 0)
    return parents(cvs, n, key, KEYED)


def derive(context, material):
    return blake3(material, key_words(blake3(context.encode(), IV, CONTEXT)), MATERIAL)


assert sys.byteorder == "little", "this reader takes words from memory as they are"


# --- Objects (sections 2 to 4) --------------------------------------------------------------------


class Fields:
    """Takes fields from the front of some bytes."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def bytes(self, length):
        need(length <= len(self.data) - self.at, "cut short")
        self.at += length
        return self.data[self.at - length : self.at]

    def take(self, layout):
        return struct.unpack("<" + layout, self.bytes(struct.calcsize("<" + layout)))

    def one(self, layout):
        return self.take(layout)[0]

    def zeros(self, length):
        need(not any(self.bytes(length)), "reserved bytes are not zero")

    def end(self):
        need(self.at == len(self.data), "bytes after the last field")


def header_of(kind, seq, vault, ident):
    """The header of a pack, which holds nothing but its name."""
    return struct.pack("<8sHBBIIIII16s16s16s", b"STILLPNT", 1, kind, 0, seq, 0, 0, 0, 0, vault, ident, NOBODY)


def check_header(data, kinds, seq, vault, ident):
    """The class of an object that must be one of these kinds with this name."""
    fields = Fields(data[:80])
    magic, version, kind, reserved, its_seq, read, _write, _collect, more = fields.take("8sHBBIIIII")
    its_vault, its_ident = fields.take("16s16s")
    need(magic == b"STILLPNT", "this is no object of a vault")
    if version != 1 or read or not 1 <= kind <= 15:
        raise Unsupported(f"version {version}, class {kind}, read flags {read:#x}")
    need(not reserved and not more, "reserved bytes are not zero")
    need(kind in kinds and (its_seq, its_vault, its_ident) == (seq, vault, ident), "under another's name")
    return kind


def unseal(key, kind, offset, sealed, header, extra=b""):
    nonce = struct.pack("<IQ", kind, offset)
    try:
        return AESGCM(key).decrypt(nonce, sealed, header + extra)
    except InvalidTag:
        raise Damaged("a sealed segment does not open") from None


def root_key(text):
    match = re.fullmatch(r"stillpoint-root-key-1 ([0-9a-f]{64})\n", text)
    need(match, "this is no key file")
    return bytes.fromhex(match[1])


def vault_key(data, root, vault, generation):
    """The vault key in a keys object, or None when it is for another root key."""
    need(len(data) == 208, "a keys object has 208 bytes")
    check_header(data, [KEYS], generation, vault, vault)
    header, extra = data[:80], data[80:112]
    if data[96:112] != derive("stillpoint vault 1 root key id", root)[:16]:
        return None
    wrap = derive("stillpoint vault 1 root key wraps account key", root + header)
    account = unseal(wrap, ACCOUNT_KEY, 112, data[112:160], header, extra)
    wrap = derive("stillpoint vault 1 account key wraps vault key", account + header)
    return unseal(wrap, VAULT_KEY, 160, data[160:208], header, extra)


# --- Hashes (section 5) ---------------------------------------------------------------------------


class Hashes:
    """Chunk ids and the tree by position."""

    def __init__(self, key, vault):
        self.chunk_key = derive("stillpoint vault 1 chunk id key", key + vault)
        self.tree_key = derive("stillpoint vault 1 tree key", key + vault)
        self.zeros = [keyed(self.chunk_key, ZERO)]  # by level
        for level in range(1, 8):
            self.zeros.append(keyed(self.tree_key, bytes([level]) + 64 * self.zeros[-1]))

    def ids(self, chunks):
        return keyed_chunks(self.chunk_key, chunks)

    def node(self, level, below):
        """H(level, i) of up to 64 hashes below; what is missing lies past the end."""
        below = below + [self.zeros[level - 1]] * (64 - len(below))
        if all(one == self.zeros[level - 1] for one in below):
            return self.zeros[level]
        return keyed(self.tree_key, bytes([level]) + b"".join(below))

    def content(self, size, top, root):
        return keyed(self.tree_key, b"\xff" + struct.pack("<QB", size, top) + root)

    def of_file(self, file, size):
        """The content hash of a file, in one pass."""
        top = top_level(size)
        waiting = [[] for _ in range(top + 1)]  # hashes of a level that have no parent yet

        def add(level, value):
            waiting[level].append(value)
            if len(waiting[level]) == 64 and level < top:
                below, waiting[level] = waiting[level], []
                add(level + 1, self.node(level + 1, below))

        for start in range(0, size, CHUNK * SPAN):
            data = file.read(min(CHUNK * SPAN, size - start))
            data += bytes(-len(data) % CHUNK)
            chunks = [data[i : i + CHUNK] for i in range(0, len(data), CHUNK)]
            ids = iter(self.ids(b"".join(c for c in chunks if c != ZERO)) if any(data) else ())
            for chunk in chunks:
                add(0, self.zeros[0] if chunk == ZERO else next(ids))
        for level in range(top):
            if waiting[level]:
                below, waiting[level] = waiting[level], []
                add(level + 1, self.node(level + 1, below))
        return self.content(size, top, waiting[top][0] if waiting[top] else self.zeros[top])


def top_level(size):
    chunks, level = -(-size // CHUNK), 2
    while 64**level < chunks:
        level += 1
    return level


# --- A vault --------------------------------------------------------------------------------------


class Vault:
    """One vault in a folder, open for reading."""

    def __init__(self, folder, root):
        self.folder, self.id = folder, uuid.UUID(folder.name).bytes
        self.key = self.find_key(root)
        self.hashes = Hashes(self.key, self.id)

    def find_key(self, root):
        for path in sorted((self.folder / "keys").iterdir(), reverse=True):
            try:
                key = vault_key(path.read_bytes(), root, self.id, int(path.name, 16))
            except (Damaged, Unsupported):
                continue  # an older generation may do
            if key:
                return key
        raise Damaged("no keys object opens with this root key")

    def object_key(self, header):
        return derive("stillpoint vault 1 object key", self.key + header)

    def body(self, path, kinds, ident):
        """Class and opened body of an object that is a header and a body."""
        data = path.read_bytes()
        kind = check_header(data, kinds, 0, self.id, ident)
        return kind, unseal(self.object_key(data[:80]), BODY, 80, data[80:], data[:80])

    def backups(self):
        """(volume, backup, manifest) of all backups that are not deleted."""
        manifests = set(self.folder.glob("volumes/*/*.manifest"))
        renewed = {path.with_suffix(".manifest") for path in self.folder.glob("volumes/*/*.renewed")}
        successors = {self.successor(path) for path in renewed}
        for path in sorted((manifests | renewed) - successors):
            if path.with_suffix(".tombstone").exists():
                continue
            last, seen = path, []
            while last.with_suffix(".renewed").exists():
                need(last not in seen and len(seen) < 63, "renewals lead to no end")
                seen.append(last)
                last = self.successor(last)
            manifest = self.manifest(last)
            if manifest:
                yield uuid.UUID(path.parent.name), uuid.UUID(path.stem), manifest

    def manifest(self, path):
        volume, backup = uuid.UUID(path.parent.name), uuid.UUID(path.stem)
        kind, body = self.body(path, [MANIFEST, VOID], backup.bytes)
        return Manifest(body, volume) if kind == MANIFEST else None

    def successor(self, path):
        """The manifest of the backup that has what this one lost (section 9)."""
        _, body = self.body(path.with_suffix(".renewed"), [RENEWAL], uuid.UUID(path.stem).bytes)
        need(len(body) == 64 and body[24:40] == uuid.UUID(path.parent.name).bytes, "a renewal of something else")
        return path.with_name(f"{uuid.UUID(bytes=body[48:])}.manifest")

    def part(self, kind, run, seq, offset, length):
        """Bytes of a pack, with the header and the key that its segments have."""
        path = self.folder / "packs" / str(uuid.UUID(bytes=run)) / f"{seq:08x}"
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read(length)
        need(len(data) == length, f"{path} is cut short")
        header = header_of(kind, seq, self.id, run)
        return data, header, self.object_key(header)

    def node(self, run, seq, offset, length, level, index):
        data, header, key = self.part(TREE_PACK, run, seq, offset, length)
        return Fields(unseal(key, NODE, offset, data, header, struct.pack("<BQ", level, index)))

    def frame(self, run, seq, offset, length):
        """Ids and bytes of the chunks of a frame, each proven (section 6)."""
        data, header, key = self.part(PACK, run, seq, offset, length)
        prefix = Fields(data[:8])
        h, b = prefix.take("II")
        need(h <= 2072 and b <= 1048592 and 8 + h + b == length, "a frame of another length")
        fields = Fields(unseal(key, FRAME_HEADER, offset + 8, data[8 : 8 + h], header, data[:8]))
        codec, reserved, n, more = fields.take("BBHI")
        need(not reserved and not more and 1 <= n <= 64, "a frame header out of bounds")
        ids = [fields.bytes(32) for _ in range(n)]
        fields.end()
        chunks = unseal(key, FRAME_BODY, offset + 8 + h, data[8 + h :], header, data[:8])
        if codec == 1:
            chunks = zstandard.ZstdDecompressor().decompress(chunks, max_output_size=n * CHUNK)
        elif codec != 0:
            raise Unsupported(f"frame codec {codec}")
        need(len(chunks) == n * CHUNK and self.hashes.ids(chunks) == ids, "a chunk is not what its id says")
        return ids, chunks

    # Trees (section 7) ---

    def restore(self, manifest, file):
        """Writes a backup into a file, holes where it has zeros, and compares what was written."""
        file.truncate(manifest.size)
        if manifest.root:
            self.walk(manifest, file, manifest.top, 0, manifest.root)
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        need(self.hashes.of_file(file, manifest.size) == manifest.content, "restored, but not the same")

    def walk(self, manifest, file, level, index, node):
        hash_, _count, *place = node
        fields = self.node(*place, level, index)
        read = self.leaf if level == 2 else self.interior
        below = read(manifest, file, level, index, fields)
        need(self.hashes.node(level, below) == hash_, f"node {index} of level {level} is another one")

    def below(self, fields, level, take):
        """The 64 hashes under a node, and what `take` read for those that are not zeros."""
        bits, hashes, taken = fields.one("Q"), [], []
        for i in range(64):
            if bits >> i & 1:
                taken.append((i, take()))
                hashes.append(taken[-1][1][0])
            else:
                hashes.append(self.hashes.zeros[level - 1])
        fields.end()
        return hashes, taken

    def interior(self, manifest, file, level, index, fields):
        count = fields.one("I")
        fields.zeros(4)
        need(count <= 64, "too many packs in a node")
        packs = [fields.take("16sI") for _ in range(count)]

        def child():
            hash_, chunks, pack, offset, length = fields.take("32sQHII")
            need(pack < len(packs), "a child in no pack")
            return hash_, chunks, *packs[pack], offset, length

        hashes, children = self.below(fields, level, child)
        for i, node in children:
            self.walk(manifest, file, level - 1, 64 * index + i, node)
        return hashes

    def leaf(self, manifest, file, level, index, fields):
        counts = fields.take("III")
        fields.zeros(4)
        need(all(count <= 4096 for count in counts), "a leaf out of bounds")
        packs = [fields.take("16sII") for _ in range(counts[0])]
        frames = [fields.take("HII") for _ in range(counts[1])]
        extents = [fields.take("HHHH") for _ in range(counts[2])]
        hashes, _spans = self.below(fields, level, lambda: (fields.bytes(32),))

        ids, end = [self.hashes.zeros[0]] * LEAF, 0
        wanted = {}
        for first, count, frame, slot in extents:
            need(end <= first and first + count <= LEAF and slot + count <= 64, "an extent out of bounds")
            end = first + count
            wanted.setdefault(frame, []).append((first, count, slot))
        for number, places in wanted.items():
            need(number < len(frames) and frames[number][0] < len(packs), "an extent in no frame")
            pack, offset, length = frames[number]
            run, seq, _whole = packs[pack]
            its_ids, chunks = self.frame(run, seq, offset, length)
            for first, count, slot in places:
                need(slot + count <= len(its_ids), "an extent past its frame")
                ids[first : first + count] = its_ids[slot : slot + count]
                at = (LEAF * index + first) * CHUNK
                data = chunks[slot * CHUNK : (slot + count) * CHUNK][: max(0, manifest.size - at)]
                os.pwrite(file.fileno(), data, at)
        for i, hash_ in enumerate(hashes):
            need(self.hashes.node(1, ids[SPAN * i : SPAN * i + SPAN]) == hash_, "a span is another one")
        return hashes


class Manifest:
    """Section 8."""

    def __init__(self, body, volume):
        fields = Fields(body)
        its_volume, self.run, self.parent, self.made_at = fields.take("16s16s16sq")
        self.size, self.changed, self.stored, self.read = fields.take("QQQQ")
        chunk, self.top, rooted, _row, self.content = fields.take("IBBH32s")
        root = fields.take("32sQ16sIII")
        self.root = root if rooted else None
        need(its_volume == volume.bytes and chunk == CHUNK, "a manifest of something else")
        need(rooted in (0, 1) and self.top == top_level(self.size), "a manifest out of bounds")
        notes = fields.one("I")
        need(notes <= 64, "too many notes")
        self.notes = {}
        for _ in range(notes):
            key, value = fields.take("II")
            need(key <= 4096 and value <= 4096, "a note out of bounds")
            key, value = fields.bytes(key), fields.bytes(value)
            self.notes[key.decode()] = value.decode()
        fields.end()


def vaults(target, root):
    for folder in sorted(Path(target).iterdir()):
        if re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", folder.name):
            yield Vault(folder, root)


def list_backups(args):
    for vault in vaults(args.target, root_key(Path(args.key).read_text())):
        for volume, backup, manifest in vault.backups():
            made_at = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=manifest.made_at)
            print(backup, volume, made_at.isoformat(), manifest.size, manifest.content.hex(), manifest.notes)


def restore(args):
    for vault in vaults(args.target, root_key(Path(args.key).read_text())):
        for _volume, backup, manifest in vault.backups():
            if str(backup) == args.backup:
                with open(args.out, "x+b") as file:
                    vault.restore(manifest, file)
                print(f"{backup}: {manifest.size} bytes restored and compared: {manifest.content.hex()}")
                return
    raise Damaged(f"there is no backup {args.backup}")


# --- The vectors of section 13 --------------------------------------------------------------------


def vectors(args):
    """Compares the vectors of the document with what this reader makes of them."""
    text = Path(args.document).read_text().split("## 13.")[1]
    said = {k.strip(): bytes.fromhex("".join(v.split())) for k, v in re.findall(r"([\w ]+) =([\s0-9a-f]+);", text)}
    vault, run, volume, key, backup, root = (bytes([b]) * n for b, n in (
        (0x11, 16), (0x22, 16), (0x33, 16), (0x44, 32), (0x66, 16), (0x01, 32)))
    hashes = Hashes(key, vault)
    a, b = b"A" * CHUNK, b"B" * CHUNK
    span = hashes.node(1, hashes.ids(a + b))
    leaf = hashes.node(2, [span])
    header = header_of(TREE_PACK, 0x80000000, vault, run)
    object_key = derive("stillpoint vault 1 object key", key + header)
    sealed = said["leaf sealed"]
    manifest = said["manifest object"]
    manifest_key = derive("stillpoint vault 1 object key", key + manifest[:80])
    check_header(manifest, [MANIFEST], 0, vault, backup)
    opened = Manifest(unseal(manifest_key, BODY, 80, manifest[80:], manifest[:80]), uuid.UUID(bytes=volume))
    mine = {
        "root key id": derive("stillpoint vault 1 root key id", root)[:16],
        "zero chunk id": hashes.zeros[0],
        "zero span hash": hashes.zeros[1],
        "chunk A id": hashes.ids(a)[0],
        "raw pack header": header_of(PACK, 7, vault, run),
        "leaf plain": unseal(object_key, NODE, 80, sealed, header, struct.pack("<BQ", 2, 0)),
        "leaf hash": leaf,
        "content hash": hashes.content(1 << 20, 2, leaf),
    }
    for name, value in mine.items():
        need(said[name] == value, f"{name}: {value.hex()} here")
    need(vault_key(said["keys object"], root, vault, said["keys object"][12]) == key, "the keys object opens")
    need(opened.content == mine["content hash"] and opened.notes == {"name": "web-1"}, "the manifest")
    need((opened.made_at, opened.changed, opened.stored) == (1795000000000000, 32768, 1000), "the manifest")
    print(f"{len(mine) + 2} vectors agree")


def main():
    parser = argparse.ArgumentParser(description="A second reader of Stillpoint's vaults.")
    commands = parser.add_subparsers(required=True)
    for name, run in (("list", list_backups), ("restore", restore)):
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        command.add_argument("target")
        command.add_argument("--key", required=True)
        if name == "restore":
            command.add_argument("--backup", required=True)
            command.add_argument("out")
    command = commands.add_parser("vectors")
    command.set_defaults(run=vectors)
    command.add_argument("document")
    args = parser.parse_args()
    try:
        args.run(args)
    except (Damaged, Unsupported, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
