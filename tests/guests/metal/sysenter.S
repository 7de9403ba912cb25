# SYSENTER and SYSEXIT, where CPUID announces them, and their MSRs.
.include "metal.inc"
        METAL "sysenter"
.set CPUID_SEP, 0x800
        PROTECTED32
        mov eax, 1
        cpuid
        mov dword ptr [0x8000], edx
        FROM 1
        NEXT                            # SYSENTER MSRs keep what is written
        mov eax, dword ptr [0x8000]
        test eax, CPUID_SEP
        jz .Lno_sysenter
        mov ecx, 0x174
        mov eax, CODE32
        xor edx, edx
        wrmsr
        mov ecx, 0x175
        mov eax, STACK_ESP0 - 64
        wrmsr
        mov ecx, 0x176
        mov eax, offset entered
        wrmsr
        xor eax, eax
        rdmsr
        EQ eax, offset entered
        EQ edx, 0
        NEXT                            # SYSEXIT to ring 3: CS + 16 and CS + 24, flat; so slots of that order are needed
        mov ecx, 0x174
        mov eax, FREE_SEL
        xor edx, edx
        wrmsr
        DESC FREE_SEL, 0, 0xFFFFF, 0x9B, 12
        DESC FREE_SEL+8, 0, 0xFFFFF, 0x93, 12
        DESC FREE_SEL+16, 0, 0xFFFFF, 0xFB, 12
        DESC FREE_SEL+24, 0, 0xFFFFF, 0xF3, 12
        mov ecx, STACK_USER
        mov edx, offset user
        sysexit
        FAIL
user:   mov ax, cs
        cmp ax, FREE_SEL + 16 + 3
        jne 1f
        mov ax, ss
        cmp ax, FREE_SEL + 24 + 3
        jne 1f
        mov edi, esp
        sysenter
1:      ud2
entered:
        mov ax, cs
        EQ ax, FREE_SEL
        mov ax, ss
        EQ ax, FREE_SEL + 8
        mov eax, DATA32
        mov ds, eax
        EQ esp, STACK_ESP0 - 64
        EQ edi, STACK_USER
        FLAGS IF | VM, 0
        NEXT                            # SYSENTER without a CS
        mov ecx, 0x174
        xor eax, eax
        xor edx, edx
        wrmsr
        FAULT 13, 0, sysenter
        FAULT 13, 0, sysexit
.Lno_sysenter:
        PASS
        METAL_END
