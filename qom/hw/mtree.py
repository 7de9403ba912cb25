"""Memory trees as text, in the manner of QEMU's `info mtree` (the tree) and `info mtree -f` (the flat view)."""

from __future__ import annotations

from qom.hw.address_space import AddressSpace
from qom.hw.memory import Region


def format_mtree(space: AddressSpace, *, flat: bool = False) -> str:
    """`space` as text: the tree below its root, or with `flat` what the guest sees."""
    return format_flat(space) if flat else format_tree(space)


def format_tree(space: AddressSpace) -> str:
    """The regions of `space` in their tree, then the regions that aliases point to, each once."""
    lines = [f"address-space: {space.name}"]
    targets: dict[int, Region] = {}
    _add_tree(lines, space.root, 0, 1, targets)
    shown: set[int] = {id(space.root)}
    while pending := [region for key, region in targets.items() if key not in shown]:
        for region in pending:
            shown.add(id(region))
            lines += ["", f"memory-region: {region.name}"]
            _add_tree(lines, region, 0, 1, targets)
    return "\n".join(lines) + "\n"


def format_flat(space: AddressSpace) -> str:
    """The flat view of `space`: one line a range, with the owner's path where there is one."""
    lines = [f"FlatView: {space.name}, root {space.root.name}"]
    for found in space.flat_view:
        region = found.region
        at = f" @{found.offset:016x}" if found.offset else ""
        owner = f" owner:{region.owner.path}" if region.owner is not None else ""
        lines.append(
            f"  {found.start:016x}-{found.end - 1:016x} (prio {region.priority}, {_kind(region, found.readonly)}):"
            f" {region.name}{at}{owner}"
        )
    if not space.flat_view:
        lines.append("  No rendered FlatView")
    return "\n".join(lines) + "\n"


def _add_tree(lines: list[str], region: Region, base: int, depth: int, targets: dict[int, Region]) -> None:
    last = base + region.size - 1
    text = (
        f"{'  ' * depth}{_address(base)}-{_address(last)} (prio {region.priority}, {_kind(region, region.readonly)}):"
    )
    text += f" {'alias ' if region.target is not None else ''}{region.name}"
    if region.target is not None:
        start = region.alias_offset
        text += f" @{region.target.name} {_address(start)}-{_address(start + region.size - 1)}"
        targets.setdefault(id(region.target), region.target)
    if not region.enabled:
        text += " [disabled]"
    lines.append(text)
    for child in sorted(region.subregions, key=lambda r: r.offset):  # stable: what wins comes first among equals
        _add_tree(lines, child, base + child.offset, depth + 1, targets)


def _address(value: int) -> str:
    return f"{value:016x}" if value >= 0 else f"-{-value:015x}"


def _kind(region: Region, readonly: bool) -> str:
    if region.ram_block is not None:
        return "rom" if readonly else "ram"
    if region.target is not None:
        return "rom" if readonly else "i/o" if region.target.ram_block is None else "ram"
    return {"container": "container", "io": "i/o"}.get(region.kind, region.kind)
