# Every third sum and difference of two bytes, with and without carry: the result and all six flags against their definitions.
.include "metal.inc"
        METAL "sums"

# Every third pair of bytes: AL op BL with carry-in, against the definitions done in 32 bits.
.macro EXHAUSTIVE op, carry, subtract
        NEXT
        xor ebx, ebx                    # BL, BH = the operands
1:      # Expected result in ECX from the widened operands.
        movzx ecx, bl
        movzx edx, bh
.if \subtract
        sub ecx, edx
        sub ecx, \carry
.else
        add ecx, edx
        add ecx, \carry
.endif
        mov edi, ecx
        shr edi, 8
        and edi, CF                     # carry or borrow: bit 8
        movsx esi, bl                   # signed: does the true result fit in a byte?
        movsx edx, bh
.if \subtract
        sub esi, edx
        sub esi, \carry
.else
        add esi, edx
        add esi, \carry
.endif
        add esi, 128
        cmp esi, 255
        jbe 2f
        or edi, OF
2:      mov edx, ecx                    # AF: bit 4 of the result differs from the sum of the bits 4 without carries
        xor dl, bl
        xor dl, bh
        and edx, AF
        or edi, edx
        movzx ecx, cl
        cmp ecx, 0
        jne 3f
        or edi, ZF
3:      mov edx, ecx
        and edx, SF
        or edi, edx
        mov edx, ecx                    # PF: an even number of ones in the byte
        shr edx, 4
        xor edx, ecx
        mov eax, edx
        shr eax, 2
        xor edx, eax
        mov eax, edx
        shr eax, 1
        xor edx, eax
        and edx, 1
        jnz 4f
        or edi, PF
4:
.if \carry
        stc
.else
        clc
.endif
        mov al, bl
        \op al, bh
        pushfd
        pop edx
        and edx, ARITH
        EQ edx, edi
        EQ al, cl
        add bx, STEP
        jnc 1b
.endm

.set STEP, 3
        FROM 1
        EXHAUSTIVE add, 0, 0
        EXHAUSTIVE adc, 1, 0
        PROTECTED32
        EXHAUSTIVE sub, 0, 1
        EXHAUSTIVE sbb, 1, 1
        PASS
        METAL_END
