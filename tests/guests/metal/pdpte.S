# PAE's four directory pointers are registers: loaded and checked by MOV CR3, kept until the next, never marked as accessed.
# And reserved bits: RSVD comes with P
# in the error code.  (QEMU's TCG walks the pointers like any other level, and forgets P.)
.include "metal.inc"
        METAL "pdpte"
.set POINTERS, 0x40000
.set DIRECTORY0, 0x41000
.set DIRECTORY1, 0x42000                # 40000000h, the playground
.set TABLE0, 0x43000                    # 0 to 2 MiB
.set TABLE1, 0x44000
.set POINTERS2, 0x45000
.set P, 1
.set RW, 2
.set A, 0x20
.set D, 0x40
.set PS, 0x80
.set PLAY, 0x40000000

.macro PTE page, value, high=0
        mov dword ptr [TABLE1 + \page * 8], \value
        mov dword ptr [TABLE1 + \page * 8 + 4], \high
        invlpg [PLAY + \page * 0x1000]
.endm
.macro PF error, address, insn:vararg
        FAULT 14, \error, \insn
        mov eax, cr2
        EQ eax, \address
.endm

        PROTECTED32
        mov edi, POINTERS
        mov ecx, 0x6000 / 4
        xor eax, eax
        cld
        rep stosd
        mov dword ptr [POINTERS], DIRECTORY0 + P
        mov dword ptr [POINTERS + 8], DIRECTORY1 + P
        mov dword ptr [DIRECTORY0], TABLE0 + P + RW
        mov dword ptr [DIRECTORY1], TABLE1 + P + RW
        mov edi, TABLE0
        mov eax, P + RW
        mov ecx, 512
1:      mov dword ptr [edi], eax
        add edi, 8
        add eax, 0x1000
        loop 1b
        mov eax, cr4
        or eax, 0x20
        mov cr4, eax
        mov eax, POINTERS
        mov cr3, eax
        mov eax, cr0
        and eax, ~0x60000000
        or eax, 0x80000000
        mov cr0, eax
        jmp 1f
1:
        FROM 1
        mov dword ptr [0x50000], 0x12345678
        PTE 0, 0x50000 + P + RW
        NEXT
        EQ dword ptr [PLAY], 0x12345678
        EQ dword ptr [POINTERS + 8], DIRECTORY1 + P # no accessed bit up here
        NEXT                            # the pointers are in the processor: a change waits for CR3
        mov dword ptr [POINTERS + 16], DIRECTORY1 + P
        PF 0, 0x80000000, mov eax, dword ptr [0x80000000]
        mov eax, cr3
        mov cr3, eax
        EQ dword ptr [0x80000000], 0x12345678
        NEXT                            # reserved bits in a pointer: #GP from MOV CR3, that then has done nothing
        mov dword ptr [POINTERS2 + 0x40], DIRECTORY0 + P + RW
        mov dword ptr [POINTERS2 + 0x44], 0
        mov eax, POINTERS2 + 0x40
        FAULT 13, 0, mov cr3, eax
        mov eax, cr3
        EQ eax, POINTERS
        NEXT                            # reserved bits in a present entry: RSVD and P
        PTE 5, 0x50000 + P + RW, 0x40000000 # bit 62
        PF 9, PLAY + 0x5000, mov eax, dword ptr [PLAY + 0x5000]
        PF 11, PLAY + 0x5000, mov dword ptr [PLAY + 0x5000], ecx
        mov dword ptr [DIRECTORY1 + 16], 0x00002000 + P + RW + PS # a 2 MiB frame must be aligned
        PF 9, PLAY + 0x400000, mov eax, dword ptr [PLAY + 0x400000]
        PASS
        METAL_END
