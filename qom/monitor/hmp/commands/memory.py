"""Commands that read guest memory and ports, and show how addresses are laid out."""

from __future__ import annotations

from typing import Annotated, Any

from qom.hw.address_space import AddressSpace
from qom.monitor.hmp.arguments import Expression, Flag, Format, Word
from qom.monitor.hmp.declare import CommandError, Hmp, UsageError, hmp_command
from qom.monitor.hmp.expression import signed
from qom.monitor.paging import translate

PAGE = 4096
IN_LINE = 16  # bytes in a line of a dump; 8 where items are bytes
SUM_STEP = 1 << 16

_SPECIAL = {ord("\n"): r"\n", ord("\r"): r"\r", ord("\\"): r"\\", ord("'"): r"\'"}
_PORT_LETTERS = {1: "b", 2: "w", 4: "l"}


def _char(value: int) -> str:
    if value in _SPECIAL:
        return f"'{_SPECIAL[value]}'"
    return f"'{chr(value)}'" if 32 <= value <= 126 else f"'\\x{value:02x}'"


def _physical(hmp: Hmp) -> AddressSpace:
    return hmp.vm.machine.system_bus.memory_space


def read_physical(hmp: Hmp, address: int, length: int) -> bytes | None:
    """Bytes of physical memory; None where a first byte has nothing behind it."""
    space = _physical(hmp)
    if address + length > 1 << 64 or space.lookup(address) is None:
        return None
    return space.read_bytes(address, length)


def read_virtual(hmp: Hmp, address: int, length: int) -> bytes | None:
    """Bytes at a linear address of the monitor's processor; None where it maps nothing."""
    out = b""
    registers = hmp.registers()
    while length:
        found = translate(hmp.cpu.memory, registers, address)
        step = min(length, PAGE - address % PAGE)
        part = None if found is None else read_physical(hmp, found, step)
        if part is None:
            return None
        out += part
        address = address + step & (1 << 64) - 1
        length -= step
    return out


def _dump(hmp: Hmp, fmt: Format, address: int, *, physical: bool) -> str:
    if fmt.kind == "i":
        from qom.monitor.hmp.instructions import disassembled

        return disassembled(hmp, fmt.count, address, physical=physical)
    in_line = 8 if fmt.size == 1 else IN_LINE
    length = fmt.count * fmt.size
    size = 1 if fmt.kind == "c" else fmt.size
    lines = []
    while length > 0:
        step = min(length, in_line)
        data = read_physical(hmp, address, step) if physical else read_virtual(hmp, address, step)
        if data is None:
            lines.append(f"{address:016x}: Cannot access memory")
            break
        items = (int.from_bytes(data[n : n + size], "little") for n in range(0, step, size))
        lines.append(f"{address:016x}:" + "".join(f" {_item(value, fmt.kind, size)}" for value in items))
        address = address + step & (1 << 64) - 1
        length -= step
    return "\n".join(lines)


def _item(value: int, kind: str, size: int) -> str:
    bits = size * 8
    if kind == "c":
        return _char(value)
    if kind == "x":
        return f"0x{value:0{size * 2}x}"
    if kind == "o":
        return _octal(value).rjust(-(-bits // 3))
    with_sign = kind == "d" and size == 8  # as QEMU: narrower ones have none
    return str(signed(value, bits) if with_sign else value).rjust(-(-bits * 10 // 33))


def _octal(value: int) -> str:
    return f"0{value:o}" if value else "0"


@hmp_command("x")
def x(hmp: Hmp, fmt: Format, addr: Annotated[int, Expression()]) -> str:
    """virtual memory dump starting at 'addr'"""
    return _dump(hmp, fmt, addr, physical=False)


@hmp_command("xp")
def xp(hmp: Hmp, fmt: Format, addr: Annotated[int, Expression()]) -> str:
    """physical memory dump starting at 'addr'"""
    return _dump(hmp, fmt, addr, physical=True)


@hmp_command("print", aliases=("p",))
def print_(hmp: Hmp, fmt: Format, expr: Annotated[int, Expression()]) -> str:
    """print expression value (use $reg for CPU register access)"""
    if fmt.kind == "c":
        return _char(expr)
    if fmt.kind == "x":
        return f"{expr:#x}" if expr else "0"
    if fmt.kind == "o":
        return _octal(expr)
    return str(expr if fmt.kind == "u" else signed(expr))


def _port_size(fmt: Format) -> int:
    if fmt.size not in _PORT_LETTERS:
        return 4
    return fmt.size


@hmp_command("i")
def i(hmp: Hmp, fmt: Format, addr: Annotated[int, Expression(bits=32)]) -> str:
    """I/O port read"""
    size, port = _port_size(fmt), addr & 0xFFFF
    value = hmp.vm.ports.read(port, size)
    return f"port{_PORT_LETTERS[size]}[0x{port:04x}] = 0x{value:0{size * 2}x}"


@hmp_command("o")
def o(
    hmp: Hmp, fmt: Format, addr: Annotated[int, Expression(bits=32)], value: Annotated[int, Expression(bits=32)]
) -> None:
    """I/O port write"""
    size = _port_size(fmt)
    hmp.vm.ports.write(addr & 0xFFFF, value & (1 << size * 8) - 1, size)


@hmp_command("sum")
def sum_(hmp: Hmp, addr: Annotated[int, Expression()], size: Annotated[int, Expression(bits=32)]) -> str:
    """compute the checksum of a memory region"""
    if addr + size > 1 << 64:
        raise CommandError(f"sum: {size} bytes at {addr:#x} reach beyond the last address")
    if size > hmp.vm.machine.ram_size + (1 << 30):
        raise CommandError(f"sum: size cannot be {size}: expected at most the guest's memory")
    total, space = 0, _physical(hmp)
    for at in range(addr, addr + size, SUM_STEP):
        for byte in space.read_bytes(at, min(SUM_STEP, addr + size - at)):
            total = ((total >> 1 | total << 15) + byte) & 0xFFFF  # BSD's checksum
    return f"{total:05d}"


@hmp_command("gpa2hva")
def gpa2hva(hmp: Hmp, addr: Annotated[int, Expression()]) -> str:
    """print the host virtual address corresponding to a guest physical address"""
    found = _physical(hmp).lookup(addr)
    if found is None:
        raise CommandError(f"No memory is mapped at address {addr:#x}")
    block = found.region.ram_block
    if block is None:
        raise CommandError(f"Memory at address {addr:#x} is not RAM")
    where = block.address + addr - found.start + found.offset
    return f"Host virtual address for {addr:#x} ({found.region.name}) is {where:#x}"


@hmp_command("gpa2hpa")
def gpa2hpa(hmp: Hmp, addr: Annotated[int, Expression()]) -> str:
    """not modelled: says so"""
    raise CommandError(
        f"gpa2hpa {addr:#x}: host physical addresses are not modelled: they change under the program and need root;"
        " gpa2hva gives the address in this process"
    )


@hmp_command("gva2gpa")
def gva2gpa(hmp: Hmp, addr: Annotated[int, Expression()]) -> str:
    """print the guest physical address corresponding to a guest virtual address"""
    found = translate(hmp.cpu.memory, hmp.registers(), addr)
    return "Unmapped" if found is None else f"gpa: {found:#x}" if found else "gpa: 0"


@hmp_command("memsave")
def memsave(
    hmp: Hmp,
    addr: Annotated[int, Expression()],
    size: Annotated[int, Expression(bits=32)],
    file: Annotated[str, Word()],
) -> None:
    """save to disk virtual memory dump starting at 'addr' of size 'size'"""
    hmp.call("memsave", {"val": addr, "size": size, "filename": file, "cpu-index": hmp.cpu.index})


@hmp_command("pmemsave")
def pmemsave(
    hmp: Hmp, addr: Annotated[int, Expression()], size: Annotated[int, Expression()], file: Annotated[str, Word()]
) -> None:
    """save to disk physical memory dump starting at 'addr' of size 'size'"""
    hmp.call("pmemsave", {"val": addr, "size": size, "filename": file})


@hmp_command("dump-guest-memory")
def dump_guest_memory(
    hmp: Hmp,
    paging: Annotated[bool, Flag("p", "by the guest's page tables")],
    detach: Annotated[bool, Flag("d", "return immediately")],
    zlib: Annotated[bool, Flag("z", "in the format kdump-zlib")],
    filename: Annotated[str, Word()],
    begin: Annotated[int, Expression()] = -1,
    length: Annotated[int, Expression()] = -1,
) -> None:
    """dump guest memory into file 'filename'"""
    if (begin < 0) != (length < 0):
        raise UsageError("dump-guest-memory: begin and length belong together: expected both or none")
    part: dict[str, Any] = {"begin": begin, "length": length} if begin >= 0 else {}
    part |= {"format": "kdump-zlib"} if zlib else {}
    hmp.call("dump-guest-memory", {"paging": paging, "protocol": f"file:{filename}", "detach": detach, **part})


@hmp_command("info dump")
def info_dump(hmp: Hmp) -> str:
    """show the latest dump status"""
    found = hmp.call("query-dump")
    lines = [f"Status: {found['status']}"]
    if found["status"] == "active" and found["total"]:
        lines.append(f"Finished: {100 * found['completed'] / found['total']:.2f} %")
    return "\n".join(lines)


@hmp_command("info mtree")
def info_mtree(
    hmp: Hmp,
    flat: Annotated[bool, Flag("f", "dump flat view for address spaces")] = False,
    dispatch: Annotated[bool, Flag("d", "dump dispatch tables, valid with -f only")] = False,
    owner: Annotated[bool, Flag("o", "dump region owners/parents")] = False,
    disabled: Annotated[bool, Flag("D", "dump disabled regions")] = False,
) -> str:
    """show memory tree"""
    from qom.monitor.hmp.memory_map import flat_text, tree_text

    spaces = _spaces(hmp)
    if flat:
        return flat_text(spaces, owner=owner, dispatch=dispatch)
    return tree_text(spaces, owner=owner, disabled=disabled)


def _spaces(hmp: Hmp) -> list[AddressSpace]:
    """Every address space of the machine: ports, memory, what each processor sees, what each bus master sees."""
    bus = hmp.vm.machine.system_bus
    spaces = {id(space): space for space in (bus.memory_space, bus.io_space)}
    for cpu in hmp.vm.cpus:
        spaces.setdefault(id(cpu.memory), cpu.memory)
    return list(spaces.values())


@hmp_command("info roms")
def info_roms(hmp: Hmp) -> str:
    """show roms"""
    lines = []
    for found in _physical(hmp).flat_view:
        if found.region.ram_block is not None and found.readonly:
            name = found.region.name
            lines.append(f'addr={found.start:016x} size={found.size:#08x} mem=rom name="{name}"')
    device: Any
    for device in hmp.vm.root.walk():
        files = getattr(device, "files", None)
        if device.type_name.startswith("fw_cfg") and isinstance(files, dict):
            lines += [f'fw={name} size={len(device.file(name)):#08x} name="{name}"' for name in sorted(files)]
    return "\n".join(lines)


@hmp_command("info ramblock")
def info_ramblock(hmp: Hmp) -> str:
    """show the blocks of host memory that are guest memory"""
    blocks = {}
    for space in _spaces(hmp):
        for found in space.flat_view:
            if found.region.ram_block is not None:
                blocks[id(found.region.ram_block)] = found.region.ram_block
    lines = [f"{'Block Name':>24}  {'Host address':>18}  {'Used':>18}  {'Total':>18}"]
    for block in blocks.values():
        lines.append(f"{block.name:>24}  {block.address:#018x}  {block.size:#018x}  {block.mapped_size:#018x}")
    return "\n".join(lines)
