# The measured loops: bare metal, 32-bit protected mode, no firmware, no devices but the port that is measured.
#
# The harness writes two numbers into the image before a run: at FF80h which loop, at FF84h how many times round.
# Instructions a round are in the harness (benchmarks/loops.py) and are checked there against the simulated processor's count.
.include "metal.inc"
        METAL "loop"
.set WHICH, 0xFF80
.set ROUNDS, 0xFF84
.set TABLE, 0x20000
.set PORT, 0x240

        PROTECTED32
        mov ecx, dword ptr [ROUNDS]
        mov eax, dword ptr [WHICH]
        mov ebx, 0x12345678
        mov ebp, 0x9ABCDEF0
        xor esi, esi
        xor edi, edi
        xor edx, edx
        cmp eax, 0
        je registers
        cmp eax, 1
        je memory
        cmp eax, 2
        je calls
        mov edx, PORT
        cmp eax, 3
        je output
        cmp eax, 4
        je input
        FAIL

        .balign 16
registers: # 10
        add eax, ebx
        xor edx, eax
        lea esi, [eax + edx * 2 + 3]
        rol ebx, 5
        sub edi, esi
        and ebp, 0x0FFFFFFF
        or ebp, edi
        inc eax
        dec ecx
        jnz registers
        PASS

        .balign 16
memory: # 9
        mov eax, dword ptr [TABLE + ebx * 4]
        add eax, ecx
        mov dword ptr [TABLE + 0x1000 + ebx * 4], eax
        movzx edx, byte ptr [TABLE + 0x2000 + ebx]
        add dword ptr [TABLE + 0x3000], edx
        inc ebx
        and ebx, 0x3FF
        dec ecx
        jnz memory
        PASS

        .balign 16
calls: # 12
        push ecx
        call function
        pop ecx
        test eax, 1
        jz 1f
        nop
1:      dec ecx
        jnz calls
        PASS
        .balign 16
function:
        mov eax, dword ptr [esp + 4]
        and eax, ~1
        cmp eax, ebp
        je 1f
        ret
1:      FAIL

        .balign 16
output: # 3
        out dx, al
        dec ecx
        jnz output
        PASS

        .balign 16
input: # 3
        in al, dx
        dec ecx
        jnz input
        PASS

        .org WHICH
        .long 0, 0
        METAL_END
