"""Commands that run, stop, reset and end the machine."""

from __future__ import annotations

from typing import Annotated

from qom.monitor.hmp.arguments import Word
from qom.monitor.hmp.declare import Hmp, hmp_command


@hmp_command("stop", aliases=("s",))
def stop(hmp: Hmp) -> None:
    """stop emulation"""
    hmp.qmp("stop")


@hmp_command("cont", aliases=("c",))
def cont(hmp: Hmp) -> None:
    """resume emulation"""
    hmp.qmp("cont")


@hmp_command("system_reset")
def system_reset(hmp: Hmp) -> None:
    """reset the system"""
    hmp.qmp("system_reset")


@hmp_command("system_powerdown")
def system_powerdown(hmp: Hmp) -> None:
    """press the power button"""
    hmp.qmp("system_powerdown")


@hmp_command("system_wakeup")
def system_wakeup(hmp: Hmp) -> None:
    """wake the guest from suspend"""
    hmp.vm.request_wakeup()


@hmp_command("nmi")
def nmi(hmp: Hmp) -> None:
    """inject an NMI"""
    hmp.vm.inject_nmi()


@hmp_command("quit", aliases=("q",), preconfig=True)
def quit_(hmp: Hmp) -> None:
    """end the program"""
    hmp.qmp("quit")


@hmp_command("exit_preconfig", preconfig=True)
def exit_preconfig(hmp: Hmp) -> None:
    """exit the preconfig state"""
    hmp.qmp("x-exit-preconfig")


@hmp_command("watchdog_action")
def watchdog_action(
    hmp: Hmp, action: Annotated[str, Word("[reset|shutdown|poweroff|pause|debug|none|inject-nmi]")]
) -> None:
    """change what follows when a watchdog fires"""
    hmp.vm.set_action(watchdog=action)
