# The boot ROM that starts an ELF kernel with a PVH note under a BIOS (Xen: docs/misc/pvh.pandoc).  fw_cfg has the kernel and
# its initrd as they lie in memory, and the start information, to which the BIOS's memory map and the address of the ACPI
# root pointer are added here.
# link: 0

.include "bootrom.inc"

.set ENTRY_OFFSET, 0
.set RSDP_ADDR, 32
.set MAP_ADDR, 40
.set MAP_ENTRIES, 48
.set BDA_EBDA, 0x040E                   # the segment of the extended BIOS data area
.set EBDA_SEARCHED, 0x400 / 16          # paragraphs of it, and of the BIOS, in which the root pointer may be
.set BIOS, 0xE0000 / 16
.set BIOS_END, 0x100000 / 16

ROM_HEADER "PVH kernel"

BEGIN
        LOAD_FLAT
        call read_map
        mov dx, word ptr [BDA_EBDA]
        lea si, [edx + EBDA_SEARCHED]
        call find_rsdp
        jz 1f
        mov dx, BIOS
        mov si, 0                       # BIOS_END, in 16 bits
        call find_rsdp
        jz 1f
        xor dx, dx
1:      movzx edx, dx
        shl edx, 4
        mov eax, ebx
        shr eax, 4
        mov ds, ax                      # the block is on a paragraph
        mov dword ptr [RSDP_ADDR], edx
        mov dword ptr [MAP_ADDR], ebp
        mov dword ptr [MAP_ENTRIES], ecx
        xor ax, ax
        mov ds, ax
        mov es, ax
        xor eax, eax
        jmp enter

find_rsdp: # "RSD PTR " on a paragraph from segment DX up to SI; ZF=1: in DX
1:      mov es, dx
        cmp dword ptr es:[0], 0x20445352
        jne 2f
        cmp dword ptr es:[4], 0x20525450
        je 3f
2:      inc dx
        cmp dx, si
        jne 1b
        or ax, 1                        # ZF=0
3:      ret

BOOTROM_ROUTINES
FLAT_ROUTINES
ROM_END
