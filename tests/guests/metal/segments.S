# Protected-mode segmentation but for limits and types on access (limits.S): loading of selectors and its faults, bases, conforming code, 16-bit code
# and stack, far transfers at one privilege level, LDT, LAR LSL VERR VERW ARPL, SMSW LMSW, SGDT SLDT STR.
.include "metal.inc"
        METAL "segments"
.set S_DATA, FREE_SEL                   # base 20000h
.set S_RO, FREE_SEL + 0x08              # read-only data
.set S_XO, FREE_SEL + 0x10              # execute-only code
.set S_ABSENT, FREE_SEL + 0x18          # data, not present
.set S_CODE, FREE_SEL + 0x20            # 32-bit code, base 1000h
.set S_CONF, FREE_SEL + 0x28            # conforming code
.set S_DPL3, FREE_SEL + 0x30            # data, DPL 3
.set S_LDT, FREE_SEL + 0x38
.set S_GATE, FREE_SEL + 0x40            # 32-bit call gate
.set S_TSS, FREE_SEL + 0x48             # available 32-bit TSS
.set S_ABSENT_CODE, FREE_SEL + 0x50
.set S_STACK16, FREE_SEL + 0x58         # 16-bit stack, base 20000h
.set S_RESERVED, FREE_SEL + 0x68        # system type 8
.set S_DPL1_CODE, FREE_SEL + 0x70       # code, DPL 1
.set S_BIG, FREE_SEL + 0x78             # page-granular, limit 12345h pages
.set BEYOND, 0x0108                     # outside the GDT

        PROTECTED32
        DESC S_DATA, 0x20000, 0xFFFF, 0x92, 4
        DESC S_RO, 0x20000, 0xFFFF, 0x90, 4
        DESC S_XO, 0, 0xFFFFF, 0x98, 12
        DESC S_ABSENT, 0, 0xFFFF, 0x12, 4
        DESC S_CODE, 0x1000, 0xFFFFF, 0x9A, 12
        DESC S_CONF, 0, 0xFFFFF, 0x9E, 12
        DESC S_DPL3, 0, 0xFFFF, 0xF2, 4
        DESC S_LDT, 0x30000, 0x1F, 0x82
        DESC S_TSS, 0x31000, 0x67, 0x89
        DESC S_ABSENT_CODE, 0, 0xFFFF, 0x1A, 4
        DESC S_STACK16, 0x20000, 0xFFFF, 0x92, 0
        DESC S_RESERVED, 0, 0xFFFF, 0x88, 0
        DESC S_DPL1_CODE, 0, 0xFFFFF, 0xBA, 12
        DESC S_BIG, 0, 0x12345, 0x92, 8
        mov dword ptr [metal_gdt + S_GATE], offset metal_fail32 + (CODE32 << 16)
        mov dword ptr [metal_gdt + S_GATE + 4], 0x8C00

        # Bases, and the accessed bit that a load sets.
        FROM 1
        NEXT
        mov eax, S_DATA
        mov fs, eax
        mov dword ptr fs:[0x10], 0xCAFEF00D
        EQ dword ptr [0x20010], 0xCAFEF00D
        EQ byte ptr [metal_gdt + S_DATA + 5], 0x93
        mov ax, fs
        EQ eax, S_DATA
        NEXT                            # the descriptor in use is a copy
        DESC S_DATA, 0x21000, 0xFFFF, 0x93, 4
        EQ dword ptr fs:[0x10], 0xCAFEF00D
        mov dword ptr [0x21010], 0x11112222
        mov eax, S_DATA
        mov fs, eax
        EQ dword ptr fs:[0x10], 0x11112222
        NEXT                            # but not into SS
        xor eax, eax
        FAULT 13, 0, mov ss, eax
        NEXT
        mov eax, BEYOND
        FAULT 13, BEYOND, mov fs, eax
        mov eax, BEYOND + 3             # the error code keeps index and table, not RPL
        FAULT 13, BEYOND, mov fs, eax
        NEXT
        mov eax, S_ABSENT
        FAULT 11, S_ABSENT, mov fs, eax
        FAULT 12, S_ABSENT, mov ss, eax
        NEXT
        mov eax, S_XO                   # execute-only code is not data
        FAULT 13, S_XO, mov fs, eax
        mov eax, S_RO                   # SS must be writable
        FAULT 13, S_RO, mov ss, eax
        mov eax, CODE32
        FAULT 13, CODE32, mov ss, eax
        mov eax, S_DPL3                 # SS: DPL = RPL = CPL
        FAULT 13, S_DPL3, mov ss, eax
        mov eax, DATA32 + 1
        FAULT 13, DATA32, mov ss, eax
        mov eax, S_TSS
        FAULT 13, S_TSS, mov fs, eax
        mov eax, DATA32 + 3             # RPL 3 on DPL 0
        FAULT 13, DATA32, mov fs, eax
        NEXT
        push S_ABSENT                   # a faulting POP leaves ESP alone
        FAULT 11, S_ABSENT, pop fs
        EQ esp, STACK32 - 4
        add esp, 4
        mov dword ptr [0x8000], 0x5555
        mov word ptr [0x8004], S_ABSENT
        mov ebx, 0x1111
        FAULT 11, S_ABSENT, lfs ebx, [0x8000]
        EQ ebx, 0x1111                  # and LFS both of its registers

        # Far transfers at one level.
        NEXT
        ljmp S_CODE, offset 1f - 0x1000
1:      mov ax, cs
        EQ ax, S_CODE
        call 2f
2:      pop eax
        EQ eax, offset 2b - 0x1000
        ljmp CODE32, offset 3f
3:
        NEXT
        lcall S_CODE, offset 1f - 0x1000
        EQ esp, STACK32
        jmp 2f
1:      EQ dword ptr [esp + 4], CODE32
        retf
2:
        NEXT
        ljmp S_CONF, offset 1f
1:      mov ax, cs                      # CPL stays
        EQ ax, S_CONF
        ljmp S_CONF + 3, offset 2f      # a conforming target ignores RPL; CS gets CPL
2:      mov ax, cs
        EQ ax, S_CONF
        ljmp CODE32, offset 3f
3:
        NEXT
        FAULT 13, 0, ljmp 0, 0
        FAULT 13, BEYOND, ljmp BEYOND, 0
        FAULT 13, DATA32, ljmp DATA32, 0
        FAULT 11, S_ABSENT_CODE, ljmp S_ABSENT_CODE, 0
        FAULT 13, S_DPL1_CODE, ljmp S_DPL1_CODE, 0
        FAULT 13, S_LDT, ljmp S_LDT, 0
        FAULT 13, S_RESERVED, lcall S_RESERVED, 0
        FAULT 13, CODE32, ljmp CODE32 + 1, 0
        EQ esp, STACK32
        NEXT
        push 0                          # RETF to null, and to a lower ring number
        push 0
        FAULT 13, 0, retf
        mov dword ptr [esp + 4], DATA32
        FAULT 13, DATA32, retf
        mov dword ptr [esp + 4], S_ABSENT_CODE
        FAULT 11, S_ABSENT_CODE, retf
        EQ esp, STACK32 - 8
        add esp, 8

        # 16-bit stack under 32-bit code: SP only.
        NEXT
        mov ebx, esp
        mov eax, S_STACK16
        mov ss, eax
        mov esp, 0xABCD0100
        push 0x12345678
        EQ esp, 0xABCD00FC
        EQ dword ptr [0x200FC], 0x12345678
        pop eax
        EQ eax, 0x12345678
        call 1f
1:      EQ esp, 0xABCD00FC
        mov eax, DATA32
        mov ss, eax
        mov esp, ebx

        # 16-bit code.
        NEXT
        ljmp CODE16, offset 1f
BITS16
1:      mov eax, 0xFFFFFFFF
        mov ax, 0x1234
        EQ eax, 0xFFFF1234
        push 0x5678
        EQ esp, STACK32 - 2
        pop bx
        mov si, 0x8000
        mov dword ptr [si], 0x11223344
        EQ dword ptr [0x8000], 0x11223344
        FAULT 13, BEYOND, ljmp BEYOND, 0
        ljmp CODE32, offset 2f
BITS32
2:
        # LDT.
        NEXT
        mov dword ptr [0x30008], 0x4000FFFF # its slot 1: data, base 24000h
        mov dword ptr [0x3000C], 0x00409202
        mov eax, 0x0C
        FAULT 13, 0x0C, mov fs, eax     # no LDT yet
        mov eax, S_LDT
        lldt ax
        sldt ebx
        and ebx, 0xFFFF
        EQ ebx, S_LDT
        mov eax, 0x0C
        mov fs, eax
        mov dword ptr fs:[4], 0x99887766
        EQ dword ptr [0x24004], 0x99887766
        EQ byte ptr [0x3000D], 0x93
        NEXT
        mov eax, 0x24                   # beyond its four slots
        FAULT 13, 0x24, mov fs, eax
        mov eax, DATA32
        FAULT 13, DATA32, lldt ax
        mov eax, 0x0C                   # an LDT must come from the GDT
        FAULT 13, 0x0C, lldt ax
        xor eax, eax
        lldt ax
        mov eax, 0x14
        FAULT 13, 0x14, mov fs, eax

        # Task register.
        NEXT
        mov eax, S_TSS
        ltr ax
        str ebx
        EQ bx, S_TSS
        EQ byte ptr [metal_gdt + S_TSS + 5], 0x8B
        FAULT 13, S_TSS, ltr ax         # busy now
        mov eax, DATA32
        FAULT 13, DATA32, ltr ax

        # Looking at descriptors.
        NEXT
        mov ecx, S_RO
        mov eax, 0x55555555
        lar eax, ecx
        FLAGS ZF, ZF
        and eax, 0x00F0FE00
        EQ eax, 0x00409000
        lsl eax, ecx
        FLAGS ZF, ZF
        EQ eax, 0xFFFF
        mov ecx, S_BIG
        lsl eax, ecx
        EQ eax, 0x12345FFF
        mov eax, 0x77777777
        mov ecx, BEYOND
        lar eax, ecx
        FLAGS ZF, 0
        EQ eax, 0x77777777
        xor ecx, ecx
        lsl eax, ecx
        FLAGS ZF, 0
        mov ecx, S_RESERVED
        lar eax, ecx
        FLAGS ZF, 0
        mov ecx, S_GATE                 # a gate has rights and no limit
        lsl eax, ecx
        FLAGS ZF, 0
        EQ eax, 0x77777777
        lar eax, ecx
        FLAGS ZF, ZF
        mov ecx, DATA32 + 3             # RPL counts
        lar eax, ecx
        FLAGS ZF, 0
        mov ecx, S_CONF + 3
        lar eax, ecx
        FLAGS ZF, ZF
        NEXT
        mov ecx, S_RO
        verr cx
        FLAGS ZF, ZF
        verw cx
        FLAGS ZF, 0
        mov ecx, S_DATA
        verw cx
        FLAGS ZF, ZF
        mov ecx, S_XO
        verr cx
        FLAGS ZF, 0
        mov ecx, CODE32
        verr cx
        FLAGS ZF, ZF
        verw cx
        FLAGS ZF, 0
        xor ecx, ecx
        verr cx
        FLAGS ZF, 0
        mov ecx, S_LDT
        verr cx
        FLAGS ZF, 0
        NEXT
        mov eax, 0x0010
        mov ecx, 0x0013
        arpl ax, cx
        FLAGS ZF, ZF
        EQ eax, 0x0013
        mov ecx, 1
        arpl ax, cx
        FLAGS ZF, 0
        EQ eax, 0x0013
        NEXT
        sgdt [0x8000]
        EQ dword ptr [0x8002], offset metal_gdt
        EQ word ptr [0x8000], metal_gdt_end - metal_gdt - 1
        sidt [0x8000]
        EQ dword ptr [0x8002], offset metal_idt
        smsw eax
        test al, 1
        mov ecx, 1
        cmovz ecx, eax
        EQ ecx, 1
        xor eax, eax                    # LMSW cannot leave protected mode
        lmsw ax
        mov eax, cr0
        and eax, 1
        EQ eax, 1
        PASS
        METAL_END
