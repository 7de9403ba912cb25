"""Stream socket back end: unix or TCP, client or server.

A server serves one client at a time; while one is connected others wait in the backlog, and when it leaves the next
is taken. A client whose connection ends tries again every `reconnect` seconds, if that is not 0. While nobody is
connected, output is lost, as on an unplugged cable. A peer of a unix socket may pass file descriptors, which wait for
`take_fds`. Not modelled: websocket framing, TLS.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat

from qom import prop, type_init
from qom.vm import Alarm, ChardevError, ChardevEvent, FdChardev, FdWatch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from plugins.char.telnet import Telnet

BACKLOG = 1
FDS_MAX = 16  # descriptors that a peer may pass and nobody has taken yet
ABSTRACT_SIZE = 108  # bytes of an abstract name that is not tight
PORT_MAX = 65535


@type_init("chardev-socket")
class SocketChardev(FdChardev):
    """Set `path` for a unix socket, `host` and `port` for TCP, or `fd` for a socket that is there."""

    socket_path: str = prop("", "Path of a unix socket; empty: TCP", name="path")
    abstract: bool = prop(False, "The path is a name in the abstract namespace, without a file")
    tight: bool = prop(True, "An abstract name ends where it ends; off: zeros follow")
    fd: str = prop("", "Descriptor of a socket: a number this process inherited, or a name that a monitor gave it")
    host: str = prop("", "TCP host; empty: every address for a server, this machine for a client")
    port: str = prop("", "TCP port number or service name; 0 for a server: the system chooses")
    to: int = prop(0, "Last TCP port that a server tries, from `port` on; 0: it tries one", type="uint16")
    ipv4: bool = prop(False, "TCP over IPv4 only")
    ipv6: bool = prop(False, "TCP over IPv6 only")
    server: bool = prop(False, "Listen, instead of connecting")
    wait: bool = prop(True, "A server waits for its first client before the machine starts")
    reconnect: int = prop(0, "Seconds until a client tries again; 0: never", type="uint32", unit="s")
    nodelay: bool = prop(False, "Send small TCP packets at once (TCP_NODELAY)")
    telnet: bool = prop(False, "A server whose clients speak telnet")

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc = "Unix or TCP stream socket"

    def instance_init(self) -> None:
        """Start with no socket."""
        self.address = ""  # what this end is bound to, once open: a path, or host:port
        self._listener: socket.socket | None = None
        self._listening: FdWatch | None = None
        self._connecting: socket.socket | None = None
        self._connect_watch: FdWatch | None = None
        self._retry: Alarm | None = None
        self._file = ""  # the socket's file, which is ours to remove
        self._peer: socket.socket | None = None  # the same descriptor as `fd_in`, of a unix socket
        self._passed: list[int] = []
        self._telnet: Telnet | None = None
        self._owed = b""  # of telnet's making: what the peer had no room for

    def filename(self) -> str:
        """Its address, and whether it is a server; "disconnected:" before it while no peer is there."""
        if self.fd:
            where = f"fd:{self.fd}"
        elif self.socket_path:
            where = f"unix:{self.socket_path}{',abstract=on' if self.abstract else ''}"
        else:
            where = f"{'telnet' if self.telnet else 'tcp'}:{self.address or self._target()}"
        return f"{'' if self.connected else 'disconnected:'}{where}{',server=on' if self.server else ''}"

    # --- opening

    def open_end(self) -> None:
        """Listen, or connect."""
        given = [name for name, value in (("path", self.socket_path), ("port", self.port), ("fd", self.fd)) if value]
        if len(given) != 1:
            there = f"{' and '.join(given)} are" if given else "none is"
            raise ChardevError(f"{self.path}: set one of 'path' (unix), 'port' (TCP) and 'fd' (a socket): {there} set")
        if self.ipv4 and self.ipv6:
            raise ChardevError(
                f"{self.path}: 'ipv4' and 'ipv6' exclude each other: expected one of them, or none for any"
            )
        if self.telnet and not self.server:
            raise ChardevError(f"{self.path}: 'telnet' is for a server, but 'server' is off")
        if self.fd and self.reconnect:
            raise ChardevError(f"{self.path}: 'reconnect' is for an address, but 'fd' is set")
        if self.port.isdecimal() and int(self.port) > PORT_MAX:
            raise ChardevError(f"{self.path}: 'port' must be 0..{PORT_MAX} or the name of a service, got {self.port}")
        if self.server and self.reconnect:
            raise ChardevError(f"{self.path}: 'reconnect' is for a client, but 'server' is on")
        if self.fd:
            self._take_over()
        elif self.server:
            self._listen()
        if self.server:
            try:
                if self.wait:
                    self.announce(f"{self.path} waits for a client on {self.address}")
                    self._accept(blocking=True)
                else:
                    self._await_client()
            except BaseException:  # also a signal that ends the program while it waits
                self.close_end()
                raise
        elif self.fd:
            pass
        elif self.reconnect:
            self._connect_later()
        else:
            try:
                self._connected(self._new_connection())
            except OSError as error:
                raise self.failure(f"connect to {self._target()}", error) from None

    def _take_over(self) -> None:
        """The socket that `fd` is."""
        fd = self.take_fd(self.fd)
        try:
            taken = socket.socket(fileno=fd)
        except OSError:
            raise ChardevError(f"{self.path}: fd {self.fd} is no socket: expected one") from None
        try:
            listens = bool(taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
            if taken.type != socket.SOCK_STREAM or listens != self.server:
                wanted = "listens" if self.server else "is connected (server=on is for one that listens)"
                raise ChardevError(
                    f"{self.path}: fd {self.fd} is another kind of socket: expected a stream that {wanted}"
                )
            taken.set_inheritable(False)
            name = taken.getsockname()
            self.address = "{}:{}".format(*name[:2]) if isinstance(name, tuple) else f"fd {self.fd}"
            if self.server:
                self._listener = taken
            else:
                self._connected(taken)
        except BaseException:
            taken.close()
            raise

    def _target(self) -> str:
        return f"'{self.socket_path}'" if self.socket_path else f"{self.host or 'localhost'}:{self.port}"

    def _tcp_address(self) -> tuple[socket.AddressFamily, tuple[object, ...]]:
        flags = socket.AI_PASSIVE if self.server else 0
        family = socket.AF_INET if self.ipv4 else socket.AF_INET6 if self.ipv6 else socket.AF_UNSPEC
        found = socket.getaddrinfo(self.host or None, self.port, family, socket.SOCK_STREAM, flags=flags)
        found.sort(key=lambda entry: entry[0] != socket.AF_INET)
        return found[0][0], found[0][4]

    def _new_socket(self) -> tuple[socket.socket, object]:
        if self.socket_path:
            return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), self._unix_address()
        family, address = self._tcp_address()
        return socket.socket(family, socket.SOCK_STREAM), address

    def _unix_address(self) -> str | bytes:
        if not self.abstract:
            return self.socket_path
        name = b"\0" + self.socket_path.encode()
        return name if self.tight else name.ljust(ABSTRACT_SIZE, b"\0")

    def _listen(self) -> None:
        listener = None
        try:
            listener, address = self._new_socket()
            if self.socket_path and not self.abstract:
                # A socket file that nobody listens on is left over from a process that died.
                with contextlib.suppress(FileNotFoundError):
                    if stat.S_ISSOCK(os.stat(self.socket_path).st_mode) and not self._answered(self.socket_path):
                        os.unlink(self.socket_path)
                self._file = os.path.abspath(self.socket_path)  # this process may go elsewhere
            elif not self.socket_path:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._bind(listener, address)
            self._listener = listener
            listener.listen(BACKLOG)
        except OSError as error:
            if listener is not None:
                listener.close()
            if self._listener is None:
                self._file = ""  # somebody else's
            self.close_end()
            raise self.failure(f"listen on {self._target()}", error) from None
        except BaseException:
            self.close_end()
            raise
        self.address = self.socket_path or "{}:{}".format(*listener.getsockname()[:2])

    def _bind(self, listener: socket.socket, address: Any) -> None:
        """Bind to the address, or to the first of its ports that is free."""
        last = max(self.to, address[1]) if self.to and not self.socket_path else 0
        while True:
            try:
                listener.bind(address)
                return
            except OSError as error:
                if error.errno != errno.EADDRINUSE or self.socket_path or address[1] >= last:
                    raise
                address = (address[0], address[1] + 1, *address[2:])

    @staticmethod
    def _answered(path: str) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            return probe.connect_ex(path) in (0, errno.EAGAIN)

    def _await_client(self) -> None:
        if self._listener is not None and self._listening is None and self.poller is not None:
            self._listener.setblocking(False)
            self._listening = self.poller.add_fd(self._listener.fileno(), self._accept)

    def _accept(self, blocking: bool = False) -> None:
        assert self._listener is not None
        self._listener.setblocking(blocking)
        try:
            peer, _ = self._listener.accept()
        except OSError as error:
            if blocking:
                raise self.failure(f"accept a client on {self._target()}", error) from None
            return  # it left again before we looked
        if self._listening is not None:
            self._listening.remove()
            self._listening = None
        self._connected(peer)

    def _new_connection(self) -> socket.socket:
        peer, address = self._new_socket()
        try:
            peer.connect(address)  # type: ignore[arg-type]
        except BaseException:
            peer.close()
            raise
        return peer

    def _connected(self, peer: socket.socket) -> None:
        unix = peer.family == socket.AF_UNIX
        if self.nodelay and not unix:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self.server and not self.fd:
            self.address = self.socket_path or "{}:{}".format(*peer.getsockname()[:2])
        fd = peer.detach()
        self._peer = socket.socket(fileno=fd) if unix else None
        if self.telnet:
            from plugins.char.telnet import GREETING, Telnet

            self._telnet = Telnet()
            self._owed = GREETING
        self.attach_fds(fd, fd)
        if self._owed:
            self._pay()

    # --- descriptors that the peer passes

    def read_some(self, count: int) -> bytes:
        """Bytes from the peer; what descriptors come with them wait for `take_fds`."""
        if self._peer is None:
            return super().read_some(count)
        data, ancillary, _, _ = self._peer.recvmsg(count, socket.CMSG_SPACE(4 * FDS_MAX), socket.MSG_CMSG_CLOEXEC)
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                import struct

                fds = struct.unpack(f"{len(content) // 4}i", content[: len(content) & -4])
                room = FDS_MAX - len(self._passed)
                self._passed += fds[:room]
                for fd in fds[room:]:
                    os.close(fd)
        return data

    def take_fds(self) -> list[int]:
        """The descriptors that the peer passed since the last call, in order; they are the caller's from now on."""
        taken, self._passed = self._passed, []
        return taken

    # --- telnet

    def received(self, data: bytes) -> None:
        """Give the front end what is data of it."""
        if self._telnet is None:
            super().received(data)
            return
        data = self._telnet.received(data)
        replies, self._telnet.replies = self._telnet.replies, b""
        if replies:
            self._owed += replies
            self._pay()
        while self._telnet is not None and self._telnet.breaks:
            self._telnet.breaks -= 1
            self.on_event(ChardevEvent.BREAK)
        if data:
            self.on_read(data)

    def write(self, data: bytes) -> int:
        """Send without waiting (see `Chardev.write`)."""
        if self._telnet is None or self.fd_out < 0:
            return super().write(data)
        if not self._pay():
            return 0
        self._owed = self._telnet.sent(data)
        self._pay()
        return len(data)

    def _pay(self) -> bool:
        """Send what is owed as far as there is room; whether all of it went."""
        if self._owed:
            self._owed = self._owed[super().write(self._owed) :]
        return not self._owed

    def drained(self) -> None:
        """First what is owed."""
        if self._pay():
            self.on_writable()

    # --- a client that tries again, never waiting

    def _connect_later(self) -> None:
        """Start a connection without waiting for it."""
        self._retry = None
        if self.poller is None:
            return
        try:
            peer, address = self._new_socket()
        except OSError:
            self._try_again()
            return
        peer.setblocking(False)
        result = peer.connect_ex(address)  # type: ignore[arg-type]
        if result == 0:
            self._connected(peer)
        elif result == errno.EINPROGRESS:
            self._connecting = peer
            self._connect_watch = self.poller.add_fd(peer.fileno(), None, self._connect_done)
        else:
            peer.close()
            self._try_again()

    def _connect_done(self) -> None:
        peer = self._connecting
        assert peer is not None
        self._stop_connecting()
        if peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            self._connected(peer)
        else:
            peer.close()
            self._try_again()

    def _stop_connecting(self) -> None:
        if self._connect_watch is not None:
            self._connect_watch.remove()
            self._connect_watch = None
        self._connecting = None

    def _try_again(self) -> None:
        if self.poller is not None and self.reconnect:
            self._retry = self.poller.call_later(self.reconnect, self._connect_later)

    # --- the end of a connection, and of everything

    def detach_fds(self) -> None:
        """The peer is gone, and what it passed."""
        if self._peer is not None:
            self._peer.detach()
            self._peer = None
        for fd in self.take_fds():
            os.close(fd)
        self._telnet, self._owed = None, b""
        super().detach_fds()

    def hangup(self) -> None:
        """The peer is gone: wait for another, or try again."""
        self.detach_fds()
        if self.server:
            self._await_client()
        else:
            self._try_again()

    def close_end(self) -> None:
        """Close the connection and what listens or waits for one."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        connecting = self._connecting
        self._stop_connecting()
        if connecting is not None:
            connecting.close()
        if self._listening is not None:
            self._listening.remove()
            self._listening = None
        self.detach_fds()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        file, self._file = self._file, ""
        if file:
            with contextlib.suppress(OSError):
                os.unlink(file)
        self.address = ""
