"""A pyre node for tests: events go out as JSON lines, commands come in as JSON lines.

    pyre_peer.py NAME [GROUP ...] [KEY=VALUE ...]

Events have the form of `hailer peers --json`: {"event": "ENTER", "peer": "<32 upper hex>", "name": .., ...}; the first
is {"event": "STARTED", ..} with the node's own identity. Commands: {"do": "join" | "leave", "group": ..},
{"do": "shout", "group": .., "content": [..]}, {"do": "whisper", "peer": .., "content": [..]}, {"do": "stop"}.
The end of the input stops the node too.
"""

import json
import os
import sys
import uuid

import zmq
from pyre import Pyre
from pyre.pyre_event import PyreEvent

STDIN = 0


def say(kind, peer, name, **rest):
    print(json.dumps({"event": kind, "peer": peer.hex.upper(), "name": name, **rest}), flush=True)


def say_event(event):
    rest = {}
    if event.type == "ENTER":
        rest = {"headers": event.headers, "endpoint": event.peer_addr}
    if event.group is not None:
        rest["group"] = event.group
    if event.msg is not None:
        rest["content"] = [frame.decode("utf-8", "backslashreplace") for frame in event.msg]
    say(event.type, event.peer_uuid, event.peer_name, **rest)


def obey(node, command):
    """Returns False when the node is to stop."""
    content = [frame.encode("utf-8") for frame in command.get("content", [])]
    match command["do"]:
        case "join":
            node.join(command["group"])
        case "leave":
            node.leave(command["group"])
        case "shout":
            node.shout(command["group"], content)
        case "whisper":
            node.whisper(uuid.UUID(command["peer"]), content)
        case "stop":
            return False
        case other:
            sys.exit(f"unknown command {other!r}")
    return True


def main():
    name, *rest = sys.argv[1:]
    node = Pyre(name)
    for word in rest:
        if "=" in word:
            node.set_header(*word.split("=", 1))
        else:
            node.join(word)
    node.start()
    say("STARTED", node.uuid(), name, endpoint=node.endpoint())

    poller = zmq.Poller()
    poller.register(node.socket(), zmq.POLLIN)
    poller.register(STDIN, zmq.POLLIN)
    pending = b""
    is_running = True
    while is_running:
        ready = dict(poller.poll())
        if node.socket() in ready:
            say_event(PyreEvent(node))
        if STDIN in ready:
            read = os.read(STDIN, 65536)
            *lines, pending = (pending + read).split(b"\n")
            is_running = bool(read) and all([obey(node, json.loads(line)) for line in lines])
    node.stop()


main()
