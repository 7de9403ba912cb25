# The trap flag and the debug registers: single steps, the shadow of MOV SS and POP SS, INT under TF, REP under TF, instruction
# and data breakpoints, DR6, RF.
.include "metal.inc"
        METAL "debug"
.set BS, 0x4000

        PROTECTED32
        GATE 1, on_debug
        FROM 1
        NEXT                            # each instruction after POPF is followed by a trap
        mov dword ptr [count], 0
        mov edi, offset trail
        push TF | 2
        popfd
1:      nop
2:      inc eax
3:      push 2
4:      popfd
5:      nop
        EQ dword ptr [count], 4
        EQ dword ptr [trail], offset 2b
        EQ dword ptr [trail + 4], offset 3b
        EQ dword ptr [trail + 8], offset 4b
        EQ dword ptr [trail + 12], offset 5b # POPF itself still began with TF
        mov eax, dword ptr [last_dr6]
        and eax, BS | 0xF
        EQ eax, BS
        NEXT                            # no trap between MOV SS and the next
        mov dword ptr [count], 0
        mov edi, offset trail
        mov ecx, DATA32
        push TF | 2
        popfd
        mov ss, ecx
1:      nop
2:      push 2
3:      popfd
4:      EQ dword ptr [count], 3
        EQ dword ptr [trail], offset 2b
        EQ dword ptr [trail + 4], offset 3b
        EQ dword ptr [trail + 8], offset 4b
        NEXT                            # each iteration of REP is a step
        mov dword ptr [count], 0
        mov edi, offset trail
        mov esi, 0x8000
        mov ecx, 3
        cld
        push TF | 2
        popfd
1:      rep lodsb
2:      push 2
3:      popfd
4:      EQ dword ptr [count], 5
        EQ dword ptr [trail], offset 1b
        EQ dword ptr [trail + 4], offset 1b
        EQ dword ptr [trail + 8], offset 2b
        EQ dword ptr [trail + 12], offset 3b
        NEXT                            # INT under TF: the handler is not stepped, its return is
        mov dword ptr [count], 0
        mov edi, offset trail
        GATE 0x30, quiet
        push TF | 2
        popfd
        int 0x30
1:      nop
2:      push 2
3:      popfd
4:      mov eax, dword ptr [count]
        cmp eax, 3                      # 2b 3b 4b
        jb metal_fail32
        cmp dword ptr [trail], offset quiet
        je metal_fail32
        cmp dword ptr [trail], offset quiet_end
        je metal_fail32
        NEXT                            # an instruction breakpoint is a fault, before it, and RF steps over it
        mov dword ptr [count], 0
        mov edi, offset trail
        mov eax, offset 1f
        mov dr0, eax
        xor eax, eax
        mov dr6, eax
        mov eax, 0x00000402             # G0, execute
        mov dr7, eax
        xor ebx, ebx
        nop
1:      inc ebx
        EQ ebx, 1
        EQ dword ptr [count], 1
        EQ dword ptr [trail], offset 1b
        mov eax, dword ptr [last_dr6]
        and eax, BS | 0xF
        EQ eax, 1
        test dword ptr [last_flags], RF # alone of all faults it does not push RF = 1 (volume 3, 17.3.1.1)
        jnz metal_fail32
        NEXT                            # a data breakpoint is a trap, after it; reads do not match a write breakpoint
        mov dword ptr [count], 0
        mov edi, offset trail
        mov eax, 0x8004
        mov dr1, eax
        xor eax, eax
        mov dr6, eax
        mov eax, 0x00D00408             # G1, write, 4 bytes
        mov dr7, eax
        mov eax, dword ptr [0x8004]
        mov dword ptr [0x8000], eax
        mov dword ptr [0x8008], eax
        EQ dword ptr [count], 0
        mov byte ptr [0x8006], 1
1:      nop
        EQ dword ptr [count], 1
        EQ dword ptr [trail], offset 1b
        mov eax, dword ptr [last_dr6]
        and eax, BS | 0xF
        EQ eax, 2
        mov dword ptr [0x8002], eax     # overlaps
1:      EQ dword ptr [count], 2
        NEXT                            # read or write
        mov eax, 0x00F00408
        mov dr7, eax
        mov dword ptr [count], 0
        mov edi, offset trail
        mov al, byte ptr [0x8007]
1:      EQ dword ptr [count], 1
        EQ dword ptr [trail], offset 1b
        xor eax, eax
        mov dr7, eax
        PASS

on_debug: # keeps a trail of return addresses at EDI
        push eax
        mov eax, [esp + 4]
        cmp dword ptr [count], 15
        ja 1f
        stosd
1:      inc dword ptr [count]
        mov eax, [esp + 12]
        mov dword ptr [last_flags], eax
        mov eax, dr6
        mov dword ptr [last_dr6], eax
        xor eax, eax
        mov dr6, eax
        or dword ptr [esp + 12], RF
        pop eax
        iretd
quiet:  nop
quiet_end:
        iretd
        .balign 4
count:  .long 0
last_dr6: .long 0
last_flags: .long 0
trail:  .fill 32, 4, 0
        METAL_END
