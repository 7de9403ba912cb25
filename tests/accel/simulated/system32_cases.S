# Runs a table of system-level cases in protected and V8086 mode and writes down how each ended.  system32_make.py makes it.
#
# A case is data only: CR0, CR3, CR4, EFER, LDTR, TR, the data segments, a stack and the frame that an IRETD starts it with,
# registers, blocks of memory to write first and blocks to read afterwards.  Before each case the pages at LIVE (descriptor
# tables, TSSs, stacks, code) are copied afresh from TEMPLATE.  Every gate of the IDT leads to `common` with a vector pushed;
# the one of #DF is a task gate.  What lies on the stack there, the control and task registers and the blocks asked for go to
# the result.  The monitor itself runs without paging.

.intel_syntax noprefix
.set GDT, 0x310000                      # LIVE
.set IDT, 0x310300
.set TEMPLATE, 0x318000
.set LIVE_DWORDS, 0x1400
.set COUNT, 0x320000
.set INDEX, 0x320004
.set NEXT, 0x320008
.set CURRENT, 0x320100
.set START, 0x640000
.set RESULTS, 0xA80000
.set STACK, 0x32F000
.set EFER, 0xC0000080
.set K32, 0x08
.set KDATA, 0x10

.text
.org 0
        .code32
start32:
        mov eax, KDATA
        mov ds, eax
        mov es, eax
        mov ss, eax
        mov dword ptr [NEXT], START
        jmp monitor

.org 0x80
        ljmp K32, offset common         # F0080: the stubs come here
.org 0x90
done:   hlt                             # F0090: the end
        jmp done

.org 0x100
monitor:
        lss esp, cs:[own_stack]
        push 2
        popfd
        mov eax, [INDEX]
        cmp eax, [COUNT]
        jae done
        mov esi, TEMPLATE
        mov edi, GDT
        mov ecx, LIVE_DWORDS
        rep movsd
        mov esi, [NEXT]
        mov ebx, esi
        mov edi, CURRENT
        mov ecx, 32
        rep movsd
1:      lodsd                           # blocks to write: address, dwords, data; 0 ends them
        test eax, eax
        jz 2f
        mov edi, eax
        lodsd
        mov ecx, eax
        rep movsd
        jmp 1b
2:      lgdt cs:[gdtr]
        lidt cs:[idtr]
        mov ecx, EFER
        mov eax, [CURRENT + 8]
        xor edx, edx
        wrmsr
        mov eax, [CURRENT + 4]
        mov cr4, eax
        mov eax, [CURRENT + 12]
        mov cr3, eax
        mov eax, [CURRENT]
        mov cr0, eax
        lldt [CURRENT + 16]
        ltr [CURRENT + 20]
        lss esp, [CURRENT + 40]
        mov ecx, [CURRENT + 48]
3:      push dword ptr [CURRENT + 48 + ecx * 4]
        loop 3b
        mov ecx, [CURRENT + 92]
        mov edx, [CURRENT + 96]
        mov ebx, [CURRENT + 100]
        mov ebp, [CURRENT + 104]
        mov esi, [CURRENT + 108]
        mov edi, [CURRENT + 112]
        mov ax, cs:[CURRENT + 28]
        mov es, ax
        mov ax, cs:[CURRENT + 32]
        mov fs, ax
        mov ax, cs:[CURRENT + 36]
        mov gs, ax
        mov ax, cs:[CURRENT + 24]
        mov ds, ax
        mov eax, cs:[CURRENT + 88]
        iretd

common: pushad
        mov eax, ds
        push eax
        mov eax, es
        push eax
        mov eax, fs
        push eax
        mov eax, gs
        push eax
        pushfd
        pop ebx
        mov eax, KDATA
        mov ds, eax
        mov es, eax
        cld
        mov edi, [INDEX]
        shl edi, 9
        add edi, RESULTS
        mov edx, ss
        mov ebp, esp
        mov esi, esp
        lar ecx, edx
        test ecx, 0x400000              # B: whether ESP or SP is the pointer
        jnz 4f
        movzx esi, si
4:      mov ecx, 32
        rep movs dword ptr es:[edi], dword ptr ss:[esi]
        mov eax, ebp
        stosd
        mov eax, edx
        stosd
        mov eax, ebx
        stosd
        mov eax, cr0
        stosd
        and eax, 0x7FFEFFFF             # paging and WP off
        mov cr0, eax
        lss esp, cs:[own_stack]
        mov eax, cr2
        stosd
        mov eax, cr3
        stosd
        str eax
        stosd
        sldt eax
        stosd
        xor eax, eax
        mov cr2, eax
        mov cr4, eax
        mov ebx, [NEXT]
        mov esi, ebx
        add esi, [ebx + 116]
5:      lodsd                           # blocks to read: address, dwords; 0 ends them
        test eax, eax
        jz 6f
        mov edx, eax
        lodsd
        mov ecx, eax
        xchg esi, edx
        rep movsd
        mov esi, edx
        jmp 5b
6:      add ebx, [ebx + 120]
        mov [NEXT], ebx
        inc dword ptr [INDEX]
        mov eax, 0x33
        mov cr0, eax
        jmp monitor

own_stack:
        .long STACK
        .word KDATA
gdtr:   .word 0x1FF
        .long GDT
idtr:   .word 0x31 * 8 - 1
        .long IDT

        .code16
start16:
        cli
        lgdt cs:[boot_gdtr - start32]
        mov eax, 0x33
        mov cr0, eax
        .byte 0x66, 0xEA                # far jump, 32-bit offset
        .long start32
        .word K32

        .balign 8
boot_gdt:
        .quad 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF
boot_gdtr:
        .word 23
        .long boot_gdt

.org 0xFFF0
        .code16
        .byte 0xEA                      # far jump F000:start16
        .word start16 - start32
        .word 0xF000
.org 0x10000
