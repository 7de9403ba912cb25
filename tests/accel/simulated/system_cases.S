# Runs a table of system-level cases in long mode and writes down how each ended.  system_cases.py makes the table.
#
# A case is data only: CR0, CR4, EFER; up to 16 qwords to write first (page table entries, descriptors, gates, stack
# contents, code); the frame and the registers that an IRETQ starts it with; up to 12 qwords to read afterwards.  Every gate
# of the IDT leads to `common` with a vector pushed, so whatever the case does ends there: what the processor pushed, CR2,
# registers and the qwords asked for go to the result.  All memory but this ROM is laid out by system_cases.py.

.intel_syntax noprefix
.set TABLES, 0x300000
.set GDT, 0x306000
.set IDT, 0x308000
.set TSS, 0x309000
.set COUNT, 0x30B000
.set INDEX, 0x30B008
.set SAVED, 0x30B100
.set CASES, 0x400000
.set RESULTS, 0x800000
.set STACK, 0xB10000
.set DEFAULT_CR0, 0x80010033
.set DEFAULT_CR4, 0x620
.set DEFAULT_EFER, 0xD01
.set EFER, 0xC0000080

.text
.org 0
        .code64
start64:                                # F0000: 64-bit code
        lgdt [gdtr]
        lidt [idtr]
        mov rsp, STACK
        push 0x08
        push offset next
        rex.w retf
.org 0x80
        jmp common                      # F0080: the stubs come here
.org 0x90
done:   hlt                             # F0090: the end
        jmp done

.org 0x100
next:   mov rsp, STACK
        mov rax, [INDEX]
        cmp rax, [COUNT]
        jae done
        shl rax, 9
        lea rbx, [rax + CASES]
        lea rsi, [rbx + 120]
        mov ecx, 16
1:      mov rdi, [rsi]
        test rdi, rdi
        jz 2f
        mov rax, [rsi + 8]
        mov [rdi], rax
2:      add rsi, 16
        loop 1b
        lgdt [gdtr]
        lidt [idtr]
        mov eax, 0x23
        mov ds, ax
        mov es, ax
        xor eax, eax
        lldt ax
        mov fs, ax
        mov gs, ax
        mov byte ptr [GDT + 0x35], 0x89 # the TSS is free again
        mov eax, 0x30
        ltr ax
        push [rbx + 64]
        push [rbx + 56]
        push [rbx + 48]
        push [rbx + 40]
        push [rbx + 32]
        mov ecx, EFER
        mov eax, [rbx + 16]
        xor edx, edx
        wrmsr
        mov rax, [rbx + 8]
        mov cr4, rax
        mov rax, [rbx]
        mov cr0, rax
        mov eax, TABLES
        mov cr3, rax
        mov rax, [rbx + 72]
        mov rcx, [rbx + 80]
        mov rdx, [rbx + 88]
        mov rsi, [rbx + 104]
        mov rdi, [rbx + 112]
        mov rbx, [rbx + 96]
        iretq

common: mov [SAVED], rax
        mov [SAVED + 8], rcx
        mov [SAVED + 16], rdx
        mov rax, DEFAULT_CR0
        mov cr0, rax
        mov eax, DEFAULT_CR4
        mov cr4, rax
        mov ecx, EFER
        mov eax, DEFAULT_EFER
        xor edx, edx
        wrmsr
        mov eax, TABLES
        mov cr3, rax
        mov rdi, [INDEX]
        mov rbx, rdi
        shl rdi, 8
        add rdi, RESULTS
        mov rsi, rsp
        mov ecx, 7                      # vector, error code, RIP, CS, RFLAGS, RSP, SS
        cld
        rep movsq
        mov rax, cr2
        stosq
        mov rax, [SAVED]
        stosq
        mov rax, [SAVED + 8]
        stosq
        mov rax, [SAVED + 16]
        stosq
        mov rax, rsp
        stosq
        xor eax, eax
        mov ax, gs
        shl rax, 16
        mov ax, fs
        shl rax, 16
        mov ax, es
        shl rax, 16
        mov ax, ds
        stosq
        shl rbx, 9
        lea rsi, [rbx + CASES + 376]
        mov ecx, 12
3:      mov rbx, [rsi]
        xor eax, eax
        test rbx, rbx
        jz 4f
        mov rax, [rbx]
4:      stosq
        add rsi, 8
        loop 3b
        xor eax, eax
        mov cr2, rax
        inc qword ptr [INDEX]
        jmp next

gdtr:   .word 0x3ff
        .quad GDT
idtr:   .word 0xfff
        .quad IDT

        .code32
start32:
        mov eax, 0x10
        mov ds, eax
        mov es, eax
        mov ss, eax
        mov eax, DEFAULT_CR4
        mov cr4, eax
        mov eax, TABLES
        mov cr3, eax
        mov ecx, EFER
        mov eax, DEFAULT_EFER & ~0x400
        xor edx, edx
        wrmsr
        mov eax, DEFAULT_CR0
        mov cr0, eax
        ljmp 0x18, offset start64

        .code16
start16:
        cli
        lgdt cs:[boot_gdtr - start64]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        .byte 0x66, 0xEA                # far jump, 32-bit offset
        .long start32
        .word 0x08

        .balign 8
boot_gdt:
        .quad 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0x00AF9B000000FFFF
boot_gdtr:
        .word 31
        .long boot_gdt

.org 0xFFF0
        .code16
        .byte 0xEA                      # far jump F000:start16
        .word start16 - start64
        .word 0xF000
.org 0x10000
