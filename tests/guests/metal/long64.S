# Long mode: entering and leaving it, compatibility code of both sizes, segments and their bases in 64-bit code, RIP-relative
# operands, widths, opcodes that 64-bit code does not have.
.include "metal64.inc"
        METAL "long64"
.set S_BASED, FREE64                    # data with base FREE_RAM
.set S_SMALL, FREE64 + 8                # data with a limit of one page

        LONG64
        FROM 1
        NEXT                            # where we are
        RDMSR64 MSR_EFER
        and eax, EFER_LME | EFER_LMA
        EQ eax, EFER_LME | EFER_LMA
        mov ax, cs
        EQ ax, CODE64
        mov rax, cr0
        and eax, 0x80000001
        EQ eax, 0x80000001
        NEXT                            # widths: 32-bit results clear the upper half, 16 and 8-bit ones keep it
        mov rax, 0x123456789ABCDEF0
        mov rcx, rax
        shr rcx, 32
        EQ ecx, 0x12345678
        mov r15, rax
        mov r15d, r15d
        mov eax, 0x9ABCDEF0
        EQ r15, rax
        mov rbx, -1
        mov bx, 0
        mov bl, 5
        mov sil, 7
        EQ sil, 7
        shr rbx, 16
        mov rax, 0xFFFFFFFFFFFF
        EQ rbx, rax
        mov eax, 0x80000000
        movsxd rcx, eax
        shr rcx, 31
        mov rdx, 0x1FFFFFFFF
        EQ rcx, rdx
        cdqe
        cqo
        EQ rdx, -1
        NEXT                            # stack operations take 64 bits
        mov rbp, rsp
        push -2
        EQ qword ptr [rsp], -2
        lea rax, [rsp + 8]
        EQ rax, rbp
        pop rax
        EQ rax, -2
        .byte 0x66, 0x6A, 0xFE          # PUSH with operand size 16
        lea rax, [rsp + 2]
        EQ rax, rbp
        EQ word ptr [rsp], -2
        mov rsp, rbp
        push fs
        EQ qword ptr [rsp], DATA32
        pop gs
        enter 32, 0
        lea rax, [rbp - 32]
        EQ rax, rsp
        leave
        EQ rsp, rbp
        call 1f
1:      pop rax
        mov ecx, offset 1b
        EQ rax, rcx
        pushfq
        pop rax
        shr rax, 22
        EQ rax, 0
        NEXT                            # RIP-relative, and an immediate behind the displacement
        mov eax, [rip + here]
        EQ eax, 0x13572468
here_too:
        cmp dword ptr [rip + here], 0x13572468
        JNE_FAIL
        lea rax, [rip + here]
        mov ecx, offset here
        EQ rax, rcx
        mov rax, [rip + here]
        mov rcx, 0x1111111113572468
        EQ rax, rcx
        .byte 0x48, 0xA1                # MOV RAX, moffs64
        .long FREE_RAM, 0
        NEXT                            # no bases, limits or rights for ES CS SS DS
        DESC S_BASED, FREE_RAM, 0xFFFFF, 0x93, 12
        DESC S_SMALL, 0, 0, 0x91, 8     # one page, read-only
        mov dword ptr [0x1F000], 0x11111111
        mov dword ptr [FREE_RAM + 0x1F000], 0x22222222
        mov eax, S_BASED
        mov ds, eax
        mov es, eax
        EQ dword ptr [0x1F000], 0x11111111
        mov eax, S_SMALL
        mov ds, eax
        mov dword ptr [FREE_RAM], 0x33333333
        xor eax, eax
        mov ds, eax                     # nor of null
        EQ dword ptr [FREE_RAM], 0x33333333
        mov ss, eax                     # which SS may be in rings 0 to 2
        push rax
        pop rax
        mov ax, ss
        EQ ax, 0
        mov eax, DATA32
        mov ss, eax
        mov ds, eax
        NEXT                            # FS and GS have theirs: 32 bits of a descriptor, 64 of the MSR
        mov eax, S_BASED
        mov fs, eax
        EQ dword ptr fs:[0x1F000], 0x22222222
        mov rax, HIGH_HALF
        WRMSR64 0xC0000100
        EQ dword ptr fs:[0x1F000], 0x11111111
        RDMSR64 0xC0000100
        mov rcx, HIGH_HALF
        EQ rax, rcx
        mov ax, fs
        EQ ax, S_BASED
        mov rax, FREE_RAM
        WRMSR64 0xC0000101
        EQ dword ptr gs:[0x1F000], 0x22222222
        .byte 0x65                      # LEA knows no segment
        lea rax, [0x1F000]
        EQ rax, 0x1F000
        mov eax, DATA32
        mov gs, eax                     # a load replaces all of the base
        EQ dword ptr gs:[0x1F000], 0x11111111
        NEXT                            # address size 32: the sum wraps, the segment base is 64 bits
        mov eax, 0xFFFFFFFF
        EQ dword ptr [eax + 0x1F001], 0x11111111
        mov rax, 0x100000000 + 0x1F000
        EQ dword ptr [eax], 0x11111111
        NEXT                            # compatibility code: 32 bits
        mov eax, S_BASED
        mov ds, eax
        COMPAT32
        EQ dword ptr ss:[0x1F000], 0x11111111
        EQ dword ptr [0x1F000], 0x22222222 # here DS has its base
        mov eax, DATA32
        mov ds, eax
        mov eax, 5
        .byte 0x40                      # INC EAX, not REX
        EQ eax, 6
        pushfd
        pop eax
        mov ebx, esp
        push ebx
        lea eax, [esp + 4]
        EQ eax, ebx
        pop ebx
        FAULT_COMPAT 6, NO_ERROR_CODE, .byte 0x0F, 0x01, 0xF8 # SWAPGS
        NEXT                            # and 16 bits
        push CODE16
        PUSH64 code16
        .byte 0x48, 0xCB
BITS16
code16: mov ax, 0x1234
        push ax
        pop bx
        cmp bx, 0x1234
        jne metal_fail16
        mov ecx, 0xFFFF                 # IP wraps at 64 KiB in this segment, a word's address as well
        lea edx, [bx + 0x7000]
        cmp edx, 0x8234
        jne metal_fail16
        ljmp CODE64, offset 1f
BITS64
1:      mov rsp, STACK32
        NEXT                            # out of long mode and in again
        COMPAT32
        mov eax, cr0
        and eax, 0x7FFFFFFF
        mov cr0, eax
        mov ecx, MSR_EFER
        rdmsr
        and eax, EFER_LME | EFER_LMA
        EQ eax, EFER_LME
        lidtd [metal_idtr]
        FAULT 6, NO_ERROR_CODE, ud2     # an interrupt of protected mode
        ljmp CODE64, offset 1f          # here L means nothing: it is 16-bit code
.code16
1:      mov ax, 0x4321
        cmp ax, 0x4321
        jne metal_fail16
        ljmpd CODE32, offset 2f
BITS32
2:      mov eax, cr0
        or eax, 0x80000000
        mov cr0, eax
        ljmp CODE64, offset 1f
BITS64
1:      lidt [rip + metal_idtr64]
        RDMSR64 MSR_EFER
        and eax, EFER_LME | EFER_LMA
        EQ eax, EFER_LME | EFER_LMA
        mov rax, HIGH_HALF + 0x1F000
        EQ dword ptr [rax], 0x11111111
        NEXT                            # not in 64-bit code
.irp opcode, 0x06, 0x07, 0x0E, 0x16, 0x17, 0x1E, 0x1F, 0x27, 0x2F, 0x37, 0x3F, 0x60, 0x61, 0x82, 0xCE, 0xD4, 0xD5, 0xD6
        FAULT64 6, NO_ERROR_CODE, .byte \opcode, 0, 0, 0, 0, 0, 0
.endr
        FAULT64 6, NO_ERROR_CODE, .byte 0x9A, 0, 0, 0, 0, 8, 0
        FAULT64 6, NO_ERROR_CODE, .byte 0xEA, 0, 0, 0, 0, 8, 0
        PASS
        .balign 8
here:   .quad 0x1111111113572468
        METAL64_END
