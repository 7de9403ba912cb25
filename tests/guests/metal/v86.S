# Virtual-8086 mode: entry by IRET, addresses, what traps by IOPL, the frame with all segment registers, INT to ring 0 with and
# without IOPL 3, the I/O permission map that holds even at IOPL 3.  Without CR4.VME.
.include "metal.inc"
        METAL "v86"
.set SEG, 0x2000                        # the 8086 program's segment: linear 20000h
.set V86_SP, 0x1000

.macro V86 flags, label                 # to virtual-8086 mode at SEG:label - v86_code
        push 0x4444                     # GS FS DS ES
        push 0x3333
        push SEG
        push 0x2222
        push SEG                        # SS
        push V86_SP
        push VM | \flags | 2
        push SEG
        push offset \label - v86_code
        iretd
.endm
.macro V86_FAULT vector, error, flags, label, at # run `label` and expect an exception at `at`
        NEXT
        mov dword ptr [V_VEC], \vector
        mov dword ptr [V_ERR], \error
        mov dword ptr [V_EIP], offset \at - v86_code
        mov dword ptr [V_RESUME], offset .Lon\@
        mov word ptr [V_CS], CODE32
        mov word ptr [V_SS], DATA32
        mov dword ptr [V_ESP], STACK32
        V86 \flags, \label
        FAIL
.Lon\@: EQ dword ptr [SEEN_CS], SEG
        test dword ptr [SEEN_FLAGS], VM
        jz metal_fail32
        pushfd
        pop eax
        test eax, VM
        jnz metal_fail32
        EQ dword ptr [SEEN_DS], 0       # the data segments were null in the handler
        EQ dword ptr [SEEN_SS], SEG
.endm

        PROTECTED32
        mov eax, TSS_SEL
        ltr ax
        mov esi, offset v86_code
        mov edi, SEG << 4
        mov ecx, v86_end - v86_code
        cld
        rep movsb
        mov dword ptr [0x3333 * 16 + 8], 0
        mov word ptr [metal_tss + 102], 104 # a permission map: 402h, 403h and 501h, 502h are open, 80h is not
        mov edi, offset metal_tss + 104

        FROM 1
        V86_FAULT 6, NO_ERROR_CODE, 0, v86_plain, v86_plain_end
        EQ dword ptr [0x23000], 0xCAFE1234 # written through DS
        EQ word ptr [0x3333 * 16 + 8], 0x3333 # through FS
        EQ word ptr [0x4444 * 16 + 8], 0x4444 # through GS
        EQ dword ptr [SEEN_ESP], V86_SP - 2
        EQ word ptr [0x20000 + V86_SP - 2], 0x2222 # ES
        EQ dword ptr [STACK_ESP0 - 16], 0x2345 # ES DS FS GS in the frame, from low to high
        EQ dword ptr [STACK_ESP0 - 12], SEG
        EQ dword ptr [STACK_ESP0 - 8], 0x3333
        EQ dword ptr [STACK_ESP0 - 4], 0x4444
        V86_FAULT 13, 0, 0, v86_cli, v86_cli
        V86_FAULT 13, 0, 0, v86_sti, v86_sti
        V86_FAULT 13, 0, 0, v86_pushf, v86_pushf
        V86_FAULT 13, 0, 0, v86_popf, v86_popf
        V86_FAULT 13, 0, 0, v86_int, v86_int
        V86_FAULT 13, 0, 0, v86_iret, v86_iret
        V86_FAULT 13, 0, 0x3000, v86_hlt, v86_hlt
        V86_FAULT 13, 0, 0x3000, v86_cr, v86_cr
        V86_FAULT 13, 0, 0x3000, v86_lgdt, v86_lgdt
        V86_FAULT 6, NO_ERROR_CODE, 0x3000, v86_lldt, v86_lldt # not recognised
        V86_FAULT 6, NO_ERROR_CODE, 0x3000, v86_arpl, v86_arpl
        V86_FAULT 13, 0, 0x3000, v86_out, v86_out # no map within the limit
        V86_FAULT 6, NO_ERROR_CODE, 0x3000, v86_flags, v86_flags_end
        mov ax, word ptr [0x23000]
        and ax, IF | 0x3000
        EQ ax, 0x3000 | IF
        and dword ptr [SEEN_FLAGS], 0x3000 | IF
        EQ dword ptr [SEEN_FLAGS], 0x3000 # CLI took; IOPL did not move by POPF
        NEXT                            # INT at IOPL 3 goes through the IDT to ring 0
        GATE 0x30, v86_service, 0xEE
        V86 0x3000, v86_int
v86_service:
        EQ esp, STACK_ESP0 - 36
        EQ dword ptr [esp], offset v86_int_end - v86_code
        EQ dword ptr [esp + 4], SEG
        test dword ptr [esp + 8], VM
        jz 1f
        EQ dword ptr [esp + 12], V86_SP
        EQ dword ptr [esp + 16], SEG
        mov eax, DATA32
        mov ds, eax
        mov esp, STACK32
        V86_FAULT 13, 0x31*8+2, 0x3000, v86_int31, v86_int31 # a gate with DPL 0
        V86_FAULT 13, 0, 0x3000, v86_limit, v86_limit # word at FFFFh
        PASS
1:      FAIL

v86_code:
BITS16
v86_plain:
        mov dword ptr [0x3000], 0xCAFE1234
        mov word ptr fs:[8], fs
        mov word ptr gs:[8], gs
        push es
        mov ax, 0x2345
        mov es, ax
        mov byte ptr es:[0], 1
        jmp v86_plain_far
v86_plain_far:
        .byte 0xEA                      # far jump, real-mode rules
        .word v86_plain_end - v86_code, SEG
v86_plain_end:
        ud2
v86_cli: cli
v86_sti: sti
v86_pushf: pushf
v86_popf: popf
v86_int: int 0x30
v86_int_end:
v86_int31: int 0x31
v86_iret: iret
v86_hlt: hlt
v86_cr: mov eax, cr0
v86_lgdt: lgdt [0]
v86_lldt: lldt ax
v86_arpl: arpl ax, ax
v86_out: out 0x80, al
v86_flags:
        sti
        pushf
        pop word ptr [0x3000]
        push 0x0202
        popf
        cli
v86_flags_end:
        ud2
v86_limit:
        mov ax, word ptr [0xFFFF]
v86_end:
BITS32
        METAL_END
