"""A model that is never the limit: it reads a question over TLS, waits for a given time, and answers.

    python -m bench.quick_model '{"certificate": …, "key": …, "latency": 1.0}'

prints its port and serves until its stdin ends. Threads that block, one for each connection: OpenSSL then decrypts
from the socket into one buffer, without Python's lock, at about a third of what an event loop takes for it.
"""

import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bench.measure import ROOT
from bench.stand_in import ANSWER
from localcloud.certificates import Certificates

READ_BYTES = 64 * 1024

_HEAD = (
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-request-id: quick\r\n"
    "x-ratelimit-limit-tokens: 1000000\r\nx-ratelimit-remaining-tokens: 900000\r\n"
    f"Content-Length: {len(ANSWER)}\r\n\r\n"
).encode()


def _serve(connection: socket.socket, tls: ssl.SSLContext, latency: float) -> None:
    view = memoryview(bytearray(READ_BYTES))
    try:
        with tls.wrap_socket(connection, server_side=True) as peer:
            while head := _read_head(peer, view):
                received, _, begun = head.partition(b"\r\n\r\n")
                left = int(received.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]) - len(begun)
                while left > 0:
                    left -= peer.recv_into(view, min(left, READ_BYTES)) or left
                time.sleep(latency)
                peer.sendall(_HEAD + ANSWER)
    except OSError:  # the client is gone
        return


def _read_head(peer: ssl.SSLSocket, view: memoryview) -> bytes:
    """As far as it came with the head; nothing when the connection ended."""
    head = b""
    while b"\r\n\r\n" not in head:
        length = peer.recv_into(view)
        if not length:
            return b""
        head += view[:length]
    return head


def _listen(task: Mapping[str, Any]) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(task["certificate"], task["key"])
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        sys.stdout.write(f"{listening.getsockname()[1]}\n")
        sys.stdout.flush()
        while True:
            connection, _ = listening.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_serve, args=(connection, tls, task["latency"]), daemon=True).start()


@contextmanager
def quick_model(certificates: Certificates, latency: float) -> Iterator[str]:
    """Its address; it runs as a child process."""
    task = {"certificate": str(certificates.certificate), "key": str(certificates.key), "latency": latency}
    with subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", "bench.quick_model", json.dumps(task)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        try:
            yield f"https://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            assert process.stdin is not None  # noqa: S101 - likewise
            process.stdin.close()


def main() -> None:
    threading.Thread(target=_listen, args=(json.loads(sys.argv[1]),), daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
