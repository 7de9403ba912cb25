# Boot sectors that call the BIOS services and say of each what it answered: its name, or its name and " wrong".
# link: 0x7c00
#
# The disk behind it: byte n holds n / 512 mod 256; 1100 sectors.

.intel_syntax noprefix
.code16
.text
.set BUFFER, 0x9000
.set SECTORS, 4
.set TOTAL, 1100

.macro SAY text
        mov si, offset .Ltext\@
        call say
        jmp .Lsaid\@
.Ltext\@: .asciz "\text"
.Lsaid\@:
.endm
.macro IS operands:vararg               # the two operands are equal, or the service is wrong
        cmp \operands
        je .Lis\@
        mov byte ptr [wrong], 1
.Lis\@:
.endm
.macro ENDS                             # the end of one line
        call end_line
.endm

start:
        xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov sp, 0x7C00
        sti
        cld
        mov ax, 0x0200 + SECTORS - 1    # INT 13h 02h: the rest of the image
        mov bx, offset second
        mov cx, 2
        mov dx, 0x0080
        int 0x13
        jnc second
        hlt

say:    # the text at SI by INT 10h 0Eh
        lodsb
        test al, al
        jz 1f
        mov ah, 0x0E
        mov bx, 7
        int 0x10
        jmp say
1:      ret

end_line:
        cmp byte ptr [wrong], 0
        je 1f
        mov si, offset text_wrong
        call say
1:      mov byte ptr [wrong], 0
        mov si, offset text_newline
        jmp say

wrong:  .byte 0
text_wrong: .asciz " wrong"
text_newline: .asciz "\r\n"
        .org 510
        .word 0xAA55

second:
        SAY "11"
        int 0x11
        and ax, 0x0E00
        IS ax, 0x0200
        ENDS
        SAY "12"
        int 0x12
        IS ax, 639
        ENDS

        SAY "13/08"                     # 63 sectors, 16 heads, 2 cylinders (of 1100 sectors one is whole)
        mov ah, 8
        mov dl, 0x80
        int 0x13
        setc byte ptr [wrong]
        IS cl, 63
        IS ch, 0
        IS dh, 15
        IS dl, 1
        ENDS

        SAY "13/02"                     # cylinder 0, head 15, sector 3: 15 * 63 + 2 = 947; two of them
        mov ax, 0x0202
        mov bx, BUFFER
        mov cx, 0x0003
        mov dx, 0x0F80
        int 0x13
        setc byte ptr [wrong]
        IS ah, 0
        IS byte ptr [BUFFER], 947 & 0xFF
        IS byte ptr [BUFFER + 511], 947 & 0xFF
        IS byte ptr [BUFFER + 512], 948 & 0xFF
        IS byte ptr [BUFFER + 1023], 948 & 0xFF
        ENDS

        SAY "13/42"                     # packet: 3 sectors from 1097
        mov ah, 0x42
        mov dl, 0x80
        mov si, offset packet
        int 0x13
        setc byte ptr [wrong]
        IS ah, 0
        IS byte ptr [BUFFER], 1097 & 0xFF
        IS byte ptr [BUFFER + 1535], 1099 & 0xFF
        ENDS

        SAY "13/err"                    # beyond the end: carry, 04h, nothing read
        mov word ptr [packet + 2], 3
        mov dword ptr [packet + 8], 1098
        mov ah, 0x42
        mov dl, 0x80
        mov si, offset packet
        int 0x13
        setnc byte ptr [wrong]
        IS ah, 4
        IS word ptr [packet + 2], 0
        mov ah, 1                       # the status stays to be asked for
        mov dl, 0x80
        int 0x13
        IS ah, 4
        mov ah, 2                       # there is no disk 81h
        mov dl, 0x81
        int 0x13
        IS ah, 1
        ENDS

        SAY "13/15"
        mov ah, 0x15
        mov dl, 0x80
        int 0x13
        setc byte ptr [wrong]
        IS ah, 3
        IS cx, 0
        IS dx, TOTAL
        ENDS

        SAY "13/41"
        mov ah, 0x41
        mov bx, 0x55AA
        mov dl, 0x80
        int 0x13
        setc byte ptr [wrong]
        IS bx, 0xAA55
        IS cx, 1
        ENDS

        SAY "13/48"
        mov ah, 0x48
        mov dl, 0x80
        mov si, BUFFER
        mov word ptr [si], 26
        int 0x13
        setc byte ptr [wrong]
        IS dword ptr [BUFFER + 12], 63
        IS dword ptr [BUFFER + 16], TOTAL
        IS word ptr [BUFFER + 24], 512
        ENDS

        SAY "15/88"
        mov ah, 0x88
        int 0x15
        setc byte ptr [wrong]
        IS ax, 31 * 1024
        mov ax, 0xE801
        int 0x15
        IS ax, 15 * 1024
        IS bx, 16 * 16
        mov ax, 0x2402                  # A20 is open
        int 0x15
        IS al, 1
        mov ax, 0x7777                  # there is no such service
        int 0x15
        jc 1f
        mov byte ptr [wrong], 1
1:      IS ah, 0x86
        ENDS

        SAY "1a"                        # the ticks move
        mov ah, 0
        int 0x1A
        mov bx, dx
1:      hlt
        mov ah, 0
        int 0x1A
        cmp bx, dx
        je 1b
        mov ax, 0x40
        mov es, ax
        mov ax, word ptr es:[0x6C]
        sub ax, dx
        cmp ax, 1
        jbe 2f
        mov byte ptr [wrong], 1
2:      ENDS
        SAY "end"
        ENDS
        mov dx, 0x501
        xor ax, ax
        out dx, ax
        cli
        hlt

packet: .byte 16, 0
        .word 3, BUFFER, 0
        .long 1097, 0
        .org SECTORS * 512
