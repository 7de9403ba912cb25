# The processor's state after reset (SDM volume 3, table 9-1), before anything else has run.
.include "metal.inc"
        METAL "reset"
        PASS

        .org 0xFC00
.code16
.macro IS number, operands:vararg
        mov word ptr [V_CASE], \number
        cmp \operands
        jne wrong
.endm
own_reset:
        # Flags first: PUSHF needs a stack, and SS:SP is 0:0 after reset, so it goes to 0:FFFE.
        pushfd
        pop dword ptr [0x600]
        mov dword ptr [0x604], esp
        mov dword ptr [0x608], eax
        mov dword ptr [0x60C], edx
        IS 1, eax, 0                    # the self-test passed or was not made
        IS 2, ebx, 0
        IS 3, ecx, 0
        IS 4, esi, 0
        IS 5, edi, 0
        IS 6, ebp, 0
        IS 7, dword ptr [0x604], 0      # ESP
        IS 8, dword ptr [0x600], 0x00000002 # EFLAGS
        mov ax, cs
        IS 9, ax, 0xF000
        mov ax, ds
        IS 10, ax, 0
        mov ax, es
        IS 11, ax, 0
        mov ax, ss
        IS 12, ax, 0
        mov ax, fs
        IS 13, ax, 0
        mov ax, gs
        IS 14, ax, 0
        mov eax, cr0
        IS 15, eax, 0x60000010
        mov eax, cr2
        IS 16, eax, 0
        mov eax, cr3
        IS 17, eax, 0
        mov eax, cr4
        IS 18, eax, 0
        mov eax, dr7
        IS 19, eax, 0x00000400
        mov eax, dr6
        IS 20, eax, 0xFFFF0FF0
        sgdt [0x610]
        IS 21, word ptr [0x610], 0xFFFF
        sidt [0x618]
        IS 22, word ptr [0x618], 0xFFFF
        mov eax, dword ptr [0x61A]
        and eax, 0x00FFFFFF
        IS 23, eax, 0
        mov eax, dword ptr [0x60C]      # EDX: family in bits 11 to 8, 4 and up have CPUID
        shr eax, 8
        and eax, 0x0F
        mov word ptr [V_CASE], 24
        cmp eax, 4
        jb wrong
        xor eax, eax
        mov dr7, eax                    # bit 10 reads as one whatever is written
        mov eax, dr7
        IS 25, eax, 0x00000400
        jmp metal_reset

wrong:  # the library is not in RAM yet: report with the case number kept
        mov bx, word ptr [V_CASE]
        mov ax, 0xF000
        mov ds, ax
        xor ax, ax
        mov es, ax
        mov ss, ax
        mov sp, 0x0F00
        xor si, si
        xor di, di
        mov cx, 0x4000
        rep movsd
        mov ds, ax
        mov word ptr [V_CASE], bx
        ljmp 0, offset metal_fail16

        METAL_END own_reset
