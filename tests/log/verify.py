"""Verifies an audit log without Sallyport: an independent reading of the public formats.

  python verify.py LOG_FOLDER VKEY

Reads the signed checkpoint (C2SP signed-note and tlog-checkpoint), checks its Ed25519 signature with the
verifier key, recomputes every leaf from the entry bundles and every tile above them (C2SP tlog-tiles,
RFC 6962 hashing), and compares the root. Prints size and root. Needs `cryptography` for Ed25519 only.
"""

import base64
import hashlib
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

WIDTH = 256


def leaf(entry):
    return hashlib.sha256(b"\x00" + entry).digest()


def node(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(hashes):
    """The Merkle tree hash over leaf hashes (RFC 6962 section 2.1)."""
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << ((len(hashes) - 1).bit_length() - 1)
    return node(root_of(hashes[:split]), root_of(hashes[split:]))


def tile_path(index, width):
    """The index as x001/x234/067, with the width where the tile is partial."""
    parts = [f"{index % 1000:03d}"]
    while index >= 1000:
        index //= 1000
        parts.insert(0, f"x{index % 1000:03d}")
    path = "/".join(parts)
    return path if width == WIDTH else f"{path}.p/{width}"


def read_checkpoint(text, vkey):
    name, key_id, key = vkey.strip().split("+", 2)
    key = base64.b64decode(key)
    assert key[0] == 1, "not an Ed25519 key"
    assert hashlib.sha256(name.encode() + b"\n" + key).digest()[:4].hex() == key_id, "the key's id is wrong"
    body, signatures = text.split("\n\n", 1)
    body += "\n"
    for line in signatures.splitlines():
        _, signer, signature = line.split(" ")
        signature = base64.b64decode(signature)
        if signer == name and signature[:4].hex() == key_id:
            Ed25519PublicKey.from_public_bytes(key[1:]).verify(signature[4:], body.encode())
            origin, size, root = body.splitlines()[:3]
            assert origin == name, "the checkpoint is of another log"
            return int(size), base64.b64decode(root)
    raise SystemExit("the checkpoint has no signature of this key")


def entries_of(bundle):
    entries, at = [], 0
    while at < len(bundle):
        length = int.from_bytes(bundle[at : at + 2], "big")
        entries.append(bundle[at + 2 : at + 2 + length])
        assert len(entries[-1]) == length, "a bundle ends in the middle of an entry"
        at += 2 + length
    return entries


def main(folder, vkey):
    log = Path(folder)
    size, root = read_checkpoint((log / "checkpoint").read_text(), vkey)
    hashes = []
    for index in range((size + WIDTH - 1) // WIDTH):
        width = min(WIDTH, size - index * WIDTH)
        entries = entries_of((log / "tile/entries" / tile_path(index, width)).read_bytes())
        assert len(entries) == width, f"bundle {index} has {len(entries)} entries, not {width}"
        hashes.extend(map(leaf, entries))
    level, row = 0, hashes
    while row:
        for index in range((len(row) + WIDTH - 1) // WIDTH):
            part = row[index * WIDTH : (index + 1) * WIDTH]
            tile = (log / "tile" / str(level) / tile_path(index, len(part))).read_bytes()
            assert tile == b"".join(part), f"tile {level}/{index} does not match the entries"
        row = [root_of(row[i : i + WIDTH]) for i in range(0, len(row) - len(row) % WIDTH, WIDTH)]
        level += 1
    assert root_of(hashes) == root, "the root does not match the entries"
    print(size, base64.b64encode(root).decode())


main(*sys.argv[1:])
