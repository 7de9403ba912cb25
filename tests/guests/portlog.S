# Boot sector: a fixed sequence of port writes with arithmetic in between, ending in known registers and HLT.
# link: 0x7c00
#
# For comparing accelerators: whatever runs it must see the same writes in the same order and the same final registers.
# It writes to port 0x402 and to port 0x80, in 8, 16 and 32 bits and by OUTSB and REP OUTSW, reads no device and no clock,
# and keeps interrupts off.
#
# At the end: EAX=600DF00D, EBX = the checksum, ECX=0, EDX=402, ESI=offset of the end of the table, EDI=1234ABCD,
# EBP=FEEDFACE, SP=7C00, CS=DS=ES=SS=0, IF=0.

.intel_syntax noprefix
.code16
.text

.set LOG, 0x402
.set POST, 0x80

start:
        cli
        cld
        xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov fs, ax
        mov gs, ax
        mov sp, 0x7C00
        ljmp 0, offset 1f
1:
        # A linear congruential sequence, folded; low bytes go out one by one.
        mov ebx, 0x13579BDF
        mov ecx, 64
2:      imul ebx, ebx, 1664525
        add ebx, 1013904223
        mov eax, ebx
        shr eax, 24
        mov dx, LOG
        out dx, al
        loop 2b

        # Fibonacci numbers as 32-bit writes, with the flags taking part through ADC.
        xor eax, eax
        xor edi, edi
        inc edi
        mov cx, 40
3:      mov edx, eax
        add edx, edi
        adc ebx, 0x01010101
        mov eax, edi
        mov edi, edx
        mov dx, POST
        out dx, eax
        rol ebx, 3
        xor ebx, eax
        loop 3b

        # Words of a table after division and multiplication, one by one, then the table itself by REP OUTSW.
        mov si, offset table
        mov cx, TABLE_WORDS
4:      lodsw
        push cx
        movzx ecx, cx
        movzx eax, ax
        mul ebx
        inc ecx
        xor edx, eax
        xor edx, ebx
        mov eax, edx
        xor edx, edx
        div ecx
        add ebx, edx
        bswap ebx
        pop cx
        mov dx, LOG
        out dx, ax
        loop 4b
        mov si, offset table
        mov cx, TABLE_WORDS
        mov dx, POST
        rep outsw
        mov si, offset table
        mov cx, TABLE_WORDS * 2
        mov dx, LOG
5:      outsb
        loop 5b

        # The checksum, then the end.
        mov eax, ebx
        out dx, eax
        out POST, al
        mov edi, 0x1234ABCD
        mov ebp, 0xFEEDFACE
        mov eax, 0x600DF00D
        movzx ecx, cx
        movzx edx, dx
        movzx esi, si
        movzx esp, sp
        clc
        hlt
6:      hlt
        jmp 6b

table:
        .word 0x0001, 0x8000, 0x7FFF, 0xFFFF, 0x0000, 0x1234, 0xABCD, 0x5A5A
        .ascii "the same on both"
.set TABLE_WORDS, (. - table) / 2

        .org 510
        .word 0xAA55
