# Four-level paging: pages of three sizes, rights at every level, accessed and dirty bits, no-execute, reserved bits, error
# codes, global pages, write protection, translations that are kept until INVLPG or CR3 drops them.
.include "metal64.inc"
        METAL "paging64"
.set PDPT2, FREE_RAM                    # a branch of the tables of our own, at WINDOW
.set PD2, FREE_RAM + 0x1000
.set PT2, FREE_RAM + 0x2000
.set FRAME_A, FREE_RAM + 0x4000
.set FRAME_B, FREE_RAM + 0x5000
.set WINDOW, 0xFFFFA00000000000         # PML4 slot 320
.set P, 1
.set W, 2
.set U, 4
.set A, 0x20
.set D, 0x40
.set PS, 0x80
.set G, 0x100
.set NX_BIT, 63

.macro ENTRY table, slot, value         # a table entry.  RAX is lost.
        mov rax, \value
        mov [\table + (\slot) * 8], rax
.endm
.macro FLUSH                            # all that is not global.  RAX is lost.
        mov rax, cr3
        mov cr3, rax
.endm
.macro PF error, insn:vararg            # a page fault at the address in RBX
        FAULT64 14, \error, \insn
        EQ rbx, [SEEN_CR2]
.endm
.macro USER_PF error, insn:vararg       # the same from ring 3, where the program goes on
        WANT64 14, \error, .Lat\@, .Lon\@
        mov qword ptr [V_RSP64], STACK32
.Lat\@: \insn
        FAIL
.Lon\@: EQ rbx, [SEEN_CR2]
        USER64_CODE
.endm
.macro KERNEL64                         # from ring 3 back to ring 0 by a fault.  RAX is lost.
        WANT64 6, NO_ERROR_CODE, .Lat\@, .Lon\@
        mov qword ptr [V_RSP64], STACK32
.Lat\@: ud2
.Lon\@:
.endm

        LONG64
        mov rbx, WINDOW
        mov dword ptr [FRAME_A], 0xAAAAAAAA
        mov dword ptr [FRAME_B], 0xBBBBBBBB
        ENTRY PML4, 320, PDPT2 | P | W | U
        ENTRY PDPT2, 0, PD2 | P | W | U
        ENTRY PD2, 0, PT2 | P | W | U
        ENTRY PT2, 0, FRAME_A | P | W | U

        FROM 1
        NEXT                            # a page of 4 KiB; accessed bits on the way, dirty only where it was written
        mov eax, [rbx]
        EQ eax, 0xAAAAAAAA
        EQ qword ptr [PML4 + 320 * 8], PDPT2 | P | W | U | A
        EQ qword ptr [PDPT2], PD2 | P | W | U | A
        EQ qword ptr [PD2], PT2 | P | W | U | A
        EQ qword ptr [PT2], FRAME_A | P | W | U | A
        mov dword ptr [rbx + 4], 0x55555555
        EQ qword ptr [PT2], FRAME_A | P | W | U | A | D
        EQ dword ptr [FRAME_A + 4], 0x55555555
        NEXT                            # not present at each level: the error code tells read from write
        mov byte ptr [PT2], 0
        invlpg [rbx]
        PF 0, mov eax, [rbx]
        PF 2, mov [rbx], eax
        mov byte ptr [PT2], P | W | U
        mov byte ptr [PD2], 0
        FLUSH
        PF 0, mov eax, [rbx]
        mov byte ptr [PD2], P | W | U
        mov byte ptr [PDPT2], 0
        FLUSH
        PF 2, mov [rbx], eax
        mov byte ptr [PDPT2], P | W | U
        mov byte ptr [PML4 + 320 * 8], 0
        FLUSH
        PF 0, mov eax, [rbx]
        mov byte ptr [PML4 + 320 * 8], P | W | U
        EQ dword ptr [rbx], 0xAAAAAAAA  # what was not present is not kept
        NEXT                            # over the page's end: the second half faults, with its own address
        mov dword ptr [FRAME_A + 0xFFC], 0x12345678
        lea rbx, [rbx + 0x1000]
        PF 0, mov rax, [rbx - 4]
        PF 2, mov [rbx - 4], rax
        EQ dword ptr [FRAME_A + 0xFFC], 0x12345678
        ENTRY PT2, 1, FRAME_B | P | W
        mov rax, [rbx - 4]
        mov rcx, 0xBBBBBBBB12345678
        EQ rax, rcx
        mov rbx, WINDOW
        NEXT                            # ring 3: U at every level, W as well
        mov byte ptr [PT2], P | W
        FLUSH
        USER64_CODE
        USER_PF 5, mov eax, [rbx]
        USER_PF 7, mov [rbx], eax
        mov byte ptr [PT2], P | U
        USER_PF 7, mov [rbx], eax
        mov eax, [rbx]
        EQ eax, 0xAAAAAAAA
        KERNEL64
        mov byte ptr [PT2], P | W | U
        mov byte ptr [PDPT2], P | W
        FLUSH
        USER64_CODE
        USER_PF 5, mov eax, [rbx]
        KERNEL64
        mov byte ptr [PDPT2], P | U
        FLUSH
        USER64_CODE
        USER_PF 7, mov [rbx], eax
        KERNEL64
        mov dword ptr [rbx], 0xAAAAAAAA # the kernel may, while CR0.WP is clear
        NEXT                            # and not when it is set
        mov rax, cr0
        or eax, 0x10000
        mov cr0, rax
        PF 3, mov dword ptr [rbx], 1
        EQ dword ptr [rbx], 0xAAAAAAAA
        mov rax, cr0
        and eax, ~0x10000
        mov cr0, rax
        mov byte ptr [PDPT2], P | W | U
        FLUSH
        NEXT                            # no-execute
        mov byte ptr [FRAME_A], 0xC3
        call rbx                        # without NXE everything is code
        ENTRY PT2, 0, FRAME_A | P | W | U | (1 << NX_BIT)
        invlpg [rbx]
        PF 9, mov eax, [rbx]            # and the bit is reserved
        PF 11, mov [rbx], eax
        RDMSR64 MSR_EFER
        or eax, EFER_NXE
        WRMSR64 MSR_EFER
        mov al, [rbx]
        EQ al, 0xC3
        mov dword ptr [V_VEC], 14
        mov dword ptr [V_ERR], 0x11     # present, fetch
        mov [V_RIP64], rbx
        mov dword ptr [V_RESUME64], offset 1f
        mov [V_RSP64], rsp
        call rbx
        FAIL
1:      EQ rbx, [SEEN_CR2]
        ENTRY PT2, 0, FRAME_A | P | W | U
        ENTRY PML4, 320, PDPT2 | P | W | U | (1 << NX_BIT)
        FLUSH
        mov dword ptr [V_VEC], 14
        mov [V_RIP64], rbx
        mov dword ptr [V_RESUME64], offset 1f
        call rbx
        FAIL
1:      ENTRY PML4, 320, PDPT2 | P | W | U
        mov byte ptr [PT2], 0           # absent: fetch, not present
        FLUSH
        mov dword ptr [V_VEC], 14
        mov dword ptr [V_ERR], 0x10
        mov [V_RIP64], rbx
        mov dword ptr [V_RESUME64], offset 1f
        call rbx
        FAIL
1:      mov byte ptr [PT2], P | W | U
        call rbx
        mov dword ptr [FRAME_A], 0xAAAAAAAA
        NEXT                            # 2 MiB pages, inside which INVLPG may name any address
        ENTRY PD2, 1, 0x200000 | P | W | U | PS
        mov dword ptr [0x234560], 0x22222222
        mov rbx, WINDOW + 0x234560
        EQ dword ptr [rbx], 0x22222222
        EQ qword ptr [PD2 + 8], 0x200000 | P | W | U | PS | A
        mov dword ptr [rbx], 0x33333333
        EQ qword ptr [PD2 + 8], 0x200000 | P | W | U | PS | A | D
        EQ dword ptr [0x234560], 0x33333333
        mov dword ptr [0x434560], 0x44444444
        ENTRY PD2, 1, 0x400000 | P | W | U | PS
        mov rcx, WINDOW + 0x3FF000
        invlpg [rcx]
        EQ dword ptr [rbx], 0x44444444
        ENTRY PD2, 1, 0x400000 | P | W | U | PS | 0x2000 # an address inside the page
        invlpg [rbx]
        PF 9, mov eax, [rbx]
        ENTRY PD2, 1, 0x400000 | P | W | U | PS | 0x1000 # PAT is there
        EQ dword ptr [rbx], 0x44444444
        NEXT                            # 1 GiB pages, where CPUID announces them
        mov eax, 0x80000001
        cpuid
        test edx, 1 << 26
        mov rbx, WINDOW + 0x40234560
        jz 2f
        ENTRY PDPT2, 1, P | W | U | PS
        EQ dword ptr [rbx], 0x33333333
        mov dword ptr [rbx], 0x55555555
        EQ dword ptr [0x234560], 0x55555555
        EQ qword ptr [PDPT2 + 8], P | W | U | PS | A | D
        ENTRY PDPT2, 1, P | W | U | PS | 0x200000
        invlpg [rbx]
        PF 9, mov eax, [rbx]
        jmp 3f
2:      ENTRY PDPT2, 1, P | W | U | PS
        PF 9, mov eax, [rbx]
3:      ENTRY PDPT2, 1, 0
        ENTRY PML4, 320, PDPT2 | P | W | U | PS # that high there are no pages
        FLUSH
        mov rbx, WINDOW
        PF 9, mov eax, [rbx]
        ENTRY PML4, 320, PDPT2 | P | W | U
        NEXT                            # bits of an address that no processor has
        ENTRY PT2, 0, FRAME_A | P | W | U | (1 << 51)
        invlpg [rbx]
        PF 9, mov eax, [rbx]
        PF 11, mov [rbx], eax
        ENTRY PT2, 0, FRAME_A | P | W | U | (1 << 52) | (1 << 62) | 0xE00 # these are the system's
        EQ dword ptr [rbx], 0xAAAAAAAA
        NEXT                            # a translation stays until it is dropped; a global one over a load of CR3
        ENTRY PT2, 0, FRAME_A | P | W | U | G
        mov rax, cr4
        or eax, 0x80
        mov cr4, rax
        EQ dword ptr [rbx], 0xAAAAAAAA
        ENTRY PT2, 0, FRAME_B | P | W | U | G
        mov eax, [rbx]
        cmp eax, 0xAAAAAAAA
        je 1f
        EQ eax, 0xBBBBBBBB
1:      invlpg [rbx]
        EQ dword ptr [rbx], 0xBBBBBBBB
        ENTRY PT2, 0, FRAME_A | P | W | U
        FLUSH
        invlpg [rbx]
        EQ dword ptr [rbx], 0xAAAAAAAA
        ENTRY PT2, 0, FRAME_B | P | W | U
        FLUSH
        EQ dword ptr [rbx], 0xBBBBBBBB
        ENTRY PT2, 0, FRAME_B | P | W | U | G
        invlpg [rbx]
        EQ dword ptr [rbx], 0xBBBBBBBB
        ENTRY PT2, 0, FRAME_A | P | W | U
        mov rax, cr4
        and eax, ~0x80                  # without PGE nothing is global
        mov cr4, rax
        EQ dword ptr [rbx], 0xAAAAAAAA
        NEXT                            # code that is written through another address
        mov byte ptr [FRAME_A], 0xB0    # MOV AL, 1; RET
        mov byte ptr [FRAME_A + 1], 1
        mov byte ptr [FRAME_A + 2], 0xC3
        call rbx
        EQ al, 1
        mov byte ptr [FRAME_A + 1], 2
        mov rcx, HIGH_HALF + FRAME_A
        call rbx
        EQ al, 2
        mov byte ptr [rcx + 1], 3
        call rbx
        EQ al, 3
        PASS
        METAL64_END
