"""A member of a LAN group as pir is one, byte for byte: its datagram, its health check, its rule, its timers.

    pir_peer.py GROUP SERVICE_URI [PORT]

Says what it sees as JSON lines, with pir's names for events. It keeps pir's faults that matter here: known members are never
updated, silence is nothing, and a removed member is added again by its next datagram. Tests use the original instead when
HAILER_PIR_GO names a program that speaks the same lines.
"""

import json
import socket
import struct
import sys
import threading
import time
import uuid
from urllib.parse import urlsplit

GROUP, SERVICE = sys.argv[1], sys.argv[2]
PORT = int(sys.argv[3]) if len(sys.argv) > 3 else 9999
OWN = str(uuid.uuid4())
lock = threading.Lock()
trackers = {}


def say(event, member, health, service):
    print(json.dumps({"event": event, "member": member, "health_uri": health, "service": service}), flush=True)


def answer(connection):
    with connection:
        if connection.recv(1) == b"\0":
            connection.sendall(b"\0")


def serve(listener):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


def check(health):
    """One check: two seconds for all of it."""
    end = time.monotonic() + 2
    parts = urlsplit(health)
    try:
        with socket.create_connection((parts.hostname, parts.port), timeout=2) as connection:
            connection.settimeout(max(0.01, end - time.monotonic()))
            connection.sendall(b"\0")
            connection.settimeout(max(0.01, end - time.monotonic()))
            return connection.recv(1) == b"\0"
    except OSError:
        return False


def track(member, health, service):
    strikes = 0
    while True:
        strikes = max(strikes - 1, 0) if check(health) else strikes + 1
        if strikes >= 3:
            break
        time.sleep(2)
    with lock:
        del trackers[member]
        say("peer-removed", member, health, service)


def subscribe():
    ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    ear.bind(("", PORT))
    joined = struct.pack("4s4s", socket.inet_aton("224.0.0.1"), socket.inet_aton(own_address()))
    ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
    while True:
        parts = ear.recv(8192).decode("utf-8", "replace").split("|")
        if len(parts) != 4:
            print("could not handle broadcast", file=sys.stderr, flush=True)
            continue
        group, member, health, service = parts
        if group != GROUP or member == OWN:
            continue
        with lock:
            if member not in trackers:
                trackers[member] = threading.Thread(target=track, args=(member, health, service), daemon=True)
                say("peer-added", member, health, service)
                trackers[member].start()


def own_address():
    """The address of the interface that multicasts leave by, as on a host with one."""
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    probe.connect(("224.0.0.1", PORT))
    return probe.getsockname()[0]


listener = socket.create_server((own_address(), 0), backlog=128)
HEALTH = "tcp://%s:%d" % listener.getsockname()
say("STARTED", OWN, HEALTH, SERVICE)
threading.Thread(target=serve, args=(listener,), daemon=True).start()
threading.Thread(target=subscribe, daemon=True).start()
mouth = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
mouth.connect(("224.0.0.1", PORT))
while True:
    mouth.send(f"{GROUP}|{OWN}|{HEALTH}|{SERVICE}".encode())
    time.sleep(1)
