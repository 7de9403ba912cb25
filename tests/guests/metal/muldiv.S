# MUL, IMUL in its three forms, DIV, IDIV and their divide errors, in 8, 16 and 32 bits.
# After MUL and IMUL only CF and OF are defined; after DIV and IDIV no flag is.
.include "metal.inc"
        METAL "muldiv"
.set COOF, CF | OF

.macro MUL8 op, a, b, result, after
        NEXT
        mov eax, 0x55550000 | \a
        mov bl, \b
        SETFLAGS COOF & ~\after
        \op bl
        FLAGS COOF, \after
        EQ eax, 0x55550000 | \result
.endm
.macro MUL16 op, a, b, high, low, after
        NEXT
        mov eax, 0x55550000 | \a
        mov edx, 0x66666666
        mov bx, \b
        SETFLAGS COOF & ~\after
        \op bx
        FLAGS COOF, \after
        EQ eax, 0x55550000 | \low
        EQ edx, 0x66660000 | \high
.endm
.macro MUL32 op, a, b, high, low, after
        NEXT
        mov eax, \a
        mov edx, 0x66666666
        mov ebx, \b
        SETFLAGS COOF & ~\after
        \op ebx
        FLAGS COOF, \after
        EQ eax, \low
        EQ edx, \high
.endm
.macro DIV8 op, a, b, result            # AX / b = AL, AH
        NEXT
        mov eax, 0x55550000 | \a
        mov bl, \b
        \op bl
        EQ eax, 0x55550000 | \result
.endm
.macro DIV16 op, high, low, b, quotient, remainder
        NEXT
        mov eax, 0x55550000 | \low
        mov edx, 0x66660000 | \high
        mov bx, \b
        \op bx
        EQ eax, 0x55550000 | \quotient
        EQ edx, 0x66660000 | \remainder
.endm
.macro DIV32 op, high, low, b, quotient, remainder
        NEXT
        mov eax, \low
        mov edx, \high
        mov ebx, \b
        \op ebx
        EQ eax, \quotient
        EQ edx, \remainder
.endm
.macro DE op, high, low, b, reg         # a divide error that changes no register
        NEXT
        mov eax, \low
        mov edx, \high
        mov ebx, \b
        FAULT 0, NO_ERROR_CODE, \op \reg
        EQ eax, \low
        EQ edx, \high
.endm

.macro TABLE
        MUL8 mul, 0xFF, 0xFF, 0xFE01, COOF
        MUL8 mul, 0x0F, 0x11, 0x00FF, 0
        MUL8 mul, 0x10, 0x10, 0x0100, COOF
        MUL8 imul, 0xFF, 0xFF, 0x0001, 0
        MUL8 imul, 0x80, 0x80, 0x4000, COOF
        MUL8 imul, 0x80, 0x01, 0xFF80, 0
        MUL8 imul, 0x40, 0x02, 0x0080, COOF
        MUL16 mul, 0xFFFF, 0xFFFF, 0xFFFE, 0x0001, COOF
        MUL16 mul, 0x0100, 0x00FF, 0x0000, 0xFF00, 0
        MUL16 imul, 0xFFFF, 0x0002, 0xFFFF, 0xFFFE, 0
        MUL16 imul, 0x8000, 0x8000, 0x4000, 0x0000, COOF
        MUL16 imul, 0x4000, 0x0002, 0x0000, 0x8000, COOF
        MUL32 mul, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFE, 0x00000001, COOF
        MUL32 mul, 0x10000, 0x0FFFF, 0, 0xFFFF0000, 0
        MUL32 mul, 0x12345678, 0x9ABCDEF0, 0x0B00EA4E, 0x242D2080, COOF
        MUL32 imul, 0xFFFFFFFF, 0x00000005, 0xFFFFFFFF, 0xFFFFFFFB, 0
        MUL32 imul, 0x80000000, 0x80000000, 0x40000000, 0, COOF
        MUL32 imul, 0x40000000, 2, 0, 0x80000000, COOF
        NEXT
        mov bx, 0x7FFF
        mov cx, 2
        SETFLAGS 0
        imul bx, cx
        FLAGS COOF, COOF
        EQ bx, 0xFFFE
        NEXT
        mov ebx, -3
        mov ecx, 7
        SETFLAGS COOF
        imul ebx, ecx
        FLAGS COOF, 0
        EQ ebx, -21
        NEXT
        mov ecx, 0x10000
        imul edx, ecx, 0x10000
        FLAGS COOF, COOF
        EQ edx, 0
        NEXT
        imul dx, cx, -2
        EQ edx, 0
        mov cx, -300
        imul dx, cx, -100
        FLAGS COOF, 0
        EQ dx, 30000
        NEXT
        mov dword ptr [0x8000], 1000
        imul eax, dword ptr [0x8000], 1000
        EQ eax, 1000000
        DIV8 div, 0x0064, 0x07, 0x020E
        DIV8 div, 0xFEFF, 0xFF, 0xFEFF
        DIV8 idiv, 0xFF9C, 0x07, 0xFEF2 # -100 / 7 = -14, remainder -2
        DIV8 idiv, 0x0064, 0xF9, 0x02F2 # 100 / -7 = -14, remainder 2
        DIV8 idiv, 0xFF80, 0x01, 0x0080 # -128 fits
        DIV16 div, 0x0001, 0x0000, 0x0002, 0x8000, 0x0000
        DIV16 div, 0xFFFE, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFE
        DIV16 idiv, 0xFFFF, 0x8000, 0x0001, 0x8000, 0x0000
        DIV16 idiv, 0xFFFF, 0xFFF9, 0x0002, 0xFFFD, 0xFFFF # -7 / 2 = -3, -1
        DIV32 div, 1, 0, 2, 0x80000000, 0
        DIV32 div, 0x12345678, 0x9ABCDEF0, 0x87654321, 0x226B9022, 0x38BC648E
        DIV32 idiv, 0xFFFFFFFF, 0x80000000, 1, 0x80000000, 0
        DIV32 idiv, 0xFFFFFFFF, 0xFFFFFF9C, -7, 14, -2
        DE div, 0, 1, 0, bl
        DE div, 0, 0x0100, 1, bl
        DE div, 0, 0xFFFF, 0xFF, bl
        DE idiv, 0, 0x0080, 1, bl
        DE idiv, 0, 0xFF7F, 1, bl
        DE idiv, 0, 0x8000, -1, bl
        DE div, 1, 0, 1, bx
        DE div, 5, 5, 0, bx
        DE idiv, 0xFFFF, 0x7FFF, 1, bx
        DE idiv, 0, 0x8000, 1, bx
        DE div, 1, 0, 1, ebx
        DE div, 7, 0, 0, ebx
        DE idiv, 0, 0x80000000, 1, ebx
        DE idiv, 0xFFFFFFFF, 0x7FFFFFFF, 1, ebx
.endm
        FROM 1
        TABLE
        PROTECTED32
        FROM 100
        TABLE
        PASS
        METAL_END
