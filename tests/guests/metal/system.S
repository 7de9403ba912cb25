# CPUID, RDTSC, WBINVD, the TSC and SYSENTER MSRs, SYSENTER and SYSEXIT, CPUID's serial facts, RDTSC under CR4.TSD.
.include "metal.inc"
        METAL "system"
.set CPUID_TSC, 0x10
.set CPUID_MSR, 0x20
.set CPUID_SEP, 0x800
        FROM 1
        NEXT                            # the ID flag can be moved
        pushfd
        pop eax
        mov ecx, eax
        xor eax, 0x200000
        push eax
        popfd
        pushfd
        pop eax
        xor eax, ecx
        and eax, 0x200000
        EQ eax, 0x200000
        push ecx
        popfd
        NEXT                            # AC can be set, bits 3, 5 and 15 cannot
        push dword ptr [reserved_flags]
        popfd
        pushfd
        pop eax
        and eax, 0x0802A
        EQ eax, 0x00002
        push dword ptr [one_ac]
        popfd
        pushfd
        pop eax
        and eax, 0x40000
        EQ eax, 0x40000
        push 2
        popf
        NEXT
        xor eax, eax
        cpuid
        cmp eax, 1
        jb metal_fail16
        mov eax, 1
        cpuid
        mov dword ptr [0x8000], edx
        mov dword ptr [0x8004], eax
        test edx, CPUID_TSC
        jz metal_fail16
        test edx, CPUID_MSR
        jz metal_fail16
        shr eax, 8
        and eax, 0x0F
        cmp eax, 6                      # an i686 or later
        jb metal_fail16
        NEXT                            # CPUID writes whole registers, same answer each time
        mov eax, 1
        mov ebx, -1
        mov ecx, -1
        mov edx, -1
        cpuid
        EQ edx, dword ptr [0x8000]
        EQ eax, dword ptr [0x8004]
        NEXT                            # the TSC goes on, and is a writable MSR
        rdtsc
        mov esi, eax
        mov edi, edx
        mov ecx, 1000
1:      loop 1b
        rdtsc
        sub eax, esi
        sbb edx, edi
        jb metal_fail16
        or eax, edx
        jz metal_fail16
        NEXT
        wbinvd
        clts
        PROTECTED32
        NEXT
        mov ecx, 0x10
        rdmsr
        mov esi, eax
        mov edi, edx
        rdtsc
        sub eax, esi
        sbb edx, edi
        jb metal_fail32
        NEXT                            # RDTSC is for ring 0 alone under CR4.TSD, and at ring 0 still works
        mov eax, cr4
        or eax, 4
        mov cr4, eax
        rdtsc
        push USER_DATA
        push STACK_USER
        push USER_CODE
        push offset 1f
        mov dword ptr [V_VEC], 13
        mov dword ptr [V_ERR], 0
        mov dword ptr [V_EIP], offset 1f
        mov dword ptr [V_RESUME], offset 2f
        mov word ptr [V_CS], CODE32
        mov word ptr [V_SS], DATA32
        mov dword ptr [V_ESP], STACK32
        mov ax, TSS_SEL
        ltr ax
        retf
1:      rdtsc
        FAIL
2:      mov eax, cr4
        and eax, ~4
        mov cr4, eax
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
one_ac: .long 0x40002
reserved_flags: .long 0x0802A
        METAL_END
