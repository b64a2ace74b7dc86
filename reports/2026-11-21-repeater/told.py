"""Counts in a capture of `hailer-sim run --pcap` how often each repeater told its LAN of each node: told.py FILE FROM_S TO_S
[PAIRS TIMES]. With the last two it fails unless so many pairs of a site and a node elsewhere were told of so often each.
"""

import collections
import struct
import sys


def blocks(file):
    while head := file.read(8):
        kind, length = struct.unpack("<II", head)
        yield kind, file.read(length - 8)[:-4]


def options(data):
    while len(data) >= 4:
        code, length = struct.unpack("<HH", data[:4])
        yield code, data[4 : 4 + length]
        data = data[4 + (length + 3) // 4 * 4 :]


path, first, last = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
names, told = [], collections.Counter()
with open(path, "rb") as file:
    for kind, data in blocks(file):
        if kind == 1:
            names.append(next((v.decode() for c, v in options(data[8:]) if c == 2), "?"))
            scale = next((10 ** v[0] for c, v in options(data[8:]) if c == 9), 10**6)
        elif kind == 6:
            interface, high, low, length, _ = struct.unpack("<IIIII", data[:20])
            at = ((high << 32) | low) / scale
            packet = data[20 : 20 + length]
            flags = next((struct.unpack("<I", v)[0] for c, v in options(data[20 + (length + 3) // 4 * 4 :]) if c == 2), 0)
            place = packet.find(b"ZRE\x01")
            broadcast = packet[16:20].endswith(b"\xff") if packet[:1] == b"E" else b"\xff\x16\x26" in packet[:place]
            outbound = flags & 3 == 2
            if outbound and place > 0 and names[interface].startswith("repeater") and first <= at < last:
                rest = packet[place:]
                if len(rest) > 22 and broadcast:
                    told[names[interface], rest[4:20]] += 1
sites = {site for site, _ in told}
counts = collections.Counter(told.values())
print(f"{len(sites)} sites, {len({node for _, node in told})} nodes, {len(told)} pairs of a site and a node elsewhere")
for count, pairs in sorted(counts.items()):
    print(f"told {count} times in {last - first:g} s: {pairs} pairs")
if len(sys.argv) > 4:
    pairs, times = map(int, sys.argv[4:])
    if counts != {times: pairs}:
        sys.exit(f"expected {pairs} pairs, each {times} times")
