#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# Copyright (c) 2026 The fbufs authors
"""Compares what tcpdump saw on the wire with what was sent.

Usage: wire.py CAPTURE FILE PORT tcp|udp

Every payload byte of every packet towards PORT, those that were sent again included, is FILE's byte at its place, and
all of FILE went. Prints how many bytes went, and how many of them more than once. UDP: every datagram is the next
1,400 bytes of FILE, or the rest, or the empty one at the end; several in any order.
"""
import struct
import sys

DATAGRAM = 1400


def packets(name):
    """The Ethernet frames of a capture."""
    with open(name, "rb") as capture:
        data = capture.read()
    magic, kind = struct.unpack_from("<I16xI", data)
    assert magic == 0xA1B2C3D4 and kind & 0xFFFF == 1, "no Ethernet capture of this machine"
    at = 24
    while at + 16 <= len(data):
        kept, length = struct.unpack_from("<8xII", data, at)
        assert kept == length, "a packet was not captured as a whole"
        yield data[at + 16 : at + 16 + kept]
        at += 16 + kept


def transport(frame):
    """(protocol, segment) of an IP packet, or None."""
    kind = struct.unpack_from(">H", frame, 12)[0]
    if kind == 0x0800:
        length = struct.unpack_from(">H", frame, 16)[0]
        assert not struct.unpack_from(">H", frame, 20)[0] & 0x3FFF, "a fragment"
        return frame[23], frame[14 + (frame[14] & 15) * 4 : 14 + length]
    if kind == 0x86DD:
        length = struct.unpack_from(">H", frame, 18)[0]
        return frame[20], frame[54 : 54 + length]
    return None


class Stream:
    """One direction of a TCP connection."""

    def __init__(self, data):
        self.data = data
        self.start = None
        self.seen = bytearray(len(data))
        self.bytes = self.packets = 0

    def add(self, segment):
        sequence, offset, flags = struct.unpack_from(">4xI4xBB", segment)
        if flags & 2:
            self.start = sequence + 1
        payload = segment[(offset >> 4) * 4 :]
        if not payload:
            return
        at = (sequence - self.start) & 0xFFFFFFFF
        wanted = self.data[at : at + len(payload)]
        assert payload == wanted, f"packet {self.packets}: {len(payload)} bytes at {at} are not what was sent"
        self.seen[at : at + len(payload)] = b"\1" * len(payload)
        self.bytes += len(payload)
        self.packets += 1

    def close(self):
        assert self.seen.count(1) == len(self.data), "some bytes were never on the wire"


class Datagrams:
    """Datagrams of known contents, in any order."""

    def __init__(self, data):
        self.data = data
        self.left = {}
        for at in range(0, len(data), DATAGRAM):
            piece = data[at : at + DATAGRAM]
            self.left[piece] = self.left.get(piece, 0) + 1
        self.known = set(self.left)
        self.bytes = self.packets = 0

    def add(self, segment):
        payload = segment[8:]
        if not payload:
            return
        assert payload in self.known, f"packet {self.packets}: {len(payload)} bytes that nobody sent"
        self.left[payload] -= 1
        self.bytes += len(payload)
        self.packets += 1

    def close(self):
        assert all(count <= 0 for count in self.left.values()), "some datagrams were never on the wire"


def main(capture, name, port, protocol):
    with open(name, "rb") as file:
        data = file.read()
    flow = Stream(data) if protocol == "tcp" else Datagrams(data)
    number = {"tcp": 6, "udp": 17}[protocol]
    for frame in packets(capture):
        found = transport(frame)
        if found and found[0] == number and struct.unpack_from(">2xH", found[1])[0] == int(port):
            flow.add(found[1])
    flow.close()
    print(f"{flow.packets} packets, {flow.bytes} bytes, {flow.bytes - len(data)} of them again")


if __name__ == "__main__":
    main(*sys.argv[1:])
