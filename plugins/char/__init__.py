"""Character devices: the back ends, and the UART in front of them."""

QOM_MODULES = ("parallel", "null", "ringbuf", "file", "stdio", "pty", "socket", "udp", "pipe", "mux", "ns16550")
