# What guards long mode: control registers and MSRs that refuse a value, addresses that are not canonical in data accesses,
# branches, segment bases and tables.
.include "metal64.inc"
        METAL "guard64"
.set S_LDT, FREE64                      # two slots

.macro BAD_MSR index, high, low=0
        mov ecx, \index
        mov edx, \high
        mov eax, \low
        FAULT64 13, 0, wrmsr
.endm
.macro BAD_CR number, set, clear=0      # one value that is refused.  RAX is lost.
        mov rax, cr\number
        mov rcx, \set
        or rax, rcx
        mov rcx, \clear
        not rcx
        and rax, rcx
        FAULT64 13, 0, mov cr\number, rax
.endm

        LONG64
        FROM 1
        NEXT                            # EFER: reserved bits, LME while paging is on
        RDMSR64 MSR_EFER
        mov r12, rax
        BAD_MSR MSR_EFER, 0, EFER_LME | EFER_LMA | 2
        BAD_MSR MSR_EFER, 1, EFER_LME | EFER_LMA
        BAD_MSR MSR_EFER, 0, EFER_LMA
        BAD_MSR MSR_EFER, 0, 0
        RDMSR64 MSR_EFER
        EQ rax, r12
        NEXT                            # CR0, CR3, CR4, CR8
        BAD_CR 0, 1 << 32
        BAD_CR 0, 0, 0x80000000         # no way out of 64-bit code
        BAD_CR 0, 0, 1
        BAD_CR 0, 0x20000000, 0x40000000 # NW without CD
        BAD_CR 3, 1 << 62
        BAD_CR 4, 0, 0x20               # PAE belongs to long mode
        BAD_CR 4, 1 << 32
        BAD_CR 4, 1 << 15
        mov eax, 16
        FAULT64 13, 0, mov cr8, rax
        mov eax, 9
        mov cr8, rax
        xor eax, eax
        mov rax, cr8
        EQ rax, 9
        xor eax, eax
        mov cr8, rax
        FAULT64 6, NO_ERROR_CODE, .byte 0x0F, 0x20, 0xC8 # CR1
        FAULT64 6, NO_ERROR_CODE, .byte 0x44, 0x0F, 0x20, 0xC8 # CR9
        NEXT                            # debug registers
        mov rax, 1 << 32
        FAULT64 13, 0, mov dr7, rax
        FAULT64 13, 0, mov dr6, rax
        mov rax, HIGH_HALF
        mov dr0, rax
        mov rcx, dr0
        EQ rcx, rax
        NEXT                            # MSRs that hold an address, or nothing
        BAD_MSR 0xC0000082, NON_CANONICAL >> 32
        BAD_MSR 0xC0000083, NON_CANONICAL >> 32
        BAD_MSR 0xC0000100, NON_CANONICAL >> 32
        BAD_MSR 0xC0000101, NON_CANONICAL >> 32
        BAD_MSR 0xC0000102, NON_CANONICAL >> 32
        BAD_MSR 0x175, NON_CANONICAL >> 32
        BAD_MSR 0x176, NON_CANONICAL >> 32
        BAD_MSR 0xC0000084, 1           # FMASK has 32 bits
        BAD_MSR 0x277, 2                # PAT: no type 2
        mov ecx, 0xDEADBEEF
        FAULT64 13, 0, rdmsr
        FAULT64 13, 0, wrmsr
        NEXT                            # data: #GP, through the stack segment #SS
        mov rbx, NON_CANONICAL
        mov rbp, rbx
        FAULT64 13, 0, mov al, [rbx]
        FAULT64 13, 0, mov [rbx], al
        FAULT64 12, 0, mov al, [rbp]
        FAULT64 12, 0, inc byte ptr [rbp]
        FAULT64 13, 0, mov rax, [rbx - 4] # the last bytes of it
        FAULT64 13, 0, lgdt [rbx]
        lea rdi, [rbx - 1]
        mov rsi, 0xFFFF7FFFFFFFFFFF
        FAULT64 13, 0, lodsb
        FAULT64 13, 0, .byte 0x65, 0xA0, 0, 0, 0, 0, 0, 0x80, 0, 0 # MOV AL, GS:[NON_CANONICAL]
        invlpg [rbx]                    # of which this one takes no notice
        NEXT                            # branches fault themselves
        mov rcx, rsp
        FAULT64 13, 0, jmp rbx
        FAULT64 13, 0, call rbx
        EQ rsp, rcx
        push rbx
        FAULT64 13, 0, ret
        FAULT64 13, 0, ret 8
        FAULT64 13, 0, jmp [rsp]
        push CODE64
        push rbx
        FAULT64 13, 0, .byte 0x48, 0xCB
        push DATA32
        push rcx
        push 2
        push CODE64
        push rbx
        FAULT64 13, 0, iretq
        mov rsp, rcx
        NEXT                            # tables
        mov word ptr [FREE_RAM], 0x7FF
        mov [FREE_RAM + 2], rbx
        FAULT64 13, 0, lgdt [FREE_RAM]
        FAULT64 13, 0, lidt [FREE_RAM]
        sidt [FREE_RAM + 16]
        EQ word ptr [FREE_RAM + 16], 64 * 16 - 1
        EQ qword ptr [FREE_RAM + 18], IDT64
        NEXT                            # descriptors of 16 bytes: the base, the type, the table's end
        DESC S_LDT, FREE_RAM, 0xFF, 0x82
        mov dword ptr [rip + metal_gdt + S_LDT + 8], 0xFFFF8000
        mov dword ptr [rip + metal_gdt + S_LDT + 12], 0
        mov eax, S_LDT
        lldt ax
        mov dword ptr [FREE_RAM + 8], 0x0000FFFF
        mov dword ptr [FREE_RAM + 12], 0x00CF9300
        mov eax, 8 + 4
        mov fs, eax                     # a descriptor out of it
        mov ax, fs
        EQ ax, 8 + 4
        mov dword ptr [rip + metal_gdt + S_LDT + 8], NON_CANONICAL >> 32
        mov eax, S_LDT
        FAULT64 13, S_LDT, lldt ax
        mov dword ptr [rip + metal_gdt + S_LDT + 8], 0
        mov dword ptr [rip + metal_gdt + S_LDT + 12], 0x200
        FAULT64 13, S_LDT, lldt ax
        DESC 0xF8, 0, 0xFF, 0x82        # the last slot: no room for the second half
        mov eax, 0xF8
        FAULT64 13, 0xF8, lldt ax
        mov eax, TSS64                  # busy
        FAULT64 13, TSS64, ltr ax
        xor eax, eax
        lldt ax
        FAULT64 13, 0xC, mov fs, word ptr [rip + ldt_sel]
        PASS
ldt_sel: .word 0xC
        METAL64_END
