# Boot sector: passes on every byte of the keyboard to the debug port E9h, after an "R" when it is ready.
# link: 0x7c00
#
# The byte at offset 508 says how: 0 as the firmware left the keyboard (the controller translates to scan code set 1),
# 2 scan code set 2 without translation, 1 scan code set 1 without translation.  Interrupts are off; it never ends.

.intel_syntax noprefix
.code16
.text

.set DATA, 0x60
.set COMMAND, 0x64
.set LOG, 0xE9
.set SYSTEM, 0x04          # command byte: set up, no interrupts, no translation

start:
        cli
        xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 0x7C00
        cmp byte ptr [how], 0
        je ready
        call room
        mov al, 0x60       # the command byte comes
        out COMMAND, al
        call room
        mov al, SYSTEM
        out DATA, al
        mov al, 0xF0       # which scan code set
        call tell
        mov al, [how]
        call tell
ready:
        mov al, 'R'
        out LOG, al
next:
        in al, COMMAND
        test al, 1
        jz next
        in al, DATA
        out LOG, al
        jmp next

# Send AL to the keyboard and take its answer.
tell:
        mov ah, al
        call room
        mov al, ah
        out DATA, al
1:      in al, COMMAND
        test al, 1
        jz 1b
        in al, DATA
        ret

# Wait until the controller takes a byte.
room:
        in al, COMMAND
        test al, 2
        jnz room
        ret

        .org 508
how:    .byte 0
        .org 510
        .byte 0x55, 0xAA
