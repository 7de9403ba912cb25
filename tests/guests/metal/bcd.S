# DAA, DAS, AAA, AAS, AAM, AAD: every AL, with and without AF and CF, against the SDM's pseudocode done with other
# instructions.  Undefined flags are not looked at.
.include "metal.inc"
        METAL "bcd"

# DL = AL before, DH = flags before (CF, AF); CL, CH = expected AL, flags.  Uses BX.
.macro DECIMAL op, adjust
        NEXT
        xor edx, edx
1:      mov cl, dl
        mov ch, 0
        mov bl, dl
        and bl, 0x0F
        cmp bl, 9
        ja 2f
        test dh, AF
        jz 3f
2:      \adjust cl, 6
        or ch, AF
.ifc \op, das                           # a borrow out of the first step counts
        cmp dl, 6
        jae 3f
        or ch, CF
.endif
3:      cmp dl, 0x99
        ja 4f
        test dh, CF
        jz 5f
4:      \adjust cl, 0x60
        or ch, CF
5:      call flags_of_cl
        push edx                        # flags before
        movzx edx, dh
        xchg edx, [esp]
        mov al, dl
        popfd
        \op
        pushfd
        pop ebx
        and ebx, CF | PF | AF | ZF | SF
        EQ bl, ch
        EQ al, cl
        inc dl
        jnz 1b
        add dh, 1                       # the next of CF, AF, both
        and dh, CF | AF
        jz 7f
        test dh, CF
        jnz 1b
7:      cmp dh, 0
        jne 1b
.endm

.macro FLAGS_OF_CL                      # CH |= SF ZF PF of CL.  Uses BX.
        test cl, cl
        jnz 1f
        or ch, ZF
1:      mov bl, cl
        and bl, SF
        or ch, bl
        mov bl, cl
        shr bl, 4
        xor bl, cl
        mov bh, bl
        shr bh, 2
        xor bl, bh
        mov bh, bl
        shr bh, 1
        xor bl, bh
        test bl, 1
        jnz 2f
        or ch, PF
2:      ret
.endm

# AX = FFnn before: AAA and AAS touch AH.  CX = expected AX.
.macro ASCII op, adjust
        NEXT
        xor edx, edx
1:      mov ax, 0x1200
        mov al, dl
        mov cx, ax
        mov bh, 0
        mov bl, dl
        and bl, 0x0F
        cmp bl, 9
        ja 2f
        test dh, AF
        jz 3f
2:      \adjust cx, 0x106
        mov bh, AF | CF
3:      and cl, 0x0F
        test dh, AF                     # AF before; CF takes no part
        jz 4f
        push AF
        jmp 5f
4:      push CF
5:
.if METAL_BITS == 16
        popf
.else
        popfd
.endif
        \op
        pushfd
        xchg ecx, [esp]
        and ecx, AF | CF
        EQ cl, bh
        pop ecx
        EQ ax, cx
        inc dl
        jnz 1b
        xor dh, AF
        jnz 1b
.endm

.macro AM base
        NEXT
        xor edx, edx
1:      movzx ax, dl                    # AH = AL / base, AL = AL mod base
        mov bl, \base
        div bl
        xchg al, ah
        mov cx, ax
        mov ax, 0xFF00
        mov al, dl
.if \base == 10
        aam
.else
        .byte 0xD4, \base
.endif
        pushfd
        EQ ax, cx
        pop eax
        and al, PF | ZF | SF
        mov ch, 0
        call flags_of_cl\@
        EQ al, ch
        inc dl
        jnz 1b
        jmp .Lam\@
flags_of_cl\@:
        FLAGS_OF_CL
.Lam\@:
.endm

.macro AD base
        NEXT
        xor edx, edx
1:      mov ax, dx
        mov cl, dh                      # AL = AL + AH * base, AH = 0
        movzx cx, cl
        imul cx, cx, \base
        add cl, dl
        mov ch, 0
.if \base == 10
        aad
.else
        .byte 0xD5, \base
.endif
        EQ ax, cx
        add dx, 0x0107
        jnz 1b
.endm

        FROM 1
        DECIMAL daa, add
        DECIMAL das, sub
        ASCII aaa, add
        ASCII aas, sub
        AM 10
        AM 7
        AD 10
        AD 16
        NEXT
        mov ax, 0x1234
        FAULT 0, NO_ERROR_CODE, .byte 0xD4, 0
        EQ ax, 0x1234
        jmp .Lprotected
flags_of_cl:
        FLAGS_OF_CL
.Lprotected:
        PROTECTED32
        FROM 20
        ASCII aaa, add
        ASCII aas, sub
        AM 10
        NEXT
        mov eax, 0x1234
        FAULT 0, NO_ERROR_CODE, .byte 0xD4, 0
        EQ eax, 0x1234
        NEXT
        mov al, 0x79
        add al, 0x35
        daa
        FLAGS CF | AF | ZF | SF, CF | AF
        EQ al, 0x14
        NEXT
        mov al, 0x35
        sub al, 0x47
        das
        FLAGS CF | AF | ZF | SF, CF | AF | SF
        EQ al, 0x88
        PASS
        METAL_END
