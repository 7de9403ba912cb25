"""The accelerator type "qtest-accel": everything of a machine is there, and no guest code runs.

For tests that are the processor themselves: they drive ports and memory of any machine, step its clock and watch its
interrupt lines.

Modelled: a vCPU with its thread and registers for every processor.  The registers lie in the simulated core, which is
never asked to run, so they read and write as they do there, and CPUID is that of the simulated processor.  Time is a
`SteppedClock`: it stands still until somebody steps it, also while the machine is "running".
Interrupts, NMI, INIT and start-up IPIs for a processor stay requested (`Cpu.interrupt_request` ...): nobody takes them.
QEMU's test protocol is the object `qtest` (plugins/observe/qtest.py), under this accelerator or another.
"""

from typing import Any

from accel.accel import Accel, AccelClass
from accel.simulated.handles import SimulatedSystem
from qom import Clock, Cpu, SteppedClock, type_init


@type_init("qtest-accel")
class QtestAccel(Accel):
    """No guest code runs, and time is stepped."""

    @classmethod
    def class_init(cls) -> None:
        """Fill the class facts."""
        cls.desc, cls.category = "No guest code runs and time is stepped: for tests of devices", "accel"
        cls.accel_class = AccelClass("qtest", qtest_init)

    def new_clock(self) -> Clock:
        """A clock that only moves when it is stepped."""
        return SteppedClock()

    def cpu_exec(self, cpu: Cpu) -> None:
        """Stand where the guest would run, until the thread is wanted elsewhere."""
        while not cpu.must_leave():
            cpu.sleep()


def qtest_init(accel: QtestAccel, machine: Any) -> None:
    """Give `machine` processors that stand still.

    Raises:
        AccelError: the simulated core, which holds the registers, is not built or has no memory left.
    """
    system = SimulatedSystem()
    try:
        accel.start(machine, system)
    except BaseException:
        accel.stop()
        system.close()
        raise
