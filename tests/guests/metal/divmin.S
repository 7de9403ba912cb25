# The one division with its own trap on many hosts: the smallest 64-bit number by -1 must be a divide error.
# (QEMU 7.2's TCG divides on the host and dies of SIGFPE.)
.include "metal.inc"
        METAL "divmin"
        CASE 1
        mov eax, 0
        mov edx, 0x80000000
        mov ebx, -1
        FAULT 0, NO_ERROR_CODE, idiv ebx
        EQ eax, 0
        EQ edx, 0x80000000
        PROTECTED32
        CASE 2
        mov eax, 0
        mov edx, 0x80000000
        mov ebx, -1
        FAULT 0, NO_ERROR_CODE, idiv ebx
        EQ eax, 0
        EQ edx, 0x80000000
        CASE 3
        mov eax, 0
        mov edx, 0x8000
        FAULT 0, NO_ERROR_CODE, idiv bx
        PASS
        METAL_END
