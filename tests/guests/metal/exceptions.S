# Exceptions and their error codes: traps and faults, over-long instructions, gates that are absent or wrong
# (IDT and EXT bits), exceptions while delivering exceptions, double fault, the real-mode IDT limit.
.include "metal.inc"
        METAL "exceptions"

.macro ABSENT vector                    # a gate of the right type that is not present
        mov dword ptr [metal_idt + \vector * 8 + 4], 0x0E00
.endm
.macro PRESENT vector
        mov dword ptr [metal_idt + \vector * 8], offset metal_stubs32 + 8 * \vector + (CODE32 << 16)
        mov dword ptr [metal_idt + \vector * 8 + 4], 0x8E00
.endm

.macro BOTH
        NEXT
        FAULT 6, NO_ERROR_CODE, ud2
        NEXT                            # 15 bytes are the most
        FAULT 13, GP_CODE, .byte 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x90
        .byte 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x90
        NEXT
        mov dword ptr [0x8000], 0x00050003 # 16-bit bounds 3 and 5
        mov ax, 3
        bound ax, dword ptr [0x8000]
        mov ax, 5
        bound ax, dword ptr [0x8000]
        mov ax, 6
        FAULT 5, NO_ERROR_CODE, bound ax, dword ptr [0x8000]
        mov ax, -1                      # signed
        FAULT 5, NO_ERROR_CODE, bound ax, dword ptr [0x8000]
        mov dword ptr [0x8000], -5
        mov dword ptr [0x8004], 5
        mov eax, -5
        bound eax, qword ptr [0x8000]
        mov eax, -6
        FAULT 5, NO_ERROR_CODE, bound eax, qword ptr [0x8000]
        NEXT
        TRAP 3, NO_ERROR_CODE, int3
        TRAP 3, NO_ERROR_CODE, .byte 0xCD, 3
        SETFLAGS OF
        TRAP 4, NO_ERROR_CODE, into
        SETFLAGS ARITH & ~OF
        into
        NEXT                            # undefined for x87 is for another program; WAIT is not: CR0.MP and TS together
        mov eax, cr0
        mov ecx, eax
        or eax, 0x0A
        mov cr0, eax
        FAULT 7, NO_ERROR_CODE, fwait
        clts
        mov eax, cr0
        test eax, 8
        jz 1f
        FAIL
1:      mov cr0, ecx
.endm

        FROM 1
.set GP_CODE, NO_ERROR_CODE
        BOTH
        NEXT                            # a vector beyond the real-mode IDT's limit
        mov word ptr [0x8000], 0x7F     # 32 vectors
        mov dword ptr [0x8002], 0
        lidt [0x8000]
        FAULT 13, NO_ERROR_CODE, int 0x20
        FAULT 13, NO_ERROR_CODE, int 0xFF
        lidt [metal_real_idtr]

        PROTECTED32
        FROM 20
.set GP_CODE, 0
        BOTH
        NEXT                            # INT n: vector * 8 + IDT
        FAULT 13, 0x40*8+2, int 0x40    # beyond the limit
        FAULT 13, 0x3F*8+2, int 0x3F    # type 0
        ABSENT 0x3F
        FAULT 11, 0x3F*8+2, int 0x3F
        mov dword ptr [metal_idt + 0x3F * 8 + 4], 0x8C00 # a call gate is none
        FAULT 13, 0x3F*8+2, int 0x3F
        NEXT                            # the selector in the gate
        mov dword ptr [metal_idt + 0x3F * 8 + 4], 0x8E00
        mov dword ptr [metal_idt + 0x3F * 8], 0
        FAULT 13, 0, int 0x3F           # null
        mov dword ptr [metal_idt + 0x3F * 8], DATA32 << 16
        FAULT 13, DATA32, int 0x3F
        mov dword ptr [metal_idt + 0x3F * 8], 0x108 << 16
        FAULT 13, 0x108, int 0x3F
        DESC FREE_SEL, 0, 0xFFFFF, 0x1A, 12
        mov dword ptr [metal_idt + 0x3F * 8], FREE_SEL << 16
        FAULT 11, FREE_SEL, int 0x3F
        EQ esp, STACK32
        NEXT                            # an exception finds a bad gate: EXT is set
        ABSENT 6
        WANT 11, 6*8+3, 1f, 2f
1:      ud2
        FAIL
2:      PRESENT 6
        mov dword ptr [metal_idt + 6 * 8], DATA32 << 16
        WANT 13, DATA32+1, 1f, 2f
1:      ud2
        FAIL
2:      PRESENT 6
        NEXT                            # INT 6 from software: no EXT; and no error code for INT 13
        ABSENT 6
        FAULT 11, 6*8+2, int 6
        PRESENT 6
        mov ebx, esp
        GATE 13, 1f
        int 13
1:      EQ esp, STACK32 - 12
        mov esp, ebx
        PRESENT 13
        NEXT                            # contributory while contributory: double fault, error code 0
        ABSENT 0
        xor ecx, ecx
        WANT 8, 0, 1f, 2f
1:      div ecx                         # #DE, and then #NP for its gate
        FAIL
2:      PRESENT 0
        ABSENT 13
        ABSENT 11
        mov eax, 0x108
        WANT 8, 0, 1f, 2f
1:      mov fs, eax
        FAIL
2:      PRESENT 13
        PRESENT 11
        NEXT                            # benign then contributory is not: #UD, then #NP as above; #BP likewise
        ABSENT 3
        FAULT 11, 3*8+2, int3
        PRESENT 3
        NEXT                            # IF: an interrupt gate clears it, a trap gate does not; TF and NT go by both
        GATE 0x20, 1f
        GATE 0x21, 2f, 0x8F
        push 0x4202
        popfd
        int 0x20
1:      FLAGS IF | NT, 0
        test dword ptr [esp + 8], IF
        jz metal_fail32
        mov esp, STACK32
        push 0x4202
        popfd
        int 0x21
2:      FLAGS IF | NT, IF
        cli
        mov esp, STACK32
        PASS
        METAL_END
