# Opcodes, operands and LOCK prefixes that are not defined: #UD, in real mode and in 32-bit protected mode.
.include "metal.inc"
        METAL "undefined"

.macro BOTH
        NEXT
        FAULT 6, NO_ERROR_CODE, ud2
        FAULT 6, NO_ERROR_CODE, .byte 0x0F, 0xFF, 0xC0 # UD0
        FAULT 6, NO_ERROR_CODE, .byte 0x8D, 0xC0 # LEA with a register
        FAULT 6, NO_ERROR_CODE, .byte 0x8E, 0xC8 # MOV CS, AX
        FAULT 6, NO_ERROR_CODE, .byte 0xC4, 0xC0 # LES with a register
        FAULT 6, NO_ERROR_CODE, .byte 0xFE, 0xD0 # group 4 has two members
        FAULT 6, NO_ERROR_CODE, .byte 0xFF, 0xF8 # group 5 has seven
        FAULT 6, NO_ERROR_CODE, .byte 0x8F, 0xC8 # group 1A has one
        FAULT 6, NO_ERROR_CODE, .byte 0xC6, 0xC8, 0 # group 11 has one
        FAULT 6, NO_ERROR_CODE, .byte 0x0F, 0xBA, 0xC0, 0 # group 8 starts at 4
        FAULT 6, NO_ERROR_CODE, .byte 0x0F, 0xC7, 0xC9 # CMPXCHG8B with a register
        FAULT 6, NO_ERROR_CODE, .byte 0x8E, 0xF0 # there is no segment register 6
        NEXT
        mov ebx, 0x8000
        FAULT 6, NO_ERROR_CODE, .byte 0xF0, 0x90 # LOCK NOP
        FAULT 6, NO_ERROR_CODE, .byte 0xF0, 0x01, 0xC0 # LOCK ADD EAX, EAX
        FAULT 6, NO_ERROR_CODE, .byte 0xF0, 0x03, 0x07 # LOCK ADD reg, mem
        FAULT 6, NO_ERROR_CODE, .byte 0xF0, 0x39, 0x07 # LOCK CMP
        FAULT 6, NO_ERROR_CODE, .byte 0xF0, 0x89, 0x07 # LOCK MOV
        FAULT 6, NO_ERROR_CODE, .byte 0xF0, 0x0F, 0xA3, 0x07 # LOCK BT
        mov dword ptr [0x8000], 1
        lock add dword ptr [0x8000], 1
        lock dec dword ptr [0x8000]
        lock btc dword ptr [0x8000], 4
        lock xchg dword ptr [0x8000], eax
        EQ eax, 0x11
.endm
        FROM 1
        BOTH
        PROTECTED32
        FROM 10
        BOTH
        PASS
        METAL_END
