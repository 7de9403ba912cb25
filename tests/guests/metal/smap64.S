# SMEP and SMAP: what ring 0 may do with pages of ring 3, AC with CLAC and STAC, the processor's own accesses to tables; UMIP;
# the instructions for the bases of FS and GS.
.include "metal64.inc"
        METAL "smap64"
.set USER_PAGE, 0x400000                # a 2 MiB page of its own: user
.set KERNEL_PAGE, 0x600000              # the same page again: supervisor
.set S_LDT, FREE64                      # two slots
.set UMIP, 0x800
.set FSGSBASE, 0x10000
.set SMEP, 0x100000
.set SMAP, 0x200000

.macro CR4_SET bits                     # RAX is lost.
        mov rax, cr4
        or eax, \bits
        mov cr4, rax
.endm
.macro CR4_CLEAR bits
        mov rax, cr4
        and eax, ~(\bits)
        mov cr4, rax
.endm
.macro PF error, insn:vararg            # a page fault at the address in RBX
        FAULT64 14, \error, \insn
        EQ rbx, [SEEN_CR2]
.endm
.macro KERNEL64                         # from ring 3 back to ring 0 by a fault
        WANT64 6, NO_ERROR_CODE, .Lat\@, .Lon\@
        mov qword ptr [V_RSP64], STACK32
.Lat\@: ud2
.Lon\@:
.endm
.macro USER_GP insn:vararg              # #GP(0) in ring 3, where the program goes on
        WANT64 13, 0, .Lat\@, .Lon\@
        mov qword ptr [V_RSP64], STACK32
.Lat\@: \insn
        FAIL
.Lon\@: USER64_CODE
.endm

        LONG64
        mov dword ptr [PD + 2 * 8], USER_PAGE | 0x87
        mov dword ptr [PD + 3 * 8], USER_PAGE | 0x83
        mov dword ptr [PD], 0x83        # the program itself becomes the supervisor's
        mov dword ptr [PD + 4 * 8], 0x87 # ring 3 sees it at 800000h
        mov rax, cr3
        mov cr3, rax
        mov rbx, USER_PAGE
        mov dword ptr [rbx], 0xC3C3C3C3
        FROM 1
        NEXT                            # without either all is open
        call rbx
        EQ dword ptr [rbx], 0xC3C3C3C3
        NEXT                            # SMEP: ring 0 runs nothing of ring 3's; the fetch shows in the error code
        CR4_SET SMEP
        mov dword ptr [V_VEC], 14
        mov dword ptr [V_ERR], 0x11
        mov [V_RIP64], rbx
        mov dword ptr [V_RESUME64], offset 1f
        mov dword ptr [V_RESUME64 + 4], 0
        mov [V_RSP64], rsp
        call rbx
        FAIL
1:      EQ rbx, [SEEN_CR2]
        EQ dword ptr [rbx], 0xC3C3C3C3  # reading it is no fetch
        mov ecx, KERNEL_PAGE
        call rcx
        CR4_CLEAR SMEP
        call rbx
        NEXT                            # SMAP: no reading, no writing, while AC is clear
        CR4_SET SMAP
        PF 1, mov eax, [rbx]
        PF 3, mov [rbx], eax
        call rbx                        # a fetch is SMEP's matter
        PF 1, mov eax, [rbx]            # and leaves nothing to read through
        stac
        pushfq
        pop rax
        and eax, ACF
        EQ eax, ACF
        EQ dword ptr [rbx], 0xC3C3C3C3
        mov dword ptr [rbx + 4], 5
        clac
        PF 1, mov eax, [rbx]
        pushfq
        or dword ptr [rsp], ACF
        popfq                           # POPF is as good
        EQ dword ptr [rbx + 4], 5
        pushfq
        and dword ptr [rsp], ~ACF
        popfq
        PF 3, mov [rbx], eax
        mov ecx, KERNEL_PAGE + 4
        EQ dword ptr [rcx], 5
        stac
        WANT64 6, NO_ERROR_CODE, 1f, 2f # an exception keeps AC
1:      ud2
2:      EQ dword ptr [rbx + 4], 5
        clac
        NEXT                            # string instructions in the middle
        mov edi, USER_PAGE
        mov ecx, 4
        mov eax, 7
        mov rbx, rdi
        PF 3, rep stosd
        EQ ecx, 4
        EQ edi, USER_PAGE
        mov esi, USER_PAGE
        mov edi, FREE_RAM
        PF 1, rep movsd
        EQ ecx, 4
        NEXT                            # a table in a user page: AC does not help the processor's own accesses
        DESC S_LDT, USER_PAGE, 0xFF, 0x82
        mov qword ptr [rip + metal_gdt + S_LDT + 8], 0
        mov eax, S_LDT
        lldt ax
        mov rax, [rip + metal_gdt + DATA32]
        mov ecx, KERNEL_PAGE
        mov [rcx + 0x10], rax
        mov eax, 0x10 + 4
        mov ebx, USER_PAGE + 0x10
        PF 1, mov fs, eax
        stac
        PF 1, mov fs, eax
        clac
        CR4_CLEAR SMAP
        mov fs, eax
        NEXT                            # CLAC and STAC are for ring 0
        mov dword ptr [PD], 0x87
        mov rax, cr3
        mov cr3, rax
        USER64_CODE
        WANT64 6, NO_ERROR_CODE, 1f, 2f
        mov qword ptr [V_RSP64], STACK32
1:      stac
2:      NEXT                            # UMIP
        USER64_CODE
        sgdt [FREE_RAM]
        sidt [FREE_RAM]
        sldt eax
        str eax
        smsw eax
        KERNEL64
        CR4_SET UMIP
        sgdt [FREE_RAM]
        smsw eax
        USER64_CODE
        USER_GP sgdt [FREE_RAM]
        USER_GP sidt [FREE_RAM]
        USER_GP sldt eax
        USER_GP str eax
        USER_GP smsw eax
        KERNEL64
        CR4_CLEAR UMIP
        NEXT                            # RDFSBASE and its kin
        FAULT64 6, NO_ERROR_CODE, rdfsbase rax
        CR4_SET FSGSBASE
        mov rax, HIGH_HALF
        wrfsbase rax
        rdfsbase rcx
        EQ rcx, rax
        mov dword ptr [0x1F000], 0x11111111
        EQ dword ptr fs:[0x1F000], 0x11111111
        mov rax, -1
        wrgsbase eax                    # 32 bits
        rdgsbase rcx
        mov edx, -1
        EQ rcx, rdx
        rdgsbase ecx
        EQ rcx, rdx
        mov rax, NON_CANONICAL
        FAULT64 13, 0, wrgsbase rax
        USER64_CODE
        xor eax, eax
        wrgsbase rax
        EQ dword ptr gs:[0x1F000], 0x11111111
        KERNEL64
        mov eax, DATA32                 # ring 3 could not keep it
        mov ds, eax
        COMPAT32
        FAULT_COMPAT 6, NO_ERROR_CODE, .byte 0xF3, 0x0F, 0xAE, 0xC0
        PASS
        METAL64_END
