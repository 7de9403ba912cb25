"""Which types are in the box, by module, so that none has to be imported to know.  Written by `python -m qom.cli.in_box`.

A row is the plugin's name, its module and its types; None for one that does more than bring types, and is always imported.
One without a name is no plugin: its types are there because those of plugins derive from them.
A type is (name, parent, class; "" when the module's hook makes its record, or a board file beside it), then, if there is any
of it: whether it is abstract, its interfaces, its aliases.  See `qom.indexed`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

IN_BOX: tuple[tuple[str, str, tuple[tuple[Any, ...], ...] | None], ...] = (
    ("hw", "qom.hw", ()),
    ("hw/device", "qom.hw.device", (
        ("device", "object", "Device", True),
    )),
    ("hw/bus", "qom.hw.bus", (
        ("bus", "object", "Bus", True),
        ("sys-bus-device", "device", "SysBusDevice", True),
        ("system-bus", "bus", "SystemBus", False, (), ("System",)),
    )),
    ("hw/isa", "qom.hw.isa", (
        ("isa-bus", "bus", "IsaBus", False, (), ("ISA",)),
        ("isa-device", "device", "IsaDevice", True),
    )),
    ("hw/pci_bus", "qom.hw.pci_bus", (
        ("PCI", "bus", "PciBus"),
        ("pci-host-bridge", "sys-bus-device", "PciHostBridge", True),
    )),
    ("hw/pci", "qom.hw.pci", (
        ("pci-device", "device", "PciDevice", True),
    )),
    ("vm", "qom.vm", ()),
    ("vm/chardev", "qom.vm.chardev", (
        ("chardev", "object", "Chardev", True),
        ("chardev-fd", "chardev", "FdChardev", True),
    )),
    ("vm/console", "qom.vm.console", (
        ("chardev-console", "chardev", "ConsoleChardev"),
    )),
    ("vm/display", "qom.vm.display", (
        ("display-console", None, "DisplayConsole", True),
    )),
    ("vm/input", "qom.vm.input", (
        ("keyboard-input", None, "KeyboardInput", True),
        ("pointer-input", None, "PointerInput", True),
    )),
    ("vm/block", "qom.vm.block", (
        ("block-backend", "object", "BlockBackend", True),
    )),
    ("vm/image", "qom.vm.image", (
        ("block-image", "block-backend", "ImageFile", True),
    )),
    ("vm/cpu", "qom.vm.cpu", (
        ("cpu", "device", "Cpu", True),
    )),
    ("vm/machine", "qom.vm.machine", (
        ("machine", "device", "Machine", True),
    )),
    ("board", "qom.board", ()),
    ("board/machine", "qom.board.machine", (
        ("board-machine", "machine", "BoardMachine", True),
    )),
    ("board/types", "qom.board.types", ()),
    ("accel", "accel", ()),
    ("accel/accel", "accel.accel", (
        ("accel", "object", "Accel", True),
    )),
    ("accel/kvm.kvm_accel", "accel.kvm.kvm_accel", (
        ("kvm-accel", "accel", "KvmAccel"),
    )),
    ("accel/kvm.irqchip", "accel.kvm.irqchip", (
        ("kvm-apic", "sys-bus-device", "KvmApic"),
        ("kvm-i8259", "sys-bus-device", "KvmPic"),
        ("kvm-ioapic", "sys-bus-device", "KvmIoapic"),
    )),
    ("accel/simulated.simulated_accel", "accel.simulated.simulated_accel", (
        ("simulated-accel", "accel", "SimulatedAccel"),
    )),
    ("accel/qtest.qtest_accel", "accel.qtest.qtest_accel", (
        ("qtest-accel", "accel", "QtestAccel"),
    )),
    ("cpu", "plugins.cpu", ()),
    ("cpu/x86", "plugins.cpu.x86", (
        ("486-x86_64-cpu", "x86_64-cpu", ""),
        ("Broadwell-noTSX-x86_64-cpu", "x86_64-cpu", ""),
        ("Broadwell-x86_64-cpu", "x86_64-cpu", ""),
        ("Conroe-x86_64-cpu", "x86_64-cpu", ""),
        ("EPYC-Rome-x86_64-cpu", "x86_64-cpu", ""),
        ("EPYC-x86_64-cpu", "x86_64-cpu", ""),
        ("Haswell-noTSX-x86_64-cpu", "x86_64-cpu", ""),
        ("Haswell-x86_64-cpu", "x86_64-cpu", ""),
        ("IvyBridge-x86_64-cpu", "x86_64-cpu", ""),
        ("Nehalem-x86_64-cpu", "x86_64-cpu", ""),
        ("Opteron_G1-x86_64-cpu", "x86_64-cpu", ""),
        ("Opteron_G2-x86_64-cpu", "x86_64-cpu", ""),
        ("Opteron_G3-x86_64-cpu", "x86_64-cpu", ""),
        ("Penryn-x86_64-cpu", "x86_64-cpu", ""),
        ("SandyBridge-x86_64-cpu", "x86_64-cpu", ""),
        ("Skylake-Client-noTSX-x86_64-cpu", "x86_64-cpu", ""),
        ("Skylake-Client-x86_64-cpu", "x86_64-cpu", ""),
        ("Westmere-x86_64-cpu", "x86_64-cpu", ""),
        ("host-x86_64-cpu", "x86_64-cpu", ""),
        ("kvm32-x86_64-cpu", "x86_64-cpu", ""),
        ("kvm64-x86_64-cpu", "x86_64-cpu", ""),
        ("max-x86_64-cpu", "x86_64-cpu", ""),
        ("pentium-x86_64-cpu", "x86_64-cpu", ""),
        ("pentium3-x86_64-cpu", "x86_64-cpu", ""),
        ("qemu32-x86_64-cpu", "x86_64-cpu", ""),
        ("qemu64-x86_64-cpu", "x86_64-cpu", ""),
        ("x86_64-cpu", "cpu", "X86Cpu", True),
    )),
    ("cpu/acpi_cpu_hotplug", "plugins.cpu.acpi_cpu_hotplug", (
        ("acpi-cpu-hotplug", "sys-bus-device", "AcpiCpuHotplug"),
    )),
    ("intc", "plugins.intc", ()),
    ("intc/i8259", "plugins.intc.i8259", (
        ("isa-i8259", "isa-device", "I8259"),
    )),
    ("intc/ioapic", "plugins.intc.ioapic", (
        ("ioapic", "sys-bus-device", "IoApic"),
    )),
    ("intc/apic", "plugins.intc.apic", (
        ("apic", "sys-bus-device", "Apic"),
        ("apic-bus", "sys-bus-device", "ApicBus"),
    )),
    ("timer", "plugins.timer", ()),
    ("timer/i8254", "plugins.timer.i8254", (
        ("isa-pit", "isa-device", "I8254"),
    )),
    ("timer/pcspk", "plugins.timer.pcspk", (
        ("isa-pcspk", "isa-device", "PcSpeaker", False, (), ("port61",)),
    )),
    ("timer/mc146818", "plugins.timer.mc146818", (
        ("mc146818rtc", "isa-device", "Mc146818"),
    )),
    ("timer/hpet", "plugins.timer.hpet", (
        ("hpet", "sys-bus-device", "Hpet"),
    )),
    ("isa", "plugins.isa", ()),
    ("isa/isabus_bridge", "plugins.isa.isabus_bridge", (
        ("isabus-bridge", "sys-bus-device", "IsaBusBridge"),
    )),
    ("isa/ps2", "plugins.isa.ps2", (
        ("ps2-kbd", "device", "Ps2Keyboard", False, ("keyboard-input",)),
        ("ps2-mouse", "device", "Ps2Mouse", False, ("pointer-input",)),
    )),
    ("isa/i8042", "plugins.isa.i8042", (
        ("i8042", "isa-device", "I8042"),
    )),
    ("isa/port92", "plugins.isa.port92", (
        ("port92", "isa-device", "Port92"),
    )),
    ("isa/i8237", "plugins.isa.i8237", (
        ("i8257", "isa-device", "I8237"),
    )),
    ("isa/debugcon", "plugins.isa.debugcon", (
        ("isa-debugcon", "isa-device", "IsaDebugcon"),
    )),
    ("isa/debug_exit", "plugins.isa.debug_exit", (
        ("isa-debug-exit", "isa-device", "IsaDebugExit"),
    )),
    ("isa/pvpanic", "plugins.isa.pvpanic", (
        ("pvpanic", "isa-device", "PvPanic"),
    )),
    ("isa/ib700", "plugins.isa.ib700", (
        ("ib700", "isa-device", "Ib700"),
    )),
    ("isa/pc_testdev", "plugins.isa.pc_testdev", (
        ("pc-testdev", "isa-device", "PcTestdev"),
    )),
    ("pci", "plugins.pci", ()),
    ("pci/i440fx", "plugins.pci.i440fx", (
        ("i440FX", "pci-device", "I440FX"),
        ("i440FX-pcihost", "pci-host-bridge", "I440FXPciHost"),
    )),
    ("pci/piix3", "plugins.pci.piix3", (
        ("PIIX3", "pci-device", "Piix3", False, (), ("pc-piix3",)),
    )),
    ("pci/piix4_pm", "plugins.pci.piix4_pm", (
        ("PIIX4_PM", "pci-device", "Piix4Pm"),
    )),
    ("pci/pvpanic_pci", "plugins.pci.pvpanic_pci", (
        ("pvpanic-pci", "pci-device", "PvPanicPci"),
    )),
    ("pci/pci_testdev", "plugins.pci.pci_testdev", (
        ("pci-testdev", "pci-device", "PciTestdev"),
    )),
    ("pci/acpi_pci_hotplug", "plugins.pci.acpi_pci_hotplug", (
        ("acpi-pci-hotplug", "sys-bus-device", "AcpiPciHotplug"),
    )),
    ("char", "plugins.char", ()),
    ("char/parallel", "plugins.char.parallel", (
        ("isa-parallel", "isa-device", "IsaParallel"),
    )),
    ("char/null", "plugins.char.null", (
        ("chardev-null", "chardev", "NullChardev"),
    )),
    ("char/ringbuf", "plugins.char.ringbuf", (
        ("chardev-memory", "chardev-ringbuf", "MemoryChardev"),
        ("chardev-ringbuf", "chardev", "RingbufChardev"),
    )),
    ("char/file", "plugins.char.file", (
        ("chardev-file", "chardev-fd", "FileChardev"),
    )),
    ("char/stdio", "plugins.char.stdio", (
        ("chardev-stdio", "chardev-fd", "StdioChardev"),
    )),
    ("char/pty", "plugins.char.pty", (
        ("chardev-pty", "chardev-fd", "PtyChardev"),
    )),
    ("char/socket", "plugins.char.socket", (
        ("chardev-socket", "chardev-fd", "SocketChardev"),
    )),
    ("char/udp", "plugins.char.udp", (
        ("chardev-udp", "chardev-fd", "UdpChardev"),
    )),
    ("char/pipe", "plugins.char.pipe", (
        ("chardev-pipe", "chardev-fd", "PipeChardev"),
    )),
    ("char/mux", "plugins.char.mux", (
        ("chardev-mux", "chardev", "MuxChardev"),
    )),
    ("char/ns16550", "plugins.char.ns16550", (
        ("isa-serial", "isa-device", "IsaSerial"),
    )),
    ("block", "plugins.block", ()),
    ("block/raw", "plugins.block.raw", (
        ("block-raw", "block-image", "RawImage", False, (), ("drive",)),
    )),
    ("block/ide_bus", "plugins.block.ide_bus", (
        ("ide-bus", "bus", "IdeBus"),
        ("ide-device", "device", "IdeDevice", True),
    )),
    ("block/ide_hd", "plugins.block.ide_hd", (
        ("ide-hd", "ide-device", "IdeHd"),
    )),
    ("block/isa_ide", "plugins.block.isa_ide", (
        ("isa-ide", "isa-device", "IsaIde"),
    )),
    ("block/piix3_ide", "plugins.block.piix3_ide", (
        ("piix3-ide", "pci-device", "Piix3Ide"),
    )),
    ("block/floppy", "plugins.block.floppy", (
        ("floppy", "device", "Floppy"),
        ("floppy-bus", "bus", "FloppyBus"),
    )),
    ("block/i82077", "plugins.block.i82077", (
        ("isa-fdc", "isa-device", "I82077"),
    )),
    ("firmware", "plugins.firmware", ()),
    ("firmware/fw_cfg", "plugins.firmware.fw_cfg", (
        ("fw_cfg_io", "isa-device", "FwCfgIo"),
    )),
    ("firmware/vmgenid", "plugins.firmware.vmgenid", (
        ("vmgenid", "device", "VmGenId"),
    )),
    ("display", "plugins.display", ()),
    ("display/vga", "plugins.display.vga", (
        ("VGA", "pci-device", "VgaPci", False, ("display-console",)),
    )),
    ("observe", "plugins.observe", ()),
    ("observe/trace", "plugins.observe.trace", (
        ("trace", "object", "Trace", False, ("user-creatable",)),
    )),
    ("observe/fault_injector", "plugins.observe.fault_injector", (
        ("fault-injector", "object", "FaultInjector", False, ("user-creatable",)),
    )),
    ("observe/qtest", "plugins.observe.qtest", (
        ("qtest", "object", "Qtest", False, ("user-creatable",)),
    )),
    ("monitor", "qom.monitor", ()),
    ("monitor/qmp", "qom.monitor.qmp", (
        ("monitor", "object", "Monitor", True),
        ("monitor-qmp", "monitor", "QmpMonitor"),
    )),
    ("monitor/hmp.monitor", "qom.monitor.hmp.monitor", (
        ("monitor-hmp", "monitor", "HmpMonitor"),
    )),
    ("commands", "qom.monitor.commands", None),
    ("machines", "machines", (
        ("none-machine", "board-machine", "none.toml"),
    )),
    ("machines/gsi", "machines.gsi", (
        ("gsi-lines", "sys-bus-device", "GsiLines"),
    )),
    ("machines/a20", "machines.a20", (
        ("a20-gate", "sys-bus-device", "A20Gate"),
    )),
    ("machines/pc", "machines.pc", (
        ("pc-machine-base", "board-machine", "PcMachine", True),
        ("pc-i440fx-0.1-machine", "pc-machine-base", "pc-i440fx.toml", False, (), ("pc-i440fx-machine", "pc-machine")),
    )),
)  # fmt: skip
