# ADD, ADC, SUB, SBB, CMP, NEG, INC, DEC, MOVZX, MOVSX, CBW.. in 8, 16 and 32 bits: results and all six flags,
# at the boundaries.
.include "metal.inc"
        METAL "arith"

.macro TWO op, reg, a, b, before, result, after # op reg, b with reg = a
        NEXT
        mov \reg, \a
        SETFLAGS \before
        \op \reg, \b
        FLAGS ARITH, \after
        EQ \reg, \result
.endm
.macro ONE op, reg, a, before, result, after
        NEXT
        mov \reg, \a
        SETFLAGS \before
        \op \reg
        FLAGS ARITH, \after
        EQ \reg, \result
.endm

.macro TABLE
        TWO add, al, 0x00, 0x00, ARITH, 0x00, PF|ZF
        TWO add, bl, 0x7F, 0x01, 0, 0x80, AF|SF|OF
        TWO add, cl, 0xFF, 0x01, 0, 0x00, CF|PF|AF|ZF
        TWO add, dl, 0x80, 0x80, 0, 0x00, CF|PF|ZF|OF
        TWO add, ah, 0x12, 0x34, ARITH, 0x46, 0
        TWO add, bh, 0x0F, 0x01, 0, 0x10, AF
        TWO add, ax, 0x7FFF, 0x0001, 0, 0x8000, PF|AF|SF|OF
        TWO add, bx, 0xFFFF, 0x0001, 0, 0x0000, CF|PF|AF|ZF
        TWO add, cx, 0x8000, 0x8000, 0, 0x0000, CF|PF|ZF|OF
        TWO add, si, 0x00FF, 0x0001, 0, 0x0100, PF|AF
        TWO add, eax, 0x7FFFFFFF, 1, 0, 0x80000000, PF|AF|SF|OF
        TWO add, ebx, 0xFFFFFFFF, 1, 0, 0, CF|PF|AF|ZF
        TWO add, ecx, 0x80000000, 0x80000000, 0, 0, CF|PF|ZF|OF
        TWO add, edx, 0x12345678, 0x11111111, ARITH, 0x23456789, 0
        TWO add, esi, 100, -1, 0, 99, CF|PF|AF
        TWO adc, al, 0xFF, 0x00, CF, 0x00, CF|PF|AF|ZF
        TWO adc, al, 0xFF, 0xFF, CF, 0xFF, CF|PF|AF|SF
        TWO adc, al, 0x7F, 0x00, CF, 0x80, AF|SF|OF
        TWO adc, al, 0x7F, 0x00, 0, 0x7F, 0
        TWO adc, ax, 0xFFFF, 0x0000, CF, 0x0000, CF|PF|AF|ZF
        TWO adc, ax, 0xFFFF, 0xFFFF, CF, 0xFFFF, CF|PF|AF|SF
        TWO adc, eax, 0xFFFFFFFF, 0, CF, 0, CF|PF|AF|ZF
        TWO adc, eax, 0xFFFFFFFF, 0xFFFFFFFF, CF, 0xFFFFFFFF, CF|PF|AF|SF
        TWO adc, eax, 0x7FFFFFFF, 0, CF, 0x80000000, PF|AF|SF|OF
        TWO sub, al, 0x00, 0x01, 0, 0xFF, CF|PF|AF|SF
        TWO sub, al, 0x80, 0x01, 0, 0x7F, AF|OF
        TWO sub, al, 0x7F, 0xFF, 0, 0x80, CF|SF|OF
        TWO sub, al, 0x55, 0x55, ARITH, 0x00, PF|ZF
        TWO sub, ax, 0x0000, 0x0001, 0, 0xFFFF, CF|PF|AF|SF
        TWO sub, ax, 0x8000, 0x0001, 0, 0x7FFF, PF|AF|OF
        TWO sub, eax, 0, 1, 0, 0xFFFFFFFF, CF|PF|AF|SF
        TWO sub, eax, 0x80000000, 1, 0, 0x7FFFFFFF, PF|AF|OF
        TWO sub, eax, 0x80000000, 0x80000000, 0, 0, PF|ZF
        TWO sbb, al, 0x00, 0x00, CF, 0xFF, CF|PF|AF|SF
        TWO sbb, al, 0x00, 0xFF, CF, 0x00, CF|PF|AF|ZF
        TWO sbb, al, 0x80, 0x00, CF, 0x7F, AF|OF
        TWO sbb, ax, 0x0000, 0xFFFF, CF, 0x0000, CF|PF|AF|ZF
        TWO sbb, ax, 0x8000, 0x7FFF, CF, 0x0000, PF|AF|ZF|OF
        TWO sbb, eax, 0, 0xFFFFFFFF, CF, 0, CF|PF|AF|ZF
        TWO sbb, eax, 0x80000000, 0, CF, 0x7FFFFFFF, PF|AF|OF
        TWO sbb, eax, 5, 3, CF, 1, 0
        TWO cmp, al, 0x10, 0x20, 0, 0x10, CF|PF|SF
        TWO cmp, ax, 0x8000, 0x7FFF, 0, 0x8000, AF|OF
        TWO cmp, eax, 1, 1, 0, 1, PF|ZF
        TWO and, al, 0xF0, 0x0F, CF|OF, 0x00, PF|ZF
        TWO and, ax, 0xFF00, 0x8180, CF|OF, 0x8100, PF|SF
        TWO and, eax, 0xF0F0F0F0, 0x80000000, CF|OF, 0x80000000, PF|SF
        TWO or, al, 0x81, 0x02, CF|OF, 0x83, SF
        TWO or, eax, 0, 0, CF|OF, 0, PF|ZF
        TWO xor, al, 0xAA, 0x55, CF|OF, 0xFF, PF|SF
        TWO xor, ax, 0x1234, 0x1234, CF|OF, 0, PF|ZF
        TWO xor, eax, 0x80000001, 1, CF|OF, 0x80000000, PF|SF
        TWO test, al, 0x81, 0x80, CF|OF, 0x81, SF
        TWO test, eax, 0x80000000, 0x7FFFFFFF, CF|OF, 0x80000000, PF|ZF
        ONE inc, al, 0xFF, 0, 0x00, PF|AF|ZF
        ONE inc, al, 0xFF, CF, 0x00, CF|PF|AF|ZF
        ONE inc, al, 0x7F, CF, 0x80, CF|AF|SF|OF
        ONE inc, ax, 0x7FFF, 0, 0x8000, PF|AF|SF|OF
        ONE inc, ax, 0xFFFF, CF, 0x0000, CF|PF|AF|ZF
        ONE inc, edi, 0x7FFFFFFF, CF, 0x80000000, CF|PF|AF|SF|OF
        ONE inc, edi, 0xFFFFFFFF, 0, 0, PF|AF|ZF
        ONE dec, al, 0x00, CF, 0xFF, CF|PF|AF|SF
        ONE dec, al, 0x80, 0, 0x7F, AF|OF
        ONE dec, al, 0x01, CF, 0x00, CF|PF|ZF
        ONE dec, ax, 0x8000, CF, 0x7FFF, CF|PF|AF|OF
        ONE dec, esi, 0x80000000, 0, 0x7FFFFFFF, PF|AF|OF
        ONE dec, esi, 0, CF, 0xFFFFFFFF, CF|PF|AF|SF
        ONE neg, al, 0x00, CF, 0x00, PF|ZF
        ONE neg, al, 0x80, 0, 0x80, CF|SF|OF
        ONE neg, al, 0x01, 0, 0xFF, CF|PF|AF|SF
        ONE neg, ax, 0x8000, 0, 0x8000, CF|PF|SF|OF
        ONE neg, eax, 0x80000000, 0, 0x80000000, CF|PF|SF|OF
        ONE neg, eax, 0xFFFFFFFF, 0, 1, CF|AF
        ONE not, al, 0x55, ARITH, 0xAA, ARITH
        ONE not, ax, 0x00FF, 0, 0xFF00, 0
        ONE not, eax, 0x0F0F0F0F, ARITH, 0xF0F0F0F0, ARITH
.endm

# To and from memory, with the same result and flags as in registers.
.macro MEMORY
        NEXT
        mov dword ptr [0x8000], 0x7FFFFFFF
        SETFLAGS CF
        adc dword ptr [0x8000], 0
        FLAGS ARITH, PF|AF|SF|OF
        EQ dword ptr [0x8000], 0x80000000
        NEXT
        mov word ptr [0x8000], 0x00FF
        mov ax, 1
        add word ptr [0x8000], ax
        FLAGS ARITH, PF|AF
        EQ word ptr [0x8000], 0x0100
        NEXT
        mov byte ptr [0x8001], 0xFF
        inc byte ptr [0x8001]
        FLAGS ZF|AF|PF|SF|OF, ZF|AF|PF
        EQ dword ptr [0x8000], 0x80000000
        NEXT
        mov ebx, 0x10
        sub ebx, dword ptr [0x8000]
        FLAGS ARITH, CF|SF|OF
        EQ ebx, 0x80000010
        NEXT
        mov byte ptr [0x8004], 0x80
        neg byte ptr [0x8004]
        FLAGS ARITH, CF|SF|OF
        EQ byte ptr [0x8004], 0x80

        # Widening.
        NEXT
        mov eax, 0xFFFF80
        cbw
        EQ ax, 0xFF80
        EQ eax, 0x00FFFF80
        NEXT
        mov ax, 0x8001
        cwde
        EQ eax, 0xFFFF8001
        NEXT
        mov edx, 0x55555555
        mov ax, 0x8000
        cwd
        EQ edx, 0x5555FFFF
        NEXT
        mov eax, 0x7FFFFFFF
        cdq
        EQ edx, 0
        mov eax, 0x80000000
        cdq
        EQ edx, 0xFFFFFFFF
        NEXT
        mov ebx, 0x12345680
        movsx eax, bl
        EQ eax, 0xFFFFFF80
        movzx eax, bl
        EQ eax, 0x00000080
        movsx eax, bx
        EQ eax, 0x00005680
        mov ecx, -1
        movzx cx, bl
        EQ ecx, 0xFFFF0080
        movsx cx, bh
        EQ ecx, 0xFFFF0056
        NEXT
        mov eax, 0x11223344             # writing a part of a register keeps the rest
        mov al, 0xAA
        EQ eax, 0x112233AA
        mov ah, 0xBB
        EQ eax, 0x1122BBAA
        mov ax, 0xCCDD
        EQ eax, 0x1122CCDD
.endm

        FROM 1
        TABLE
        FROM 100
        MEMORY
        PROTECTED32
        FROM 200
        TABLE
        FROM 300
        MEMORY
        PASS
        METAL_END
