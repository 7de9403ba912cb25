# Shifts and rotates: SHL SHR SAR ROL ROR RCL RCR SHLD SHRD, by one, by an immediate and by CL, in 8, 16 and 32 bits.
# Only flags the SDM defines are looked at: OF for counts of one, AF never after a shift.  A count of zero (after masking
# with 31) changes nothing at all.
.include "metal.inc"
        METAL "shifts"

.set SHIFT, CF | PF | ZF | SF           # defined for every count but zero
.set SHIFT1, SHIFT | OF                 # for counts of one

.macro SH op, reg, a, count, before, result, mask, after # by an immediate and by CL (CL is never the operand)
        NEXT
        mov \reg, \a
        SETFLAGS \before
        \op \reg, \count
        FLAGS \mask, \after
        EQ \reg, \result
        mov \reg, \a
        mov cl, \count
        SETFLAGS \before
        \op \reg, cl
        FLAGS \mask, \after
        EQ \reg, \result
.endm
.macro DSH op, reg, a, other, b, count, before, result, mask, after
        NEXT
        mov \reg, \a
        mov \other, \b
        SETFLAGS \before
        \op \reg, \other, \count
        FLAGS \mask, \after
        EQ \reg, \result
        EQ \other, \b
        mov \reg, \a
        mov cl, \count
        SETFLAGS \before
        \op \reg, \other, cl
        FLAGS \mask, \after
        EQ \reg, \result
.endm

.macro TABLE
        SH shl, al, 0x81, 1, 0, 0x02, SHIFT1, CF|OF
        SH shl, al, 0x40, 1, CF, 0x80, SHIFT1, SF|OF
        SH shl, al, 0xC0, 1, OF, 0x80, SHIFT1, CF|SF
        SH shl, bl, 0x01, 7, 0, 0x80, SHIFT, SF
        SH shl, bl, 0x01, 8, 0, 0x00, SHIFT & ~CF | CF, CF|PF|ZF
        SH shl, bl, 0xFF, 0, ARITH, 0xFF, ARITH, ARITH
        SH shl, bl, 0xFF, 32, ARITH, 0xFF, ARITH, ARITH
        SH shl, bl, 0x55, 33, 0, 0xAA, SHIFT1, PF|SF|OF
        SH shl, ax, 0x8001, 1, 0, 0x0002, SHIFT1, CF|OF
        SH shl, ax, 0x0001, 15, 0, 0x8000, SHIFT, PF|SF
        SH shl, ax, 0x0001, 16, 0, 0x0000, SHIFT, CF|PF|ZF
        SH shl, eax, 0x80000001, 1, 0, 0x00000002, SHIFT1, CF|OF
        SH shl, eax, 0x00000003, 31, 0, 0x80000000, SHIFT, CF|PF|SF
        SH shl, eax, 0x12345678, 8, 0, 0x34567800, SHIFT, PF
        SH shr, al, 0x81, 1, 0, 0x40, SHIFT1, CF|OF
        SH shr, al, 0x7F, 1, 0, 0x3F, SHIFT1, CF|PF
        SH shr, al, 0x80, 8, 0, 0x00, SHIFT, CF|PF|ZF
        SH shr, ax, 0x8000, 15, 0, 0x0001, SHIFT, 0
        SH shr, ax, 0x8000, 16, 0, 0x0000, SHIFT, CF|PF|ZF
        SH shr, eax, 0x80000000, 1, 0, 0x40000000, SHIFT1, PF|OF
        SH shr, eax, 0xFFFFFFFF, 31, 0, 1, SHIFT, CF
        SH shr, eax, 0x12345678, 32, ARITH, 0x12345678, ARITH, ARITH
        SH sar, al, 0x81, 1, OF, 0xC0, SHIFT1, CF|PF|SF
        SH sar, al, 0x80, 7, 0, 0xFF, SHIFT, PF|SF
        SH sar, al, 0x80, 8, 0, 0xFF, SHIFT, CF|PF|SF
        SH sar, al, 0x40, 31, 0, 0x00, SHIFT, PF|ZF
        SH sar, ax, 0x8000, 15, 0, 0xFFFF, SHIFT, PF|SF
        SH sar, ax, 0x8000, 20, 0, 0xFFFF, SHIFT, CF|PF|SF
        SH sar, eax, 0x80000000, 31, 0, 0xFFFFFFFF, SHIFT, PF|SF
        SH sar, eax, 0x7FFFFFFF, 1, OF, 0x3FFFFFFF, SHIFT1, CF|PF
        # Rotates leave SF ZF AF PF alone.
        SH rol, al, 0x81, 1, SF|ZF|AF|PF, 0x03, ARITH, SF|ZF|AF|PF|CF|OF
        SH rol, al, 0x40, 1, 0, 0x80, ARITH, OF
        SH rol, al, 0x12, 4, ZF, 0x21, ARITH & ~OF, ZF|CF
        SH rol, al, 0x81, 8, 0, 0x81, ARITH & ~OF, CF
        SH rol, al, 0x81, 9, 0, 0x03, ARITH & ~OF, CF
        SH rol, al, 0x81, 32, ARITH, 0x81, ARITH, ARITH
        SH rol, ax, 0x8001, 1, 0, 0x0003, ARITH, CF|OF
        SH rol, ax, 0x1234, 16, 0, 0x1234, CF, 0
        SH rol, ax, 0x1234, 20, CF, 0x2341, CF, CF
        SH rol, eax, 0x80000000, 1, 0, 1, ARITH, CF|OF
        SH rol, eax, 0x12345678, 12, 0, 0x45678123, CF, CF
        SH ror, al, 0x01, 1, 0, 0x80, ARITH, CF|OF
        SH ror, al, 0x80, 1, CF, 0x40, ARITH, OF
        SH ror, al, 0x03, 1, 0, 0x81, ARITH, CF|OF
        SH ror, al, 0x80, 8, 0, 0x80, CF, CF
        SH ror, al, 0x21, 4, SF, 0x12, ARITH & ~OF, SF
        SH ror, ax, 0x0001, 1, 0, 0x8000, ARITH, CF|OF
        SH ror, ax, 0x1234, 17, CF, 0x091A, CF, 0
        SH ror, eax, 0x12345678, 4, 0, 0x81234567, CF, CF
        # Through the carry: 9, 17 and 33 bits.
        SH rcl, al, 0x80, 1, 0, 0x00, ARITH, CF|OF
        SH rcl, al, 0x40, 1, CF, 0x81, ARITH, OF
        SH rcl, al, 0x80, 1, CF|SF, 0x01, ARITH, CF|OF|SF
        SH rcl, al, 0x12, 9, CF, 0x12, CF, CF
        SH rcl, al, 0x12, 9, 0, 0x12, CF, 0
        SH rcl, al, 0x80, 2, 0, 0x01, CF, 0
        SH rcl, al, 0x80, 11, 0, 0x01, CF, 0
        SH rcl, ax, 0x8000, 1, CF, 0x0001, ARITH, CF|OF
        SH rcl, ax, 0x1234, 17, CF, 0x1234, CF, CF
        SH rcl, ax, 0x8000, 19, 0, 0x0001, CF, 0
        SH rcl, eax, 0x80000000, 1, 0, 0, ARITH, CF|OF
        SH rcl, eax, 0x80000000, 2, CF, 3, CF, 0
        SH rcr, al, 0x01, 1, 0, 0x00, ARITH, CF
        SH rcr, al, 0x01, 1, CF, 0x80, ARITH, CF|OF
        SH rcr, al, 0x80, 1, CF, 0xC0, ARITH, 0
        SH rcr, al, 0x80, 1, 0, 0x40, ARITH, OF
        SH rcr, al, 0x5A, 9, CF, 0x5A, CF, CF
        SH rcr, al, 0x01, 2, 0, 0x80, CF, 0
        SH rcr, ax, 0x0001, 1, CF, 0x8000, ARITH, CF|OF
        SH rcr, ax, 0x1234, 17, 0, 0x1234, CF, 0
        SH rcr, eax, 0x00000001, 1, CF, 0x80000000, ARITH, CF|OF
        SH rcr, eax, 0x00000003, 2, 0, 0x80000000, CF, CF
        # Double shifts.
        DSH shld, eax, 0x12345678, ebx, 0x9ABCDEF0, 8, 0, 0x3456789A, SHIFT, PF
        DSH shld, eax, 0x80000000, ebx, 0x80000000, 1, 0, 0x00000001, SHIFT1, CF|OF
        DSH shld, eax, 0x40000000, ebx, 0x00000000, 1, CF, 0x80000000, SHIFT1, PF|SF|OF
        DSH shld, eax, 0x12345678, ebx, 0xFFFFFFFF, 32, ARITH, 0x12345678, ARITH, ARITH
        DSH shld, eax, 0x00000001, edx, 0xFFFFFFFF, 31, 0, 0xFFFFFFFF, SHIFT, PF|SF
        DSH shld, ax, 0x1234, bx, 0xABCD, 4, 0, 0x234A, SHIFT, CF
        DSH shld, ax, 0x8000, bx, 0x0000, 1, 0, 0x0000, SHIFT1, CF|PF|ZF|OF
        DSH shrd, eax, 0x12345678, ebx, 0x9ABCDEF0, 8, 0, 0xF0123456, SHIFT, PF|SF
        DSH shrd, eax, 0x00000001, ebx, 0x00000001, 1, 0, 0x80000000, SHIFT1, CF|PF|SF|OF
        DSH shrd, eax, 0x80000000, ebx, 0x00000000, 1, 0, 0x40000000, SHIFT1, PF|OF
        DSH shrd, ax, 0x1234, bx, 0xABCD, 4, 0, 0xD123, SHIFT, SF
        DSH shrd, ax, 0x1234, bx, 0xABCD, 0, ARITH, 0x1234, ARITH, ARITH
        # On memory.
        NEXT
        mov dword ptr [0x8000], 0x80000001
        SETFLAGS 0
        rol dword ptr [0x8000], 1
        FLAGS CF|OF, CF|OF
        EQ dword ptr [0x8000], 3
        mov cl, 4
        shl byte ptr [0x8000], cl
        EQ dword ptr [0x8000], 0x30
        mov ebx, 0xF0000000
        shld dword ptr [0x8000], ebx, 4
        EQ dword ptr [0x8000], 0x30F
        sar word ptr [0x8000], 3
        EQ dword ptr [0x8000], 0x61
        NEXT                            # CL as the operand of its own shift
        mov cl, 3
        shl cl, cl
        EQ cl, 24
.endm
        FROM 1
        TABLE
        PROTECTED32
        FROM 200
        TABLE
        PASS
        METAL_END
