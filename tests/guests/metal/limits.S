# What a segment allows at each access: limits, expand-down, byte- and page-granular, null, read-only, execute-only; in real
# mode, in 16-bit and in 32-bit protected mode.  LTR of null.  (QEMU's TCG does not
# check any of it.)
.include "metal.inc"
        METAL "limits"
.set S_DATA, FREE_SEL                   # limit FFh
.set S_DOWN, FREE_SEL + 0x08            # expand-down, 32-bit, limit FFFh: 1000h and up
.set S_DOWN16, FREE_SEL + 0x10          # expand-down, 16-bit, limit FFFh: 1000h to FFFFh
.set S_PAGES, FREE_SEL + 0x18           # limit 1 page: to 1FFFh
.set S_RO, FREE_SEL + 0x20
.set S_CODE, FREE_SEL + 0x28            # 32-bit code, byte-granular, limit `code_end - 1`
.set S_XO, FREE_SEL + 0x30              # execute-only, flat
.set S_STACK, FREE_SEL + 0x38           # stack, limit FFFh, base 20000h
.set S_TOP, FREE_SEL + 0x40             # base FFFFF000h, 4 GiB: wraps to 0

        # Real mode: 64 KiB, no error code; #SS through SP and BP.
        FROM 1
        NEXT
        mov bx, 0xFFFF
        mov al, byte ptr [bx]
        FAULT 13, NO_ERROR_CODE, mov ax, word ptr [bx]
        FAULT 13, NO_ERROR_CODE, mov word ptr [bx], ax
        mov bx, 0xFFFD
        mov ax, word ptr [bx]
        FAULT 13, NO_ERROR_CODE, mov eax, dword ptr [bx]
        mov ebx, 0x10000
        FAULT 13, NO_ERROR_CODE, mov al, byte ptr [ebx]
        mov ebx, 0xFFFFFFFF
        FAULT 13, NO_ERROR_CODE, add byte ptr [ebx], al
        NEXT
        mov bp, 0xFFFF
        FAULT 12, NO_ERROR_CODE, mov ax, word ptr [bp]
        FAULT 13, NO_ERROR_CODE, mov ax, word ptr ds:[bp]
        mov ebp, 0x10000
        FAULT 12, NO_ERROR_CODE, mov al, byte ptr [ebp]
        NEXT                            # string instructions too; what is done stays done
        mov si, 0xFFF9
        mov di, 0x8000
        mov cx, 3
        cld
        FAULT 13, NO_ERROR_CODE, rep movsd
        EQ si, 0xFFFD
        EQ di, 0x8004
        EQ cx, 2
        NEXT                            # far pointers
        mov bx, 0xFFFD
        FAULT 13, NO_ERROR_CODE, les ax, dword ptr [bx]

        PROTECTED32
        DESC S_DATA, 0x20000, 0xFF, 0x92, 4
        DESC S_DOWN, 0x20000, 0xFFF, 0x96, 4
        DESC S_DOWN16, 0x20000, 0xFFF, 0x96, 0
        DESC S_PAGES, 0x20000, 1, 0x92, 12
        DESC S_RO, 0x20000, 0xFFFF, 0x90, 4
        DESC S_XO, 0, 0xFFFFF, 0x98, 12
        DESC S_STACK, 0x20000, 0xFFF, 0x92, 4
        DESC S_TOP, 0xFFFFF000, 0xFFFFF, 0x92, 12
        mov dword ptr [metal_gdt + S_CODE], offset code_end - 1
        mov dword ptr [metal_gdt + S_CODE + 4], 0x00409A00
        FROM 20
        NEXT
        mov eax, S_DATA
        mov fs, eax
        mov al, byte ptr fs:[0xFF]
        mov eax, dword ptr fs:[0xFC]
        FAULT 13, 0, mov al, byte ptr fs:[0x100]
        FAULT 13, 0, mov ax, word ptr fs:[0xFF]
        FAULT 13, 0, mov eax, dword ptr fs:[0xFD]
        FAULT 13, 0, mov eax, dword ptr fs:[0xFFFFFFFD]
        mov dword ptr [0x20100], 0x12345678
        FAULT 13, 0, mov dword ptr fs:[0xFE], eax
        EQ dword ptr [0x20100], 0x12345678
        FAULT 13, 0, inc word ptr fs:[0xFF]
        NEXT
        mov eax, S_DOWN
        mov fs, eax
        FAULT 13, 0, mov al, byte ptr fs:[0xFFF]
        FAULT 13, 0, mov eax, dword ptr fs:[0]
        mov al, byte ptr fs:[0x1000]
        mov al, byte ptr fs:[0x20000]
        FAULT 13, 0, mov ax, word ptr fs:[0xFFF]
        NEXT
        mov eax, S_DOWN16
        mov fs, eax
        FAULT 13, 0, mov al, byte ptr fs:[0xFFF]
        mov al, byte ptr fs:[0x1000]
        mov al, byte ptr fs:[0xFFFF]
        FAULT 13, 0, mov al, byte ptr fs:[0x10000]
        FAULT 13, 0, mov ax, word ptr fs:[0xFFFF]
        NEXT
        mov eax, S_PAGES
        mov fs, eax
        mov al, byte ptr fs:[0x1FFF]
        FAULT 13, 0, mov al, byte ptr fs:[0x2000]
        NEXT                            # null may be loaded, not used
        xor eax, eax
        mov gs, eax
        FAULT 13, 0, mov eax, dword ptr gs:[0]
        FAULT 13, 0, mov byte ptr gs:[0], al
        mov eax, 3                      # null with any RPL
        mov gs, eax
        FAULT 13, 0, mov eax, dword ptr gs:[0]
        NEXT
        mov eax, S_RO
        mov fs, eax
        mov eax, dword ptr fs:[0]
        FAULT 13, 0, mov dword ptr fs:[0], eax
        FAULT 13, 0, bts dword ptr fs:[0], eax
        mov eax, CODE32                 # readable code as data
        mov fs, eax
        mov eax, dword ptr fs:[0]
        FAULT 13, 0, mov dword ptr fs:[0], eax
        FAULT 13, 0, mov dword ptr cs:[0x8000], eax
        NEXT                            # base and offset wrap at 4 GiB
        mov eax, S_TOP
        mov fs, eax
        mov dword ptr [0x8000], 0x0BADCAFE
        EQ dword ptr fs:[0x9000], 0x0BADCAFE
        NEXT                            # string: the destination is checked on its own
        mov eax, S_DATA
        mov es, eax
        mov edi, 0xF9
        mov esi, 0x8000
        mov ecx, 3
        FAULT 13, 0, rep movsd
        EQ edi, 0xFD
        EQ ecx, 2
        EQ esi, 0x8004
        mov eax, DATA32
        mov es, eax
        NEXT                            # stack accesses are #SS, of EBP and ESP bases as well
        mov ebx, esp
        mov ebp, 0x2000
        mov ecx, S_STACK
        WANT 12, 0, .Lss_at, .Lss_on
        mov esi, 0x0800                 # the handler runs on this stack: leave it room
        mov ss, ecx
        mov esp, esi
.Lss_at: mov eax, dword ptr [ebp]
.Lss_wrong: mov eax, DATA32
        mov ss, eax
        mov esp, ebx
        FAIL
.Lss_on:
        EQ esp, STACK32
        WANT 12, 0, .Lss2_at, .Lss2_on
        mov ss, ecx
        mov esp, esi
.Lss2_at: mov dword ptr [esp + 0x7FE], eax
        jmp .Lss_wrong
.Lss2_on:
        WANT 13, 0, .Lss3_at, .Lss3_on
        mov eax, S_DATA
        mov fs, eax
        mov ss, ecx
        mov esp, esi
.Lss3_at: mov eax, dword ptr fs:[ebp]  # by the segment, not by the base register
        jmp .Lss_wrong
.Lss3_on:
        NEXT                            # a jump beyond CS's limit
        FAULT 13, 0, ljmp S_CODE, offset code_end
        ljmp S_CODE, offset 1f
1:      FAULT 13, 0, jmp code_end
        FAULT 13, 0, call code_end
        EQ esp, STACK32
        mov eax, offset code_end
        FAULT 13, 0, jmp eax
        push offset code_end
        FAULT 13, 0, ret
        EQ esp, STACK32 - 4
        pop eax
        WANT 13, 0, .Lrun_at, .Lrun_on  # running into the end
        jmp .Lrun_at
.Lrun_on:
        ljmp CODE32, offset .Lback
.Lback:
        NEXT                            # execute-only
        ljmp S_XO, offset 1f
1:      FAULT 13, 0, mov eax, dword ptr cs:[0]
        ljmp CODE32, offset 2f
2:
        NEXT                            # LGDT, LIDT and BOUND read through segments too
        mov eax, S_DATA
        mov fs, eax
        FAULT 13, 0, lgdt fs:[0xFB]
        FAULT 13, 0, sidt fs:[0xFB]
        FAULT 13, 0, bound eax, qword ptr fs:[0xF9]
        FAULT 13, 0, cmpxchg8b qword ptr fs:[0xF9]
        NEXT                            # and the task register takes no null
        xor eax, eax
        FAULT 13, 0, ltr ax
        PASS

        .org 0x3000
.Lrun_at: # an instruction of five bytes of which four are within S_CODE
        .byte 0xB8, 0x11, 0x22, 0x33
code_end:
        .byte 0x44
        jmp metal_fail32
        METAL_END
