# The stack: PUSH and POP of everything, PUSHA POPA, PUSHF POPF, ENTER, LEAVE, CALL and RET near and far with a
# count, INT and IRET in real mode, segment loads by LDS and the like, MOV SS, and the interrupt flag's reach.
.include "metal.inc"
        METAL "stack"
        CASE 1
        mov esp, 0xF00
        push 0x1234
        EQ sp, 0xEFE
        EQ word ptr [0xEFE], 0x1234
        push -1                         # an 8-bit immediate is extended
        EQ word ptr [0xEFC], 0xFFFF
        pop ax
        EQ ax, 0xFFFF
        pop bx
        EQ bx, 0x1234
        EQ sp, 0xF00
        CASE 2
        mov eax, 0x89ABCDEF
        push eax
        EQ sp, 0xEFC
        EQ dword ptr [0xEFC], 0x89ABCDEF
        pop cx
        pop dx
        EQ cx, 0xCDEF
        EQ dx, 0x89AB
        CASE 3                          # PUSH SP pushes the value before
        push sp
        pop ax
        EQ ax, 0xF00
        push esp
        pop eax
        EQ eax, 0xF00
        CASE 4
        mov word ptr [0x8000], 0x5678
        push word ptr [0x8000]
        pop word ptr [0x8002]
        EQ word ptr [0x8002], 0x5678
        push 0x7777                     # POP [SP]: the address counts the SP after the pop
        mov ebp, esp
        mov word ptr [0xF00], 0
        pop word ptr [esp]
        EQ word ptr [0xF00], 0x7777
        EQ sp, 0xF00
        CASE 5
        mov ax, 0x1111
        mov es, ax
        push es
        push fs
        pop es
        pop fs
        mov bx, fs
        EQ bx, 0x1111
        mov bx, es
        EQ bx, 0
        mov fs, bx
        CASE 6
        mov eax, 0x11111111
        mov ecx, 0x22222222
        mov edx, 0x33333333
        mov ebx, 0x44444444
        mov ebp, 0x55555555
        mov esi, 0x66666666
        mov edi, 0x77777777
        pushad
        EQ sp, 0xEE0
        EQ dword ptr [0xEFC], 0x11111111
        EQ dword ptr [0xEF8], 0x22222222
        EQ dword ptr [0xEF4], 0x33333333
        EQ dword ptr [0xEF0], 0x44444444
        EQ dword ptr [0xEEC], 0x00000F00
        EQ dword ptr [0xEE8], 0x55555555
        EQ dword ptr [0xEE4], 0x66666666
        EQ dword ptr [0xEE0], 0x77777777
        mov dword ptr [0xEEC], 0xDEADBEEF # POPA leaves SP alone
        mov dword ptr [0xEE0], 0x01234567
        popad
        EQ edi, 0x01234567
        EQ eax, 0x11111111
        EQ esp, 0xF00
        pusha
        EQ sp, 0xEF0
        EQ word ptr [0xEFE], 0x1111
        EQ word ptr [0xEF6], 0x0F00
        mov word ptr [0xEF0], 0x9999
        popa
        EQ edi, 0x01239999
        CASE 7
        push 0x0CD5 & ~0x400
        popf
        pushf
        pop ax
        and ax, 0xCD5
        EQ ax, 0x08D5
        push 0x0202                     # IF, and bit 1 always one
        popf
        pushf
        cli
        pop ax
        EQ ax, 0x0202
        push 0
        popf
        pushf
        pop ax
        EQ ax, 0x0002
        CASE 8                          # ENTER, level 0
        mov bp, 0x1234
        enter 0x20, 0
        EQ bp, 0xEFE
        EQ sp, 0xEDE
        EQ word ptr [0xEFE], 0x1234
        leave
        EQ bp, 0x1234
        EQ sp, 0xF00
        CASE 11
        push 0xAAAA
        push 0xBBBB
        call 1f
        jmp 2f
1:      mov bp, sp
        EQ word ptr [bp + 2], 0xBBBB
        ret 4
2:      EQ sp, 0xF00
        mov ax, offset 3f
        call ax
        EQ sp, 0xF00
        jmp 4f
3:      ret
4:
        CASE 12                         # far, to another name of the same bytes
        push 0x1357
        lcall 0x0010, offset 1f - 0x100
        EQ sp, 0xF00
        mov ax, cs
        EQ ax, 0
        jmp 2f
1:      mov ax, cs
        cmp ax, 0x0010
        jne 3f
        mov bp, sp
        cmp word ptr [bp + 2], 0
        jne 3f
        retf 2
3:      ljmp 0, offset metal_fail16
2:
        CASE 13                         # far through memory
        mov word ptr [0x8000], offset 1f - 0x200
        mov word ptr [0x8002], 0x0020
        call dword ptr [0x8000]
        jmp 2f
1:      mov ax, cs
        cmp ax, 0x0020
        jne 3b
        retf
2:      EQ sp, 0xF00
        CASE 14                         # INT and IRET
        mov word ptr [0x80 * 4], offset 1f
        mov word ptr [0x80 * 4 + 2], 0
        push 0x0AD7                     # IF and OF SF ZF AF PF CF
        popf
        int 0x80
2:      pushf
        pop ax
        cli
        EQ ax, 0x0AD7
        EQ sp, 0xF00
        jmp 3f
1:      pushf                           # inside, IF and TF are off
        pop ax
        and ax, IF | TF
        EQ ax, 0
        mov bp, sp
        EQ word ptr [bp], offset 2b
        EQ word ptr [bp + 2], 0
        EQ word ptr [bp + 4], 0x0AD7
        xor ax, ax
        iret
3:
        CASE 15
        mov dword ptr [4 * 4], offset 1f # INTO
        SETFLAGS 0
        into
        SETFLAGS OF
        into
        FAIL
1:      add sp, 6
        EQ sp, 0xF00
        CASE 16
        mov word ptr [0x8000], 0x1234
        mov word ptr [0x8002], 0x2000
        les bx, [0x8000]
        EQ bx, 0x1234
        mov ax, es
        EQ ax, 0x2000
        lgs ebx, [0x8000]
        mov ax, gs
        EQ ebx, 0x20001234
        lss sp, [5f]
        EQ sp, 0x0700
        mov ax, ss
        EQ ax, 0x0080
        push 0x4321
        EQ word ptr [0xEFE], 0x4321
        jmp 6f
5:      .word 0x0700, 0x0080
6:      xor ax, ax
        mov es, ax
        mov gs, ax
        mov ss, ax
        mov esp, 0xF00
        CASE 17                         # 16-bit stack: SP wraps, the upper half of ESP stays
        mov esp, 0x12340000
        mov ax, [0xFFFE]
        mov bx, ax
        push 0x2468
        EQ esp, 0x1234FFFE
        EQ word ptr [0xFFFE], 0x2468
        pop cx
        EQ esp, 0x12340000
        mov [0xFFFE], bx
        mov esp, 0xF00
        PROTECTED32
        CASE 30
        push 0x12345678
        EQ esp, STACK32 - 4
        push -2
        EQ dword ptr [esp], 0xFFFFFFFE
        add esp, 4
        pop eax
        EQ eax, 0x12345678
        push esp
        pop eax
        EQ eax, STACK32
        CASE 31
        mov ax, 0xABCD
        push ax
        EQ esp, STACK32 - 2
        pop bx
        EQ bx, 0xABCD
        push ds                         # segment registers take a whole slot
        EQ esp, STACK32 - 4
        EQ word ptr [esp], DATA32
        pop es
        EQ esp, STACK32
        CASE 32
        mov ebp, 0x1234
        enter 0x20, 0
        EQ ebp, STACK32 - 4
        EQ esp, STACK32 - 0x24
        EQ dword ptr [ebp], 0x1234
        leave
        EQ ebp, 0x1234
        CASE 33
        mov esi, 0x66666666
        pushad
        EQ dword ptr [esp + 4], 0x66666666
        EQ dword ptr [esp + 12], STACK32
        popad
        EQ esp, STACK32
        CASE 34
        push 0x11
        push 0x22
        call 1f
        jmp 2f
1:      EQ dword ptr [esp + 4], 0x22
        ret 8
2:      EQ esp, STACK32
        push dword ptr [esp - 8]
        pop dword ptr [0x8000]
        EQ esp, STACK32
        mov dword ptr [0x8000], offset 3f
        call dword ptr [0x8000]
        EQ esp, STACK32
        jmp 4f
3:      ret
4:
        CASE 35
        push 0x99
        pop dword ptr [esp - 4]         # ESP after the pop
        EQ dword ptr [STACK32 - 4], 0x99
        CASE 36
        lcall CODE32, offset 1f
        EQ esp, STACK32
        jmp 2f
1:      EQ dword ptr [esp + 4], CODE32
        retf
2:
        PASS
        METAL_END
