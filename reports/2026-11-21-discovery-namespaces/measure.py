#!/usr/bin/env python3
"""How long two nodes take to know each other, hailers beside pyres, between network namespaces that lose packets.

    measure.py HAILER PYTHON_WITH_PYRE [RUNS] > raw.csv

As root on Linux, with ip and nft. One node runs; 1.0 to 2.0 s later (a random phase of its beacon) the other starts. The
clock starts when that one says that it has started, and stops when the one, and when the other, reports ENTER. A run
is given up after 120 s. Every host loses each TCP and UDP packet that comes in with the same probability; nothing else
is slowed. Runs without loss go one by one, others four at a time: they wait more than they work.
"""

import concurrent.futures
import csv
import json
import os
import random
import subprocess
import sys
import threading
import time

PATIENCE_S = 120
PYRE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tests/namespaces/pyre_peer.py")
HAILER, PYTHON = sys.argv[1:3]
RUNS = int(sys.argv[3]) if len(sys.argv) > 3 else 20


def sh(*words):
    subprocess.run(words, check=True)


class Lab:
    """Two hosts on one switch, 10.77.0.1 and 10.77.0.2."""

    def __init__(self, loss):
        self.name = f"hlm-{os.getpid()}-{threading.get_ident()}-{time.monotonic_ns()}"
        self.hosts = [f"{self.name}-{host}" for host in (1, 2)]
        switch = f"{self.name}-sw"
        self.all = [*self.hosts, switch]
        for name in self.all:
            sh("ip", "netns", "add", name)
        sh(*f"ip -n {switch} link add br0 type bridge mcast_snooping 0 forward_delay 0".split())
        sh(*f"ip -n {switch} link set br0 up".split())
        for number, host in enumerate(self.hosts, 1):
            sh(*f"ip -n {switch} link add p{number} type veth peer name eth0 netns {host}".split())
            sh(*f"ip -n {switch} link set p{number} master br0 up".split())
            sh(*f"ip -n {host} link set lo up".split())
            sh(*f"ip -n {host} link set eth0 up".split())
            sh(*f"ip -n {host} addr add 10.77.0.{number}/24 dev eth0".split())
            if loss:
                nft = ["ip", "netns", "exec", host, "nft"]
                sh(*nft, "add table netdev weather")
                sh(*nft, "add chain netdev weather in { type filter hook ingress device eth0 priority 0 ; }")
                sh(*nft, "add rule netdev weather in ip protocol { tcp, udp } "
                         f"numgen random mod 100 < {loss} drop")

    def close(self):
        for name in self.all:
            sh("ip", "netns", "del", name)


class Node:
    """A running node, and when it said what."""

    def __init__(self, host, kind, name):
        if kind == "hailer":
            command = [HAILER, "peers", "--json", "--interface", "eth0", "--name", name]
        else:
            command = [PYTHON, PYRE, name]
        self.started = threading.Event()
        self.entered = threading.Event()
        self.at = {}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", host, *command], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        for stream in (self.process.stdout, self.process.stderr):
            threading.Thread(target=self.read, args=(stream,), daemon=True).start()

    def read(self, stream):
        for line in stream:
            now = time.monotonic()
            # hailer says on standard error that it has started, in words.
            event = json.loads(line)["event"] if line.startswith("{") else "STARTED"
            mark = {"STARTED": self.started, "ENTER": self.entered}.get(event)
            if mark and not mark.is_set():
                self.at[event] = now
                mark.set()

    def close(self):
        self.process.kill()
        self.process.wait()


def measure(kind, loss, run):
    lab = Lab(loss)
    nodes = []
    try:
        nodes.append(Node(lab.hosts[0], kind, "old"))
        assert nodes[0].started.wait(10), "the first node does not start"
        time.sleep(random.uniform(1, 2))
        nodes.append(Node(lab.hosts[1], kind, "new"))
        assert nodes[1].started.wait(10), "the second node does not start"
        end = time.monotonic() + PATIENCE_S
        start = nodes[1].at["STARTED"]
        times = []
        for node in nodes:
            entered = node.entered.wait(max(0, end - time.monotonic()))
            times.append(f"{(node.at['ENTER'] - start) * 1000:.1f}" if entered else "")
        return [kind, loss, run, *times]
    finally:
        for node in nodes:
            node.close()
        lab.close()


def main():
    table = csv.writer(sys.stdout)
    table.writerow(["nodes", "loss_percent", "run", "enter_on_old_ms", "enter_on_new_ms"])
    for loss in (0, 10, 30):
        with concurrent.futures.ThreadPoolExecutor(4 if loss else 1) as pool:
            # Alternating, so that what else the machine does falls on both.
            jobs = [(kind, loss, run) for run in range(1, RUNS + 1) for kind in ("hailer", "pyre")]
            for row in pool.map(lambda job: measure(*job), jobs):
                table.writerow(row)
                sys.stdout.flush()


main()
