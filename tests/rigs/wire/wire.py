#!/usr/bin/env python3
"""A wire between two hosts, each a network namespace with a TUN interface: it delays, loses, doubles and reorders packets,
and it can be cut. Orders come as lines of JSON on standard input, each answered by a line; it ends with its input.

    wire.py <namespace> <interface> <namespace> <interface> <seed>

Order: any of {"delay_ms", "jitter_ms", "loss", "double", "reorder"} (the weather from now on), {"cut": true|false},
{"cut_after": bytes} (it is cut when it has carried so many more). Answer: what it has carried so far.
"""
import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x0001 | 0x1000
CLONE_NEWNET = 0x40000000
LONGEST = 10_000  # Packets on the way; beyond that they are lost, as in any queue.


def enter(namespace):
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{namespace}") as file:
        if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")


def attach(namespace, interface):
    enter(namespace)
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", interface.encode(), IFF_TUN_NO_PI))
    return tun


class Wire:
    def __init__(self, tuns, seed):
        self.tuns = tuns
        self.random = random.Random(seed)
        self.weather = {"delay_ms": 0, "jitter_ms": 0, "loss": 0, "double": 0, "reorder": 0}
        self.cut, self.left = False, None
        self.on_the_way, self.number, self.last = [], 0, [0.0, 0.0]
        self.carried = {"packets": 0, "bytes": 0, "lost": 0, "doubled": 0, "reordered": 0, "cut": 0}

    def order(self, order):
        if "cut" in order:
            self.cut, self.left = order["cut"], None
            if self.cut:
                self.carried["cut"] += len(self.on_the_way)
                self.on_the_way.clear()
        if "cut_after" in order:
            self.cut, self.left = False, order["cut_after"]
        self.weather.update({k: v for k, v in order.items() if k in self.weather})
        return {"is_cut": self.cut, **self.carried}

    def come(self, side, packet):
        if self.cut:
            self.carried["cut"] += 1
            return
        if self.left is not None:
            self.left -= len(packet)
            if self.left < 0:
                self.cut, self.left = True, None
                self.carried["cut"] += 1 + len(self.on_the_way)
                self.on_the_way.clear()
                return
        chance = self.random.random
        if chance() < self.weather["loss"] or len(self.on_the_way) >= LONGEST:
            self.carried["lost"] += 1
            return
        copies = 1
        if chance() < self.weather["double"]:
            copies = 2
            self.carried["doubled"] += 1
        now = time.monotonic()
        for _ in range(copies):
            due = now + (self.weather["delay_ms"] + self.weather["jitter_ms"] * chance()) / 1000
            if chance() < self.weather["reorder"]:
                # It overtakes what is on the way.
                due = now
                self.carried["reordered"] += 1
            else:
                due = self.last[side] = max(due, self.last[side])
            self.number += 1
            heapq.heappush(self.on_the_way, (due, self.number, 1 - side, packet))

    def deliver(self):
        now = time.monotonic()
        while self.on_the_way and self.on_the_way[0][0] <= now:
            _, _, side, packet = heapq.heappop(self.on_the_way)
            try:
                os.write(self.tuns[side], packet)
                self.carried["packets"] += 1
                self.carried["bytes"] += len(packet)
            except OSError:  # The interface is down.
                self.carried["cut"] += 1

    def run(self):
        said = b""
        while True:
            wait = max(0.0, self.on_the_way[0][0] - time.monotonic()) if self.on_the_way else None
            ready, _, _ = select.select([0, *self.tuns], [], [], wait)
            self.deliver()
            for side in (0, 1):
                if self.tuns[side] in ready:
                    for _ in range(64):
                        try:
                            packet = os.read(self.tuns[side], 65_536)
                        except BlockingIOError:
                            break
                        except OSError:
                            time.sleep(0.001)
                            break
                        self.come(side, packet)
            if 0 in ready:
                part = os.read(0, 65_536)
                if not part:
                    return
                *lines, said = (said + part).split(b"\n")
                for line in lines:
                    print(json.dumps(self.order(json.loads(line))), flush=True)


def main():
    one, one_interface, other, other_interface, seed = sys.argv[1:]
    wire = Wire([attach(one, one_interface), attach(other, other_interface)], int(seed))
    print("{}", flush=True)
    wire.run()


main()
