# The boot ROM that starts a multiboot 1 kernel under a BIOS.  fw_cfg has the kernel and its modules as they lie in memory,
# and the block of information, to which the BIOS's memory map is added here.
# link: 0

.include "bootrom.inc"

.set BOOTED_BY, 0x2BADB002
.set ENTRY_OFFSET, 4                    # an entry of the map begins with its size
.set FLAGS, 0
.set MEM_LOWER, 4
.set MEM_UPPER, 8
.set MMAP_LENGTH, 44
.set MMAP_ADDR, 48
.set INFO_MEMORY, 0x01
.set INFO_MAP, 0x40
.set RAM, 1
.set MIB, 0x100000

ROM_HEADER "Multiboot kernel"

BEGIN
        LOAD_FLAT
        call read_map
        mov eax, ebx
        shr eax, 4
        mov ds, ax                      # the block is on a paragraph
        mov eax, edi
        sub eax, ebp
        mov dword ptr [MMAP_LENGTH], eax
        mov dword ptr [MMAP_ADDR], ebp
        or dword ptr [FLAGS], INFO_MEMORY | INFO_MAP
        int 0x12
        movzx eax, ax
        mov dword ptr [MEM_LOWER], eax
        mov dword ptr [MEM_UPPER], 0
        xor eax, eax
1:      cmp ebp, edi                    # the RAM that begins at 1 MiB
        jae 2f
        mov edx, ebp
        shr edx, 4
        mov es, dx
        mov si, bp
        and si, 15
        add ebp, MAP_STRIDE
        cmp dword ptr es:[si + 4], MIB
        jne 1b
        cmp dword ptr es:[si + 8], 0
        jne 1b
        cmp dword ptr es:[si + 20], RAM
        jne 1b
        mov eax, dword ptr es:[si + 12]
        shr eax, 10
        mov dword ptr [MEM_UPPER], eax
2:      xor ax, ax
        mov ds, ax
        mov es, ax
        mov eax, BOOTED_BY
        jmp enter

BOOTROM_ROUTINES
FLAT_ROUTINES
ROM_END
