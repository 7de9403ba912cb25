# ENTER with nesting levels: the display of frame pointers that block-structured languages keep.
.include "metal.inc"
        METAL "enter"
        mov esp, 0xF00
        mov bp, 0x1234
        CASE 9                          # level 1 pushes the new frame pointer
        enter 4, 1
        EQ bp, 0xEFE
        EQ word ptr [0xEFC], 0xEFE
        EQ sp, 0xEF8
        CASE 10                         # level 3 copies two of the old display
        mov word ptr [0xEFC], 0xAAAA    # at BP-2
        mov word ptr [0xEFA], 0xBBBB    # at BP-4
        enter 2, 3
        EQ bp, 0xEF6
        EQ word ptr [0xEF6], 0xEFE
        EQ word ptr [0xEF4], 0xAAAA
        EQ word ptr [0xEF2], 0xBBBB
        EQ word ptr [0xEF0], 0xEF6
        EQ sp, 0xEEE
        leave
        EQ bp, 0xEFE
        leave
        EQ sp, 0xF00
        EQ bp, 0x1234
        PROTECTED32
        CASE 32
        mov ebp, 0x1234
        enter 8, 1
        EQ dword ptr [STACK32 - 8], STACK32 - 4
        EQ esp, STACK32 - 16
        enter 0, 2
        EQ dword ptr [ebp], STACK32 - 4
        EQ dword ptr [ebp - 4], STACK32 - 4
        EQ dword ptr [ebp - 8], STACK32 - 20
        EQ esp, STACK32 - 28
        leave
        leave
        EQ esp, STACK32
        EQ ebp, 0x1234
        CASE 33
        enter 0, 31
        EQ esp, STACK32 - 4 - 31 * 4
        EQ dword ptr [STACK32 - 4 - 31 * 4], STACK32 - 4
        leave
        EQ esp, STACK32
        PASS
        METAL_END
