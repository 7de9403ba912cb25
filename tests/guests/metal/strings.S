# String instructions: MOVS STOS LODS SCAS CMPS with every size and repeat prefix, both directions, 16- and 32-bit
# addresses and counts, segment overrides, counts of zero, and the flags that end REPE and REPNE.  INS and OUTS are not here.
.include "metal.inc"
        METAL "strings"
.set SRC, 0x8000
.set DST, 0x8100

.macro CLEAR                            # 64 bytes of DST := 0; SRC := 00 01 02 ..
        mov edi, DST
        mov ecx, 64
1:      mov byte ptr [edi], 0
        mov eax, edi
        sub eax, DST
        mov byte ptr [edi + SRC - DST], al
        inc edi
        dec ecx
        jnz 1b
        mov esi, SRC
        mov edi, DST
.endm

.macro TABLE
        NEXT
        CLEAR
        cld
        movsb
        movsw
        movsd
        EQ esi, SRC + 7
        EQ edi, DST + 7
        EQ dword ptr [DST], 0x03020100
        EQ dword ptr [DST + 4], 0x00060504
        NEXT
        CLEAR
        std
        mov esi, SRC + 8
        mov edi, DST + 8
        movsb
        movsw
        movsd
        cld
        EQ esi, SRC + 1
        EQ edi, DST + 1
        EQ byte ptr [DST + 8], 8
        EQ word ptr [DST + 7], 0x0807   # the word went to 7 and 8
        EQ dword ptr [DST + 5], 0x08070605
        NEXT
        CLEAR
        mov ecx, 13
        rep movsb
        EQ ecx, 0
        EQ esi, SRC + 13
        EQ edi, DST + 13
        EQ dword ptr [DST + 9], 0x0C0B0A09
        EQ byte ptr [DST + 13], 0
        NEXT
        CLEAR
        mov ecx, 5
        rep movsw
        EQ esi, SRC + 10
        EQ dword ptr [DST + 6], 0x09080706
        EQ byte ptr [DST + 10], 0
        NEXT
        CLEAR
        mov ecx, 5
        rep movsd
        EQ edi, DST + 20
        EQ dword ptr [DST + 16], 0x13121110
        EQ dword ptr [DST + 20], 0
        NEXT                            # overlapping forward copy spreads the first byte
        CLEAR
        mov byte ptr [DST], 0x5A
        mov esi, DST
        mov edi, DST + 1
        mov ecx, 15
        rep movsb
        EQ dword ptr [DST + 12], 0x5A5A5A5A
        EQ byte ptr [DST + 16], 0
        NEXT                            # and backward keeps it
        CLEAR
        std
        mov esi, SRC + 15
        mov edi, SRC + 16
        mov ecx, 16
        rep movsb
        cld
        EQ dword ptr [SRC + 13], 0x0F0E0D0C
        EQ esi, SRC - 1
        EQ edi, SRC
        NEXT                            # nothing for a count of zero
        CLEAR
        xor ecx, ecx
        SETFLAGS ZF
        rep movsd
        repe cmpsb
        repne scasb
        FLAGS ARITH, ZF
        EQ esi, SRC
        EQ edi, DST
        EQ ecx, 0
        NEXT
        CLEAR
        mov eax, 0x11223344
        mov ecx, 3
        rep stosd
        stosw
        stosb
        EQ edi, DST + 15
        EQ dword ptr [DST + 8], 0x11223344
        EQ dword ptr [DST + 12], 0x00443344
        NEXT
        CLEAR
        mov eax, -1
        lodsb
        EQ eax, 0xFFFFFF00
        lodsw
        EQ eax, 0xFFFF0201
        lodsd
        EQ eax, 0x06050403
        EQ esi, SRC + 7
        mov ecx, 4
        rep lodsb
        EQ al, 10
        EQ esi, SRC + 11
        NEXT                            # SCAS stops at the byte, after it
        CLEAR
        mov edi, SRC
        mov al, 9
        mov ecx, 64
        repne scasb
        FLAGS ZF | CF, ZF
        EQ edi, SRC + 10
        EQ ecx, 54
        mov al, 0xEE
        mov ecx, 10
        repne scasb
        FLAGS ZF, 0
        EQ ecx, 0
        EQ edi, SRC + 20
        NEXT
        mov edi, SRC
        mov eax, 0x03020100
        scasd
        FLAGS ARITH, ZF | PF
        mov ax, 0x0504
        scasw
        FLAGS ZF, ZF
        scasb                           # 04 - 06
        FLAGS ARITH, CF | SF | AF
        NEXT                            # CMPS: [ESI] - [EDI]
        CLEAR
        mov ecx, 64
        repe cmpsb                      # equal at 0 only: DST is zeros
        FLAGS ARITH, 0                  # 01 - 00
        EQ ecx, 62
        EQ esi, SRC + 2
        EQ edi, DST + 2
        NEXT
        CLEAR
        mov ecx, 16
        rep movsd
        mov esi, SRC
        mov edi, DST
        mov ecx, 16
        repe cmpsd
        FLAGS ZF, ZF
        EQ ecx, 0
        EQ esi, SRC + 64
        mov word ptr [DST + 20], 0x7777
        mov esi, SRC
        mov edi, DST
        mov ecx, 32
        repe cmpsw
        FLAGS ZF | CF, CF               # 1514 - 7777
        EQ ecx, 21
        EQ edi, DST + 22
        NEXT
        mov esi, SRC
        mov edi, DST + 1
        mov ecx, 8
        repne cmpsb                     # 00-01, 01-02, .. never equal
        FLAGS ZF, 0
        EQ ecx, 0
        std
        mov esi, SRC + 9
        mov edi, DST + 9
        mov ecx, 4
        repe cmpsb
        cld
        FLAGS ZF, ZF
        EQ esi, SRC + 5
.endm
        FROM 1
        TABLE
        # 16-bit addresses: only the low halves count and change, and they wrap.
        CASE 50
        mov byte ptr [0xFFFF - 0x5000], 0x12
        mov esi, 0x1234FFFE
        mov edi, 0x56788000
        mov ecx, 0x9ABC0004
        mov ax, word ptr [0xFFFE]
        mov bx, word ptr [0x0000]
        cld
        rep movsb
        EQ esi, 0x12340002
        EQ edi, 0x56788004
        EQ ecx, 0x9ABC0000
        EQ word ptr [0x8000], ax
        EQ word ptr [0x8002], bx
        CASE 51                         # segment override for the source, ES always for the destination
        mov ax, 0x2000
        mov fs, ax
        mov ax, 0x2100
        mov es, ax
        mov dword ptr fs:[0x10], 0xCAFEF00D
        mov dword ptr es:[0x20], 0
        mov si, 0x10
        mov di, 0x20
        movs dword ptr es:[di], dword ptr fs:[si]
        EQ dword ptr es:[0x20], 0xCAFEF00D
        mov ebx, 0x21020
        EQ dword ptr fs:[0x1020], 0xCAFEF00D
        lods al, byte ptr es:[si + 0]
        EQ si, 0x15
        mov ax, 0
        mov es, ax
        mov fs, ax
        CASE 52                         # 16-bit code with 32-bit addresses counts in ECX
        CLEAR
        mov ecx, 8
        rep movs byte ptr es:[edi], byte ptr [esi]
        EQ ecx, 0
        EQ esi, SRC + 8
        EQ dword ptr [DST + 4], 0x07060504
        PROTECTED32
        FROM 60
        TABLE
        CASE 90                         # 32-bit code with 16-bit addresses counts in CX
        CLEAR
        mov ecx, 0x10008
        mov esi, 0x70000 | SRC
        mov edi, 0x70000 | DST
        rep movs byte ptr es:[di], byte ptr [si]
        EQ ecx, 0x10000
        EQ esi, 0x70000 | (SRC + 8)
        EQ dword ptr [DST + 4], 0x07060504
        CASE 91                         # large, over many pages
        mov edi, 0x100000
        mov ecx, 0x8000
        mov eax, 0xA5A5A5A5
        rep stosd
        EQ edi, 0x120000
        mov esi, 0x100000
        mov edi, 0x120001
        mov ecx, 0x1FFFF
        rep movsb
        EQ byte ptr [0x13FFFF], 0xA5
        EQ edi, 0x140000
        mov edi, 0x100000
        mov ecx, 0x10000
        mov eax, 0xA5A5A5A5
        repe scasd
        FLAGS ZF, 0                     # the byte at 120000 is zero
        EQ edi, 0x120004
        PASS
        METAL_END
