"""A neighbour from hell for a repeater: another repeater and a registry that answer nonsense, a subscriber that talks
nonsense, and datagrams of nonsense.

    hostile.py OWN_ADDRESS VICTIM BROADCAST

It says {"event": "STARTED"} when all of that goes on, and {"event": "ROUND", "number": ..} now and then.
"""

import json
import random
import socket
import sys
import threading
import time

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(48)
READY_PUB = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03PUB"
READY_SUB = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB"
BEACON = b"ZRE\x01" + bytes(range(16)) + b"\xc0\x00"


def nonsense():
    return random.choice(
        [
            random.randbytes(random.randrange(2000)),
            BEACON + random.randbytes(random.randrange(60)),
            BEACON + b"172.17.0.510.0.0.2",
            b"ZRE" + random.randbytes(51),
            b"HRL1" + random.randbytes(random.randrange(20)),
            b"\x02\xff\xff\xff\xff\xff\xff\xff\xff",
        ]
    )


def message(body):
    return b"\x02" + len(body).to_bytes(8, "big") + body


def publisher():
    body = nonsense()
    return random.choice([nonsense(), GREETING + nonsense(), GREETING + READY_PUB + message(body), GREETING + READY_PUB + body])


def consul():
    body = random.choice([b"", b"[]", b"{}", b"[[[[", b"null", b'[{"Service": 7}, {"Value": "!"}]', b"[" * 5000, random.randbytes(500)])
    head = random.choice(
        [b"HTTP/1.1 200 OK", b"HTTP/1.1 500 No", b"HTTP/9 7", random.randbytes(40), b"HTTP/1.1 200 OK\r\nX-Consul-Index: -1"]
    )
    length = random.choice([len(body), 0, 10**12])
    return head + b"\r\nContent-Length: %d\r\n\r\n" % length + body


def serve(address, answer):
    listener = socket.create_server(address, reuse_port=False)
    while True:
        connection, _ = listener.accept()
        try:
            connection.settimeout(0.2)
            connection.sendall(answer())
            connection.recv(1000)
        except OSError:
            pass
        connection.close()


def main():
    own, victim, broadcast = sys.argv[1:]
    for port, answer in [(2340, publisher), (8500, consul)]:
        threading.Thread(target=serve, args=((own, port), answer), daemon=True).start()
    mouth = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    mouth.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    print(json.dumps({"event": "STARTED"}), flush=True)
    number = 0
    while True:
        for _ in range(20):
            mouth.sendto(nonsense()[:1400], (broadcast, 5670))
            try:
                with socket.create_connection((victim, 2340), 1) as caller:
                    caller.sendall(random.choice([nonsense(), GREETING + nonsense(), GREETING + READY_SUB + nonsense()]))
            except OSError:
                pass
        number += 1
        print(json.dumps({"event": "ROUND", "number": number}), flush=True)
        time.sleep(0.05)


main()
