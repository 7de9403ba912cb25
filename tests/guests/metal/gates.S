# Call gates at one privilege level, 32-bit and 16-bit, by CALL and by JMP.
.include "metal.inc"
        METAL "gates"
.set S_GATE, FREE_SEL
.set S_GATE16, FREE_SEL + 8
.set S_NOWHERE, FREE_SEL + 0x10         # to a data segment
.set S_ABSENT, FREE_SEL + 0x18

        PROTECTED32
        mov dword ptr [metal_gdt + S_GATE], offset gate_target + (CODE32 << 16)
        mov dword ptr [metal_gdt + S_GATE + 4], 0x8C00
        mov dword ptr [metal_gdt + S_GATE16], offset gate16_target + (CODE16 << 16)
        mov dword ptr [metal_gdt + S_GATE16 + 4], 0x8400
        mov dword ptr [metal_gdt + S_NOWHERE], offset gate_target + (DATA32 << 16)
        mov dword ptr [metal_gdt + S_NOWHERE + 4], 0x8C00
        mov dword ptr [metal_gdt + S_ABSENT + 4], 0x0C00
        FROM 1
        NEXT
        lcall S_GATE, 0xDEADBEEF        # the offset of the instruction is not used
        EQ eax, 0x600D
        EQ esp, STACK32
        ljmp S_GATE, 0
gate_target:
        mov eax, 0x600D
        cmp esp, STACK32
        je 4f
        EQ esp, STACK32 - 8
        EQ dword ptr [esp + 4], CODE32
        retf
4:
        NEXT                            # through a 16-bit gate: 16-bit IP and CS pushed
        mov dword ptr [0x8000], 0
        mov word ptr [0x8004], S_GATE16
        call fword ptr [0x8000]
1:      FAIL
BITS16
gate16_target:
        EQ esp, STACK32 - 4
        EQ word ptr [esp + 2], CODE32
        EQ word ptr [esp], offset 1b
        add esp, 4
        .byte 0x66, 0xEA                # a far jump with a 32-bit offset
        .long 2f
        .word CODE32
BITS32
2:
        NEXT
        FAULT 13, DATA32, lcall S_NOWHERE, 0
        FAULT 11, S_ABSENT, lcall S_ABSENT, 0
        FAULT 13, S_GATE, lcall S_GATE + 3, 0 # RPL above DPL
        EQ esp, STACK32
        PASS
        METAL_END
