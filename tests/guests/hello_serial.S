# Boot sector: prints its own text on COM1 by port writes and leaves by isa-debug-exit or Bochs's port, or halts.
# link: 0x7c00
#
# Needs nothing of the firmware but to have been loaded at 0000:7C00 with DL = the disk.

.intel_syntax noprefix
.code16
.text

.set COM1, 0x3F8
.set LSR, 5
.set LSR_THRE, 0x20
.set DEBUG_EXIT, 0x501
.set BOCHS_OFF, 0x8900

start:
        cli
        cld
        xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 0x7C00
        ljmp 0, offset 1f               # some firmware enters at 07C0:0000
1:      mov si, offset text
2:      lodsb
        test al, al
        jz 4f
        mov ah, al
        mov dx, COM1 + LSR
        xor cx, cx
3:      in al, dx
        test al, LSR_THRE
        loopz 3b
        mov al, ah
        mov dx, COM1
        out dx, al
        jmp 2b
4:      mov dx, COM1 + LSR              # until the last byte has left the shift register
        xor cx, cx
5:      in al, dx
        test al, 0x40
        loopz 5b
        mov dx, DEBUG_EXIT
        xor ax, ax
        out dx, ax
        mov dx, BOCHS_OFF
        mov si, offset word_off
7:      lodsb
        out dx, al
        test al, al
        jnz 7b
6:      hlt
        jmp 6b

text:   .asciz "Hello from a boot sector.\r\n"

word_off: .asciz "Shutdown"

        .org 510
        .word 0xAA55
