# System calls of long mode: SYSCALL and SYSRET with all they load, SWAPGS, the MSRs behind them, single-stepping across,
# what is refused.  Vendors differ outside 64-bit code; that is left out.
.include "metal64.inc"
        METAL "syscall64"
.set S_USER32, FREE64                   # STAR wants: 32-bit code, data, 64-bit code, in this order
.set S_USER_DATA, FREE64 + 8
.set S_USER64, FREE64 + 0x10
.set MSR_STAR, 0xC0000081
.set MSR_LSTAR, 0xC0000082
.set MSR_FMASK, 0xC0000084
.set MSR_GS, 0xC0000101
.set MSR_KERNEL_GS, 0xC0000102

.macro TO_USER flags, label, prefix=0x48 # SYSRETQ
        mov ecx, offset \label
        mov r11d, \flags
        .byte \prefix, 0x0F, 0x07
.endm
        LONG64
        DESC S_USER32, 0, 0xFFFFF, 0xFB, 12
        DESC S_USER_DATA, 0, 0xFFFFF, 0xF3, 12
        DESC S_USER64, 0, 0xFFFFF, 0xFB, 10
        FROM 1
        NEXT                            # not without EFER.SCE
        FAULT64 6, NO_ERROR_CODE, syscall
        FAULT64 6, NO_ERROR_CODE, .byte 0x48, 0x0F, 0x07
        RDMSR64 MSR_EFER
        or al, EFER_SCE
        WRMSR64 MSR_EFER
        mov rax, ((S_USER32 | 3) << 48) | (CODE64 << 32)
        WRMSR64 MSR_STAR
        RDMSR64 MSR_STAR
        mov rcx, ((S_USER32 | 3) << 48) | (CODE64 << 32)
        EQ rax, rcx
        mov eax, offset entered
        WRMSR64 MSR_LSTAR
        mov eax, DF | CF | TF
        WRMSR64 MSR_FMASK
        NEXT                            # SYSRET: ring 3, flags from R11, selectors from STAR
        TO_USER CF|ZF|IF|0x3000, 1f
1:      mov ax, cs
        EQ ax, S_USER64 + 3
        mov ax, ss
        EQ ax, S_USER_DATA + 3
        EQ rsp, STACK32

        NEXT                            # SYSCALL: return address, flags, the mask, no change of the stack
        mov rsp, STACK_USER
        SETFLAGS CF | ZF | DF
        syscall
1:      FAIL
entered:
        mov [V_SAVE], rsp
        mov rsp, STACK32
        pushfq
        pop rax
        and eax, CF | DF
        EQ eax, 0
        EQ qword ptr [V_SAVE], STACK_USER
        mov eax, offset 1b
        EQ rcx, rax
        and r11d, ARITH | DF
        EQ r11d, CF | ZF | DF
        mov ax, cs
        EQ ax, CODE64
        mov ax, ss
        EQ ax, CODE64 + 8
        mov eax, DATA32
        mov ss, eax
        cld
        NEXT                            # SYSRET to compatibility code
        mov ecx, offset 1f
        mov r11d, 2
        .byte 0x0F, 0x07
BITS32
1:      mov ax, cs
        EQ ax, S_USER32 + 3
        mov ax, ss
        EQ ax, S_USER_DATA + 3
        .byte 0x40                      # INC EAX
        EQ ax, S_USER_DATA + 4
        WANT64 6, NO_ERROR_CODE, 1f, 2f
        mov dword ptr [V_RSP64], STACK32
1:      ud2
BITS64
2:      NEXT                            # SYSRET is for ring 0
        TO_USER 0x3002, 1f
1:      WANT64 13, 0, 1f, 2f
        mov qword ptr [V_RSP64], STACK32
1:      .byte 0x48, 0x0F, 0x07
2:      NEXT                            # SYSRET cannot set RF
        TO_USER RF|2, 1f
1:      pushfq
        pop rax
        EQ eax, 2
        WANT64 6, NO_ERROR_CODE, 1f, 2f
        mov qword ptr [V_RSP64], STACK32
1:      ud2
2:      NEXT                            # SWAPGS: the base only, twice is nothing
        mov rax, HIGH_HALF
        WRMSR64 MSR_KERNEL_GS
        mov eax, FREE_RAM
        WRMSR64 MSR_GS
        mov dword ptr [0x1F000], 0x11111111
        mov dword ptr [FREE_RAM + 0x1F000], 0x22222222
        EQ dword ptr gs:[0x1F000], 0x22222222
        swapgs
        EQ dword ptr gs:[0x1F000], 0x11111111
        RDMSR64 MSR_GS
        mov rcx, HIGH_HALF
        EQ rax, rcx
        RDMSR64 MSR_KERNEL_GS
        EQ eax, FREE_RAM
        swapgs
        EQ dword ptr gs:[0x1F000], 0x22222222
        NEXT                            # TF: masked, nothing traps in the kernel
        mov eax, offset 3f
        WRMSR64 MSR_LSTAR
        mov rsp, STACK32
        TO_USER 0x3002, 1f
1:      WANT64 1, NO_ERROR_CODE, 2f, 4f # the trap of the instruction before: POPFQ sets TF for the next one
        mov qword ptr [V_RSP64], STACK32
        push 0x3002 | TF
        popfq
        syscall
2:      FAIL
3:      nop
        nop
        pushfq
        pop rax
        and eax, TF
        EQ eax, 0
        and r11d, TF
        EQ r11d, TF
        mov dword ptr [V_VEC], -1
        NEXT                            # and SYSRET that brings TF traps before the program's next instruction
        mov rsp, STACK32
        mov eax, DATA32
        mov ss, eax
        WANT64 1, NO_ERROR_CODE, 2f, 4f
        TO_USER 0x3002|TF, 2f
2:      FAIL
4:      EQ qword ptr [SEEN_CS64], S_USER64 + 3
        mov rax, dr6
        and eax, 0x4000
        EQ eax, 0x4000
        PASS
        METAL64_END
