# IRET at one level and to ring 3, in 32 and 16 bits, and what it refuses.
.include "metal.inc"
        METAL "iret"
.set S_ABSENT, FREE_SEL
        PROTECTED32
        mov eax, TSS_SEL
        ltr ax
        DESC S_ABSENT, 0, 0xFFFFF, 0x1A, 12
        GATE 0x30, to_kernel, 0xEE
        GATE 0x31, handler
        FROM 1
        NEXT
        push 0x00000AD7
        push CODE32
        push offset 1f
        iretd
        FAIL
1:      FLAGS ARITH | IF, ARITH | IF
        cli
        EQ esp, STACK32
        NEXT                            # the lower halves only with a 16-bit operand
        mov eax, 0
        push ax
        pushw 0x00D7
        pushw CODE32
        pushw offset 1f
        iretw
        FAIL
1:      FLAGS ARITH, ARITH & ~OF
        add esp, 2
        EQ esp, STACK32
        NEXT                            # an interrupt and back, all flags kept
        SETFLAGS CF | PF | ZF
        int 0x31
        FLAGS ARITH, CF | PF | ZF
        EQ eax, 0x31
        EQ esp, STACK32
        jmp 1f
handler: mov eax, 0x31
        test eax, eax
        iretd
1:
        NEXT                            # to ring 3, with IOPL 0 and IF
        push USER_DATA
        push STACK_USER
        push 0x0203
        push USER_CODE
        push offset 1f
        iretd
        FAIL
1:      mov ax, cs
        EQ ax, USER_CODE
        mov ax, ss
        EQ ax, USER_DATA
        EQ esp, STACK_USER
        push USER_DATA
        pop ds
        FLAGS IF, IF
        int 0x30
        test dword ptr [esp + 8], IF
        jz metal_fail32
        mov esp, STACK32
        mov eax, DATA32
        mov ds, eax
        mov es, eax
        NEXT                            # IRET at ring 3 keeps IF and IOPL whatever the image says
        push USER_DATA
        push STACK_USER
        push 0x0002
        push USER_CODE
        push offset 1f
        iretd
1:      push USER_DATA
        pop ds
        push 0x3202
        push USER_CODE
        push offset 2f
        iretd
        FAIL
2:      FLAGS IF | 0x3000, 0
        int 0x30
        mov esp, STACK32
        mov eax, DATA32
        mov ds, eax
        mov es, eax
        NEXT
        push 2
        push 0
        push 0
        FAULT 13, 0, iretd
        mov dword ptr [esp + 4], DATA32
        FAULT 13, DATA32, iretd
        mov dword ptr [esp + 4], S_ABSENT
        FAULT 11, S_ABSENT, iretd
        EQ esp, STACK32 - 12
        add esp, 12
        push DATA32                     # to ring 3 with a ring 0 stack
        push STACK_USER
        push 2
        push USER_CODE
        push offset 1b
        FAULT 13, DATA32, iretd
        mov dword ptr [esp + 16], 0
        FAULT 13, 0, iretd
        add esp, 20
        PASS
to_kernel:
        mov eax, [esp]
        jmp eax
        METAL_END
