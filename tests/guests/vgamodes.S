# Boot sector: sets display modes, draws in each, and waits for a key before the next.
# link: 0x7c00
#
# For comparing pictures: a letter goes to the debug port E9h when a picture is ready.
#   a  text mode 3, by the BIOS and by REP STOSW at B8000h, no cursor
#   b  mode 13h, 256 colours as plain memory
#   c  mode 12h, 16 colours: write mode 2 through the bit mask, then a copy by latches (write mode 1)
#   d  mode 13h taken out of its chain ("mode X"), each plane by the map mask
#   e to h  640 by 400 dots of 8, 16, 24 and 32 bits by the Bochs registers, memory through banks at A0000h

.intel_syntax noprefix
.code16
.text

.set LOG, 0xE9
.set SEQUENCER, 0x3C4
.set GRAPHICS, 0x3CE
.set CRTC, 0x3D4
.set BOCHS, 0x1CE

start:
        xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 0x7C00
        cld

        mov ax, 0x0003
        int 0x10
        mov ah, 1
        mov cx, 0x2000
        int 0x10                   # no cursor
        mov si, offset text
1:      lodsb
        test al, al
        jz 2f
        mov ah, 0x0E
        mov bx, 7
        int 0x10
        jmp 1b
2:      push 0xB800
        pop es
        mov di, 320
        mov ax, 0x1E00
3:      mov cx, 4
        rep stosw
        add ax, 0x0103
        and ax, 0x7FFF             # nothing blinks
        cmp al, 0xB0               # what differs between cards is left out
        jb 4f
        mov al, 0
4:      cmp di, 4000
        jb 3b
        mov al, 'a'
        call shown

        mov ax, 0x0013
        int 0x10
        call window
        xor ax, ax
5:      stosb
        add al, 7
        cmp di, 64000
        jne 5b
        mov al, 'b'
        call shown

        mov ax, 0x0012
        int 0x10
        call window
        mov dx, GRAPHICS
        mov ax, 0x0205             # write mode 2
        out dx, ax
        mov bx, 0xFF08
6:      mov ax, bx                 # another bit mask every 16 bytes
        out dx, ax
        mov cx, 16
7:      mov al, es:[di]
        mov ax, di
        shr ax, 1
        stosb
        loop 7b
        rol bh, 1
        xor bh, 0x35
        cmp di, 20000
        jb 6b
        mov ax, 0x0105             # write mode 1: all planes at once
        out dx, ax
        xor si, si
        mov cx, 16000
        push ds
        push es
        pop ds
        rep movsb
        pop ds
        mov al, 'c'
        call shown

        mov ax, 0x0013
        int 0x10
        mov dx, SEQUENCER
        mov ax, 0x0604
        out dx, ax
        mov dx, CRTC
        mov ax, 0x0014
        out dx, ax
        mov ax, 0xE317
        out dx, ax
        mov bx, 0x0102
8:      call window
        mov dx, SEQUENCER
        mov ax, bx
        out dx, ax
        mov al, bh
9:      stosb
        add al, bh
        cmp di, 16000
        jne 9b
        shl bh, 1
        cmp bh, 0x10
        jne 8b
        mov al, 'd'
        call shown

        mov bp, offset depths
10:     mov dx, BOCHS
        mov cx, 4
        mov si, offset bochs
11:     lodsw                      # off, width, height, depth
        out dx, ax
        inc dx
        lodsw
        cmp cl, 1
        jne 12f
        mov al, [bp]
12:     out dx, ax
        dec dx
        loop 11b
        mov ax, 4
        out dx, ax
        inc dx
        mov ax, 1
        out dx, ax
        dec dx
        xor bx, bx                 # bank
13:     mov ax, 5
        out dx, ax
        inc dx
        mov ax, bx
        out dx, ax
        dec dx
        call window
        mov ax, bx
        mov cx, 0x8000
14:     stosw
        add ax, 0x0935
        loop 14b
        inc bx
        cmp bx, 16
        jne 13b
        mov al, [bp + 1]
        call shown
        add bp, 2
        cmp byte ptr [bp], 0
        jne 10b
15:     hlt
        jmp 15b

# The picture AL is ready: say so and wait for a key.
shown:
        out LOG, al
        xor ax, ax
        int 0x16
        ret

# ES:DI is A0000h.
window:
        push 0xA000
        pop es
        xor di, di
        ret

bochs:  .word 4, 0, 1, 640, 2, 400, 3, 0
depths: .byte 8, 'e', 16, 'f', 24, 'g', 32, 'h', 0
text:   .asciz "Display modes\r\n"

        .org 510
        .byte 0x55, 0xAA
