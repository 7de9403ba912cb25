"""Stream socket back end: unix or TCP, client or server.

A server serves one client at a time; while one is connected others wait in the backlog, and when it leaves the next
is taken. A client whose connection ends tries again every `reconnect` seconds, if that is not 0. While nobody is
connected, output is lost, as on an unplugged cable. Not modelled: telnet and websocket framing, TLS, passing of file
descriptors.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat

from qom import prop, type_init
from qom.vm import Alarm, ChardevError, FdChardev, FdWatch

BACKLOG = 1
PORT_MAX = 65535


@type_init("chardev-socket")
class SocketChardev(FdChardev):
    """Set `path` for a unix socket, or `host` and `port` for TCP."""

    socket_path: str = prop("", "Path of a unix socket; empty: TCP", name="path")
    host: str = prop("", "TCP host; empty: every address for a server, this machine for a client")
    port: str = prop("", "TCP port number or service name; 0 for a server: the system chooses")
    server: bool = prop(False, "Listen, instead of connecting")
    wait: bool = prop(True, "A server waits for its first client before the machine starts")
    reconnect: int = prop(0, "Seconds until a client tries again; 0: never", type="uint32", unit="s")
    nodelay: bool = prop(False, "Send small TCP packets at once (TCP_NODELAY)")

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

    # --- opening

    def open_end(self) -> None:
        """Listen, or connect."""
        if bool(self.socket_path) == bool(self.port):
            given = "both are" if self.port else "neither is"
            raise ChardevError(f"{self.path}: set either 'path' (unix) or 'port' (TCP): {given} set")
        if self.port.isdecimal() and int(self.port) > PORT_MAX:
            raise ChardevError(f"{self.path}: 'port' must be 0..{PORT_MAX} or the name of a service, got {self.port}")
        if self.server and self.reconnect:
            raise ChardevError(f"{self.path}: 'reconnect' is for a client, but 'server' is on")
        if self.server:
            self._listen()
            if self.wait:
                self.announce(f"{self.path} waits for a client on {self.address}")
                self._accept(blocking=True)
            else:
                self._await_client()
        elif self.reconnect:
            self._connect_later()
        else:
            try:
                self._connected(self._new_connection())
            except OSError as error:
                raise self.failure(f"connect to {self._target()}", error) from None

    def _target(self) -> str:
        return f"'{self.socket_path}'" if self.socket_path else f"{self.host or 'localhost'}:{self.port}"

    def _tcp_address(self) -> tuple[socket.AddressFamily, tuple[object, ...]]:
        flags = socket.AI_PASSIVE if self.server else 0
        found = socket.getaddrinfo(self.host or None, self.port, type=socket.SOCK_STREAM, flags=flags)
        found.sort(key=lambda entry: entry[0] != socket.AF_INET)
        return found[0][0], found[0][4]

    def _new_socket(self) -> tuple[socket.socket, object]:
        if self.socket_path:
            return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), self.socket_path
        family, address = self._tcp_address()
        return socket.socket(family, socket.SOCK_STREAM), address

    def _listen(self) -> None:
        listener = None
        try:
            listener, address = self._new_socket()
            if self.socket_path:
                # A socket file that nobody listens on is left over from a process that died.
                with contextlib.suppress(FileNotFoundError):
                    if stat.S_ISSOCK(os.stat(self.socket_path).st_mode) and not self._answered(self.socket_path):
                        os.unlink(self.socket_path)
            else:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)  # type: ignore[arg-type]
            listener.listen(BACKLOG)
        except OSError as error:
            if listener is not None:
                listener.close()
            raise self.failure(f"listen on {self._target()}", error) from None
        self._listener = listener
        self.address = self.socket_path or "{}:{}".format(*listener.getsockname()[:2])

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
        if self.nodelay and not self.socket_path:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self.server:
            self.address = self.socket_path or "{}:{}".format(*peer.getsockname()[:2])
        fd = peer.detach()
        self.attach_fds(fd, fd)

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
            if self.socket_path:
                with contextlib.suppress(OSError):
                    os.unlink(self.socket_path)
        self.address = ""
