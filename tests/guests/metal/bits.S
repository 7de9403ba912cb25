# Bit and exchange instructions: BT BTS BTR BTC with registers, immediates and bit strings in memory, BSF BSR, BSWAP,
# SETcc and CMOVcc and Jcc for all sixteen conditions, XADD, XCHG, CMPXCHG, CMPXCHG8B, LAHF SAHF CMC STC CLC, XLAT, LEA.
.include "metal.inc"
        METAL "bits"

.macro CONDITION cc, flags, taken       # SETcc, CMOVcc and Jcc agree on `taken`
        NEXT
        mov eax, 0x11111111
        mov ebx, 0x22222222
        mov cl, 0x77
        SETFLAGS \flags
        set\cc cl
        cmov\cc eax, ebx
        j\cc .Lt\@
        EQ cl, 0
        EQ eax, 0x11111111
.if \taken
        FAIL
.endif
        jmp .Le\@
.Lt\@:  FLAGS ARITH, \flags
        EQ cl, 1
        EQ eax, 0x22222222
.if !\taken
        FAIL
.endif
.Le\@:
.endm

.macro TABLE
        CONDITION o, OF, 1
        CONDITION o, ARITH & ~OF, 0
        CONDITION no, OF, 0
        CONDITION no, 0, 1
        CONDITION b, CF, 1
        CONDITION b, ARITH & ~CF, 0
        CONDITION ae, CF, 0
        CONDITION ae, 0, 1
        CONDITION e, ZF, 1
        CONDITION e, ARITH & ~ZF, 0
        CONDITION ne, ZF, 0
        CONDITION ne, 0, 1
        CONDITION be, CF, 1
        CONDITION be, ZF, 1
        CONDITION be, SF | OF | PF, 0
        CONDITION a, CF, 0
        CONDITION a, ZF, 0
        CONDITION a, SF | OF | PF, 1
        CONDITION s, SF, 1
        CONDITION s, ARITH & ~SF, 0
        CONDITION ns, SF, 0
        CONDITION ns, 0, 1
        CONDITION p, PF, 1
        CONDITION p, ARITH & ~PF, 0
        CONDITION np, PF, 0
        CONDITION np, 0, 1
        CONDITION l, SF, 1
        CONDITION l, OF, 1
        CONDITION l, SF | OF, 0
        CONDITION l, ZF | CF, 0
        CONDITION ge, SF, 0
        CONDITION ge, OF, 0
        CONDITION ge, SF | OF, 1
        CONDITION ge, 0, 1
        CONDITION le, SF, 1
        CONDITION le, OF, 1
        CONDITION le, ZF, 1
        CONDITION le, ZF | SF | OF, 1
        CONDITION le, SF | OF | CF, 0
        CONDITION g, ZF, 0
        CONDITION g, SF, 0
        CONDITION g, 0, 1
        CONDITION g, SF | OF, 1

        # BT family: CF = the bit; ZF is kept.
        NEXT
        mov eax, 0x00008001
        SETFLAGS ZF
        bt eax, 15
        FLAGS CF | ZF, CF | ZF
        SETFLAGS CF
        bt eax, 14
        FLAGS CF | ZF, 0
        mov ecx, 32                     # modulo the operand size for registers
        bt eax, ecx
        FLAGS CF, CF
        NEXT
        mov ecx, 33
        bts eax, ecx
        FLAGS CF, 0
        EQ eax, 0x00008003
        btr eax, 0
        FLAGS CF, CF
        EQ eax, 0x00008002
        btc eax, 31
        EQ eax, 0x80008002
        btc eax, 31
        FLAGS CF, CF
        EQ eax, 0x00008002
        mov cx, 17
        btr ax, cx
        EQ eax, 0x00008000
        NEXT                            # bit strings in memory, also below the address
        mov dword ptr [0x8000], 0
        mov dword ptr [0x8004], 0
        mov dword ptr [0x8008], 0
        mov ecx, 40
        bts dword ptr [0x8000], ecx
        FLAGS CF, 0
        EQ dword ptr [0x8004], 0x100
        mov ecx, -32
        bts dword ptr [0x8008], ecx
        EQ dword ptr [0x8004], 0x101
        mov cx, -1
        bts word ptr [0x8008], cx
        EQ dword ptr [0x8004], 0x80000101
        mov ecx, 8
        btr dword ptr [0x8004], ecx
        FLAGS CF, CF
        EQ dword ptr [0x8004], 0x80000001
        btc dword ptr [0x8004], 33      # an immediate stays within the operand
        EQ dword ptr [0x8004], 0x80000003
        EQ dword ptr [0x8008], 0
        bt word ptr [0x8006], 15
        FLAGS CF, CF

        NEXT
        mov ebx, 0x00800100
        bsf eax, ebx
        FLAGS ZF, 0
        EQ eax, 8
        bsr eax, ebx
        EQ eax, 23
        xor ebx, ebx
        bsf eax, ebx
        FLAGS ZF, ZF
        bsr eax, ebx
        FLAGS ZF, ZF
        mov eax, -1
        mov bx, 0x8000
        bsr ax, bx
        EQ eax, 0xFFFF000F
        bsf ax, bx
        EQ eax, 0xFFFF000F
        NEXT
        mov esi, 0x12345678
        bswap esi
        EQ esi, 0x78563412
        NEXT
        mov eax, 0xFFFFFFFF
        mov edx, 2
        xadd eax, edx
        FLAGS ARITH, CF | PF | AF & ~PF
        EQ eax, 1
        EQ edx, 0xFFFFFFFF
        mov dword ptr [0x8000], 10
        lock xadd dword ptr [0x8000], edx
        EQ edx, 10
        EQ dword ptr [0x8000], 9
        mov al, 0x7F
        xadd al, al                     # both are one: the sum stays
        EQ al, 0xFE
        NEXT
        mov eax, 0x11223344
        mov ebx, 0x55667788
        xchg al, bh
        EQ eax, 0x11223377
        EQ ebx, 0x55664488
        xchg eax, ebx
        EQ eax, 0x55664488
        mov word ptr [0x8000], 0x9999
        xchg word ptr [0x8000], ax
        EQ eax, 0x55669999
        EQ word ptr [0x8000], 0x4488
        NEXT
        mov dword ptr [0x8000], 100
        mov eax, 100
        mov ecx, 200
        lock cmpxchg dword ptr [0x8000], ecx
        FLAGS ARITH, ZF | PF
        EQ dword ptr [0x8000], 200
        EQ eax, 100
        lock cmpxchg dword ptr [0x8000], ecx
        FLAGS ZF | CF, CF               # 100 - 200 borrows
        EQ eax, 200
        EQ dword ptr [0x8000], 200
        mov al, 5
        mov bl, 5
        mov cl, 9
        cmpxchg bl, cl
        EQ bl, 9
        cmpxchg bl, cl
        EQ al, 9
        NEXT
        mov dword ptr [0x8000], 1
        mov dword ptr [0x8004], 2
        mov eax, 1
        mov edx, 2
        mov ebx, 3
        mov ecx, 4
        SETFLAGS ARITH & ~ZF
        lock cmpxchg8b qword ptr [0x8000]
        FLAGS ARITH, ARITH
        EQ dword ptr [0x8000], 3
        EQ dword ptr [0x8004], 4
        cmpxchg8b qword ptr [0x8000]
        FLAGS ZF, 0
        EQ eax, 3
        EQ edx, 4
        NEXT
        mov ah, 0xFF
        sahf
        FLAGS ARITH & ~OF, SF | ZF | AF | PF | CF
        mov ah, 0
        sahf
        lahf
        EQ ah, 0x02
        SETFLAGS ARITH
        lahf
        EQ ah, 0xD7
        NEXT
        SETFLAGS ARITH
        clc
        FLAGS ARITH, ARITH & ~CF
        SETFLAGS ARITH & ~CF
        cmc
        FLAGS ARITH, ARITH
        SETFLAGS 0
        stc
        FLAGS ARITH, CF
        NEXT
        mov dword ptr [0x8010], 0x44332211
        mov ebx, 0x8010
        mov eax, 0x99999902
        xlatb
        EQ eax, 0x99999933
        NEXT
        mov ebx, 0x1000
        mov esi, 0x20
        lea eax, [ebx + esi * 4 + 8]
        EQ eax, 0x1088
        lea eax, [esi * 8 - 1]
        EQ eax, 0xFF
        lea eax, [ebx + ebx]
        EQ eax, 0x2000
        mov ecx, -1
        lea cx, [ebx + esi + 0x12340000]
        EQ ecx, 0xFFFF1020
        NEXT
        mov ecx, 3
        xor eax, eax
1:      inc eax
        loop 1b
        EQ eax, 3
        EQ ecx, 0
        mov ecx, 5
        xor eax, eax
2:      inc eax
        cmp eax, 2
        loopne 2b
        EQ ecx, 3
        mov ecx, 5
3:      cmp eax, eax
        loope 3b
        EQ ecx, 0
        jecxz 4f
        FAIL
4:      inc ecx
        jecxz 5f
        jmp 6f
5:      FAIL
6:
.endm
        FROM 1
        TABLE
        NEXT                            # 16-bit addressing forms
        mov bx, 0x8000
        mov si, 0x10
        mov di, 0x20
        mov bp, 0xFFF0
        lea ax, [bx + si]
        EQ ax, 0x8010
        lea ax, [bx + di + 0x7F]
        EQ ax, 0x809F
        lea ax, [bp + si + 0x10]
        EQ ax, 0x0010
        lea ax, [bp - 1]
        EQ ax, 0xFFEF
        lea ax, [bp + di + 0x1234]
        EQ ax, 0x1244
        lea eax, [bx - 1]
        EQ eax, 0x7FFF
        PROTECTED32
        FROM 100
        TABLE
        PASS
        METAL_END
