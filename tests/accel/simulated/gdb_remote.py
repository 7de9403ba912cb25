"""A client for the gdb remote protocol over a Unix socket, as far as reading memory at a breakpoint needs it."""

import socket
import time
from pathlib import Path


class GdbRemote:
    """Connected to a stub that was started stopped."""

    def __init__(self, path: Path, seconds: float) -> None:
        """Connect to the socket at `path`; every later answer must come within `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(seconds)
            try:
                self.socket.connect(str(path))
                break
            except OSError:
                self.socket.close()
                if time.monotonic() > deadline:
                    raise
        self.buffer = b""

    def close(self) -> None:
        self.socket.close()

    def ask(self, text: str) -> str:
        """Send a packet, return the answer's text."""
        data = text.encode()
        self.socket.sendall(b"$" + data + b"#%02x" % (sum(data) & 0xFF))
        while True:
            start = self.buffer.find(b"$")
            end = self.buffer.find(b"#", start)
            if start >= 0 and end >= 0 and len(self.buffer) >= end + 3:
                answer, self.buffer = self.buffer[start + 1 : end], self.buffer[end + 3 :]
                self.socket.sendall(b"+")
                return answer.decode()
            more = self.socket.recv(65536)
            if not more:
                raise ConnectionError(f"the gdb stub hung up after {text!r}")
            self.buffer += more

    def run_to(self, address: int) -> str:
        """Continue until `address` is about to be executed; the stop reply."""
        answer = self.ask(f"Z1,{address:x},1")
        assert answer == "OK", answer
        return self.ask("c")

    def read(self, address: int, size: int) -> bytes:
        """Memory at a linear address."""
        data = b""
        while len(data) < size:
            part = min(1024, size - len(data))
            data += bytes.fromhex(self.ask(f"m{address + len(data):x},{part:x}"))
        return data
