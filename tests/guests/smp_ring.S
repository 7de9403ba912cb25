# Boot sector: timer interrupts on the first processor, and an interrupt that goes round all processors for ever.
# link: 0x7c00
#
# For stress tests: nothing here goes on by itself.  Every processor sleeps in HLT; the interprocessor interrupt 40h counts
# and is sent on to the next processor, so that one lost wake-up, anywhere, stops the ring; the timer of the board (8254,
# 1 kHz, through the 8259) counts separately.  Runs in real mode with 4 GiB data segments, to reach the local APIC.
#
# Byte COUNT (at the end, patched by whoever runs it): how many processors there are, APIC ids 0 to COUNT - 1.
# Counters: dword 5F0h = timer ticks, dword 5F4h = processors started, dword 600h + 4 * APIC id = interrupts of the ring.

.intel_syntax noprefix
.code16
.text

.set TICKS, 0x5F0
.set READY, 0x5F4
.set HITS, 0x600
.set STACKS, 0x7000             # downwards, 200h bytes each
.set TRAMPOLINE, 0x8000         # page 8: the start-up vector
.set TIMER, 0x20                # vectors
.set RING, 0x40
.set APIC, 0xFEE00000
.set ID, 0x20                   # APIC registers
.set EOI, 0xB0
.set SVR, 0xF0
.set ICR, 0x300
.set ICR_HIGH, 0x310

start:
        cli
        xor ax, ax
        mov ds, ax
        mov edi, eax
        mov dword ptr [TICKS], eax
        mov dword ptr [READY], eax
        mov dword ptr [TIMER * 4], offset timer
        mov dword ptr [RING * 4], offset ring
        mov byte ptr [TRAMPOLINE], 0xEA
        mov dword ptr [TRAMPOLINE + 1], offset processor

        mov si, offset ports            # program the 8259s and the 8254
        mov cx, (ports_end - ports) / 2
1:      lodsw
        xchg al, ah
        movzx dx, ah
        out dx, al
        loop 1b

        call prepare
        mov dword ptr [ebx + ICR], 0xC4500              # INIT to all but self
        mov dword ptr [ebx + ICR], 0xC4600 + TRAMPOLINE / 0x1000
        movzx eax, byte ptr [COUNT]
2:      pause
        cmp dword ptr [READY], eax
        jne 2b
        call send
        jmp sleep

processor:
        call prepare
sleep:  sti
        hlt
        jmp sleep

# Flat data segments, own stack (AX, DX lost), local APIC on; EBX = APIC, EBP = APIC id; counts the processor as ready.
prepare:
        pop si
        cli
        xor ax, ax
        mov ds, ax
        lgdt [gdt]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        mov dx, 8
        mov ds, dx
        and al, 0xFE
        mov cr0, eax
        xor dx, dx
        mov ds, dx
        mov ss, dx
        mov ebx, APIC
        mov ebp, dword ptr [ebx + ID]
        shr ebp, 24
        mov ax, bp
        shl ax, 9
        mov esp, STACKS
        sub sp, ax
        mov dword ptr [HITS + ebp * 4], 0
        mov dword ptr [ebx + SVR], 0x1FF
        lock inc dword ptr [READY]
        jmp si

# To the next processor.
send:   lea eax, [ebp + 1]
        cmp al, byte ptr [COUNT]
        jb 1f
        xor eax, eax
1:      shl eax, 24
        mov dword ptr [ebx + ICR_HIGH], eax
        mov dword ptr [ebx + ICR], 0x4000 + RING
        ret

ring:   inc dword ptr [HITS + ebp * 4]
        mov dword ptr [ebx + EOI], 0
        call send
        iret

timer:  inc dword ptr [TICKS]
        push ax
        mov al, 0x20
        out 0x20, al
        pop ax
        iret

gdt:    .word 15                # the null descriptor's place holds the table's own address
        .long gdt
        .word 0
        .quad 0x00CF92000000FFFF

ports:  .byte 0x20, 0x11, 0x21, TIMER, 0x21, 0x04, 0x21, 0x01
        .byte 0xA0, 0x11, 0xA1, 0x28, 0xA1, 0x02, 0xA1, 0x01
        .byte 0x21, 0xFE, 0xA1, 0xFF                    # only the timer
        .byte 0x43, 0x34, 0x40, 1193 % 256, 0x40, 1193 / 256
ports_end:

        .org 509
COUNT:  .byte 1
        .byte 0x55, 0xAA
