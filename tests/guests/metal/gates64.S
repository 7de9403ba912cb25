# Far transfers of long mode: JMP, CALL and RET between 64-bit and compatibility code, operand sizes, call gates of 16 bytes
# at the same and at an inner level, what is refused with which error code.
.include "metal64.inc"
        METAL "gates64"
.set S_GATE, FREE64                     # call gate, two slots
.set S_CODE64D, FREE64 + 0x10           # code with both L and D
.set S_ABSENT, FREE64 + 0x18            # 64-bit code, not present
.set S_TSS, FREE64 + 0x20               # an available TSS, two slots
.set S_SMALL, FREE64 + 0x30             # 32-bit code of one page
.set S_CONF, FREE64 + 0x38              # conforming 64-bit code
.set POINTER, FREE_RAM

.macro FAR32 offset_, selector          # m16:32
        mov dword ptr [POINTER], offset \offset_
        mov word ptr [POINTER + 4], \selector
.endm
.macro SETGATE selector, handler, access, type_high=0 # a call gate at S_GATE
        mov dword ptr [rip + metal_gdt + S_GATE], offset \handler + ((\selector) << 16)
        mov dword ptr [rip + metal_gdt + S_GATE + 4], (\access) << 8
        mov dword ptr [rip + metal_gdt + S_GATE + 8], 0
        mov dword ptr [rip + metal_gdt + S_GATE + 12], (\type_high) << 8
.endm

        LONG64
        DESC S_CODE64D, 0, 0xFFFFF, 0x9B, 14
        DESC S_ABSENT, 0, 0xFFFFF, 0x1B, 10
        DESC S_TSS, FREE_RAM, 0x67, 0x89
        mov qword ptr [rip + metal_gdt + S_TSS + 8], 0
        DESC S_SMALL, 0, 0, 0x9B, 12
        DESC S_CONF, 0, 0xFFFFF, 0x9F, 10
        FROM 1
        NEXT                            # JMP m16:32 to 64-bit code
        FAR32 1f, S_CONF
        jmp fword ptr [POINTER]
1:      mov ax, cs
        EQ ax, S_CONF
        FAR32 1f, CODE64
        jmp fword ptr [POINTER]
1:      mov ax, cs
        EQ ax, CODE64
        NEXT                            # to compatibility code and back
        FAR32 1f, CODE32
        jmp fword ptr [POINTER]
BITS32
1:      mov ax, cs
        EQ ax, CODE32
        BACK64
        mov rsp, STACK32
        NEXT                            # CALL m16:32 pushes two slots of 4 bytes, RETF takes them
        FAR32 callee32, CODE64
        call fword ptr [POINTER]
1:      EQ rsp, STACK32
        EQ ebx, 0x11
        jmp 2f
callee32:
        EQ rsp, STACK32 - 8
        EQ dword ptr [rsp], offset 1b
        EQ dword ptr [rsp + 4], CODE64
        mov ebx, 0x11
        .byte 0xCB
2:      NEXT                            # CALL from compatibility code, and RETF with 64-bit operands
        COMPAT32
        lcall CODE64, offset callee_compat
1:      mov ax, cs
        EQ ax, CODE32
        mov eax, esp
        EQ eax, STACK32
        BACK64
        jmp 2f
callee_compat:
        EQ rsp, STACK32 - 8
        EQ dword ptr [rsp], offset 1b
        pop rax
        sub rsp, 8
        mov eax, offset 1b
        mov [rsp - 8], rax
        mov qword ptr [rsp], CODE32
        sub rsp, 8
        .byte 0x48, 0xCA, 0, 0          # RETF 0
2:      mov rsp, STACK32
        NEXT                            # RETF n
        sub rsp, 0x20
        mov eax, offset 1f
        push CODE64
        push rax
        .byte 0x48, 0xCA, 0x20, 0
1:      EQ rsp, STACK32
        NEXT                            # a call gate to the same level: 64-bit slots, from compatibility code as well
        SETGATE CODE64, gated, 0x8C
        FAR32 0, S_GATE
        call fword ptr [POINTER]
1:      EQ rsp, STACK32
        jmp 2f
gated:  EQ rsp, STACK32 - 16
        mov eax, offset 1b
        EQ [rsp], rax
        EQ qword ptr [rsp + 8], CODE64
        .byte 0x48, 0xCB
2:      SETGATE CODE64, gated_compat, 0x8C
        COMPAT32
        lcall S_GATE, 0
1:      mov eax, esp
        EQ eax, STACK32
        BACK64
        jmp 2f
gated_compat:
        EQ rsp, STACK32 - 16
        mov eax, offset 1b
        EQ [rsp], rax
        EQ qword ptr [rsp + 8], CODE32
        .byte 0x48, 0xCB
2:      NEXT                            # JMP through it
        SETGATE CODE64, 1f, 0x8C
        jmp fword ptr [POINTER]
1:      mov ax, cs
        EQ ax, CODE64
        EQ rsp, STACK32
        NEXT                            # to an inner level: stack from the TSS, SS null, four slots; RETF goes back out
        SETGATE CODE64, inner, 0xEC
        FAR32 0, S_GATE + 3
        USER64_CODE
        call fword ptr [POINTER]
1:      EQ rsp, STACK_USER
        mov ax, ss
        EQ ax, USER_DATA
        mov ax, cs
        EQ ax, USER64
        jmp 2f
inner:  EQ rsp, STACK_RSP0 - 32
        mov eax, offset 1b
        EQ [rsp], rax
        EQ qword ptr [rsp + 8], USER64
        EQ qword ptr [rsp + 16], STACK_USER
        EQ qword ptr [rsp + 24], USER_DATA
        mov ax, ss
        EQ ax, 0
        mov ax, cs
        EQ ax, CODE64
        mov eax, USER_DATA
        mov ds, eax
        mov es, eax
        .byte 0x48, 0xCB
2:      WANT64 13, S_GATE, 1f, 2f       # the gate's privilege
        mov qword ptr [V_RSP64], STACK32
        mov byte ptr [rip + metal_gdt + S_GATE + 5], 0x8C
1:      call fword ptr [POINTER]
2:      mov byte ptr [rip + metal_gdt + S_GATE + 5], 0xEC
        NEXT                            # conforming code behind a gate keeps the level
        SETGATE S_CONF, 1f, 0xEC
        USER64_CODE
        call fword ptr [POINTER]
1:      mov ax, cs
        EQ ax, S_CONF + 3
        EQ rsp, STACK_USER - 16
        WANT64 6, NO_ERROR_CODE, 1f, 2f
        mov qword ptr [V_RSP64], STACK32
1:      ud2
2:      NEXT                            # what a far transfer refuses
        FAR32 0, 0
        FAULT64 13, 0, jmp fword ptr [POINTER]
        FAULT64 13, 0, call fword ptr [POINTER]
        FAR32 0, S_CODE64D
        FAULT64 13, S_CODE64D, jmp fword ptr [POINTER]
        FAULT64 13, S_CODE64D, call fword ptr [POINTER]
        FAR32 0, S_ABSENT
        FAULT64 11, S_ABSENT, jmp fword ptr [POINTER]
        FAR32 0, DATA32
        FAULT64 13, DATA32, jmp fword ptr [POINTER]
        FAR32 0, S_TSS                  # no tasks
        FAULT64 13, S_TSS, jmp fword ptr [POINTER]
        FAULT64 13, S_TSS, call fword ptr [POINTER]
        FAR32 0x1000, S_SMALL           # compatibility code has its limit
        FAULT64 13, 0, jmp fword ptr [POINTER]
        FAULT64 13, 0, call fword ptr [POINTER]
        FAR32 0, 0x7F8
        FAULT64 13, 0x7F8, jmp fword ptr [POINTER]
        NEXT                            # and a gate
        FAR32 0, S_GATE
        SETGATE CODE32, 0, 0x8C         # must lead to 64-bit code
        FAULT64 13, CODE32, call fword ptr [POINTER]
        SETGATE CODE64, 0, 0x84         # of 16 bits
        FAULT64 13, S_GATE, call fword ptr [POINTER]
        SETGATE CODE64, 0, 0x85         # of a task
        FAULT64 13, S_GATE, call fword ptr [POINTER]
        SETGATE CODE64, 0, 0x0C
        FAULT64 11, S_GATE, call fword ptr [POINTER]
        SETGATE 0, 0, 0x8C
        FAULT64 13, 0, call fword ptr [POINTER]
        SETGATE CODE64, 0, 0x8C, 0x0C   # the second half is no descriptor of its own
        FAULT64 13, S_GATE, call fword ptr [POINTER]
        SETGATE CODE64, 0, 0x8C
        mov dword ptr [rip + metal_gdt + S_GATE + 8], NON_CANONICAL >> 32
        FAULT64 13, 0, call fword ptr [POINTER]
        FAULT64 13, 0, jmp fword ptr [POINTER]
        EQ rsp, STACK32
        NEXT                            # what RETF refuses
.macro RETF_FAULT error, cs_, vector=13
        mov rsp, STACK32
        push \cs_
        push 0
        FAULT64 \vector, \error, .byte 0x48, 0xCB
.endm
        RETF_FAULT 0, 0
        RETF_FAULT DATA32, DATA32
        RETF_FAULT S_CODE64D, S_CODE64D
        RETF_FAULT S_ABSENT, S_ABSENT, 11
        RETF_FAULT USER64-3, USER64-3
        mov rsp, STACK32
        push 0                          # ring 3 with a null stack segment
        push STACK_USER
        push USER64
        push 0
        FAULT64 13, 0, .byte 0x48, 0xCB
        PASS
        METAL64_END
