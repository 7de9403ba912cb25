# What control registers refuse: PG without PE, NW without CD, reserved bits of CR4, CR1, CR5; DR4 and DR5 by CR4.DE; what
# RDMSR and WRMSR refuse; privileged odds and ends at ring 0.  (QEMU's TCG checks little of it.)
.include "metal.inc"
        METAL "control"
        FROM 1
        NEXT                            # real mode
        mov eax, 0x80000010             # PG without PE
        FAULT 13, NO_ERROR_CODE, mov cr0, eax
        mov eax, 0x20000010             # NW without CD
        FAULT 13, NO_ERROR_CODE, mov cr0, eax
        FAULT 6, NO_ERROR_CODE, .byte 0x0F, 0x20, 0xC8 # MOV EAX, CR1
        FAULT 6, NO_ERROR_CODE, .byte 0x0F, 0x22, 0xE8 # MOV CR5, EAX
        FAULT 6, NO_ERROR_CODE, lldt ax # not recognised in real mode
        FAULT 6, NO_ERROR_CODE, str ax
        FAULT 6, NO_ERROR_CODE, verr ax
        FAULT 6, NO_ERROR_CODE, lar eax, eax
        FAULT 6, NO_ERROR_CODE, arpl ax, ax
        PROTECTED32
        NEXT
        mov ecx, cr0
        mov eax, ecx
        and eax, ~0x60000000
        or eax, 0x20000000
        FAULT 13, 0, mov cr0, eax
        mov eax, ecx
        and eax, ~1
        or eax, 0x80000000
        FAULT 13, 0, mov cr0, eax
        mov eax, cr0
        EQ eax, ecx
        NEXT
        mov eax, cr4
        or eax, 0x80000000
        FAULT 13, 0, mov cr4, eax
        NEXT                            # ET is always one
        mov eax, ecx
        and eax, ~0x10
        mov cr0, eax
        mov eax, cr0
        EQ eax, ecx
        NEXT                            # DR4 and DR5 are DR6 and DR7 until CR4.DE
        mov eax, dr7
        mov edx, dr5
        EQ eax, edx
        mov eax, cr4
        or eax, 8
        mov cr4, eax
        FAULT 6, NO_ERROR_CODE, mov eax, dr4
        FAULT 6, NO_ERROR_CODE, mov dr5, eax
        mov eax, cr4
        and eax, ~8
        mov cr4, eax
        NEXT
        mov ecx, 0xDEAD
        FAULT 13, 0, rdmsr
        xor eax, eax
        xor edx, edx
        FAULT 13, 0, wrmsr
        NEXT                            # DR7.GD: any access to a debug register is trapped, once
        mov eax, 0x2400
        mov dr7, eax
        FAULT 1, NO_ERROR_CODE, mov eax, dr0
        mov eax, dr7
        test eax, 0x2000
        jnz metal_fail32
        mov eax, dr6
        test eax, 0x2000                # BD
        jz metal_fail32
        NEXT
        FAULT 6, NO_ERROR_CODE, .byte 0x0F, 0x01, 0xC8 + 0x20 + 0x10 # LMSW and SMSW take registers, LGDT does not: F8h is INVLPG reg
        FAULT 6, NO_ERROR_CODE, .byte 0x0F, 0x01, 0xD7 # LGDT EDI
        PASS
        METAL_END
