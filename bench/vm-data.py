#!/usr/bin/env python3
"""Makes the files that servers are full of, from a seed: a database's pages and logs.

vm-data.py database FILE MIB SEED      pages of 8 KiB as tables have them: header, rows, free space
vm-data.py update FILE PERCENT SEED    rewrites some pages at random places, as updates do
vm-data.py log FILE LINES SEED         appends lines as syslog writes them
"""

import os
import random
import struct
import sys

PAGE = 8192
LETTERS = b"abcdefghijklmnopqrstuvwxyz"


def make_page(number, seed, words, rnd):
    """A page: header, compressible rows, zeros."""
    rows, room = [], int(PAGE * rnd.uniform(0.70, 0.98)) - 24
    while room > 0:
        row = struct.pack("<QId", rnd.getrandbits(40), number, rnd.random())
        row += b" ".join(rnd.choices(words, k=12))
        rows.append(row)
        room -= len(row)
    body = b"".join(rows)[: PAGE - 25]
    header = struct.pack("<QHHHHQ", number * PAGE, 0, 24 + len(body), PAGE, PAGE + 4, seed)
    return (header + body).ljust(PAGE, b"\0")


def make_database(path, mib, seed):
    rnd = random.Random(seed)
    words = [bytes(rnd.choices(LETTERS, k=rnd.randint(3, 11))) for _ in range(20000)]
    with open(path, "wb") as file:
        for number in range(mib << 20 >> 13):
            file.write(make_page(number, seed, words, rnd))


def update_database(path, percent, seed):
    rnd = random.Random(seed)
    pages = os.path.getsize(path) // PAGE
    with open(path, "r+b") as file:
        for number in sorted(rnd.sample(range(pages), pages * percent // 100)):
            file.seek(number * PAGE)
            page = bytearray(file.read(PAGE))
            page[0:8] = rnd.randbytes(8)
            at = rnd.randrange(24, 6000)
            page[at : at + 2000] = bytes(rnd.choices(LETTERS + b"      0123456789", k=2000))
            file.seek(number * PAGE)
            file.write(page)


def append_log(path, lines, seed):
    rnd = random.Random(seed)
    units = ["sshd", "systemd", "postgres", "cron", "kernel", "nginx", "dhclient"]
    with open(path, "a", encoding="ascii") as file:
        for line in range(lines):
            day, hour, minute, second = line % 28 + 1, line % 24, line % 60, line * 7 % 60
            unit, pid = rnd.choice(units), rnd.randint(200, 32000)
            request, status = rnd.getrandbits(64), rnd.choice([200, 200, 200, 304, 404, 500])
            address = ".".join(str(rnd.randrange(256)) for _ in range(3))
            file.write(
                f"Oct {day:2} {hour:02}:{minute:02}:{second:02} vm {unit}[{pid}]: "
                f"request id={request:016x} from 10.{address} took {rnd.randrange(900)} ms "
                f"status={status}\n"
            )


def main():
    what, path, amount, seed = sys.argv[1:]
    makers = {"database": make_database, "update": update_database, "log": append_log}
    makers[what](path, int(amount), int(seed))


main()
