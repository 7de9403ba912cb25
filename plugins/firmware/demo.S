# The demonstration guest: boots from disk, looks at the machine it is on, computes something, and switches it off.
# link: 0x7c00
#
# Sector 0 loads the other sectors by INT 13h and goes on in them.  It prints on COM1 by port writes, so that it looks the
# same under any BIOS.  Shown, in this order: the memory map (INT 15h E820h), the processor (CPUID), the timer interrupt
# (HLT until the tick at 40:6C has moved ten times), the primes below 10000 by a sieve in 32-bit protected mode, and the
# power-off through the PIIX4 (PCI 8086:7113), or isa-debug-exit where there is none.
# Not used: x87, SSE, paging, the protected-mode IRET.

.intel_syntax noprefix
.code16
.text

.set COM1, 0x3F8
.set LSR, 5
.set LSR_THRE, 0x20
.set LSR_TEMT, 0x40
.set DEBUG_EXIT, 0x501
.set PCI_ADDRESS, 0xCF8
.set PCI_DATA, 0xCFC
.set PIIX4_PM, 0x71138086
.set PMBASE, 0x40                       # PCI configuration registers of the PIIX4's power management
.set PMREGMISC, 0x80
.set PM_IO, 0x600
.set PM1A_CNT, 4
.set SLP_EN, 0x2000                     # with SLP_TYP 0: soft off

.set SECTORS, 8                         # of the whole image
.set TICKS, 10
.set LIMIT, 10000
.set SIEVE, 0x20000                     # one byte a number
.set MAP_ENTRY, 0x0600
.set DAP, 0x0620

start:
        cli
        xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov sp, 0x7C00
        sti
        cld
        ljmp 0, offset 1f
1:      mov byte ptr [boot_disk], dl
        mov si, offset text_hello
        call print

        # The rest of the image: one extended read.
        mov si, offset packet
        mov ah, 0x42
        mov dl, byte ptr [boot_disk]
        int 0x13
        jnc main
        mov si, offset text_bad_disk
        call print
        cli
2:      hlt
        jmp 2b

put:    # AL to COM1.  Keeps all registers.
        push dx
        push cx
        push ax
        mov dx, COM1 + LSR
        xor cx, cx
1:      in al, dx
        test al, LSR_THRE
        loopz 1b
        pop ax
        mov dx, COM1
        out dx, al
        pop cx
        pop dx
        ret

print:  # the text at SI up to its zero byte
        lodsb
        test al, al
        jz 1f
        call put
        jmp print
1:      ret

boot_disk:
        .byte 0
packet:
        .byte 16, 0
        .word SECTORS - 1, offset second, 0
        .long 1, 0
text_hello:
        .asciz "\r\nHello! I am the demonstration guest, a boot sector read from the disk.\r\n"
text_bad_disk:
        .asciz "The rest of me could not be read.\r\n"

        .org 510
        .word 0xAA55

# ---------------------------------------------------------------------------------------------------------------------

second:
print_number: # EAX in decimal
        pushad
        mov ebx, 10
        xor cx, cx
1:      xor edx, edx
        div ebx
        push dx
        inc cx
        test eax, eax
        jnz 1b
2:      pop ax
        add al, '0'
        call put
        loop 2b
        popad
        ret

print_hex: # EAX in eight hexadecimal digits
        pushad
        mov cx, 8
1:      rol eax, 4
        push ax
        and al, 0x0F
        cmp al, 10
        jb 2f
        add al, 'a' - '0' - 10
2:      add al, '0'
        call put
        pop ax
        loop 1b
        popad
        ret

main:
        # Memory.
        mov si, offset text_memory
        call print
        xor ebx, ebx
        mov dword ptr [map_next], ebx
1:      mov eax, 0xE820
        mov edx, 0x534D4150
        mov ecx, 20
        mov ebx, dword ptr [map_next]
        mov di, MAP_ENTRY
        int 0x15
        jc 3f
        mov dword ptr [map_next], ebx
        mov si, offset text_indent
        call print
        mov eax, dword ptr [MAP_ENTRY + 4]
        call print_hex
        mov eax, dword ptr [MAP_ENTRY]
        call print_hex
        mov si, offset text_plus
        call print
        mov eax, dword ptr [MAP_ENTRY + 12]
        call print_hex
        mov eax, dword ptr [MAP_ENTRY + 8]
        call print_hex
        mov si, offset text_usable
        cmp dword ptr [MAP_ENTRY + 16], 1
        je 2f
        mov si, offset text_reserved
2:      call print
        cmp dword ptr [map_next], 0
        jne 1b
3:
        # Processor.
        mov si, offset text_processor
        call print
        xor eax, eax
        cpuid
        mov dword ptr [vendor], ebx
        mov dword ptr [vendor + 4], edx
        mov dword ptr [vendor + 8], ecx
        mov si, offset vendor
        call print
        mov si, offset text_family
        call print
        mov eax, 1
        cpuid
        mov ecx, eax
        shr eax, 8
        and eax, 0x0F
        call print_number
        mov si, offset text_model
        call print
        mov eax, ecx
        shr eax, 4
        and eax, 0x0F
        mov ebx, ecx
        shr ebx, 12
        and ebx, 0xF0
        or eax, ebx
        call print_number
        mov si, offset text_stepping
        call print
        mov eax, ecx
        and eax, 0x0F
        call print_number
        mov si, offset text_newline
        call print

        # Timer.
        mov si, offset text_timer
        call print
        mov ax, 0x40
        mov es, ax
        xor ecx, ecx                    # HLTs left
        mov bl, TICKS
1:      mov ax, word ptr es:[0x6C]
2:      hlt
        inc ecx
        cmp ax, word ptr es:[0x6C]
        je 2b
        dec bl
        jnz 1b
        mov eax, TICKS
        call print_number
        mov si, offset text_ticks
        call print
        mov eax, ecx
        call print_number
        mov si, offset text_halts
        call print

        # Primes, in 32-bit protected mode.
        mov si, offset text_primes
        call print
        cli
        mov word ptr [saved_sp], sp
        lgdtd [gdt_pointer]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        ljmp 0x08, offset protected
.code32
protected:
        mov ax, 0x10
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov esp, 0x7C00
        mov edi, SIEVE
        mov ecx, LIMIT / 4
        mov eax, 0x01010101
        rep stosd
        mov word ptr [SIEVE], 0         # neither 0 nor 1
        mov ebx, 2
1:      cmp byte ptr [SIEVE + ebx], 0
        je 3f
        mov ecx, ebx
        imul ecx, ebx
        cmp ecx, LIMIT
        jae 4f
2:      mov byte ptr [SIEVE + ecx], 0
        add ecx, ebx
        cmp ecx, LIMIT
        jb 2b
3:      inc ebx
        jmp 1b
4:      xor ebx, ebx
        xor edx, edx                    # primes
        xor ebp, ebp                    # the largest
5:      cmp byte ptr [SIEVE + ebx], 0
        je 6f
        inc edx
        mov ebp, ebx
6:      inc ebx
        cmp ebx, LIMIT
        jb 5b
        mov dword ptr [primes], edx
        mov dword ptr [largest], ebp
        ljmp 0x18, offset leaving
.code16
leaving:
        mov ax, 0x20
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov eax, cr0
        and al, 0xFE
        mov cr0, eax
        ljmp 0, offset real
real:
        xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov sp, word ptr [saved_sp]
        sti
        mov eax, dword ptr [primes]
        call print_number
        mov si, offset text_largest
        call print
        mov eax, dword ptr [largest]
        call print_number
        mov si, offset text_newline
        call print

        # Off.
        mov si, offset text_off
        call print
        mov dx, COM1 + LSR
        xor cx, cx
1:      in al, dx
        test al, LSR_TEMT
        loopz 1b
        cli
        mov ecx, 0x80000000             # bus 0, device 0, function 0
2:      xor al, al
        call pci_read
        cmp eax, PIIX4_PM
        je 3f
        add ecx, 0x100
        cmp ecx, 0x80010000
        jb 2b
        jmp 4f
3:      mov al, PMBASE
        mov ebx, PM_IO | 1
        call pci_write
        mov al, PMREGMISC
        call pci_read
        mov ebx, eax
        or bl, 1                        # PMIOSE: the ports answer
        mov al, PMREGMISC
        call pci_write
        mov dx, PM_IO + PM1A_CNT
        mov ax, SLP_EN
        out dx, ax
4:      mov dx, DEBUG_EXIT
        xor ax, ax
        out dx, ax
        sti
        mov cx, 18                      # whoever switches the machine off may take a moment
5:      hlt
        loop 5b
        mov si, offset text_still_here
        call print
        cli
6:      hlt
        jmp 6b

pci_read: # EAX = configuration register AL of function ECX
        movzx eax, al
        or eax, ecx
        mov dx, PCI_ADDRESS
        out dx, eax
        mov dx, PCI_DATA
        in eax, dx
        ret

pci_write: # EBX to configuration register AL of function ECX
        movzx eax, al
        or eax, ecx
        mov dx, PCI_ADDRESS
        out dx, eax
        mov dx, PCI_DATA
        mov eax, ebx
        out dx, eax
        ret

        .balign 8
gdt:
        .quad 0
        .quad 0x00CF9B000000FFFF        # 08h: code, 32-bit, 0 to 4 GiB
        .quad 0x00CF93000000FFFF        # 10h: data, 0 to 4 GiB
        .quad 0x00009B000000FFFF        # 18h: code, 16-bit, 0 to 64 KiB
        .quad 0x000093000000FFFF        # 20h: data, 0 to 64 KiB
gdt_pointer:
        .word 5 * 8 - 1
        .long gdt

map_next:       .long 0
primes:         .long 0
largest:        .long 0
saved_sp:       .word 0
vendor:         .fill 12, 1, 0
                .byte 0

text_memory:    .asciz "\r\nThe memory map the firmware gives me (base + length):\r\n"
text_indent:    .asciz "  "
text_plus:      .asciz " + "
text_usable:    .asciz "  usable\r\n"
text_reserved:  .asciz "  reserved\r\n"
text_processor: .asciz "\r\nMy processor says it is "
text_family:    .asciz ", family "
text_model:     .asciz ", model "
text_stepping:  .asciz ", stepping "
text_timer:     .asciz "Halting until the timer interrupt has come ten times ... "
text_ticks:     .asciz " ticks, "
text_halts:     .asciz " halts.\r\n"
text_primes:    .asciz "Primes below 10000, by a sieve in 32-bit protected mode: "
text_largest:   .asciz ", the largest is "
text_newline:   .asciz "\r\n"
text_off:       .asciz "That is all. Switching the machine off.\r\n"
text_still_here: .asciz "It is still on: there is no PIIX4 and no isa-debug-exit.\r\n"

        .org SECTORS * 512
