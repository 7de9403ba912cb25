# Interrupts by the 8259s and the 8254, as the processor sees them: delivery while running and while halted, masks, EOI and
# priority, the shadow of STI, IF, the slave, a spurious one; in real mode, and in protected mode through the IDT.
# Needs a machine with interrupt controllers and timer.
.include "metal.inc"
        METAL "irq"
.set PIC1, 0x20
.set PIC2, 0xA0
.set EOI, 0x20
.set PIT0, 0x40
.set PIT_CTRL, 0x43

.macro PIC_INIT vector1, vector2
        mov al, 0x11
        out PIC1, al
        out PIC2, al
        mov al, \vector1
        out PIC1 + 1, al
        mov al, \vector2
        out PIC2 + 1, al
        mov al, 4
        out PIC1 + 1, al
        mov al, 2
        out PIC2 + 1, al
        mov al, 1
        out PIC1 + 1, al
        out PIC2 + 1, al
        mov al, 0xFF
        out PIC1 + 1, al
        out PIC2 + 1, al
.endm
.macro PIT_RATE count
        mov al, 0x34
        out PIT_CTRL, al
        mov al, \count & 0xFF
        out PIT0, al
        mov al, \count >> 8
        out PIT0, al
.endm
.macro PENDING                          # until IRQ 0 is requested, by looking: the flags and CX are lost, AL = IRR
        mov al, 0x0A
        out PIC1, al
1:      in al, PIC1
        test al, 1
        jz 1b
.endm

.macro TICKS
        NEXT                            # a tick ends HLT, ten times
        mov dword ptr [count], 0
        mov al, 0xFE
        out PIC1 + 1, al
1:      sti
        hlt
        cli
        cmp dword ptr [count], 10
        jb 1b
        NEXT                            # and comes in the middle of a loop
        mov dword ptr [count], 0
        sti
2:      cmp dword ptr [count], 3
        jb 2b
        cli
        NEXT                            # not with IF = 0: it waits in IRR
        mov dword ptr [count], 0
        PENDING
        EQ dword ptr [count], 0
        NEXT                            # STI holds it off for one instruction, so that STI, RET or STI, CLI let nothing in
        sti
        cli
        EQ dword ptr [count], 0
        sti
        nop
        nop
        cli
        EQ dword ptr [count], 1
        NEXT                            # nor while it is masked
        mov al, 0xFF
        out PIC1 + 1, al
        mov dword ptr [count], 0
        PENDING
        sti
        nop
        nop
        nop
        EQ dword ptr [count], 0
        mov al, 0xFE                    # it comes when the mask goes, some time
        out PIC1 + 1, al
3:      cmp dword ptr [count], 0
        je 3b
        cli
        EQ dword ptr [count], 1
        NEXT                            # without EOI no second one
        mov byte ptr [no_eoi], 1
        PENDING
        mov dword ptr [count], 0
        sti
5:      cmp dword ptr [count], 0
        je 5b
        PENDING
        nop
        cli
        EQ dword ptr [count], 1
        mov al, 0x0B                    # ISR says why
        out PIC1, al
        in al, PIC1
        EQ al, 1
        mov byte ptr [no_eoi], 0
        mov al, EOI
        out PIC1, al
        sti
4:      cmp dword ptr [count], 1
        je 4b
        cli
        mov al, 0xFF
        out PIC1 + 1, al
.endm

.macro HANDLER
        push eax
        inc dword ptr [count]
        cmp byte ptr [no_eoi], 0
        jne 1f
        mov al, EOI
        out PIC1, al
1:      pop eax
.endm

        # Virtual wire: the local APIC, if there is one, passes the 8259s' interrupts on by LINT0.
        mov eax, 1
        cpuid
        test dh, 2
        jz 1f
        PROTECTED32
        mov dword ptr [0xFEE000F0], 0x1FF
        mov dword ptr [0xFEE00350], 0x8700
        ljmp CODE16, offset 2f
BITS16
2:      mov eax, cr0
        and al, 0xFE
        mov cr0, eax
        ljmp 0, offset 3f
3:      xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov sp, 0xF00
        lidtd [metal_real_idtr]
1:
        mov dword ptr [0x20 * 4], offset tick16
        PIC_INIT 0x20, 0x28
        PIT_RATE 11932                  # 100 a second
        FROM 1
        TICKS
        PROTECTED32
        GATE 0x20, tick32
        FROM 20
        TICKS
        NEXT                            # the MC146818 through the slave, IRQ 8 as vector 28h
        GATE 0x28, clock32
        mov al, 0x8A
        out 0x70, al
        mov al, 0x26                    # 1024 a second
        out 0x71, al
        mov al, 0x8B
        out 0x70, al
        mov al, 0x42                    # periodic, 24 hours
        out 0x71, al
        mov al, 0x8C
        out 0x70, al
        in al, 0x71
        mov dword ptr [clocks], 0
        mov al, 0xFB
        out PIC1 + 1, al
        mov al, 0xFE
        out PIC2 + 1, al
1:      sti
        hlt
        cli
        cmp dword ptr [clocks], 5
        jb 1b
        mov al, 0x8B
        out 0x70, al
        mov al, 0x02
        out 0x71, al
        PASS

tick32: HANDLER
        iretd
clock32:
        push eax
        inc dword ptr [clocks]
        mov al, 0x8C
        out 0x70, al
        in al, 0x71
        mov al, EOI
        out PIC2, al
        out PIC1, al
        pop eax
        iretd
BITS16
tick16: HANDLER
        iret
        .balign 4
count:  .long 0
clocks: .long 0
no_eoi: .byte 0
        METAL_END
