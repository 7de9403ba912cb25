# Self-modifying code: an instruction in a loop, one further on in the same block, the very next one, code copied over other
# code, a page filled by a string instruction, an instruction across a page border.
# After the store comes a jump, as the SDM asks for (volume 3, 12.6), but for the cases that say so, that hold on every
# processor since the Pentium Pro.
.include "metal.inc"
        METAL "smc"

.macro CALL_EBX
.if METAL_BITS == 16
        call bx
.else
        call ebx
.endif
.endm

.macro BODY
        NEXT                            # another immediate each time round a loop
        mov ecx, 100
        xor eax, eax
1:      mov byte ptr [2f + 1], cl
        jmp 2f
2:      mov dl, 0x55
        movzx edx, dl
        add eax, edx
        dec ecx
        jnz 1b
        EQ eax, 5050
        NEXT                            # INC becomes DEC and back
        mov ecx, 64
        mov eax, 1000
1:      mov ebx, ecx
        and bl, 1
        shl bl, 3
        or bl, 0x40                     # 48h is DEC
        mov byte ptr [2f], bl
        jmp 2f
2:      .byte 0x40                      # INC AX or EAX
        dec ecx
        jnz 1b
        EQ eax, 1000
        NEXT                            # the very next instruction, without a jump
        mov ecx, 8
        xor eax, eax
1:      mov bl, cl
        mov byte ptr [2f + 1], bl
2:      add al, 0
        dec ecx
        jnz 1b
        EQ al, 36
        NEXT                            # further on in the same straight line, without a jump
        mov byte ptr [1f + 1], 7
        nop
        nop
1:      mov al, 0
        EQ al, 7
        mov byte ptr [1b + 1], 0
        NEXT                            # two functions at one place, in turn
        mov ecx, 20
        xor eax, eax
1:      mov esi, offset .Lone\@
        test cl, 1
        jz 2f
        mov esi, offset .Ltwo\@
2:      push ecx
        mov edi, 0x9000
        mov ecx, .Ltwo\@ - .Lone\@
        cld
        rep movsb
        pop ecx
        mov ebx, 0x9000
        CALL_EBX
        dec ecx
        jnz 1b
        EQ eax, 10 * 3 + 10 * 500
        jmp .Lbody\@
.Lone\@: add eax, 3
        nop
        nop
        ret
        .balign 8
.Ltwo\@: add eax, 500
        nop
        ret
        .balign 8
        nop
.Lbody\@:
        NEXT                            # a page of NOPs and a RET, rewritten whole
        mov edi, 0x9000
        mov ecx, 0xFFF
        mov al, 0x90
        rep stosb
        mov byte ptr [edi], 0xC3
        mov ebx, 0x9000
        CALL_EBX
        mov edi, 0x9000
        mov ecx, 0xFFF
        mov al, 0x40                    # INC AX or EAX
        rep stosb
        xor eax, eax
        CALL_EBX
        EQ eax, 0xFFF
        NEXT                            # the operand across a page border, its second half changed
        mov byte ptr [0x9FFE], 0xB8     # MOV AX, imm16 or MOV EAX, imm32
        mov dword ptr [0x9FFF], 0x11111111
        mov byte ptr [0xA001], 0x11
        mov byte ptr [0xA003], 0xC3
.if METAL_BITS == 16
        mov byte ptr [0xA001], 0xC3
.endif
        mov ebx, 0x9FFE
        CALL_EBX
        EQ ax, 0x1111
        mov byte ptr [0xA000], 0x77
        CALL_EBX
        EQ ax, 0x7711
        mov byte ptr [0x9FFF], 0x66
        CALL_EBX
        EQ ax, 0x7766
        NEXT                            # code that changes itself and is data too: a counter in an immediate
        mov ecx, 50
        mov dword ptr [0x8000], 0
1:      inc byte ptr [2f + 1]
        jmp 2f
2:      mov al, 0
        movzx eax, al
        mov dword ptr [0x8000], eax
        dec ecx
        jnz 1b
        EQ dword ptr [0x8000], 50
        mov byte ptr [2b + 1], 0
.endm
        FROM 1
        BODY
        PROTECTED32
        FROM 20
        BODY
        PASS
        METAL_END
