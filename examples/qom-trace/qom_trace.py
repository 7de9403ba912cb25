"""Trace: the simulated accelerator, writing down every exit from the guest to user space.

Modelled: one line an exit, with port or address, size and value; the value of a read is what the device answered.
Not modelled: the data of string I/O, exits that the inner half serves itself.
"""

from threading import Lock

from accel import AccelClass, ExitWord, SimulatedAccel, simulated_init
from qom import AccelError, prop, type_init

QOM_API = "1.0"


def trace_init(accel, machine):
    """Open the trace, then do as the simulated accelerator does."""
    if accel.trace_file:
        try:
            accel.output = open(accel.trace_file, "w", encoding="utf-8")  # noqa: SIM115 -- closed by stop
        except OSError as error:
            raise AccelError(f"trace: {accel.trace_file}: {error.strerror}") from None
    simulated_init(accel, machine)


@type_init("trace-accel")
class TraceAccel(SimulatedAccel):
    trace_file: str = prop("", "File that the trace is written to; empty: it is only kept", name="file")
    limit: int = prop(100_000, "Exits to trace; later ones are counted only", type="uint32", unit="exits")

    @classmethod
    def class_init(cls) -> None:
        cls.desc, cls.category = "Simulated processor that writes down its exits (example)", "accel"
        cls.accel_class = AccelClass("trace", trace_init)

    def instance_init(self) -> None:
        self.lines = []
        self.count = 0
        self.output = None
        self._lock = Lock()  # vCPU threads trace without the machine lock

    def create_vcpu(self, cpu):
        vcpu = super().create_vcpu(cpu)
        if not isinstance(getattr(vcpu.enter, "__self__", None), Tracer):  # a vCPU may be one used before
            vcpu.enter = Tracer(self, cpu.index, vcpu.enter).enter
        return vcpu

    def stop(self) -> None:
        super().stop()
        if self.output is not None:
            self.output.close()
            self.output = None

    def note(self, line: str) -> None:
        """Keep a line of the trace."""
        with self._lock:
            self.count += 1
            if self.count <= self.limit:
                self.lines.append(line)
                if self.output is not None:
                    self.output.write(line + "\n")


class Tracer:
    """What stands between the vCPU loop and `run` of one vCPU."""

    def __init__(self, accel, index, enter):
        self.accel, self.index = accel, index
        self._enter = enter
        self._read = None  # the line of a read that waits for its value

    def enter(self, c_vcpu, value):
        """Run the guest to its next exit; `value` answers the read before."""
        if self._read is not None:
            self.accel.note(f"{self._read} value {value:#x}")
            self._read = None
        word = self._enter(c_vcpu, value)
        found = ExitWord.of(word)
        line = f"cpu{self.index} {found.name}"
        if found.name in ("KVM_EXIT_IO", "KVM_EXIT_MMIO") and not found.string:
            where = found.port if found.name == "KVM_EXIT_IO" else c_vcpu.address
            line += f" {'out' if found.write else 'in'} {where:#x} size {found.size}"
            if not found.write:
                self._read = line
                return word
            line += f" value {c_vcpu.data:#x}"
        self.accel.note(line)
        return word
