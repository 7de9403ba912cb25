"""UDP as a character back end: each write is a datagram to `host`:`port`, and the bytes of datagrams from there are input.

Datagrams may be lost, as UDP loses them.  Not modelled: sending to several, and keeping what belongs together together.
"""

from __future__ import annotations

import os
import socket

from qom import REQUIRED, prop, type_init
from qom.vm import ChardevError, FdChardev

DATAGRAM_MAX = 65536


@type_init("chardev-udp")
class UdpChardev(FdChardev):
    """A socket between one address here and one there."""

    host: str = prop("localhost", "Where datagrams go")
    port: str = prop(REQUIRED, "Port there, as a number or a service's name")
    localaddr: str = prop("", "Address here; empty: any")
    localport: str = prop("", "Port here; empty: the system chooses")
    ipv4: bool = prop(False, "IPv4 only")
    ipv6: bool = prop(False, "IPv6 only")

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc = "UDP datagrams"

    def instance_init(self) -> None:
        """Nothing waits."""
        self.address = ""  # what this end is bound to, once open: host:port
        self._rest = b""  # of a datagram that was longer than the front end's room

    def open_end(self) -> None:
        """Bind here, and aim there."""
        if self.ipv4 and self.ipv6:
            raise ChardevError(
                f"{self.path}: 'ipv4' and 'ipv6' exclude each other: expected one of them, or none for any"
            )
        family = socket.AF_INET if self.ipv4 else socket.AF_INET6 if self.ipv6 else socket.AF_UNSPEC
        made = None
        try:
            there = socket.getaddrinfo(self.host or "localhost", self.port, family, socket.SOCK_DGRAM)
            there.sort(key=lambda entry: entry[0] != socket.AF_INET)
            kind, target = there[0][0], there[0][4]
            made = socket.socket(kind, socket.SOCK_DGRAM)
            if self.localaddr or self.localport:
                flags = socket.AI_PASSIVE
                here = socket.getaddrinfo(
                    self.localaddr or None, self.localport or "0", kind, socket.SOCK_DGRAM, flags=flags
                )
                made.bind(here[0][4])
            made.connect(target)
        except OSError as error:
            if made is not None:
                made.close()
            raise self.failure(f"exchange datagrams with {self.host}:{self.port}", error) from None
        self.address = "{}:{}".format(*made.getsockname()[:2])
        fd = made.detach()
        self.attach_fds(fd, fd)

    def close_end(self) -> None:
        """Close the socket; what was not read is gone."""
        super().close_end()
        self._rest, self.address = b"", ""

    def accept_input(self) -> None:
        """First what remains of the last datagram."""
        self._hand_over()
        super().accept_input()

    def read_some(self, count: int) -> bytes:
        """The beginning of the next datagram; an empty one is none."""
        data = self._rest or os.read(self.fd_in, DATAGRAM_MAX)
        if not data:
            raise BlockingIOError
        self._rest = data[count:]
        return data[:count]

    def received(self, data: bytes) -> None:
        """Give it to the front end, and the rest of the datagram as far as there is room."""
        self.on_read(data)
        self._hand_over()

    def _hand_over(self) -> None:
        while self._rest and (room := self.can_read()) > 0:
            data, self._rest = self._rest[:room], self._rest[room:]
            self.on_read(data)

    def input_ended(self) -> None:
        """The other side said that nobody is there; somebody may come."""

    def output_failed(self, error: OSError) -> None:
        """A datagram is lost."""
        del error
