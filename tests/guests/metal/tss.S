# Task switches: JMP and CALL to a TSS, IRET back, task gates by INT and for an exception with an error code, busy bits, NT and
# the link, CR0.TS, CR3 and LDT of the new task, and the faults of a bad TSS.
.include "metal.inc"
        METAL "tss"
.set S_B, FREE_SEL                      # the other task, TSS at 50000h
.set S_GATE, FREE_SEL + 8               # task gate to it
.set S_SHORT, FREE_SEL + 0x10           # a TSS with too small a limit
.set S_ABSENT, FREE_SEL + 0x18
.set S_BAD, FREE_SEL + 0x20             # a TSS with a bad CS, at 50100h
.set S_LDT, FREE_SEL + 0x28
.set B, 0x50000
.set BAD, 0x50100
.set STACK_B, 0x1A000
.set T_LINK, 0
.set T_ESP0, 4
.set T_CR3, 28
.set T_EIP, 32
.set T_FLAGS, 36
.set T_EAX, 40
.set T_ECX, 44
.set T_EDX, 48
.set T_EBX, 52
.set T_ESP, 56
.set T_ES, 72
.set T_CS, 76
.set T_SS, 80
.set T_DS, 84
.set T_FS, 88
.set T_GS, 92
.set T_LDT, 96
.set T_MAP, 102

.macro TASK base, eip
        mov edi, \base
        mov ecx, 26
        xor eax, eax
        rep stosd
        mov dword ptr [\base + T_EIP], offset \eip
        mov dword ptr [\base + T_FLAGS], 0x0002
        mov dword ptr [\base + T_ESP], STACK_B
        mov dword ptr [\base + T_CS], CODE32
        mov dword ptr [\base + T_SS], DATA32
        mov dword ptr [\base + T_DS], DATA32
        mov dword ptr [\base + T_ES], DATA32
        mov dword ptr [\base + T_MAP], 104 << 16
.endm

        PROTECTED32
        cld
        mov eax, TSS_SEL
        ltr ax
        DESC S_B, B, 0x67, 0x89
        DESC S_SHORT, B, 0x66, 0x89
        DESC S_ABSENT, B, 0x67, 0x09
        DESC S_BAD, BAD, 0x67, 0x89
        DESC S_LDT, 0x51000, 0x1F, 0x82
        mov dword ptr [metal_gdt + S_GATE], S_B << 16
        mov dword ptr [metal_gdt + S_GATE + 4], 0x8500
        mov dword ptr [0x51008], 0x4000FFFF # LDT slot 1: data, base 24000h
        mov dword ptr [0x5100C], 0x00409202

        FROM 1
        NEXT                            # JMP: registers in, registers out
        TASK B, task1
        mov dword ptr [B + T_EAX], 0xAAAA1111
        mov dword ptr [B + T_ECX], 0xCCCC2222
        mov dword ptr [B + T_FLAGS], CF | ZF | 2
        mov dword ptr [B + T_LDT], S_LDT
        mov dword ptr [B + T_FS], 0x0C
        clts
        mov eax, 0x12345678
        mov ebx, 0x9ABCDEF0
        mov edx, DATA32
        mov gs, edx
        SETFLAGS SF | PF
        ljmp S_B, 0x77777777
1:      jmp back1
task1:  FLAGS ARITH | NT, CF | ZF
        EQ eax, 0xAAAA1111
        EQ ecx, 0xCCCC2222
        EQ ebx, 0
        EQ esp, STACK_B
        str ax
        EQ ax, S_B
        mov eax, cr0
        test eax, 8                     # TS
        jz metal_fail32
        EQ byte ptr [metal_gdt + S_B + 5], 0x8B
        EQ byte ptr [metal_gdt + TSS_SEL + 5], 0x89
        EQ dword ptr [metal_tss + T_EAX], 0x12345678
        EQ dword ptr [metal_tss + T_EBX], 0x9ABCDEF0
        EQ dword ptr [metal_tss + T_ESP], STACK32
        EQ dword ptr [metal_tss + T_EIP], offset 1b
        EQ word ptr [metal_tss + T_CS], CODE32
        EQ word ptr [metal_tss + T_GS], DATA32
        mov eax, dword ptr [metal_tss + T_FLAGS]
        and eax, ARITH
        EQ eax, SF | PF
        sldt ax
        EQ ax, S_LDT
        mov dword ptr fs:[0], 0x5A5A5A5A
        EQ dword ptr [0x24000], 0x5A5A5A5A
        NEXT                            # and back to where the first one was
        mov esi, 0x66666666
        ljmp TSS_SEL, 0
        FAIL
back1:  EQ ebx, 0x9ABCDEF0
        EQ eax, 0x12345678
        EQ byte ptr [metal_gdt + S_B + 5], 0x89
        EQ byte ptr [metal_gdt + TSS_SEL + 5], 0x8B
        EQ dword ptr [B + 64], 0x66666666 # its ESI
        sldt ax
        EQ ax, 0
        NEXT                            # CALL and IRET: nested
        TASK B, task3
        clts
        lcall S_B, 0
2:      EQ byte ptr [metal_gdt + S_B + 5], 0x89
        FLAGS NT, 0
        str ax
        EQ ax, TSS_SEL
        EQ dword ptr [B + T_EIP], offset 3f
        jmp 4f
task3:  FLAGS NT, NT
        EQ word ptr [B + T_LINK], TSS_SEL
        EQ byte ptr [metal_gdt + TSS_SEL + 5], 0x8B # both are busy
        EQ byte ptr [metal_gdt + S_B + 5], 0x8B
        FAULT 13, TSS_SEL, ljmp TSS_SEL, 0 # and a busy one is not to be had
        pushfd                          # (that exception has cleared NT)
        or dword ptr [esp], NT
        popfd
        iretd
3:      jmp task3b                      # the second call goes on here
4:
        NEXT                            # through the task gate: it goes on behind the IRET
        lcall S_GATE, 0
        EQ edi, 0xDDDD
        jmp 5f
task3b: mov dword ptr [metal_tss + 68], 0xDDDD # EDI of the caller
        iretd
        FAIL
5:
        NEXT                            # a task gate in the IDT
        TASK B, task5
        mov dword ptr [metal_idt + 0x30 * 8], S_B << 16
        mov dword ptr [metal_idt + 0x30 * 8 + 4], 0x8500
        push 0x0203
        popfd
        int 0x30
        FLAGS CF | IF | NT, CF | IF
        cli
        EQ esp, STACK32
        jmp 6f
task5:  FLAGS NT | IF, NT
        EQ esp, STACK_B
        iretd
6:
        NEXT                            # for an exception with an error code: it is pushed on the new stack
        TASK B, task6
        mov dword ptr [metal_idt + 13 * 8], S_B << 16
        mov dword ptr [metal_idt + 13 * 8 + 4], 0x8500
        mov eax, 0x108
7:      mov fs, eax
        EQ eax, DATA32
        jmp 8f
task6:  EQ esp, STACK_B - 4
        pop eax
        EQ eax, 0x108
        EQ dword ptr [metal_tss + T_EIP], offset 7b
        mov dword ptr [metal_tss + T_EAX], DATA32 # mend it and try again
        iretd
8:      GATE 13, metal_stubs32+13*8
        NEXT                            # a double fault by a task gate: its error code is 0
        TASK B, task7
        mov dword ptr [metal_idt + 8 * 8], S_B << 16
        mov dword ptr [metal_idt + 8 * 8 + 4], 0x8500
        mov byte ptr [metal_idt + 0 * 8 + 5], 0x0E
        mov byte ptr [metal_idt + 11 * 8 + 5], 0x0E
        xor ecx, ecx
        div ecx
        FAIL
task7:  EQ esp, STACK_B - 4
        pop eax
        EQ eax, 0
        mov dword ptr [metal_tss + T_EIP], offset 9f
        iretd
9:      GATE 8, metal_stubs32+8*8
        GATE 0, metal_stubs32
        GATE 11, metal_stubs32+11*8
        NEXT                            # faults before the switch
        FAULT 11, S_ABSENT, ljmp S_ABSENT, 0
        FAULT 10, S_SHORT, ljmp S_SHORT, 0
        FAULT 13, TSS_SEL, lcall TSS_SEL, 0
        str ax
        EQ ax, TSS_SEL
        NEXT                            # and after it, in the new task: #TS with the selector that is wrong.  Half a task is
        TASK BAD, metal_fail32          # no place to handle it, so its gate is a task gate, as the SDM wants
        mov dword ptr [BAD + T_CS], DATA32
        TASK B, task9
        mov dword ptr [metal_idt + 10 * 8], S_B << 16
        mov dword ptr [metal_idt + 10 * 8 + 4], 0x8500
        ljmp S_BAD, 0
        FAIL
task9:  EQ esp, STACK_B - 4
        pop eax
        EQ eax, DATA32
        EQ word ptr [B + T_LINK], S_BAD
        EQ byte ptr [metal_gdt + S_BAD + 5], 0x8B
        EQ byte ptr [metal_gdt + TSS_SEL + 5], 0x89
        EQ dword ptr [BAD + T_EIP], offset metal_fail32
        PASS
        METAL_END
