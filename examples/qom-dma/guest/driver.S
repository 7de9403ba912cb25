# A driver for pci-copier: a 64 KiB ROM that starts at the reset vector, with no firmware below it.
#
# It finds the function on PCI bus 0, gives its BARs addresses, and lets it copy: first with MSI, then with MSI-X, then
# with a length that is wrong, last with bus mastering off.  It reports on port 402h and ends by a write to port 501h.
# build.sh makes driver.bin of it.

.intel_syntax noprefix
.text

.set DEBUG_PORT, 0x402
.set EXIT_PORT, 0x501
.set CONFIG_ADDRESS, 0xCF8
.set CONFIG_DATA, 0xCFC

.set CODE, 0x08                         # selectors
.set DATA, 0x10

.set IDT, 0x1000                        # where things are in RAM
.set STACK, 0x8000
.set SOURCE, 0x20000
.set TARGET, 0x30000
.set COUNTS, 0x500                      # two counters: interrupts by vector
.set SLOT, 0x508                        # configuration address of the function

.set APIC, 0xFEE00000
.set APIC_SVR, APIC + 0xF0
.set APIC_EOI, APIC + 0xB0
.set DONE_VECTOR, 0x40                  # the messages' data; what follows is for errors

.set ID, 0xC0B11234                     # the function: identity, and where its BARs go
.set REGISTERS, 0xFEB00000
.set PORTS, 0xC000
.set TABLE, 0xFEB10000
.set BUSY, 1
.set DONE, 2
.set ERROR, 4
.set START_AND_IRQ, 3

rom:

# -- 32 bits, flat -------------------------------------------------------------------------------------------------------

.code32
start32:
        mov ax, DATA
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov esp, STACK
        mov al, 0xFF                    # nothing from the 8259s
        out 0x21, al
        out 0xA1, al
        mov eax, offset on_done
        mov edi, IDT + 8 * DONE_VECTOR
        call set_gate
        mov eax, offset on_error
        call set_gate
        lidt [idt_pointer]
        mov dword ptr [COUNTS], 0
        mov dword ptr [COUNTS + 4], 0
        mov dword ptr [APIC_SVR], 0x1FF # the local APIC takes messages from here on

# Find the function: the first identity that fits.
        mov ebx, 0x80000000
find:   mov eax, ebx
        call config_read
        cmp eax, ID
        je found
        add ebx, 0x800                  # next slot
        cmp ebx, 0x80010000
        jb find
        mov esi, offset text_none
        jmp fail
found:  mov [SLOT], ebx

# Give it its addresses, and let it answer there and master the bus.
        mov ecx, 0x10
        mov eax, REGISTERS
        call config_write
        mov ecx, 0x14
        mov eax, PORTS
        call config_write
        mov ecx, 0x18
        mov eax, TABLE
        call config_write
        mov ecx, 0x04
        mov eax, 7
        call config_write

# With MSI: two messages, data 40h and 41h, to the processor with APIC id 0.
        mov al, 0x05
        call capability
        mov edi, ecx
        add ecx, 4
        mov eax, APIC
        call config_write
        add ecx, 4
        xor eax, eax
        call config_write
        add ecx, 4
        mov eax, DONE_VECTOR
        call config_write
        mov ecx, edi
        mov eax, 0x0011 << 16           # on, two messages
        call config_write
        mov ecx, 4096
        call prepare
        mov dword ptr [REGISTERS + 0x14], START_AND_IRQ
        call wait_done
        mov esi, offset text_msi
        call verify
        mov ecx, edi
        xor eax, eax
        call config_write               # off again

# With MSI-X: the same two messages, from the table; started through the I/O BAR.
        mov al, 0x11
        call capability
        xor ebx, ebx
entry:  mov edx, ebx
        shl edx, 4
        mov dword ptr [TABLE + edx], APIC
        mov dword ptr [TABLE + edx + 4], 0
        lea eax, [ebx + DONE_VECTOR]
        mov [TABLE + edx + 8], eax
        mov dword ptr [TABLE + edx + 12], 0
        inc ebx
        cmp ebx, 2
        jb entry
        mov eax, 0x8000 << 16
        call config_write
        mov ecx, 64
        call prepare
        mov dx, PORTS + 4
        out dx, eax
        call wait_done
        mov esi, offset text_msix
        call verify

# A length that is wrong: vector 1.
        mov dword ptr [REGISTERS + 0x10], 0
        mov dword ptr [REGISTERS + 0x14], START_AND_IRQ
1:      sti
        hlt
        cli
        cmp dword ptr [COUNTS + 4], 1
        jb 1b
        mov eax, [REGISTERS + 0x18]
        mov esi, offset text_status
        cmp eax, ERROR
        jne fail
        mov esi, offset text_error
        call print

# Bus mastering off: no copy, and no message either, which is a write to memory too.  STATUS tells.
        mov ecx, 0x04
        mov eax, 3
        call config_write
        mov ecx, 64
        call prepare
        mov dword ptr [REGISTERS + 0x14], START_AND_IRQ
        mov dx, PORTS
2:      in eax, dx
        test eax, BUSY
        jnz 2b
        mov esi, offset text_status
        cmp eax, ERROR
        jne fail
        sti
        nop
        cli
        mov esi, offset text_count
        cmp dword ptr [COUNTS], 2
        jne fail
        cmp dword ptr [COUNTS + 4], 1
        jne fail
        mov esi, offset text_master
        call print
        mov ax, 0x10
        jmp end

fail:   call print                      # ESI: what is wrong
        mov ax, 1
end:    mov dx, EXIT_PORT
        out dx, ax
1:      hlt
        jmp 1b

# -- interrupts

on_done:
        inc dword ptr [COUNTS]
        mov dword ptr [APIC_EOI], 0
        iretd
on_error:
        inc dword ptr [COUNTS + 4]
        mov dword ptr [APIC_EOI], 0
        iretd

set_gate:                               # gate at EDI to EAX, EDI to the next one
        mov [edi], eax
        mov word ptr [edi + 2], CODE
        mov [edi + 4], eax
        mov word ptr [edi + 4], 0x8E00
        add edi, 8
        ret

# -- the copy

prepare:                                # ECX bytes: something to copy, nothing where it goes, and the registers
        mov edx, ecx
        mov ebp, [COUNTS]
        xor ebx, ebx
1:      mov al, bl
        xor al, bh
        add al, dl
        mov [SOURCE + ebx], al
        mov byte ptr [TARGET + ebx], 0
        inc ebx
        cmp ebx, edx
        jb 1b
        mov dword ptr [REGISTERS], SOURCE
        mov dword ptr [REGISTERS + 4], 0
        mov dword ptr [REGISTERS + 8], TARGET
        mov dword ptr [REGISTERS + 12], 0
        mov [REGISTERS + 16], edx
        mov dword ptr [REGISTERS + 0x18], DONE | ERROR
        ret

wait_done:                              # until there is one more interrupt than EBP
        inc ebp
1:      sti
        hlt
        cli
        cmp [COUNTS], ebp
        jb 1b
        ret

verify:                                 # the last copy; ESI: what it was made with
        call print
        push edi
        mov eax, [REGISTERS + 0x18]
        mov esi, offset text_status
        cmp eax, DONE
        jne fail
        mov esi, SOURCE
        mov edi, TARGET
        mov ecx, [REGISTERS + 0x10]
        mov ebx, ecx
        repe cmpsb
        mov esi, offset text_differs
        jne fail
        pop edi
        mov eax, ebx
        call print_hex
        mov esi, offset text_bytes
        call print
        mov eax, [REGISTERS + 0x1C]
        call print_hex
        mov esi, offset text_line
        jmp print

# -- PCI configuration space of the function; EBX: its address, or [SLOT]

config_read:                            # EAX: address -> EAX
        mov dx, CONFIG_ADDRESS
        out dx, eax
        mov dx, CONFIG_DATA
        in eax, dx
        ret

config_write:                           # register ECX of the function := EAX
        push eax
        mov eax, [SLOT]
        or eax, ecx
        mov dx, CONFIG_ADDRESS
        out dx, eax
        pop eax
        mov dx, CONFIG_DATA
        out dx, eax
        ret

capability:                             # AL: its id -> ECX: where it is
        mov bl, al
        mov ecx, 0x34
        call byte_of
1:      test al, al
        mov esi, offset text_capability
        jz fail
        movzx ecx, al
        call byte_of
        cmp al, bl
        je 2f
        inc ecx
        call byte_of
        jmp 1b
2:      ret

byte_of:                                # register ECX -> AL
        push ecx
        mov eax, [SLOT]
        or eax, ecx
        and al, 0xFC
        call config_read
        and cl, 3
        shl cl, 3
        shr eax, cl
        pop ecx
        ret

# -- the report

print:                                  # text at ESI
        mov dx, DEBUG_PORT
1:      mov al, [esi]
        inc esi
        test al, al
        jz 2f
        out dx, al
        jmp 1b
2:      ret

print_hex:                              # EAX, eight digits
        mov ecx, 8
        mov dx, DEBUG_PORT
1:      rol eax, 4
        push eax
        and al, 0xF
        cmp al, 10
        jb 2f
        add al, 'a' - '0' - 10
2:      add al, '0'
        out dx, al
        pop eax
        loop 1b
        ret

text_msi:       .asciz "msi: "
text_msix:      .asciz "msi-x: "
text_bytes:     .asciz " bytes, digest "
text_line:      .asciz "\n"
text_error:     .asciz "length 0: error reported\n"
text_master:    .asciz "no bus master: nothing copied\n"
text_none:      .asciz "no copier on PCI bus 0\n"
text_status:    .asciz "STATUS is wrong\n"
text_differs:   .asciz "the copy differs\n"
text_count:     .asciz "too many interrupts\n"
text_capability: .asciz "a capability is missing\n"

        .balign 8
gdt:    .quad 0
        .quad 0x00CF9B000000FFFF        # flat code and data, marked accessed: the ROM cannot be
        .quad 0x00CF93000000FFFF
gdt_pointer:
        .word gdt_pointer - gdt - 1
        .long gdt
idt_pointer:
        .word 8 * (DONE_VECTOR + 2) - 1
        .long IDT

# -- 16 bits, from the reset vector -----------------------------------------------------------------------------------------

.code16
start16:
        cli
        lgdtd cs:[gdt_pointer - rom]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        .byte 0x66, 0xEA                # far jump to 32-bit code
        .long start32
        .word CODE

        .org 0xFFF0, 0xFF
        jmp start16
        .org 0x10000, 0xFF
