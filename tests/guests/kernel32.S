# A kernel in flat 32-bit mode: keeps the state it was started in, says so on COM1 and halts; the test reads what is kept.
# link: 0x100000
#
# It is a multiboot 1 image with addresses in its header.  tests/machines/test_kernels.py makes an ELF file with a PVH note
# around the same bytes.

.intel_syntax noprefix
.code32
.text

.set MAGIC, 0x1BADB002
.set FLAGS, 0x10003                     # modules on pages, memory information, addresses in the header
.set COM1, 0x3F8
.set LSR, 5
.set LSR_THRE, 0x20

start:  jmp entry                       # the PVH entry is the first byte
        .org 0x10
header: .long MAGIC, FLAGS, -(MAGIC + FLAGS)
        .long header, start, 0, bss_end, entry

        .org 0x40
kept:   .long 0, 0, 0, 0, 0, 0, 0       # EAX, EBX, CR0, CS, DS, SS, EFLAGS
bss:    .long 0                         # the first word of what the loader has to clear

entry:  mov dword ptr [kept], eax
        mov dword ptr [kept + 4], ebx
        mov esp, offset stack
        pushfd
        pop dword ptr [kept + 24]
        mov eax, cr0
        mov dword ptr [kept + 8], eax
        xor eax, eax
        mov ax, cs
        mov dword ptr [kept + 12], eax
        mov ax, ds
        mov dword ptr [kept + 16], eax
        mov ax, ss
        mov dword ptr [kept + 20], eax
        mov eax, dword ptr [bss_end - 4]
        mov dword ptr [bss], eax
        mov esi, offset text
1:      mov dx, COM1 + LSR
2:      in al, dx
        test al, LSR_THRE
        jz 2b
        lodsb
        test al, al
        jz 3f
        mov dx, COM1
        out dx, al
        jmp 1b
3:      cli
        hlt
        jmp 3b
text:   .asciz "kernel32 started\r\n"
        .balign 16
        .org 0x200
.set stack, start + 0xF00
.set bss_end, start + 0x1000
