# Firmware: writes video memory where it is plain memory, in the window at A0000h and in the frame buffer.
# link: 0xf0000
#
# It runs at F000:0000, with a jump there at the reset vector, and goes on in protected mode.  First mode 13h by its registers
# and 64000 bytes through the window; then 8-bit dots of the Bochs interface, four banks of 64 KiB; then the frame buffer,
# placed at E0000000h.  It compares what window and frame buffer show of each other, writes "K" (or "?") to port E9h, and
# halts.

.intel_syntax noprefix
.text

.set LOG, 0xE9
.set BOCHS, 0x1CE
.set CONFIG, 0xCF8
.set BAR_0, 0x80001010
.set COMMAND, 0x80001004
.set WINDOW, 0xA0000
.set FRAME_BUFFER, 0xE0000000

.code16
start:
        cli
        lgdt cs:[table - start]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        .byte 0x66, 0xEA           # far jump, 32-bit offset
        .long long_code
        .word 8

.code32
long_code:
        mov ax, 16
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov esp, 0x7C00
        cld
        mov esi, offset registers
1:      lodsw
        movzx edx, ax
        test edx, edx
        jz 2f
        lodsw
        out dx, ax
        jmp 1b
2:      mov edx, 0x3C2
        mov al, 0x63
        out dx, al
        mov edi, WINDOW
        xor eax, eax
3:      stosb
        add al, 7
        cmp edi, WINDOW + 64000
        jne 3b

        mov esi, offset bochs
        mov ecx, 4
        mov edx, BOCHS
4:      lodsw
        out dx, ax
        inc edx
        lodsw
        out dx, ax
        dec edx
        loop 4b
        xor ebx, ebx
5:      call bank
        mov edi, WINDOW
        mov eax, ebx
        mov ecx, 0x8000
6:      stosw
        add ax, 0x0935
        loop 6b
        inc ebx
        cmp ebx, 4
        jne 5b

        mov eax, BAR_0
        mov ebx, FRAME_BUFFER
        call configure
        mov eax, COMMAND
        mov ebx, 2
        call configure
        mov edi, FRAME_BUFFER
        mov dword ptr [edi + 0x54320], 0x12345678
        mov ebx, 5
        call bank
        cmp dword ptr [WINDOW + 0x4320], 0x12345678
        jne wrong
        mov dword ptr [WINDOW + 0x4324], 0x9ABCDEF0
        cmp dword ptr [edi + 0x54324], 0x9ABCDEF0
        jne wrong
        mov al, 'K'
        jmp end
wrong:  mov al, '?'
end:    out LOG, al
7:      hlt
        jmp 7b

# The window shows bank BX.
bank:   mov edx, BOCHS
        mov eax, 5
        out dx, ax
        inc edx
        mov eax, ebx
        out dx, ax
        ret

# Configuration register EAX gets EBX.
configure:
        mov edx, CONFIG
        out dx, eax
        mov dl, 0xFC
        mov eax, ebx
        out dx, eax
        ret

registers:
        .word 0x3C4, 0x0F02, 0x3C4, 0x0E04, 0x3CE, 0x0506, 0x3CE, 0xFF08, 0
bochs:  .word 1, 640, 2, 400, 3, 8, 4, 0x81
table:  .word 23
        .long gdt
        .balign 8
gdt:    .quad 0
        .quad 0x00CF9B000000FFFF   # code, 4 GiB; accessed, for this is ROM
        .quad 0x00CF93000000FFFF   # data, 4 GiB
