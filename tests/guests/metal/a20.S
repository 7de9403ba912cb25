# The A20 gate by port 92h and the keyboard controller: with it closed by both, the second megabyte is the first one.
# Needs a machine with both.
.include "metal.inc"
        METAL "a20"

.macro KEYBOARD_WAIT
1:      in al, 0x64
        test al, 2
        jnz 1b
.endm
.macro A20 open                         # by both of its sources: the line is low only while both want it so
        KEYBOARD_WAIT
        mov al, 0xD1
        out 0x64, al
        KEYBOARD_WAIT
.if \open
        mov al, 0xDF
.else
        mov al, 0xDD
.endif
        out 0x60, al
        KEYBOARD_WAIT
        in al, 0x92
.if \open
        or al, 2
        and al, 0xFE
.else
        and al, 0xFC
.endif
        out 0x92, al
.endm

        PROTECTED32
        FROM 1
        NEXT
        A20 1
        mov dword ptr [0x008000], 0x11111111
        mov dword ptr [0x108000], 0x22222222
        EQ dword ptr [0x008000], 0x11111111
        EQ dword ptr [0x108000], 0x22222222
        NEXT                            # closed
        A20 0
        in al, 0x92
        test al, 2
        jnz metal_fail32
        EQ dword ptr [0x108000], 0x11111111
        mov dword ptr [0x108000], 0x33333333
        EQ dword ptr [0x008000], 0x33333333
        NEXT                            # and open again: what was behind it has not changed
        A20 1
        EQ dword ptr [0x108000], 0x22222222
        EQ dword ptr [0x008000], 0x33333333
        NEXT                            # in real mode, FFFF:xxxx wraps or not
        ljmp CODE16, offset 1f
BITS16
1:      mov eax, cr0
        and al, 0xFE
        mov cr0, eax
        ljmp 0, offset 2f
2:      xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 0xF00
        mov ax, 0xFFFF
        mov es, ax
        EQ dword ptr es:[0x8010], 0x22222222
        A20 0
        EQ dword ptr es:[0x8010], 0x33333333
        A20 1
        EQ dword ptr es:[0x8010], 0x22222222
        PASS
        METAL_END
