# The measured loops of 64-bit code: bare metal, long mode, no firmware, no devices.
#
# The harness writes two numbers into the image before a run, as for loop.S: at FF80h which loop, at FF84h how many times round.
# Memory: 100000h page tables, 110000h IDT, 120000h and up what the loops read and write.  The first GiB is mapped to itself by
# 2 MiB pages; 40000000h to 40800000h by 4 KiB pages, to 800000h.
#
# assemble: 64
.include "metal.inc"
        METAL "loop64"
.set WHICH, 0xFF80
.set ROUNDS, 0xFF84
.set CODE64, FREE_SEL                   # and after it, as SYSCALL wants: data, 32-bit user code, user data, user code
.set USER64, FREE_SEL + 0x10
.set PML4, 0x100000
.set PDPT, 0x101000
.set PD, 0x102000
.set PD_SMALL, 0x103000
.set PTS, 0x104000                      # four tables
.set IDT, 0x110000
.set TABLE, 0x120000
.set BUFFER, 0x200000
.set JITTED, 0x300000
.set SMALL, 0x40000000                  # the 4 KiB pages
.set HOLE, 0x60000000                   # nothing is there
.set APIC_COMMAND, 0xFEE00300
.set SECOND_STATE, 0xF000               # of the second processor: 1 it may begin, 2 it is done
.set TOGETHER, 21                       # the loop that needs it
.set SECOND_PAGE, 8                     # where it begins
.set SECOND_STACK, 0x16000

.macro LONG                             # to compatibility mode, by the tables at PML4
        mov eax, PML4
        mov cr3, eax
        mov ecx, 0xC0000080             # EFER: LME, SCE
        rdmsr
        or eax, 0x101
        wrmsr
        mov eax, cr0
        or eax, 0x80000022              # PG, NE, MP
        and eax, ~0x0C                  # not EM, TS
        mov cr0, eax
.endm

        PROTECTED32
        cmp dword ptr [WHICH], TOGETHER
        jne 1f
        mov dword ptr [APIC_COMMAND], 0xC4500       # INIT to all others
        mov dword ptr [APIC_COMMAND], 0xC4600 + SECOND_PAGE # STARTUP
1:
        DESC CODE64, 0, 0xFFFFF, 0x9B, 0xA
        DESC CODE64 + 0x08, 0, 0xFFFFF, 0x93, 0xC
        DESC CODE64 + 0x10, 0, 0xFFFFF, 0xFB, 0xC
        DESC CODE64 + 0x18, 0, 0xFFFFF, 0xF3, 0xC
        DESC CODE64 + 0x20, 0, 0xFFFFF, 0xFB, 0xA
        cld
        mov edi, PML4
        xor eax, eax
        mov ecx, (0x120000 - PML4) / 4
        rep stosd
        mov dword ptr [PML4], PDPT + 7
        mov dword ptr [PDPT], PD + 7
        mov dword ptr [PDPT + 8], PD_SMALL + 7
        mov eax, 0x87                   # 2 MiB, user, writable
        mov edi, PD
1:      mov [edi], eax
        add edi, 8
        add eax, 0x200000
        cmp edi, PD + 0x1000
        jb 1b
        mov eax, PTS + 7
        mov edi, PD_SMALL
1:      mov [edi], eax
        add edi, 8
        add eax, 0x1000
        cmp edi, PD_SMALL + 4 * 8
        jb 1b
        mov eax, 0x800007
        mov edi, PTS
1:      mov [edi], eax
        add edi, 8
        add eax, 0x1000
        cmp edi, PTS + 0x4000
        jb 1b
        mov eax, 1
        cpuid
        mov eax, 0x0A0                  # PAE, PGE
        test edx, 1 << 24
        jz 1f
        mov eax, 0x6A0                  # and OSFXSR, OSXMMEXCPT
1:      mov cr4, eax
        LONG
        ljmp CODE64, offset long_mode

.code64
        .balign 16
long_mode:
        mov ecx, 0xC0000081             # STAR
        xor eax, eax
        mov edx, CODE64 | (USER64 | 3) << 16
        wrmsr
        inc ecx                         # LSTAR
        mov eax, offset on_syscall
        xor edx, edx
        wrmsr
        mov ecx, 0xC0000084             # FMASK
        xor eax, eax
        wrmsr
        mov dword ptr [IDT + 14 * 16], offset on_page_fault + (CODE64 << 16)
        mov dword ptr [IDT + 14 * 16 + 4], 0x8E00
        mov dword ptr [IDT + 128 * 16], offset on_interrupt + (CODE64 << 16)
        mov dword ptr [IDT + 128 * 16 + 4], 0x8E00
        lidt [idtr64]
        mov esp, STACK32
        mov ecx, dword ptr [ROUNDS]
        mov eax, dword ptr [WHICH]
        mov rbx, 0x123456789ABCDEF0
        mov rbp, 0x0FEDCBA987654321
        xor esi, esi
        xor edi, edi
        xor edx, edx
        cmp eax, (loops_end - loops) / 8
        jae fail
        jmp qword ptr [loops + rax * 8]
fail:   push CODE32
        lea rax, [metal_fail32]
        push rax
        retfq
done:   push CODE32                     # the report is made by 32-bit code
        lea rax, [metal_pass32]
        push rax
        retfq

        .balign 8
idtr64: .word 129 * 16 - 1
        .quad IDT
        .balign 8
loops:  .quad registers, memory, calls, branches, small_copies, large_copies, large_fills, scans
        .quad sse_copies, sse_arithmetic, x87, table_walks, cr3_writes, invalidations, page_faults
        .quad syscalls, interrupts, self_modifying, multiplications, locked, alone, together
loops_end:

        .balign 16
registers: # 10
1:      add rax, rbx
        xor rdx, rax
        lea rsi, [rax + rdx * 2 + 3]
        rol rbx, 5
        sub rdi, rsi
        and ebp, 0x0FFFFFFF
        or rbp, rdi
        inc eax
        dec ecx
        jnz 1b
        jmp done

        .balign 16
memory: # 9
        xor ebx, ebx
1:      mov rax, qword ptr [TABLE + rbx * 8]
        add rax, rcx
        mov qword ptr [TABLE + 0x2000 + rbx * 8], rax
        movzx edx, byte ptr [TABLE + 0x4000 + rbx]
        add qword ptr [TABLE + 0x5000], rdx
        inc ebx
        and ebx, 0x3FF
        dec ecx
        jnz 1b
        jmp done

        .balign 16
calls: # 13
1:      push rcx
        push rbx
        call 3f
        pop rbx
        pop rcx
        test eax, 1
        jz 2f
        nop
2:      dec ecx
        jnz 1b
        jmp done
        .balign 16
3:      mov eax, dword ptr [rsp + 8]
        and eax, ~1
        cmp rax, rbp
        ret

        .balign 16
branches: # 18: the three in the middle go either way, with as many instructions
        mov rax, rbp
        mov r8, 6364136223846793005
1:      imul rax, r8
        add rax, rbx
        mov rdx, rax
        shr rdx, 33
        test dl, 1
        jz 2f
        add esi, edx
        jmp 3f
2:      sub esi, edx
        nop
3:      test dl, 2
        jz 4f
        xor edi, esi
        jmp 5f
4:      add edi, edx
        nop
5:      cmp dl, 0x80
        jb 6f
        inc r9
        jmp 7f
6:      dec r9
        nop
7:      dec ecx
        jnz 1b
        jmp done

        .balign 16
small_copies: # 64 bytes: 32 by MOVSB, 32 by MOVSQ
        mov ebp, ecx
1:      mov esi, TABLE + 3
        mov edi, BUFFER
        mov ecx, 32
        rep movsb
        mov ecx, 4
        rep movsq
        dec ebp
        jnz 1b
        jmp done

        .balign 16
large_copies: # 64 KiB
        mov ebp, ecx
1:      mov esi, TABLE
        mov edi, BUFFER
        mov ecx, 0x2000
        rep movsq
        dec ebp
        jnz 1b
        jmp done

        .balign 16
large_fills: # 64 KiB
        mov ebp, ecx
        xor eax, eax
1:      mov edi, BUFFER
        mov ecx, 0x2000
        rep stosq
        dec ebp
        jnz 1b
        jmp done

        .balign 16
scans: # 256 bytes: 128 by SCASB, 128 by CMPSB
        mov ebp, ecx
        mov edi, TABLE
        mov ecx, 0x1000
        mov al, 0x55
        rep stosb
        xor eax, eax
1:      mov edi, TABLE + 5
        mov ecx, 128
        repne scasb
        mov esi, TABLE + 0x200
        mov edi, TABLE + 0x300
        mov ecx, 128
        repe cmpsb
        dec ebp
        jnz 1b
        jmp done

        .balign 16
sse_copies: # 13, 64 bytes
        mov esi, TABLE
        mov edi, BUFFER
        xor eax, eax
1:      movups xmm0, [rsi + rax]
        movups xmm1, [rsi + rax + 16]
        movdqu xmm2, [rsi + rax + 32]
        movdqa xmm3, [rsi + rax + 48]
        movaps [rdi + rax], xmm0
        movups [rdi + rax + 16], xmm1
        movdqu [rdi + rax + 32], xmm2
        movdqa [rdi + rax + 48], xmm3
        add eax, 64
        and eax, 0xFFF
        lea rdx, [rdi + rax]
        dec ecx
        jnz 1b
        jmp done

        .balign 16
sse_arithmetic: # 12
        mov eax, 3
        cvtsi2sd xmm0, eax
        cvtsi2sd xmm1, eax
        cvtsi2sd xmm3, eax
        divsd xmm3, xmm3
1:      addsd xmm0, xmm3
        mulsd xmm1, xmm3
        movapd xmm2, xmm0
        subsd xmm2, xmm1
        cvttsd2si eax, xmm0
        cvtsi2sd xmm4, eax
        ucomisd xmm4, xmm2
        pxor xmm5, xmm4
        paddd xmm5, xmm0
        pshufd xmm6, xmm5, 0x1B
        dec ecx
        jnz 1b
        jmp done

        .balign 16
x87: # 9
        fninit
        fld1
        fstp qword ptr [TABLE]
        fldpi
        fstp qword ptr [TABLE + 8]
1:      fld qword ptr [TABLE]
        fmul qword ptr [TABLE + 8]
        fld st(0)
        fadd qword ptr [TABLE]
        fdivp st(1), st
        fxch st(0)
        fstp qword ptr [TABLE + 16]
        dec ecx
        jnz 1b
        jmp done

        .balign 16
table_walks: # 1 page of 2048, no two after one another
        mov ebx, SMALL
        xor eax, eax
1:      add qword ptr [rbx + rax], 1
        add eax, 0x5440
        and eax, 0x7FFFC0
        dec ecx
        jnz 1b
        jmp done

        .balign 16
cr3_writes: # 1, and eight pages touched after it
        mov rbx, cr3
        mov esi, SMALL
1:      mov cr3, rbx
        mov rax, [rsi]
        mov rax, [rsi + 0x1000]
        mov rax, [rsi + 0x2000]
        mov rax, [rsi + 0x3000]
        mov [rsi + 0x4000], rax
        mov [rsi + 0x5000], rax
        mov [rsi + 0x6000], rax
        mov [rsi + 0x7000], rax
        call 2f
        dec ecx
        jnz 1b
        jmp done
        .balign 4096
2:      nop
        jmp 3f
        .balign 64
3:      ret

        .balign 16
invalidations: # 1
        mov esi, SMALL
1:      invlpg [rsi]
        mov rax, [rsi]
        dec ecx
        jnz 1b
        jmp done

        .balign 16
page_faults: # 1
        mov esi, HOLE
1:      mov eax, [rsi]                  # 2 bytes
        dec ecx
        jnz 1b
        jmp done
        .balign 16
on_page_fault:
        add rsp, 8
        add qword ptr [rsp], 2
        iretq

        .balign 16
syscalls: # 1, there and back
        mov r9d, ecx
        mov ecx, offset 1f
        mov r11d, 2
        sysretq
1:      syscall
        dec r9d
        jnz 1b
        mov r10d, 1                     # the last one stays
        syscall
        .balign 16
on_syscall:
        test r10d, r10d
        jnz done
        sysretq

        .balign 16
interrupts: # 1, there and back
1:      int 128
        dec ecx
        jnz 1b
        jmp done
        .balign 16
on_interrupt:
        iretq

        .balign 16
self_modifying: # 1 function of seven instructions, written and called
        mov edi, JITTED
1:      mov dword ptr [rdi], 0xB8909090 # NOP; NOP; NOP; MOV EAX, ECX's value; ADD EAX, 1; MOV EDX, EAX; RET
        mov dword ptr [rdi + 4], ecx
        mov dword ptr [rdi + 8], 0x8901C083
        mov dword ptr [rdi + 12], 0x0090C3C2
        call rdi
        dec ecx
        jnz 1b
        jmp done

        .balign 16
multiplications: # 8
        mov esi, 1000003
1:      mov rax, rbx
        mul rbp
        imul rdi, rbx, 12345
        xor edx, edx
        div rsi
        add rbx, rdx
        dec ecx
        jnz 1b
        jmp done

        .balign 16
locked: # 6
        mov edi, TABLE
1:      lock add qword ptr [rdi], 1
        mov eax, 1
        lock xadd qword ptr [rdi + 64], rax
        xchg qword ptr [rdi + 128], rax
        dec ecx
        jnz 1b
        jmp done

        .balign 16
work: # 9: ECX rounds in the 12 KiB at RDI
        xor ebx, ebx
1:      mov rax, qword ptr [rdi + rbx * 8]
        add rax, rcx
        mov qword ptr [rdi + 0x1000 + rbx * 8], rax
        movzx edx, byte ptr [rdi + 0x2000 + rbx]
        xor rax, rdx
        inc ebx
        and ebx, 0x1FF
        dec ecx
        jnz 1b
        ret

        .balign 16
alone: # 9, on one processor
        mov edi, TABLE
        call work
        jmp done

        .balign 16
together: # 18, nine on each of two
        mov dword ptr [SECOND_STATE], 1
        mov edi, TABLE
        call work
1:      pause
        cmp dword ptr [SECOND_STATE], 2
        jne 1b
        jmp done

        .org SECOND_PAGE * 0x1000
second: # real mode, CS = second / 16: the second processor begins here
.code16
        xor ax, ax
        mov ds, ax
        lgdtd [metal_gdtr]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        ljmpd CODE32, offset second32
.code32
second32:
        mov eax, DATA32
        mov ds, eax
        mov ss, eax
        mov esp, SECOND_STACK
1:      pause
        cmp dword ptr [SECOND_STATE], 1
        jne 1b
        mov eax, 0x0A0
        mov cr4, eax
        LONG
        ljmp CODE64, offset second64
.code64
second64:
        mov ecx, dword ptr [ROUNDS]
        mov edi, TABLE + 0x4000
        call work
        mov dword ptr [SECOND_STATE], 2
1:      hlt
        jmp 1b

        .org WHICH
        .long 0, 0
        METAL_END
