# Interrupts and exceptions of long mode: the frame and its alignment, interrupt and trap gates, the interrupt stack
# table, privilege changes, IRETQ in every direction.
.include "metal64.inc"
        METAL "intr64"
.set S_CONF, FREE64 + 0x10              # conforming 64-bit code, DPL 0

        LONG64
        DESC S_CONF, 0, 0xFFFFF, 0x9F, 10
        GATE64 0x30, frame, 0xEE
        GATE64 0x31, frame, 0xEF
        GATE64 0x32, frame, 0xEE, CODE64, 1

        FROM 1
        NEXT                            # the frame, on a stack aligned to 16 bytes; SS and RSP always
        mov rsp, STACK32 - 4
        SETFLAGS CF | SF
        int 0x30
1:      EQ rsp, STACK32 - 16 - 40
        pop rax
        mov ecx, offset 1b
        EQ rax, rcx
        pop rax
        EQ rax, CODE64
        pop rax
        and eax, ARITH | 2
        EQ eax, CF | SF | 2
        pop rax
        EQ rax, STACK32 - 4
        pop rax
        EQ rax, DATA32
        mov rsp, STACK32
        NEXT                            # interrupt gate, trap gate
        sti
        int 0x30
        pushfq
        pop rax
        and eax, IF
        EQ eax, 0
        mov rsp, STACK32
        sti
        int 0x31
        pushfq
        pop rax
        and eax, IF
        EQ eax, IF
        cli
        mov rsp, STACK32
        NEXT                            # the interrupt stack table
        int 0x32
        EQ rsp, STACK_IST1 - 40
        EQ qword ptr [rsp + 24], STACK32
        EQ qword ptr [rsp + 32], DATA32
        int 0x32                        # again, inside: the stack starts anew
        EQ rsp, STACK_IST1 - 40
        EQ qword ptr [rsp + 24], STACK_IST1 - 40
        mov rsp, STACK32
        NEXT                            # IRETQ restores RSP and SS without a change of level
        push DATA32
        push STACK32 - 0x100
        push CF | 2
        push CODE64
        PUSH64 1f
        iretq
        FAIL
1:      FLAGS CF, CF
        EQ rsp, STACK32 - 0x100
        mov rsp, STACK32
        xor eax, eax                    # SS null, which 64-bit code of rings 0 to 2 may have
        push rax
        push STACK32
        push 2
        push CODE64
        PUSH64 1f
        iretq
1:      mov ax, ss
        EQ ax, 0
        mov eax, DATA32
        mov ss, eax
        NEXT                            # IRET with 32-bit operands
        mov eax, offset 1f
        mov dword ptr [STACK32 - 20], eax
        mov dword ptr [STACK32 - 16], CODE64
        mov dword ptr [STACK32 - 12], ZF | 2
        mov dword ptr [STACK32 - 8], STACK32
        mov dword ptr [STACK32 - 4], DATA32
        mov rsp, STACK32 - 20
        iretd
1:      FLAGS ZF, ZF
        EQ rsp, STACK32
        NEXT                            # NT: there are no tasks
        pushfq
        or word ptr [rsp], NT
        popfq
        FAULT64 13, 0, iretq
        pushfq
        and word ptr [rsp], ~NT
        popfq
        NEXT                            # to ring 3 and back: the stack comes from the TSS, SS is null
        USER64_CODE
        EQ rsp, STACK_USER
        mov ax, cs
        EQ ax, USER64
        mov ax, ss
        EQ ax, USER_DATA
        int 0x30
1:      EQ rsp, STACK_RSP0 - 40
        mov ax, ss
        EQ ax, 0
        mov ax, cs
        EQ ax, CODE64
        mov eax, offset 1b
        EQ [rsp], rax
        EQ qword ptr [rsp + 8], USER64
        EQ qword ptr [rsp + 24], STACK_USER
        EQ qword ptr [rsp + 32], USER_DATA
        mov eax, DATA32
        mov ss, eax
        mov rsp, STACK32
        NEXT                            # from ring 3 through the IST: SS is null as well
        USER64_CODE
        int 0x32
        EQ rsp, STACK_IST1 - 40
        mov ax, ss
        EQ ax, 0
        mov eax, DATA32
        mov ss, eax
        mov rsp, STACK32
        NEXT                            # to compatibility code in ring 3, and its interrupt back
        push USER_DATA
        push STACK_USER
        push 2
        push USER_CODE
        PUSH64 1f
        iretq
BITS32
1:      mov ax, cs
        EQ ax, USER_CODE
        mov eax, esp
        EQ eax, STACK_USER
        push 0x12345678
        pop eax
        int 0x30
BITS64
        EQ rsp, STACK_RSP0 - 40
        EQ qword ptr [rsp + 8], USER_CODE
        EQ qword ptr [rsp + 24], STACK_USER
        mov eax, DATA32
        mov ss, eax
        mov rsp, STACK32
        NEXT                            # exceptions from ring 3
        USER64_CODE
        USER_FAULT64 6, NO_ERROR_CODE, ud2
        USER_FAULT64 13, 0, hlt
        USER_FAULT64 13, 0, swapgs
        USER_FAULT64 13, 0, mov rax, cr3
        USER_FAULT64 13, 0, mov rax, cr8
        USER_FAULT64 13, 0, rdmsr
        int 0x30
        mov eax, DATA32
        mov ss, eax
        mov rsp, STACK32
        NEXT                            # a conforming handler keeps the level
        GATE64 0x33, conforming, 0xEE, S_CONF
        USER64_CODE
        int 0x33
        FAIL
conforming:
        mov ax, cs
        EQ ax, S_CONF + 3
        EQ qword ptr [rsp + 24], STACK_USER
        EQ rsp, (STACK_USER & ~15) - 40
        int 0x30
        mov eax, DATA32
        mov ss, eax
        mov rsp, STACK32
        NEXT                            # data segments that ring 3 may not keep
        mov eax, DATA32
        mov ds, eax
        mov eax, USER_DATA
        mov es, eax
        mov eax, S_CONF
        mov fs, eax
        USER64_CODE
        mov ax, ds
        EQ ax, 0
        mov ax, es
        EQ ax, USER_DATA
        mov ax, fs
        EQ ax, S_CONF
        int 0x30
        mov eax, DATA32
        mov ss, eax
        mov ds, eax
        mov es, eax
        mov fs, eax
        mov rsp, STACK32
        PASS
frame:                                  # where handlers go on: right behind the INT
        jmp qword ptr [rsp]
        METAL64_END
