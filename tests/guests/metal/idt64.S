# What delivery and IRETQ refuse in long mode, with error codes: gates of other kinds, bad code segments, stack segments; SS
# stays when only the interrupt stack table changes the stack; double faults.
.include "metal64.inc"
        METAL "idt64"
.set S_CODE64D, FREE64                  # code with both L and D
.set S_RING1, FREE64 + 8                # 64-bit code, DPL 1
.set S_ABSENT, FREE64 + 0x18            # 64-bit code, not present
.set S_DATA1, FREE64 + 0x20             # data, DPL 1

        LONG64
        DESC S_CODE64D, 0, 0xFFFFF, 0x9B, 14
        DESC S_RING1, 0, 0xFFFFF, 0xBB, 10
        DESC S_ABSENT, 0, 0xFFFFF, 0x1B, 10
        DESC S_DATA1, 0, 0xFFFFF, 0xB3, 12
        GATE64 0x30, frame, 0xEE
        GATE64 0x32, frame, 0xEE, CODE64, 1

        FROM 1
        NEXT                            # the privilege of gates
        USER64_CODE
        USER_FAULT64 13, 0x10*8+2, int 0x10
        USER_FAULT64 13, 0x2F*8+2, int 0x2F
        USER_FAULT64 13, 6*8+2, int 6
        int 0x30
        mov eax, DATA32
        mov ss, eax
        mov rsp, STACK32
        NEXT                            # gates
        GATE64 0x33, frame, 0x86        # a 16-bit gate is none here
        FAULT64 13, 0x33*8+2, int 0x33
        GATE64 0x33, frame, 0x85        # nor is a task gate
        FAULT64 13, 0x33*8+2, int 0x33
        GATE64 0x33, frame, 0x0E
        FAULT64 11, 0x33*8+2, int 0x33
        FAULT64 13, 0x40*8+2, int 0x40  # beyond the limit
        GATE64 0x33, frame, 0x8E, 0
        FAULT64 13, 0, int 0x33
        GATE64 0x33, frame, 0x8E, DATA32
        FAULT64 13, DATA32, int 0x33
        GATE64 0x33, frame, 0x8E, CODE32 # not 64-bit code
        FAULT64 13, CODE32, int 0x33
        GATE64 0x33, frame, 0x8E, S_CODE64D
        FAULT64 13, S_CODE64D, int 0x33
        GATE64 0x33, frame, 0x8E, S_RING1
        FAULT64 13, S_RING1, int 0x33
        GATE64 0x33, frame, 0x8E, S_ABSENT
        FAULT64 11, S_ABSENT, int 0x33
        GATE64 0x33, frame, 0x8E, 0x7F8
        FAULT64 13, 0x7F8, int 0x33
        NEXT                            # what IRETQ refuses
.macro IRETQ_FAULT error, cs_, ss_, vector=13
        push \ss_
        push STACK32
        push 2
        push \cs_
        PUSH64 frame
        mov qword ptr [V_SAVE], rsp
        FAULT64 \vector, \error, iretq
        EQ rsp, [V_SAVE]
        mov rsp, STACK32
.endm
        IRETQ_FAULT 0, 0, DATA32
        IRETQ_FAULT DATA32, DATA32, DATA32
        IRETQ_FAULT S_CODE64D, S_CODE64D, DATA32
        IRETQ_FAULT S_ABSENT, S_ABSENT, DATA32, 11
        IRETQ_FAULT S_RING1, S_RING1, DATA32
        IRETQ_FAULT USER64-3, USER64-3, DATA32
        IRETQ_FAULT 0x7F8, 0x7F8, DATA32
        IRETQ_FAULT 0, USER64, 0        # ring 3 needs a stack segment
        IRETQ_FAULT 0, CODE32, 0        # and so does compatibility code
        IRETQ_FAULT CODE64, CODE64, CODE64
        IRETQ_FAULT S_DATA1, CODE64, S_DATA1
        IRETQ_FAULT DATA32, USER64, DATA32
        NEXT                            # another stack at the same level: SS is not touched
        int 0x32
        EQ rsp, STACK_IST1 - 40
        mov ax, ss
        EQ ax, DATA32
        mov rsp, STACK32
        NEXT                            # stacks that are none
        mov rax, NON_CANONICAL + 0x1000
        mov [TSS64_AT + 0x24], rax
        GATE64 12, metal_stubs64+12*8, 0x8E, CODE64, 2
        FAULT64 12, 0, int 0x32         # SS with EXT clear: the program asked
        mov qword ptr [TSS64_AT + 0x24], STACK_IST1
        NEXT                            # the TSS ends before the stack pointer
        DESC TSS64, TSS64_AT, 0x2A, 0x89
        mov eax, TSS64
        ltr ax
        FAULT64 10, TSS64, int 0x32
        DESC TSS64, TSS64_AT, 0x67, 0x89
        ltr ax
        NEXT                            # a handler where no address is
        GATE64 0x33, frame, 0x8E
        mov dword ptr [IDT64 + 0x33 * 16 + 8], NON_CANONICAL >> 32
        FAULT64 13, 0, int 0x33
        NEXT                            # a fault while one is delivered: #DF, on the stack that its gate names
        GATE64 8, metal_stubs64+8*8, 0x8E, CODE64, 2
        GATE64 13, frame, 0x0E          # not present
        mov rbx, NON_CANONICAL
        WANT64 8, 0, double, 1f
double: mov al, [rbx]
        FAIL
1:      EQ qword ptr [SEEN_AT64], STACK_IST2
        EQ qword ptr [SEEN_RSP64], STACK32
        PASS
frame:                                  # where handlers go on: right behind the INT
        jmp qword ptr [rsp]
        METAL64_END
