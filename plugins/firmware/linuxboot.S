# The boot ROM that starts a Linux bzImage under a BIOS, by the real-mode boot protocol (Linux:
# Documentation/arch/x86/boot.rst).  fw_cfg has the four parts with their addresses; the setup header is filled in already.
# link: 0

.include "bootrom.inc"

ROM_HEADER "Linux kernel"

BEGIN
        LOAD KERNEL_ADDR KERNEL_SIZE KERNEL_DATA
        LOAD INITRD_ADDR INITRD_SIZE INITRD_DATA
        LOAD SETUP_ADDR SETUP_SIZE SETUP_DATA
        LOAD CMDLINE_ADDR CMDLINE_SIZE CMDLINE_DATA
        mov ax, CMDLINE_ADDR
        call read_number
        mov ebp, eax
        mov ax, SETUP_ADDR
        call read_number
        sub ebp, eax
        sub bp, 16                      # the kernel's stack and heap lie between its setup and the command line
        shr eax, 4
        cli
        mov ds, ax
        mov es, ax
        mov fs, ax
        mov gs, ax
        mov ss, ax
        movzx esp, bp
        add ax, 0x20                    # the entry is at 200h of the setup
        push ax
        push 0
        retf

BOOTROM_ROUTINES
ROM_END
