"""The data path of the Alidron repeater, with libzmq: what is heard goes out with its sender's address behind it, and
what comes in is broadcast as it is. No duplicate is suppressed, and no loop is noticed, as in the original.

    original_repeater.py OWN_ADDRESS BROADCAST_ADDRESS REPEATER ...

Its registry is left out: the repeaters are arguments. It says {"event": "STARTED"} when it is there.
"""

import json
import socket
import sys

import zmq

BEACONS = 5670


def main():
    own, broadcast, *repeaters = sys.argv[1:]
    ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    ear.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    ear.bind(("", BEACONS))
    context = zmq.Context()
    published = context.socket(zmq.PUB)
    published.bind("tcp://*:2340")
    subscribed = context.socket(zmq.SUB)
    subscribed.setsockopt(zmq.SUBSCRIBE, b"")
    for repeater in repeaters:
        subscribed.connect(f"tcp://{repeater}:2340")
    poller = zmq.Poller()
    poller.register(ear, zmq.POLLIN)
    poller.register(subscribed, zmq.POLLIN)
    print(json.dumps({"event": "STARTED"}), flush=True)
    while True:
        ready = dict(poller.poll())
        if ear.fileno() in ready:
            datagram, (sender, _) = ear.recvfrom(8192)
            if sender != own and datagram.startswith(b"ZRE"):
                published.send(datagram + sender.encode())
        if subscribed in ready:
            ear.sendto(subscribed.recv_multipart()[0], (broadcast, BEACONS))


main()
