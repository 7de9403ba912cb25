# PAE paging: three levels, 64-bit entries, 2 MiB pages, memory above 4 GiB being merely absent.
.include "metal.inc"
        METAL "pae"
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
        NEXT
        mov dword ptr [0x50000], 0x12345678
        PTE 0, 0x50000 + P + RW
        EQ dword ptr [PLAY], 0x12345678
        EQ dword ptr [TABLE1], 0x50000 + P + RW + A
        mov dword ptr [PLAY + 4], 1
        EQ dword ptr [TABLE1], 0x50000 + P + RW + A + D
        EQ dword ptr [0x50004], 1
        test dword ptr [DIRECTORY1], A
        jz metal_fail32
        NEXT
        PF 0, PLAY + 0x1000, mov eax, dword ptr [PLAY + 0x1000]
        PF 2, PLAY + 0x1008, mov dword ptr [PLAY + 0x1008], eax
        PF 0, PLAY + 0x200000, mov eax, dword ptr [PLAY + 0x200000]
        PF 0, 0x80000000, mov eax, dword ptr [0x80000000]
        PF 2, 0xC0001234, mov byte ptr [0xC0001234], al
        NEXT                            # write protection
        mov eax, cr0
        or eax, 0x10000
        mov cr0, eax
        PTE 2, 0x52000 + P
        PF 3, PLAY + 0x2000, mov dword ptr [PLAY + 0x2000], eax
        mov eax, cr0
        and eax, ~0x10000
        mov cr0, eax
        mov dword ptr [PLAY + 0x2000], 0x77
        EQ dword ptr [0x52000], 0x77
        NEXT                            # 2 MiB pages
        mov dword ptr [DIRECTORY1 + 8], 0 + P + RW + PS
        mov dword ptr [PLAY + 0x250010], 0xFEED
        EQ dword ptr [0x50010], 0xFEED
        EQ dword ptr [DIRECTORY1 + 8], P + RW + PS + A + D
        NEXT                            # an access across two pages with different frames
        PTE 3, 0x53000 + P + RW
        PTE 4, 0x57000 + P + RW
        mov dword ptr [PLAY + 0x3FFD], 0xAABBCCDD
        EQ dword ptr [0x53FFC] , 0xBBCCDD00
        EQ byte ptr [0x57000], 0xAA
        NEXT                            # CR3 is 32-byte aligned, not page-aligned
        mov dword ptr [POINTERS2 + 0x20], DIRECTORY0 + P
        mov dword ptr [POINTERS2 + 0x28], 0
        mov dword ptr [POINTERS2 + 0x38], DIRECTORY1 + P
        mov eax, POINTERS2 + 0x20
        mov cr3, eax
        EQ dword ptr [0xC0000000], 0x12345678
        PF 0, PLAY, mov eax, dword ptr [PLAY]
        mov eax, POINTERS
        mov cr3, eax
        EQ dword ptr [PLAY], 0x12345678
        PASS
        METAL_END
