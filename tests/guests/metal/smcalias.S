# Self-modifying code under paging: a store through another linear address of the same page, and another page at the address.
.include "metal.inc"
        METAL "smcalias"
        PROTECTED32
        cld
        FROM 1
        NEXT                            # through another linear address of the same page
        mov edi, 0x40000
        mov ecx, 0x800
        xor eax, eax
        rep stosd
        mov dword ptr [0x40000], 0x41003
        mov edi, 0x41000
        mov eax, 3
        mov ecx, 1024
1:      stosd
        add eax, 0x1000
        loop 1b
        mov dword ptr [0x41000 + 0x300 * 4], 0x9003 # 300000h is 9000h as well
        mov eax, 0x40000
        mov cr3, eax
        mov eax, cr0
        and eax, ~0x60000000
        or eax, 0x80000000
        mov cr0, eax
        jmp 1f
1:      mov dword ptr [0x9000], 0xC3000AB0 # MOV AL, 0Ah
        mov word ptr [0x9002], 0xC3C3
        xor eax, eax
        mov ebx, 0x9000
        call ebx
        EQ eax, 0x0A
        mov byte ptr [0x300001], 0x2B
        call ebx
        EQ eax, 0x2B
        mov ebx, 0x300000
        call ebx
        EQ eax, 0x2B
        mov byte ptr [0x9001], 0x3C
        call ebx
        EQ eax, 0x3C
        NEXT                            # another frame at the address
        mov dword ptr [0x51000], 0xC3C377B0
        mov dword ptr [0x41000 + 0x300 * 4], 0x51003
        invlpg [0x300000]
        call ebx
        EQ eax, 0x77
        mov ebx, 0x9000
        call ebx
        EQ eax, 0x3C
        PASS
        METAL_END
