#!/usr/bin/env python3
"""How soon nodes know each other, and how soon they know that one is gone: hailers beside pyres, in network namespaces.

    measure.py CASE HAILER PYTHON_WITH_PYRE [RUNS] [KIND ..] > CASE.csv

CASE    pair, pair-10, pair-30      one node runs; a second starts 1 to 2 s later (a random phase of the beacons). From the
                                    second's word that it has started until the one, and the other, reports ENTER.
        mesh, mesh-10, mesh-30      30 nodes start one after the other. From the last's word that it has started until each
                                    has reported ENTER of 29 others; and how many EXITs were reported meanwhile.
        kill                        10 nodes know each other; one is killed (SIGKILL). Until each of the others has reported EXIT.
        cut                         the same, but the cable of one is pulled out at the switch.
        idle                        30 nodes know each other and do nothing for 30 s. Processor time a node in per cent of one
                                    core, and proportional memory a node.
KIND    hailer, pyre, mixed (the old one of a pair, or every second of a mesh, is pyre); all three unless told.

As root on Linux, with ip and nft. The number after the case is the percentage of TCP and UDP packets that every host loses
as they come in; nothing else is slowed. Kinds take turns, so that what else the machine does falls on all. A run is given
up after 240 s (an empty field).
"""

import csv
import os
import random
import selectors
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PYRE = os.path.join(HERE, "../../tests/namespaces/pyre_peer.py")
PATIENCE_S = 240


def ip(line):
    subprocess.run(["ip", *line.split()], check=True)


class Lab:
    """Hosts on one switch, 10.77.0.1, 10.77.0.2 ..."""

    def __init__(self, count, loss):
        self.name = f"hlm-{os.getpid()}-{time.monotonic_ns() % 10**9}"
        self.switch = f"{self.name}-sw"
        self.hosts = [f"{self.name}-{host}" for host in range(1, count + 1)]
        ip(f"netns add {self.switch}")
        ip(f"-n {self.switch} link add br0 type bridge mcast_snooping 0 forward_delay 0")
        ip(f"-n {self.switch} link set br0 up")
        for number, host in enumerate(self.hosts, 1):
            ip(f"netns add {host}")
            ip(f"-n {self.switch} link add p{number} type veth peer name eth0 netns {host}")
            ip(f"-n {self.switch} link set p{number} master br0 up")
            ip(f"-n {host} link set lo up")
            ip(f"-n {host} link set eth0 up")
            ip(f"-n {host} addr add 10.77.0.{number}/24 dev eth0")
            if loss:
                nft = ["ip", "netns", "exec", host, "nft"]
                rule = f"ip protocol {{ tcp, udp }} numgen random mod 100 < {loss} drop"
                for words in ("add table netdev weather",
                              "add chain netdev weather in { type filter hook ingress device eth0 priority 0 ; }",
                              f"add rule netdev weather in {rule}"):
                    subprocess.run([*nft, words], check=True)

    def cut(self, host):
        ip(f"-n {self.switch} link set p{host + 1} down")

    def close(self):
        for name in [*self.hosts, self.switch]:
            ip(f"netns del {name}")


class Field:
    """Running nodes. Their words are only counted, in one thread, so that the clock is not the harness's."""

    def __init__(self, lab, hailer, python):
        self.lab, self.hailer, self.python = lab, hailer, python
        self.selector = selectors.DefaultSelector()
        self.nodes = []

    def start(self, kind):
        number = len(self.nodes)
        if kind == "hailer":
            command = [self.hailer, "peers", "--json", "--interface", "eth0", "--name", f"n{number}"]
        else:
            command = [self.python, PYRE, f"n{number}"]
        pipe = subprocess.PIPE
        process = subprocess.Popen(["ip", "netns", "exec", self.lab.hosts[number], *command],
                                   stdin=pipe, stdout=pipe, stderr=pipe)
        node = {"process": process, "STARTED": 0, "ENTER": 0, "EXIT": 0, "at": {}, "rest": b""}
        self.nodes.append(node)
        for stream in (process.stdout, process.stderr):
            os.set_blocking(stream.fileno(), False)
            # hailer says on standard error, in words, that it has started.
            is_word = kind == "hailer" and stream is process.stderr
            self.selector.register(stream, selectors.EVENT_READ, (node, is_word))
        return node

    def wait(self, is_done, patience_s=PATIENCE_S):
        end = time.monotonic() + patience_s
        while not is_done():
            ready = self.selector.select(max(0, end - time.monotonic()))
            now = time.monotonic()
            if not ready and now >= end:
                return False
            for key, _ in ready:
                node, is_word = key.data
                data = os.read(key.fd, 1 << 16)
                if not data:
                    self.selector.unregister(key.fileobj)
                elif is_word:
                    self.note(node, "STARTED", 1, now)
                else:
                    *lines, node["rest"] = (node["rest"] + data).split(b"\n")
                    for word in ("STARTED", "ENTER", "EXIT"):
                        quoted = b'"%s"' % word.encode()
                        self.note(node, word, sum(quoted in line for line in lines), now)
        return True

    @staticmethod
    def note(node, word, count, now):
        if count:
            node[word] += count
            node["at"].setdefault(word, now)
            node["last"] = now

    def close(self):
        for node in self.nodes:
            node["process"].kill()
        for node in self.nodes:
            node["process"].wait()


def ms(seconds):
    return f"{seconds * 1000:.1f}"


def pair(field, kinds):
    old = field.start(kinds[0])
    assert field.wait(lambda: old["STARTED"], 20), "the first node does not start"
    field.wait(lambda: False, random.uniform(1, 2))
    new = field.start(kinds[1])
    assert field.wait(lambda: new["STARTED"], 20), "the second node does not start"
    start = new["at"]["STARTED"]
    field.wait(lambda: old["ENTER"] and new["ENTER"])
    return [ms(node["at"]["ENTER"] - start) if node["ENTER"] else "" for node in (old, new)]


def mesh(field, kinds):
    """Returns when all know all, after the last start and after the first; and the EXITs until then."""
    for kind in kinds:
        field.start(kind)
    others = len(kinds) - 1
    nodes = field.nodes
    # An EXIT takes an ENTER back.
    is_full = field.wait(lambda: all(node["ENTER"] - node["EXIT"] >= others for node in nodes))
    starts = [node["at"]["STARTED"] for node in nodes]
    end = max(node["last"] for node in nodes)
    exits = sum(node["EXIT"] for node in nodes)
    return [ms(end - max(starts)) if is_full else "", ms(end - min(starts)) if is_full else "", exits]


def loss_of_one(field, kinds, end_it):
    if not mesh(field, kinds)[0]:
        return ["", ""]
    field.wait(lambda: False, 5 + random.uniform(0, 1))
    before = [node["EXIT"] for node in field.nodes]
    start = time.monotonic()
    end_it(field, 3)
    witnesses = [node for number, node in enumerate(field.nodes) if number != 3]
    for node in witnesses:
        node["at"].pop("EXIT", None)
    is_seen = field.wait(lambda: all("EXIT" in node["at"] for node in witnesses))
    times = [node["at"]["EXIT"] - start for node in witnesses if "EXIT" in node["at"]]
    return [ms(min(times)) if times else "", ms(max(times)) if is_seen else ""]


def kill(field, kinds):
    return loss_of_one(field, kinds, lambda field, victim: field.nodes[victim]["process"].kill())


def cut(field, kinds):
    return loss_of_one(field, kinds, lambda field, victim: field.lab.cut(victim))


def idle(field, kinds):
    """Returns per cent of a core and KiB of PSS a node, means over all."""
    if mesh(field, kinds)[0] == "":
        return ["", ""]
    field.wait(lambda: False, 5)

    def ticks():
        total = 0
        for node in field.nodes:
            with open(f"/proc/{node['process'].pid}/stat") as file:
                total += sum(map(int, file.read().rsplit(") ", 1)[1].split()[11:13]))
        return total

    before, span_s = ticks(), 30
    field.wait(lambda: False, span_s)
    seconds = (ticks() - before) / os.sysconf("SC_CLK_TCK")
    pss = 0
    for node in field.nodes:
        with open(f"/proc/{node['process'].pid}/smaps_rollup") as file:
            pss += next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
    count = len(field.nodes)
    return [f"{100 * seconds / span_s / count:.3f}", f"{pss / count:.0f}"]


CASES = {
    "pair": (pair, 2, ["enter_on_old_ms", "enter_on_new_ms"]),
    "mesh": (mesh, 30, ["after_last_start_ms", "after_first_start_ms", "exits"]),
    "kill": (kill, 10, ["first_exit_ms", "last_exit_ms"]),
    "idle": (idle, 30, ["processor_percent", "pss_kib"]),
    "cut": (cut, 10, ["first_exit_ms", "last_exit_ms"]),
}


def main():
    case, hailer, python, *rest = sys.argv[1:]
    runs = int(rest[0]) if rest else 20
    kinds = rest[1:] or ["hailer", "pyre", "mixed"]
    name, _, loss = case.partition("-")
    measure, count, columns = CASES[name]
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["nodes", "run", *columns])
    for run in range(1, runs + 1):
        for kind in kinds:
            lab = Lab(count, int(loss or 0))
            field = Field(lab, hailer, python)
            each = ["pyre", "hailer"] * count if kind == "mixed" else [kind] * count
            try:
                table.writerow([kind, run, *measure(field, each[:count])])
                sys.stdout.flush()
            finally:
                field.close()
                lab.close()


main()
