# Privilege: ring 3 through RETF and back through interrupt and call gates (with parameters), stacks from the TSS, what ring 3
# may not do, IOPL, the I/O permission map, user pages, conforming code, POPF and CLI at ring 3, data segments that RETF clears.
.include "metal.inc"
        METAL "rings"
.set S_GATE0, FREE_SEL                  # call gate to ring 0, DPL 3, two parameters
.set S_GATE_DPL0, FREE_SEL + 8          # call gate, DPL 0
.set S_CONF, FREE_SEL + 0x10            # conforming ring 0 code
.set S_RING1, FREE_SEL + 0x18           # data, DPL 1
.set USER_PAGE, 0x50000
.set BITMAP, metal_tss + 104

.macro USER                             # go to ring 3, with its own stack and data segments
        push USER_DATA
        pop ds
        push USER_DATA
        pop es
        push USER_DATA
        push STACK_USER
        push USER_CODE
        push offset .Lu\@
        retf
.Lu\@:
.endm
.macro KERNEL                           # back to ring 0 through vector 30h
        int 0x30
.endm
.macro USER_FAULT vector, error, insn:vararg # from ring 3: the handler lands in ring 0 and goes on there
        WANT \vector, \error, .Lat\@, .Lon\@
        mov word ptr [V_CS], CODE32
        mov word ptr [V_SS], DATA32
        mov dword ptr [V_ESP], STACK32
.Lat\@: \insn
        FAIL
.Lon\@: EQ dword ptr [SEEN_CS], USER_CODE
        EQ dword ptr [SEEN_SS], USER_DATA
        USER
.endm

        PROTECTED32
        mov eax, TSS_SEL
        ltr ax
        GATE 0x30, to_kernel, 0xEE
        GATE 0x31, metal_stubs32, 0x8E  # DPL 0
        mov dword ptr [metal_gdt + S_GATE0], offset gate0 + (CODE32 << 16)
        mov dword ptr [metal_gdt + S_GATE0 + 4], 0xEC02
        mov dword ptr [metal_gdt + S_GATE_DPL0], offset gate0 + (CODE32 << 16)
        mov dword ptr [metal_gdt + S_GATE_DPL0 + 4], 0x8C00
        DESC S_CONF, 0, 0xFFFFF, 0x9E, 12
        DESC S_RING1, 0, 0xFFFFF, 0xB2, 12
        mov eax, USER_DATA
        mov ds, eax
        mov es, eax

        FROM 1
        NEXT                            # there and back: frames, stacks, flags
        mov eax, DATA32                 # RETF to an outer level clears what it may not keep
        mov fs, eax
        mov eax, S_CONF
        mov gs, eax
        SETFLAGS CF | ZF
        USER
        mov ax, cs
        EQ ax, USER_CODE
        mov ax, ss
        EQ ax, USER_DATA
        EQ esp, STACK_USER
        mov ax, fs
        EQ ax, 0
        mov ax, gs                      # conforming code stays
        EQ ax, S_CONF
        mov ax, ds
        EQ ax, USER_DATA
        mov ebx, 0x1234
        push ebx
        SETFLAGS CF | SF
        KERNEL
2:      EQ ebx, 0x1234
        EQ esp, STACK_ESP0 - 20
        EQ dword ptr [esp], offset 2b
        EQ dword ptr [esp + 4], USER_CODE
        and dword ptr [esp + 8], ARITH | IF | 2
        EQ dword ptr [esp + 8], CF | SF | 2
        EQ dword ptr [esp + 12], STACK_USER - 4
        EQ dword ptr [esp + 16], USER_DATA
        mov esp, STACK32
        NEXT                            # what ring 3 may not do
        USER
        USER_FAULT 13, 0, cli
        USER_FAULT 13, 0, sti
        USER_FAULT 13, 0, hlt
        USER_FAULT 13, 0, mov eax, cr0
        USER_FAULT 13, 0, mov cr3, eax
        USER_FAULT 13, 0, mov eax, dr0
        USER_FAULT 13, 0, lgdt [0x8000]
        USER_FAULT 13, 0, lidt [0x8000]
        USER_FAULT 13, 0, lldt ax
        USER_FAULT 13, 0, ltr ax
        USER_FAULT 13, 0, lmsw ax
        USER_FAULT 13, 0, clts
        USER_FAULT 13, 0, invlpg [0]
        USER_FAULT 13, 0, wbinvd
        USER_FAULT 13, 0, rdmsr
        USER_FAULT 13, 0, wrmsr
        NEXT                            # RDTSC is for ring 0 alone under CR4.TSD
        rdtsc
        KERNEL
        mov esp, STACK32
        mov eax, cr4
        or eax, 4
        mov cr4, eax
        rdtsc
        USER
        USER_FAULT 13, 0, rdtsc
        KERNEL
        mov esp, STACK32
        mov eax, cr4
        and eax, ~4
        mov cr4, eax
        USER
        NEXT                            # and what it may
        smsw eax
        sgdt [0x8000]
        str ax
        EQ ax, TSS_SEL
        NEXT                            # selectors
        mov eax, DATA32
        USER_FAULT 13, DATA32, mov fs, eax
        mov eax, S_RING1 + 3
        USER_FAULT 13, S_RING1, mov fs, eax
        mov eax, USER_DATA & ~3         # RPL 0 on DPL 3 is fine for data, not for SS
        mov fs, eax
        USER_FAULT 13, USER_DATA&~3, mov ss, eax
        USER_FAULT 13, CODE32, ljmp CODE32, 0
        USER_FAULT 13, S_GATE_DPL0, lcall S_GATE_DPL0, 0
        USER_FAULT 13, CODE32, lcall CODE32 + 3, 0
        mov ecx, DATA32
        lar eax, ecx
        FLAGS ZF, 0
        verr cx
        FLAGS ZF, 0
        NEXT                            # gates: DPL against CPL, error code with IDT bit
        USER_FAULT 13, 0x31*8+2, int 0x31
        USER_FAULT 13, 0x3F*8+2, int 0x3F
        USER_FAULT 13, 14*8+2, int 14
        KERNEL
        mov esp, STACK32
        NEXT
        mov dword ptr [metal_idt + 0x32 * 8], 0 # an absent gate of the right type
        mov dword ptr [metal_idt + 0x32 * 8 + 4], 0x6E00
        USER
        USER_FAULT 11, 0x32*8+2, int 0x32
        NEXT                            # a call gate copies its parameters
        mov esp, STACK_USER
        push 0x11111111
        push 0x22222222
        lcall S_GATE0 + 3, 0
.Lafter_gate:
        EQ eax, 0x6A7E
        EQ esp, STACK_USER
        mov ax, cs
        EQ ax, USER_CODE
        jmp .Lgate_done
gate0:  mov ax, cs
        EQ ax, CODE32
        EQ esp, STACK_ESP0 - 24
        EQ dword ptr [esp], offset .Lafter_gate
        EQ dword ptr [esp + 4], USER_CODE
        EQ dword ptr [esp + 8], 0x22222222
        EQ dword ptr [esp + 12], 0x11111111
        EQ dword ptr [esp + 16], STACK_USER - 8
        EQ dword ptr [esp + 20], USER_DATA
        mov eax, 0x6A7E
        retf 8
.Lgate_done:
        NEXT                            # conforming code runs at ring 3
        ljmp S_CONF, offset 1f
1:      mov ax, cs
        EQ ax, S_CONF + 3
        ljmp USER_CODE, offset 2f
2:
        NEXT                            # I/O without a permission map, IOPL 0
        mov edx, 0x80
        USER_FAULT 13, 0, in al, dx
        USER_FAULT 13, 0, out dx, al
        USER_FAULT 13, 0, insb
        USER_FAULT 13, 0, outsb
        KERNEL
        mov esp, STACK32
        NEXT                            # with one: bit 81h set, 80h and 82h clear
        mov dword ptr [BITMAP + 0x10], 0x00000002
        mov byte ptr [BITMAP + 0x14], 0xFF
        mov word ptr [metal_tss + 102], 104
        mov word ptr [metal_gdt + TSS_SEL], 104 + 0x14
        and byte ptr [metal_gdt + TSS_SEL + 5], 0xFD # available again
        mov eax, TSS_SEL
        ltr ax
        USER
        mov edx, 0x80
        out dx, al
        USER_FAULT 13, 0, out dx, ax    # 80h and 81h
        mov edx, 0x81
        USER_FAULT 13, 0, out dx, al
        KERNEL
        mov esp, STACK32
        NEXT                            # flags: IF and IOPL are out of reach, silently
        USER
        push 0x3202
        popfd
        FLAGS IF | 0x3000, 0
        pushfd
        pop eax
        KERNEL
        mov esp, STACK32
        NEXT                            # IOPL 3: CLI, IN, POPF of IF; but not IOPL itself
        push 0x3002
        popfd
        USER
        cli
        mov edx, 0x81
        out dx, al
        push 0x0002
        popfd
        FLAGS 0x3000, 0x3000
        KERNEL
        mov esp, STACK32
        push 0x0002
        popfd
        PASS

to_kernel: # the way back to ring 0: go on behind the INT, on this stack
        mov eax, [esp]
        jmp eax
        METAL_END
