# Two-level paging: 4 KiB and 4 MiB pages, accessed and dirty bits, every error code of #PF with CR2, write protection at
# ring 0 by CR0.WP, INVLPG, CR3 loads, global pages, accesses that straddle pages, restart of instructions half of whose
# accesses fault.  User accesses are made from ring 3 in rings.S; here all is ring 0.
.include "metal.inc"
        METAL "paging"
.set DIRECTORY, 0x40000
.set TABLE0, 0x41000                    # 0 to 4 MiB, identity
.set TABLE1, 0x42000                    # 400000h to 800000h, the playground
.set TABLE2, 0x43000                    # 800000h to C00000h
.set P, 1
.set RW, 2
.set US, 4
.set A, 0x20
.set D, 0x40
.set PS, 0x80
.set G, 0x100
.set PLAY, 0x400000                     # linear
.set CR0_PG, 0x80000000
.set CR0_WP, 0x10000
.set CR4_PSE, 0x10
.set CR4_PGE, 0x80

.macro PTE page, value                  # of the playground
        mov dword ptr [TABLE1 + \page * 4], \value
        invlpg [PLAY + \page * 0x1000]
.endm
.macro PF error, address, insn:vararg
        FAULT 14, \error, \insn
        mov eax, cr2
        EQ eax, \address
.endm

        PROTECTED32
        mov edi, DIRECTORY
        mov ecx, 0x4000 / 4
        xor eax, eax
        cld
        rep stosd
        mov dword ptr [DIRECTORY], TABLE0 + P + RW
        mov dword ptr [DIRECTORY + 4], TABLE1 + P + RW
        mov dword ptr [DIRECTORY + 8], TABLE2 + P + RW
        mov edi, TABLE0
        mov eax, P + RW
        mov ecx, 1024
1:      stosd
        add eax, 0x1000
        loop 1b
        mov eax, DIRECTORY
        mov cr3, eax
        mov eax, cr0
        or eax, CR0_PG
        mov cr0, eax
        jmp 1f
1:
        FROM 1
        NEXT                            # mapping, A and D
        mov dword ptr [0x50000], 0x12345678
        PTE 0, 0x50000 + P + RW
        EQ dword ptr [PLAY], 0x12345678
        EQ dword ptr [TABLE1], 0x50000 + P + RW + A
        test dword ptr [DIRECTORY + 4], A
        jz metal_fail32
        mov dword ptr [PLAY + 4], 0x9ABCDEF0
        EQ dword ptr [0x50004], 0x9ABCDEF0
        EQ dword ptr [TABLE1], 0x50000 + P + RW + A + D
        NEXT                            # not present: read and write, at any byte
        PTE 1, 0
        PF 0, PLAY + 0x1000, mov eax, dword ptr [PLAY + 0x1000]
        PF 2, PLAY + 0x1234, mov dword ptr [PLAY + 0x1234], eax
        PF 0, 0xC00010, mov al, byte ptr [0xC00010] # no table at all
        EQ dword ptr [TABLE1 + 4], 0
        NEXT                            # an access across two pages: CR2 is the first byte that faults
        PF 0, PLAY + 0x1000, mov eax, dword ptr [PLAY + 0xFFE]
        mov eax, 0x55555555
        PF 2, PLAY + 0x1000, mov dword ptr [PLAY + 0xFFD], eax
        EQ dword ptr [0x50FFC], 0       # and nothing is written of it
        PTE 1, 0x52000 + P + RW
        mov dword ptr [PLAY + 0xFFE], 0x11223344
        EQ word ptr [0x50FFE], 0x3344
        EQ word ptr [0x52000], 0x1122
        EQ dword ptr [PLAY + 0xFFE], 0x11223344
        PTE 0, 0
        PF 2, PLAY + 0xFFE, mov dword ptr [PLAY + 0xFFE], 0x77777777
        EQ word ptr [0x52000], 0x1122
        PTE 0, 0x50000 + P + RW
        NEXT                            # write protection: ring 0 is free of it until CR0.WP
        PTE 2, 0x53000 + P
        mov dword ptr [PLAY + 0x2000], 0xAAAAAAAA
        EQ dword ptr [0x53000], 0xAAAAAAAA
        EQ dword ptr [TABLE1 + 8], 0x53000 + P + A + D
        mov eax, cr0
        or eax, CR0_WP
        mov cr0, eax
        PF 3, PLAY + 0x2004, mov dword ptr [PLAY + 0x2004], eax
        EQ dword ptr [PLAY + 0x2000], 0xAAAAAAAA
        PF 3, PLAY + 0x2000, lock add dword ptr [PLAY + 0x2000], eax
        PF 3, PLAY + 0x2000, cmpxchg dword ptr [PLAY + 0x2000], ecx # writes whatever the comparison says
        mov dword ptr [DIRECTORY + 4], TABLE1 + P # read-only in the directory
        mov eax, cr3
        mov cr3, eax
        PF 3, PLAY, mov dword ptr [PLAY], eax
        mov dword ptr [DIRECTORY + 4], TABLE1 + P + RW
        mov eax, cr3
        mov cr3, eax
        mov dword ptr [PLAY], 0
        mov eax, cr0
        and eax, ~CR0_WP
        mov cr0, eax
        mov dword ptr [PLAY + 0x2004], 5
        EQ dword ptr [0x53004], 5
        NEXT                            # another frame after INVLPG, and after CR3
        mov dword ptr [0x54000], 0x54545454
        mov dword ptr [0x55000], 0x55555555
        PTE 3, 0x54000 + P + RW
        EQ dword ptr [PLAY + 0x3000], 0x54545454
        PTE 3, 0x55000 + P + RW
        EQ dword ptr [PLAY + 0x3000], 0x55555555
        mov dword ptr [TABLE1 + 12], 0x54000 + P + RW
        mov eax, cr3
        mov cr3, eax
        EQ dword ptr [PLAY + 0x3000], 0x54545454
        NEXT                            # restart: STOS downward, two fit, the third faults
        PTE 4, 0
        PTE 5, 0x57000 + P + RW
        mov edi, PLAY + 0x5004
        mov eax, 0x33333333
        mov ecx, 8
        std
        FAULT 14, 2, rep stosd
        cld
        EQ ecx, 6
        EQ edi, PLAY + 0x4FFC
        EQ dword ptr [0x57000], 0x33333333
        EQ dword ptr [0x57004], 0x33333333
        mov eax, cr2
        EQ eax, PLAY + 0x4FFC
        NEXT                            # MOVS from a present to an absent page changes no register
        mov esi, 0x8000
        mov edi, PLAY + 0x4000
        PF 2, PLAY + 0x4000, movsd
        EQ esi, 0x8000
        EQ edi, PLAY + 0x4000
        mov dword ptr [0x8000], 0x1111
        push dword ptr [0x8000]
        PF 2, PLAY + 0x4010, pop dword ptr [PLAY + 0x4010]
        EQ dword ptr [esp], 0x1111
        add esp, 4
        NEXT                            # fetching: error code without W; CR2 is the instruction's address
        PTE 4, 0
        WANT 14, 0, .Lnowhere, .Lfetched
        mov dword ptr [V_EIP], PLAY + 0x4000
        mov eax, PLAY + 0x4000
        jmp eax
.Lnowhere:
        FAIL
.Lfetched:
        mov eax, cr2
        EQ eax, PLAY + 0x4000
        NEXT                            # an instruction across pages: the second half is missing
        PTE 6, 0x58000 + P + RW
        PTE 7, 0
        mov dword ptr [0x58FFE], 0x0BB8 # MOV EAX, imm32 of which three bytes are beyond
        WANT 14, 0, .Lnowhere, .Lhalf
        mov dword ptr [V_EIP], PLAY + 0x6FFE
        mov eax, PLAY + 0x6FFE
        jmp eax
.Lhalf: mov eax, cr2
        EQ eax, PLAY + 0x7000
        PTE 7, 0x59000 + P + RW
        mov dword ptr [0x58FFE], 0xADB8
        mov dword ptr [0x59000], 0xC3DEADBE # BE AD DE, RET
        mov eax, PLAY + 0x6FFE
        call eax
        EQ eax, 0xDEADBEAD
        NEXT                            # 4 MiB pages
        mov eax, cr4
        or eax, CR4_PSE
        mov cr4, eax
        mov dword ptr [DIRECTORY + 12], 0x00000000 + P + RW + PS
        EQ dword ptr [0xC50000], 0
        mov dword ptr [0xC50020], 0xBEEF
        EQ dword ptr [0x50020], 0xBEEF
        EQ dword ptr [DIRECTORY + 12], P + RW + PS + A + D
        NEXT                            # global pages stay over a CR3 load, and go by INVLPG
        mov eax, cr4
        or eax, CR4_PGE
        mov cr4, eax
        PTE 8, 0x54000 + P + RW + G
        EQ dword ptr [PLAY + 0x8000], 0x54545454
        PTE 8, 0x55000 + P + RW + G
        EQ dword ptr [PLAY + 0x8000], 0x55555555
        NEXT                            # paging off and on again
        mov eax, cr0
        and eax, ~CR0_PG
        mov cr0, eax
        jmp 1f
1:      EQ dword ptr [0x54000], 0x54545454
        or eax, CR0_PG
        mov cr0, eax
        jmp 1f
1:      EQ dword ptr [PLAY + 0x3000], 0x54545454
        PASS
        METAL_END
