# The harness itself: real mode, 32-bit protected mode and an expected exception in each.
.include "metal.inc"
        METAL "selfcheck"
        CASE 1
        mov eax, 5
        EQ eax, 5
        CASE 2
        FAULT 6, NO_ERROR_CODE, ud2
        CASE 3
        xor cx, cx
        FAULT 0, NO_ERROR_CODE, div cx
        CASE 4
        SETFLAGS CF | ZF
        FLAGS ARITH, CF | ZF
        PROTECTED32
        CASE 10
        FAULT 6, NO_ERROR_CODE, ud2
        CASE 11
        xor ecx, ecx
        FAULT 0, NO_ERROR_CODE, div ecx
        CASE 12
        mov ebx, 0x40
        FAULT 13, 0x40, mov fs, bx
        PASS
        METAL_END
