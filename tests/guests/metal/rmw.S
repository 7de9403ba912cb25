# Instructions that read, change and write memory back: they fault as writes, before anything of them has happened.
# (QEMU's TCG and KVM's emulator read first, and fault as reads.)
.include "metal.inc"
        METAL "rmw"
.set DIRECTORY, 0x40000
.set TABLE, 0x41000
.set PLAY, 0x3F0000
.set P_RW, 3

.macro PF error, address, insn:vararg
        FAULT 14, \error, \insn
        mov edx, cr2
        EQ edx, \address
.endm

        PROTECTED32
        mov edi, DIRECTORY
        mov ecx, 0x400
        xor eax, eax
        cld
        rep stosd
        mov dword ptr [DIRECTORY], TABLE + P_RW
        mov edi, TABLE
        mov eax, P_RW
        mov ecx, 1024
1:      stosd
        add eax, 0x1000
        loop 1b
        mov dword ptr [TABLE + (PLAY >> 12) * 4], 0x50000 + P_RW
        mov dword ptr [TABLE + (PLAY >> 12) * 4 + 4], 0
        mov eax, DIRECTORY
        mov cr3, eax
        mov eax, cr0
        or eax, 0x80000000
        mov cr0, eax
        jmp 1f
1:      mov dword ptr [PLAY], 0x11111111
        FROM 1
        NEXT
        PF 2, PLAY + 0x1000, inc byte ptr [PLAY + 0x1000]
        PF 2, PLAY + 0x1000, add word ptr [PLAY + 0x1000], 1
        PF 2, PLAY + 0x1000, lock xor dword ptr [PLAY + 0x1000], eax
        PF 2, PLAY + 0x1000, not dword ptr [PLAY + 0x1000]
        PF 2, PLAY + 0x1000, shl dword ptr [PLAY + 0x1000], 1
        PF 2, PLAY + 0x1000, shld dword ptr [PLAY + 0x1000], eax, 3
        NEXT
        mov eax, 7
        mov ecx, 9
        PF 2, PLAY + 0x1010, xadd dword ptr [PLAY + 0x1010], ecx
        EQ ecx, 9
        PF 2, PLAY + 0x1010, xchg dword ptr [PLAY + 0x1010], ecx
        EQ ecx, 9
        PF 2, PLAY + 0x1010, cmpxchg dword ptr [PLAY + 0x1010], ecx
        EQ eax, 7
        mov ebx, 1
        PF 2, PLAY + 0x1010, cmpxchg8b qword ptr [PLAY + 0x1010]
        EQ eax, 7
        NEXT                            # the bit string lies in the second page
        mov ecx, 0x1000 * 8 + 3
        PF 2, PLAY + 0x1000, bts dword ptr [PLAY], ecx
        PF 0, PLAY + 0x1000, bt dword ptr [PLAY], ecx
        EQ dword ptr [PLAY], 0x11111111
        NEXT                            # across the border: CR2 is the first missing byte, nothing is written
        mov dword ptr [PLAY + 0xFFC], 0x22222222
        PF 2, PLAY + 0x1000, add dword ptr [PLAY + 0xFFE], 0x01010101
        EQ dword ptr [PLAY + 0xFFC], 0x22222222
        NEXT                            # TEST and CMP only read
        PF 0, PLAY + 0x1000, cmp dword ptr [PLAY + 0x1000], eax
        PF 0, PLAY + 0x1000, test byte ptr [PLAY + 0x1000], al
        PASS
        METAL_END
