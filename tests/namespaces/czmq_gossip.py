"""czmq's zgossip for tests, through Debian's libczmq: what it delivers goes out as JSON lines, commands come in as JSON lines.

    czmq_gossip.py NAME [bind=ENDPOINT] [connect=ENDPOINT ...] [publish=KEY=VALUE ...]

It is what zyre does with gossip: the same actor, the same commands. Events: {"event": "STARTED"},
{"event": "DELIVER", "key": .., "value": ..} and, as an answer to the command, {"event": "STATUS", "count": ..}, which shows
that the actor lives. Commands: {"do": "bind" | "connect", "endpoint": ..}, {"do": "publish", "key": .., "value": ..},
{"do": "status"}, {"do": "stop"}. The end of the input stops it too.
"""

import ctypes
import json
import os
import select
import sys

STDIN = 0
CZMQ = ctypes.CDLL("libczmq.so.4")


def declare(name, result, *arguments):
    function = getattr(CZMQ, name)
    function.restype = result
    function.argtypes = arguments
    return function


zactor_new = declare("zactor_new", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
zactor_sock = declare("zactor_sock", ctypes.c_void_p, ctypes.c_void_p)
zactor_destroy = declare("zactor_destroy", None, ctypes.POINTER(ctypes.c_void_p))
zsock_set_rcvtimeo = declare("zsock_set_rcvtimeo", None, ctypes.c_void_p, ctypes.c_int)
zsys_handler_set = declare("zsys_handler_set", None, ctypes.c_void_p)
zmsg_recv = declare("zmsg_recv", ctypes.c_void_p, ctypes.c_void_p)
zmsg_size = declare("zmsg_size", ctypes.c_size_t, ctypes.c_void_p)
zmsg_pop = declare("zmsg_pop", ctypes.c_void_p, ctypes.c_void_p)
zmsg_destroy = declare("zmsg_destroy", None, ctypes.POINTER(ctypes.c_void_p))
zframe_data = declare("zframe_data", ctypes.c_void_p, ctypes.c_void_p)
zframe_size = declare("zframe_size", ctypes.c_size_t, ctypes.c_void_p)
zframe_destroy = declare("zframe_destroy", None, ctypes.POINTER(ctypes.c_void_p))


def say(kind, **rest):
    print(json.dumps({"event": kind, **rest}), flush=True)


def command(actor, *words):
    words = [ctypes.c_char_p(word.encode()) for word in words]
    CZMQ.zstr_sendx(ctypes.c_void_p(actor), *words, ctypes.c_void_p(None))


def receive(actor):
    """The frames of the next message, or None when there is none now."""
    message = zmsg_recv(actor)
    if not message:
        return None
    frames = []
    while zmsg_size(message):
        frame = ctypes.c_void_p(zmsg_pop(message))
        frames.append(ctypes.string_at(zframe_data(frame), zframe_size(frame)).decode("utf-8", "backslashreplace"))
        zframe_destroy(ctypes.byref(frame))
    zmsg_destroy(ctypes.byref(ctypes.c_void_p(message)))
    return frames


def obey(actor, do):
    """Returns False when it is to stop."""
    match do["do"]:
        case "bind" | "connect" as verb:
            command(actor, verb.upper(), do["endpoint"])
        case "publish":
            command(actor, "PUBLISH", do["key"], do["value"])
        case "status":
            command(actor, "STATUS")
        case "stop":
            return False
        case other:
            sys.exit(f"unknown command {other!r}")
    return True


def main():
    name, *words = sys.argv[1:]
    zsys_handler_set(None)
    actor = zactor_new(ctypes.cast(CZMQ.zgossip, ctypes.c_void_p), name.encode())
    zsock_set_rcvtimeo(zactor_sock(actor), 20)
    for word in words:
        verb, _, rest = word.partition("=")
        key, _, value = rest.partition("=")
        obey(actor, {"do": verb, "endpoint": rest, "key": key, "value": value})
    say("STARTED", name=name)

    pending = b""
    is_running = True
    while is_running:
        frames = receive(actor)
        if frames and frames[0] == "DELIVER":
            say("DELIVER", key=frames[1], value=frames[2])
        elif frames and frames[0] == "STATUS":
            say("STATUS", count=int(frames[1]))
        if select.select([STDIN], [], [], 0)[0]:
            read = os.read(STDIN, 65536)
            *lines, pending = (pending + read).split(b"\n")
            is_running = bool(read) and all([obey(actor, json.loads(line)) for line in lines])
    zactor_destroy(ctypes.byref(ctypes.c_void_p(actor)))


main()
