# CPUID, RDTSC, WBINVD, the TSC's MSR, which bits of EFLAGS move.
.include "metal.inc"
        METAL "system"
.set CPUID_TSC, 0x10
.set CPUID_MSR, 0x20
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
        PASS
one_ac: .long 0x40002
reserved_flags: .long 0x0802A
        METAL_END
