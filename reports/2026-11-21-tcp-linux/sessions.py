#!/usr/bin/env python3
"""Sessions over a lossy path between two network namespaces: connect, 150 bytes one way, 122 bytes back.

Run as root: sessions.py LOSS_PERCENT SESSIONS [AT_ONCE]. Makes two namespaces with a veth pair, drops LOSS_PERCENT of the
TCP packets at each ingress with nftables, times the sessions, prints quantiles in milliseconds, and removes all of it.
"""

import os
import selectors
import socket
import subprocess
import sys
import time

NAMES, ADDRESSES, PORT = ["tcp-a", "tcp-b"], ["10.231.77.1", "10.231.77.2"], 7000
# A session that is not done when this has passed since the last one began counts as slower than all others.
PATIENCE_S = 60
REQUEST, ANSWER = b"x" * 150, b"y" * 122

RULES = """
table netdev lossy {{
  chain in {{
    type filter hook ingress device "eth0" priority 0; policy accept;
    meta l4proto tcp numgen random mod 100 < {loss} drop
  }}
}}
"""


def sh(*words, **options):
    subprocess.run(words, check=True, **options)


def open_socket():
    one = socket.socket()
    one.setblocking(False)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one


def serve():
    listener = open_socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", PORT))
    listener.listen(4096)
    print("ready", flush=True)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                accepted, _ = listener.accept()
                accepted.setblocking(False)
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(accepted, selectors.EVENT_READ, [0])
                continue
            try:
                data = key.fileobj.recv(4096)
                key.data[0] += len(data)
                if data and key.data[0] == len(REQUEST):
                    key.fileobj.sendall(ANSWER)
            except OSError:
                data = b""
            if not data:
                selector.unregister(key.fileobj)
                key.fileobj.close()


def measure(count, at_once):
    selector, times, failed, started = selectors.DefaultSelector(), [], 0, 0
    last_began = time.monotonic()
    while len(times) + failed < count and time.monotonic() < last_began + PATIENCE_S:
        while len(selector.get_map()) < at_once and started < count:
            one = open_socket()
            one.connect_ex((ADDRESSES[1], PORT))
            selector.register(one, selectors.EVENT_WRITE, {"began": time.monotonic(), "got": 0})
            started += 1
            last_began = time.monotonic()
        for key, event in selector.select(1):
            one, state = key.fileobj, key.data
            try:
                if event & selectors.EVENT_WRITE:
                    if one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                        raise OSError
                    one.send(REQUEST)
                    selector.modify(one, selectors.EVENT_READ, state)
                    continue
                data = one.recv(4096)
                state["got"] += len(data)
                if not data:
                    raise OSError
                if state["got"] < len(ANSWER):
                    continue
                times.append((time.monotonic() - state["began"]) * 1000)
            except OSError:
                failed += 1
            selector.unregister(one)
            one.close()
    waiting = len(selector.get_map())
    times = sorted(times) + [float("inf")] * waiting
    quantile = lambda share: times[min(len(times) - 1, int(share * len(times)))]
    shown = "  ".join(f"p{100 * share:g} {quantile(share):.0f}" for share in (0.5, 0.75, 0.9, 0.95, 0.99))
    print(f"{len(times)} sessions, {waiting} of them unfinished, {failed} failed, ms: {shown}", flush=True)


def main():
    if sys.argv[1] == "serve":
        return serve()
    if sys.argv[1] == "measure":
        return measure(int(sys.argv[2]), int(sys.argv[3]))
    loss, count, at_once = sys.argv[1], sys.argv[2], (sys.argv[3:] or ["200"])[0]
    inside = lambda name: ["ip", "netns", "exec", name]
    server = None
    try:
        for name in NAMES:
            sh("ip", "netns", "add", name)
            # What Linux remembers of earlier connections to a host would lengthen the first time-outs of later ones.
            sh(*inside(name), "sysctl", "-qw", "net.ipv4.tcp_no_metrics_save=1")
        sh("ip", "link", "add", "eth0", "netns", NAMES[0], "type", "veth", "peer", "name", "eth0", "netns", NAMES[1])
        for name, address in zip(NAMES, ADDRESSES):
            sh("ip", "-n", name, "addr", "add", address + "/24", "dev", "eth0")
            sh("ip", "-n", name, "link", "set", "eth0", "up")
            sh(*inside(name), "nft", "-f", "-", input=RULES.format(loss=loss).encode())
        this = [sys.executable, os.path.abspath(__file__)]
        server = subprocess.Popen([*inside(NAMES[1]), *this, "serve"], stdout=subprocess.PIPE)
        server.stdout.readline()
        sh(*inside(NAMES[0]), *this, "measure", count, at_once)
    finally:
        if server:
            server.kill()
        for name in NAMES:
            subprocess.run(["ip", "netns", "del", name], check=False)


if __name__ == "__main__":
    main()
