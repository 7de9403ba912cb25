"""Walks through page tables that a guest made to have no end."""

from __future__ import annotations

import pytest

from qom.hw.address_space import AddressSpace
from qom.hw.memory import Region
from qom.monitor import paging
from qom.monitor.failure import CommandError

LONG_MODE = {"cr0": paging.CR0_PG, "cr4": paging.CR4_PAE, "efer": paging.EFER_LMA, "cr3": 0x1000}


def test_tables_that_refer_to_themselves_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "TABLES", 100)
    ram = Region.ram("ram", 0x4000)
    assert ram.ram_block is not None
    try:
        itself = 0x1000 | paging.PRESENT | paging.WRITABLE
        ram.ram_block.view[0x1000:0x2000] = itself.to_bytes(8, "little") * 512
        with pytest.raises(CommandError) as raised:
            for _ in paging.mappings(AddressSpace("memory", ram), LONG_MODE):
                pass
        assert str(raised.value) == "the guest has more than 100 page tables, or they refer to themselves"
    finally:
        ram.ram_block.close()
