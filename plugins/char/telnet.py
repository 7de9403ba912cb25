"""The telnet protocol (RFC 854, 856, 857, 858) as far as a console needs it: a server that echoes and takes every letter.

Modelled: eight-bit data both ways, the offers at the beginning, BREAK. Everything that a client asks for besides is refused.
"""

from __future__ import annotations

IAC, DONT, DO, WONT, WILL, SB, BRK, SE = 255, 254, 253, 252, 251, 250, 243, 240
BINARY, ECHO, NO_GO_AHEAD = 0, 1, 3

GREETING = bytes((IAC, WILL, ECHO, IAC, WILL, NO_GO_AHEAD, IAC, WILL, BINARY, IAC, DO, BINARY))
OFFERED = {(DO, ECHO), (DO, NO_GO_AHEAD), (DO, BINARY), (WILL, BINARY), (DONT, ECHO), (WONT, BINARY)}
"""What a client may answer that needs no answer."""


class Telnet:
    """One connection: commands taken out of what comes, and put into what goes.

    replies: bytes to be sent to the client.  breaks: how often it sent BREAK; both are the caller's to take.
    """

    def __init__(self) -> None:
        self.replies = b""
        self.breaks = 0
        self._command: list[int] = []  # what came of a command, without its IAC
        self._in_command = False

    def received(self, data: bytes) -> bytes:
        """The client's data in `data`."""
        if not self._in_command and IAC not in data:
            return data
        out = bytearray()
        for byte in data:
            if self._in_command:
                self._take(byte, out)
            elif byte == IAC:
                self._in_command, self._command = True, []
            else:
                out.append(byte)
        return bytes(out)

    def _take(self, byte: int, out: bytearray) -> None:
        command = self._command
        command.append(byte)
        first = command[0]
        if first == SB:
            if command[-2:] != [IAC, SE]:
                del command[1:-1]  # of a subnegotiation only its end matters
                return
        elif first in (DO, DONT, WILL, WONT):
            if len(command) == 1:
                return
            self._answer(first, byte)
        elif first == IAC:
            out.append(IAC)
        elif first == BRK:
            self.breaks += 1
        self._in_command = False

    def _answer(self, verb: int, option: int) -> None:
        if (verb, option) in OFFERED:
            return
        if verb in (DO, WILL):
            self.replies += bytes((IAC, WONT if verb == DO else DONT, option))

    @staticmethod
    def sent(data: bytes) -> bytes:
        """`data` as it goes to the client."""
        return data.replace(b"\xff", b"\xff\xff")
