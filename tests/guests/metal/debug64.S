# Debugging in 64-bit code: single steps with their DR6, breakpoints on instructions, data and 64-bit addresses, RF, general
# detect, INT1, the shadow of MOV SS and STI, traps at a string instruction and across IRETQ.
.include "metal64.inc"
        METAL "debug64"
.set BS, 0x4000
.set BD, 0x2000
.set DATA_AT, FREE_RAM

.macro DR6 value                        # the bits that say why; cleared.  RAX is lost.
        mov rax, dr6
        and eax, 0xE00F
        EQ eax, \value
        mov eax, 0xFFFF0FF0
        mov dr6, rax
.endm
.macro DR7 value
        mov eax, \value
        mov dr7, rax
.endm
.macro STEP insn:vararg                 # one instruction with TF set before it; the trap comes behind it.  RAX is lost.
        WANT64 1, NO_ERROR_CODE, .Lat\@, .Lon\@
        pushfq
        or word ptr [rsp], TF
        popfq
        \insn
.Lat\@: FAIL
.Lon\@:
.endm
.macro TRAP_DB insn:vararg              # the instruction traps by a breakpoint
        TRAP64 1, NO_ERROR_CODE, \insn
.endm

        LONG64
        xor eax, eax
        mov dr7, rax
        mov eax, 0xFFFF0FF0
        mov dr6, rax
        FROM 1
        NEXT                            # single steps
        STEP nop
        DR6 BS
        STEP mov rbx, 0x123456789ABCDEF0
        DR6 BS
        EQ bx, 0xDEF0
        mov eax, [SEEN_FLAGS64]
        and eax, TF
        EQ eax, TF
        STEP xchg rbx, [rip + cell]
        DR6 BS
        xchg rbx, [rip + cell]
        NEXT                            # a branch traps at its target
        WANT64 1, NO_ERROR_CODE, 2f, 3f
        pushfq
        or word ptr [rsp], TF
        popfq
        jmp 2f
        FAIL
2:      FAIL
3:      DR6 BS
        NEXT                            # PUSHF sees TF; POPF that clears it still traps
        mov rbx, rsp
        WANT64 1, NO_ERROR_CODE, 1f, 2f
        pushfq
        pushfq
        or word ptr [rsp], TF
        popfq
        popfq
1:      FAIL
2:      mov rsp, rbx
        DR6 BS
        NEXT                            # every iteration of REP
        mov ecx, 3
        mov edi, DATA_AT
        WANT64 1, NO_ERROR_CODE, 1f, 2f
        pushfq
        or word ptr [rsp], TF
        popfq
1:      rep stosb
        FAIL
2:      EQ ecx, 2
        EQ edi, DATA_AT + 1
        DR6 BS
        NEXT                            # INT clears TF before anything traps; IRETQ with TF traps one instruction later
        GATE64 0x30, back
        WANT64 1, NO_ERROR_CODE, 1f, 2f
        pushfq
        or word ptr [rsp], TF
        popfq
        int 0x30
        nop
1:      FAIL
2:      DR6 BS
        NEXT                            # MOV SS: the trap waits for one instruction more
        mov ebx, DATA32
        WANT64 1, NO_ERROR_CODE, 1f, 2f
        pushfq
        or word ptr [rsp], TF
        popfq
        mov ss, ebx
        nop
1:      FAIL
2:      DR6 BS
        NEXT                            # a breakpoint on an instruction is a fault; RF passes it
        mov eax, offset 1f
        mov dr0, rax
        DR7 1
        WANT64 1, NO_ERROR_CODE, 1f, 2f
1:      nop
3:      ud2
2:      DR6 1
        push DATA32
        push STACK32
        push RF | 2
        push CODE64
        PUSH64 1b
        WANT64 6, NO_ERROR_CODE, 3b, 4f
        iretq
4:      mov rsp, STACK32
        DR6 0
        DR7 0
        NEXT                            # data: writes, reads, lengths of 1, 2, 4 and 8
        mov rbx, DATA_AT
        mov dr1, rbx
        DR7 0x00D00008                  # write, 4 bytes (global 1)
        mov eax, [rbx]
        DR6 0
        TRAP_DB mov [rbx], ecx
        DR6 2
        TRAP_DB mov byte ptr [rbx + 3], cl
        DR6 2
        TRAP_DB mov [rbx - 4], rcx
        DR6 2
        mov [rbx + 4], rcx
        mov [rbx - 4], ecx
        DR6 0
        DR7 0x00900008                  # write, 8 bytes
        TRAP_DB mov byte ptr [rbx + 7], cl
        DR6 2
        mov byte ptr [rbx + 8], cl
        DR6 0
        DR7 0x00300008                  # read or write, 1 byte
        TRAP_DB mov al, [rbx]
        DR6 2
        TRAP_DB inc byte ptr [rbx]
        DR6 2
        mov al, [rbx + 1]
        DR6 0
        mov ecx, 4
        mov esi, DATA_AT - 1
        TRAP_DB lodsw
        DR6 2
        NEXT                            # 64-bit addresses
        mov rbx, HIGH_HALF + DATA_AT
        mov dr2, rbx
        DR7 0x0D000020
        mov edi, DATA_AT
        mov [rdi], ecx                  # the same memory, another address
        DR6 0
        TRAP_DB mov [rbx], ecx
        DR6 4
        NEXT                            # both at once; a trap of data with a single step
        WANT64 1, NO_ERROR_CODE, 1f, 2f
        pushfq
        or word ptr [rsp], TF
        popfq
        mov [rbx], ecx
1:      FAIL
2:      DR6 BS | 4
        NEXT                            # MOV SS from watched memory: the trap waits as well
        DR7 0
        mov dword ptr [rbx], DATA32
        DR7 0x0F000020
        WANT64 1, NO_ERROR_CODE, 1f, 2f
        mov ss, word ptr [rbx]
        nop
1:      FAIL
2:      DR6 4
        NEXT                            # general detect: any access to a debug register, before it is made
        DR7 0x2000
        FAULT64 1, NO_ERROR_CODE, mov rax, dr0
        mov rax, dr7                    # delivery has switched it off
        and eax, 0x2000
        EQ eax, 0
        DR6 BD
        NEXT                            # DR4 and DR5 are DR6 and DR7, until CR4.DE
        DR7 0
        mov rax, dr7
        .byte 0x0F, 0x21, 0xE9          # MOV RCX, DR5
        EQ rcx, rax
        mov rax, cr4
        or eax, 8
        mov cr4, rax
        FAULT64 6, NO_ERROR_CODE, .byte 0x0F, 0x21, 0xE9
        FAULT64 6, NO_ERROR_CODE, .byte 0x44, 0x0F, 0x21, 0xC1 # DR8
        NEXT                            # INT1
        TRAP64 1, NO_ERROR_CODE, .byte 0xF1
        TRAP64 3, NO_ERROR_CODE, int3
        DR6 0
        NEXT                            # ring 3 has none of it
        USER64_CODE
        WANT64 13, 0, 1f, 2f
        mov qword ptr [V_RSP64], STACK32
1:      mov rax, dr7
2:      PASS
back:   iretq
        .balign 8
cell:   .quad 0
        METAL64_END
