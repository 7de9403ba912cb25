# PCIDs and INVPCID: when CR4.PCIDE may change, what CR3 takes, what each kind of INVPCID drops, what it refuses.  Whether a
# translation is kept longer than it must be is the processor's own business; that none is kept too long is checked.
.include "metal64.inc"
        METAL "pcid64"
.set PT, FREE_RAM                       # a page table of our own, at WINDOW
.set FRAME_A, FREE_RAM + 0x1000
.set FRAME_B, FREE_RAM + 0x2000
.set WINDOW, 0x800000
.set DESCRIPTOR, FREE_RAM + 0x3000
.set PCIDE, 0x20000
.set PGE, 0x80
.set G, 0x100

.macro MAP frame, bits=0
        mov qword ptr [PT], (\frame) + 3 + \bits
.endm
.macro CR3 value                        # RAX is lost.
        mov rax, \value
        mov cr3, rax
.endm
.macro INV type, pcid, address          # RCX is lost.
        mov qword ptr [DESCRIPTOR], \pcid
        mov rcx, \address
        mov [DESCRIPTOR + 8], rcx
        mov ecx, \type
.endm
.macro SEES value                       # what the window shows
        EQ dword ptr [rbx], \value
.endm

        LONG64
        mov dword ptr [FRAME_A], 0xAAAAAAAA
        mov dword ptr [FRAME_B], 0xBBBBBBBB
        mov qword ptr [PD + 4 * 8], PT + 3
        MAP FRAME_A
        CR3 PML4
        mov ebx, WINDOW
        SEES 0xAAAAAAAA
        FROM 1
        NEXT                            # before PCIDE: only PCID 0
        INV 0, 1, WINDOW
        FAULT64 13, 0, invpcid rcx, [DESCRIPTOR]
        INV 0, 0, WINDOW
        MAP FRAME_B
        invpcid rcx, [DESCRIPTOR]
        SEES 0xBBBBBBBB
        NEXT                            # PCIDE wants PCID 0
        CR3 PML4 + 8
        mov rax, cr4
        or eax, PCIDE
        FAULT64 13, 0, mov cr4, rax
        CR3 PML4
        mov rax, cr4
        or eax, PCIDE
        mov cr4, rax
        mov rcx, cr4
        EQ rcx, rax
        NEXT                            # CR3: bit 63 is not kept, the others stay reserved
        mov rax, PML4 + 5 + (1 << 63)
        mov cr3, rax
        mov rax, cr3
        EQ rax, PML4 + 5
        mov rax, PML4 + (1 << 62)
        FAULT64 13, 0, mov cr3, rax
        NEXT                            # a load without bit 63 drops what the PCID had
        CR3 PML4 + 5
        SEES 0xBBBBBBBB
        MAP FRAME_A
        CR3 PML4 + 5
        SEES 0xAAAAAAAA
        NEXT                            # each kind of INVPCID
        MAP FRAME_B
        INV 0, 5, WINDOW
        invpcid rcx, [DESCRIPTOR]
        SEES 0xBBBBBBBB
        MAP FRAME_A
        INV 1, 5, 0
        invpcid rcx, [DESCRIPTOR]
        SEES 0xAAAAAAAA
        mov rax, cr4
        or eax, PGE
        mov cr4, rax
        MAP FRAME_B, G
        INV 2, 0, 0
        invpcid rcx, [DESCRIPTOR]
        SEES 0xBBBBBBBB
        MAP FRAME_A, G
        invpcid rcx, [DESCRIPTOR]
        SEES 0xAAAAAAAA
        MAP FRAME_A
        invpcid rcx, [DESCRIPTOR]
        SEES 0xAAAAAAAA
        MAP FRAME_B
        INV 3, 0, 0
        invpcid rcx, [DESCRIPTOR]
        SEES 0xBBBBBBBB
        NEXT                            # and what it refuses
        INV 4, 0, 0
        FAULT64 13, 0, invpcid rcx, [DESCRIPTOR]
        INV 1, 0x1000, 0
        FAULT64 13, 0, invpcid rcx, [DESCRIPTOR]
        INV 0, 5, NON_CANONICAL
        FAULT64 13, 0, invpcid rcx, [DESCRIPTOR]
        FAULT64 6, NO_ERROR_CODE, .byte 0x66, 0x0F, 0x38, 0x82, 0xC1 # a register
        INV 2, 0, 0
        USER64_CODE
        WANT64 13, 0, 1f, 2f
        mov qword ptr [V_RSP64], STACK32
1:      invpcid rcx, [DESCRIPTOR]
2:      mov eax, DATA32
        mov ds, eax
        NEXT                            # long mode cannot be left with PCIDE
        COMPAT32
        mov eax, cr0
        and eax, 0x7FFFFFFF
        FAULT_COMPAT 13, 0, mov cr0, eax
        PASS
        METAL64_END
