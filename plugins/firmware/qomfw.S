# The embedded default firmware: a small 16-bit BIOS that brings a PC from reset to its boot sector.
# link: 0
#
# Image: 64 KiB, linked at offset 0 of the segment F000h, reset vector at F000:FFF0.  It is never written to: variables
# live in the extended BIOS data area at 9FC0:0000, the stack of the power-on path at 0000:7C00 and below.
#
# What it does, in order: A20, interrupt vectors, COM1 at 115200 baud, banner, memory map (fw_cfg `etc/e820`, else CMOS),
# 8259s at 08h and 70h, 8254 channel 0 at 18.2 Hz, local APIC, the other processors by INIT and SIPI (fw_cfg key 5, else
# CMOS 5Fh, says how many), the primary master IDE disk; then a boot ROM from fw_cfg (`genroms/...`, which starts a kernel),
# else the disk's boot sector to 0000:7C00.
#
# Services: INT 10h 03h 0Eh 0Fh (to the serial port), 11h, 12h, 13h 00h 01h 02h 03h 04h 08h 15h 41h 42h 43h 44h 48h,
# 14h 00h-03h, 15h 24xxh 88h C0h E801h E820h, 16h 00h-02h 10h-12h (from the serial port), 18h, 19h, 1Ah 00h 01h.
#
# Not done: video, keyboard, floppy, CD-ROM, option ROMs of devices, PCI enumeration, ACPI, SMBIOS and MP tables, 48-bit LBA, time of
# day at 40:6C (it counts from 0).  Protected mode is entered only for single accesses to the local APIC.
# Needs an i486 with CPUID; no FPU, no SSE, no protected-mode IRET.

.intel_syntax noprefix
.code16
.text

.set ROM_SEG, 0xF000
.set EBDA_SEG, 0x9FC0
.set BDA_SEG, 0x0040
.set BASE_KIB, 639                      # conventional memory below the EBDA

.set COM1, 0x3F8
.set UART_DATA, 0
.set UART_IER, 1
.set UART_FCR, 2
.set UART_LCR, 3
.set UART_MCR, 4
.set UART_LSR, 5
.set UART_MSR, 6
.set LSR_DR, 0x01                       # a byte has come in
.set LSR_THRE, 0x20                     # the transmitter takes another byte
.set LCR_8N1, 0x03
.set LCR_DLAB, 0x80

.set DEBUG_PORT, 0x402
.set DEBUG_PRESENT, 0xE9                # what it reads as when there is one
.set PORT92, 0x92
.set PORT92_A20, 0x02
.set PORT92_RESET, 0x01
.set PIC1, 0x20
.set PIC2, 0xA0
.set PIC_EOI, 0x20
.set PIT_CH0, 0x40
.set PIT_CTRL, 0x43
.set CMOS_INDEX, 0x70
.set CMOS_DATA, 0x71
.set FW_CFG_SELECT, 0x510
.set FW_CFG_DATA, 0x511
.set FW_CFG_SIGNATURE, 0
.set FW_CFG_NB_CPUS, 5
.set FW_CFG_FILE_DIR, 0x19

.set IDE, 0x1F0
.set IDE_COUNT, 2
.set IDE_LBA0, 3
.set IDE_DEVICE, 6
.set IDE_STATUS, 7                      # written: command
.set IDE_CONTROL, 0x3F6
.set ST_BSY, 0x80
.set ST_DF, 0x20
.set ST_DRQ, 0x08
.set ST_ERR, 0x01
.set ATA_READ, 0x20
.set ATA_WRITE, 0x30
.set ATA_VERIFY, 0x40
.set ATA_FLUSH, 0xE7
.set ATA_IDENTIFY, 0xEC

.set APIC_BASE, 0xFEE00000
.set APIC_SVR, 0x0F0
.set APIC_ICR, 0x300
.set APIC_LINT0, 0x350
.set APIC_LINT1, 0x360
.set ICR_INIT_OTHERS, 0x000C4500        # all excluding self, assert, INIT
.set ICR_SIPI_OTHERS, 0x000C46F0        # all excluding self, assert, start-up at F000:0000

# Variables, offsets in the EBDA.
.set V_SIZE, 0x00                       # EBDA size in KiB, by convention first
.set V_DEBUG, 0x10                      # byte: the debug port answers
.set V_DISK, 0x11                       # byte: disk 80h is there
.set V_DISK_STATUS, 0x12                # byte: AH of the last INT 13h
.set V_COMMAND, 0x13                    # byte: ATA command of the transfer in hand
.set V_STARTED, 0x14                    # word: processors that have started, this one included
.set V_WANTED, 0x16                     # word: processors there are
.set V_E820_COUNT, 0x18                 # word: entries in V_E820
.set V_HEADS, 0x1A                      # word: of the translated geometry
.set V_CYLINDERS, 0x1C                  # word
.set V_LOW_TOP, 0x20                    # dword: end of the memory that starts at 0
.set V_SECTORS, 0x24                    # dword: disk size
.set V_ENTRY, 0x28                      # 20 bytes: base, length, type of the range in hand
.set V_TOTAL, 0x40                      # qword: bytes of memory found
.set V_FILES, 0x48                      # dword: fw_cfg directory entries left to look at
.set V_LBA, 0x4C                        # dword: transfer in hand
.set V_COUNT, 0x50                      # word
.set V_E820, 0x100                      # 20 bytes each
.set E820_MAX, 24
.set V_FILE, 0x300                      # 64 bytes: fw_cfg directory entry
.set SECTORS_PER_TRACK, 63

.set RAM, 1
.set RESERVED, 2

.set BOOT_ROM_SEG, 0x8000               # where a boot ROM is put: it finds its own place by CS
.set PNP_POINTER, 0x1A                  # of a ROM: its Plug and Play header
.set PNP_BOOT_VECTOR, 26                # of that header

# ---------------------------------------------------------------------------------------------------------------------
# Offset 0: where a start-up IPI with vector F0h makes the other processors begin.  They need no stack.

ap_start:
        cli
        mov ax, EBDA_SEG
        mov ds, ax
        lock inc word ptr [V_STARTED]
ap_park:
        hlt
        jmp ap_park

# ---------------------------------------------------------------------------------------------------------------------
# Power-on path.

        .org 0x100
post:
        cli
        cld
        xor ax, ax
        mov ss, ax
        mov sp, 0x7C00
        in al, PORT92
        or al, PORT92_A20
        and al, ~PORT92_RESET & 0xFF
        out PORT92, al

        # The EBDA and the BIOS data area start as zeros.
        mov ax, EBDA_SEG
        mov es, ax
        xor di, di
        xor ax, ax
        mov cx, 1024 / 2
        rep stosw
        mov ax, BDA_SEG
        mov es, ax
        xor di, di
        xor ax, ax
        mov cx, 256 / 2
        rep stosw
        mov word ptr es:[0x00], COM1
        mov word ptr es:[0x0E], EBDA_SEG
        mov word ptr es:[0x10], 0x0200  # equipment: one serial port
        mov word ptr es:[0x13], BASE_KIB
        mov ax, EBDA_SEG
        mov ds, ax
        mov byte ptr [V_SIZE], 1
        mov word ptr [V_STARTED], 1

        # Interrupt vectors: an IRET for all, then the ones that do something.
        xor ax, ax
        mov es, ax
        xor di, di
        mov cx, 256
        mov eax, (ROM_SEG << 16)
        mov ax, offset int_nothing
        rep stosd
        mov si, offset vectors
1:      mov bx, word ptr cs:[si]
        cmp bx, 0xFFFF
        je 2f
        mov ax, word ptr cs:[si + 2]
        shl bx, 2
        mov word ptr es:[bx], ax
        add si, 4
        jmp 1b
2:
        mov dx, DEBUG_PORT
        in al, dx
        cmp al, DEBUG_PRESENT
        sete byte ptr [V_DEBUG]

        call serial_init
        mov si, offset text_banner
        call print
        call find_memory
        call report_memory
        call pic_init
        call pit_init
        sti
        call start_processors
        call disk_init
        int 0x19
        int 0x18

# ---------------------------------------------------------------------------------------------------------------------
# Printing: `put` to the serial port only, `print...` to the debug port as well.

serial_init:
        mov dx, COM1 + UART_LCR
        mov al, LCR_DLAB
        out dx, al
        mov dx, COM1 + UART_DATA
        mov al, 1                       # divisor 1: 115200 baud
        out dx, al
        inc dx
        xor al, al
        out dx, al
        mov dx, COM1 + UART_LCR
        mov al, LCR_8N1
        out dx, al
        mov dx, COM1 + UART_IER
        xor al, al
        out dx, al
        mov dx, COM1 + UART_FCR
        mov al, 0x07                    # FIFOs on and empty
        out dx, al
        mov dx, COM1 + UART_MCR
        mov al, 0x03                    # DTR, RTS
        out dx, al
        ret

put:    # AL to COM1; a transmitter that never gets ready loses the byte.  Returns CF=1 then.  Keeps all registers.
        push dx
        push cx
        push ax
        mov dx, COM1 + UART_LSR
        xor cx, cx
1:      in al, dx
        test al, LSR_THRE
        loopz 1b
        stc
        jz 2f
        pop ax
        push ax
        mov dx, COM1 + UART_DATA
        out dx, al
        clc
2:      pop ax
        pop cx
        pop dx
        ret

print_char: # AL to COM1 and to the debug port; DS = EBDA
        call put
        cmp byte ptr [V_DEBUG], 0
        je 1f
        push dx
        mov dx, DEBUG_PORT
        out dx, al
        pop dx
1:      ret

print:  # the text at CS:SI up to its zero byte; DS = EBDA
        mov al, byte ptr cs:[si]
        test al, al
        jz 1f
        call print_char
        inc si
        jmp print
1:      ret

print_number: # EAX in decimal; DS = EBDA
        pushad
        mov ebx, 10
        xor cx, cx
1:      xor edx, edx
        div ebx
        push dx
        inc cx
        test eax, eax
        jnz 1b
2:      pop ax
        add al, '0'
        call print_char
        loop 2b
        popad
        ret

# ---------------------------------------------------------------------------------------------------------------------
# Memory: V_E820 is filled from fw_cfg, or from the CMOS when there is no fw_cfg.

cmos_word: # AX = CMOS bytes AL (low) and AL+1 (high)
        push bx
        mov bl, al
        inc al
        out CMOS_INDEX, al
        in al, CMOS_DATA
        mov bh, al
        mov al, bl
        out CMOS_INDEX, al
        in al, CMOS_DATA
        mov ah, bh
        pop bx
        ret

fw_cfg_select: # item AX
        push dx
        mov dx, FW_CFG_SELECT
        out dx, ax
        pop dx
        ret

fw_cfg_read: # CX bytes of the item to DS:DI
        push dx
        push es
        push ds
        pop es
        mov dx, FW_CFG_DATA
        rep insb
        pop es
        pop dx
        ret

fw_cfg_present: # ZF=1 when it is
        mov ax, FW_CFG_SIGNATURE
        call fw_cfg_select
        mov di, V_FILE
        mov cx, 4
        call fw_cfg_read
        cmp dword ptr [V_FILE], 0x554D4551 # "QEMU"
        ret

fw_cfg_find: # the first file whose name begins with the CX bytes at CS:SI: ZF=1, V_FILE is its entry, it is selected
        mov ax, FW_CFG_FILE_DIR
        call fw_cfg_select
        push cx
        mov di, V_FILES
        mov cx, 4
        call fw_cfg_read
        pop cx
        mov eax, dword ptr [V_FILES]
        bswap eax
        mov dword ptr [V_FILES], eax
1:      sub dword ptr [V_FILES], 1
        jb 2f                           # ZF=0: there are no more
        push cx
        mov di, V_FILE
        mov cx, 64
        call fw_cfg_read
        pop cx
        pusha
        push es
        push cs
        pop es
        mov di, si
        mov si, V_FILE + 8
        repe cmpsb
        pop es
        popa
        jne 1b
        mov ax, word ptr [V_FILE + 4]
        xchg al, ah
        call fw_cfg_select
        cmp ax, ax
2:      ret

find_memory:
        call fw_cfg_present
        jne memory_from_cmos
        mov si, offset text_e820_file
        mov cx, text_e820_file_end - text_e820_file
        call fw_cfg_find
        jne memory_from_cmos
        mov eax, dword ptr [V_FILE]
        bswap eax
        xor edx, edx
        mov ecx, 20
        div ecx
        mov bp, ax                      # entries to read
2:      test bp, bp
        jz 3f
        dec bp
        mov di, V_ENTRY
        mov cx, 20
        call fw_cfg_read
        call memory_range
        jmp 2b
3:      cmp dword ptr [V_LOW_TOP], 0
        je memory_from_cmos             # a map without memory at 0 is no map
        ret

memory_from_cmos:
        mov al, 0x34                    # 64 KiB units above 16 MiB
        call cmos_word
        movzx eax, ax
        shl eax, 16
        jz 1f
        add eax, 0x1000000
        jmp 2f
1:      mov al, 0x30                    # KiB above 1 MiB
        call cmos_word
        movzx eax, ax
        shl eax, 10
        add eax, 0x100000
2:      mov dword ptr [V_ENTRY + 8], eax
        xor eax, eax
        mov dword ptr [V_ENTRY], eax
        mov dword ptr [V_ENTRY + 4], eax
        mov dword ptr [V_ENTRY + 12], eax
        mov dword ptr [V_ENTRY + 16], RAM
        call memory_range
        mov al, 0x5B                    # 64 KiB units above 4 GiB, three bytes
        call cmos_word
        movzx ebx, ax
        mov al, 0x5D
        call cmos_word
        movzx eax, al
        shl eax, 16
        or eax, ebx
        jz 3f
        mov edx, eax
        shl eax, 16
        shr edx, 16
        mov dword ptr [V_ENTRY + 8], eax
        mov dword ptr [V_ENTRY + 12], edx
        mov dword ptr [V_ENTRY], 0
        mov dword ptr [V_ENTRY + 4], 1
        call memory_range
3:      ret

memory_range: # take V_ENTRY into the map; the range that starts at 0 is cut where a PC has its holes
        cmp dword ptr [V_ENTRY + 16], RAM
        jne e820_append
        mov eax, dword ptr [V_ENTRY + 8]
        mov edx, dword ptr [V_ENTRY + 12]
        add dword ptr [V_TOTAL], eax
        adc dword ptr [V_TOTAL + 4], edx
        mov ecx, dword ptr [V_ENTRY]
        or ecx, dword ptr [V_ENTRY + 4]
        jnz e820_append
        mov dword ptr [V_LOW_TOP], eax
        mov si, offset low_ranges
1:      mov eax, dword ptr cs:[si]
        mov dword ptr [V_ENTRY], eax
        mov eax, dword ptr cs:[si + 4]
        mov dword ptr [V_ENTRY + 8], eax
        mov eax, dword ptr cs:[si + 8]
        mov dword ptr [V_ENTRY + 16], eax
        call e820_append
        add si, 12
        cmp si, offset low_ranges_end
        jb 1b
        mov eax, dword ptr [V_LOW_TOP]
        sub eax, 0x100000
        jbe 4f
        mov dword ptr [V_ENTRY], 0x100000
        mov dword ptr [V_ENTRY + 8], eax
        mov dword ptr [V_ENTRY + 16], RAM
        call e820_append
        mov dword ptr [V_ENTRY], 0xFFFF0000
        mov dword ptr [V_ENTRY + 8], 0x10000
        mov dword ptr [V_ENTRY + 16], RESERVED
        # fall through
e820_append: # V_ENTRY into V_E820, in order of the base; a map that is full takes no more.  Keeps SI.
        mov ax, word ptr [V_E820_COUNT]
        cmp ax, E820_MAX
        jae 4f
        push es
        push si
        push ds
        pop es
        imul di, ax, 20
        add di, V_E820
1:      cmp di, V_E820                  # move what lies higher one place up
        je 3f
        mov eax, dword ptr [V_ENTRY + 4]
        cmp eax, dword ptr [di - 20 + 4]
        jne 2f
        mov eax, dword ptr [V_ENTRY]
        cmp eax, dword ptr [di - 20]
2:      jae 3f
        lea si, [di - 20]
        mov cx, 10
        rep movsw
        sub di, 40
        jmp 1b
3:      mov si, V_ENTRY
        mov cx, 10
        rep movsw
        inc word ptr [V_E820_COUNT]
        pop si
        pop es
4:      ret

low_ranges: # base, length, type
        .long 0, BASE_KIB * 1024, RAM
        .long BASE_KIB * 1024, 1024, RESERVED
        .long 0xF0000, 0x10000, RESERVED
low_ranges_end:

report_memory:
        mov si, offset text_memory
        call print
        mov eax, dword ptr [V_TOTAL]
        mov edx, dword ptr [V_TOTAL + 4]
        shrd eax, edx, 20
        call print_number
        mov si, offset text_mib
        jmp print

# ---------------------------------------------------------------------------------------------------------------------
# Interrupt controller and timer.

pic_init:
        mov al, 0x11                    # ICW1: edge, cascade, ICW4
        out PIC1, al
        out PIC2, al
        mov al, 0x08                    # ICW2: vectors
        out PIC1 + 1, al
        mov al, 0x70
        out PIC2 + 1, al
        mov al, 0x04                    # ICW3: slave on line 2
        out PIC1 + 1, al
        mov al, 0x02
        out PIC2 + 1, al
        mov al, 0x01                    # ICW4: 8086 mode
        out PIC1 + 1, al
        out PIC2 + 1, al
        mov al, 0xFA                    # open: timer and cascade
        out PIC1 + 1, al
        mov al, 0xFF
        out PIC2 + 1, al
        ret

pit_init:
        mov al, 0x34                    # channel 0, both bytes, rate generator
        out PIT_CTRL, al
        xor al, al                      # 65536: 18.2 Hz
        out PIT_CH0, al
        out PIT_CH0, al
        ret

pit_count: # AX = the count of channel 0, that falls 1193182 times a second
        xor al, al
        out PIT_CTRL, al
        in al, PIT_CH0
        mov ah, al
        in al, PIT_CH0
        xchg al, ah
        ret

pit_wait: # wait CX counts (0.84 us each), CX below 8000h; gives up should the counter stand still
        push ax
        push bx
        push dx
        call pit_count
        mov bx, ax
        xor dx, dx
1:      dec dx
        jz 2f
        call pit_count
        sub ax, bx
        neg ax                          # counts since the start
        cmp ax, cx
        jb 1b
2:      pop dx
        pop bx
        pop ax
        ret

irq0:
        push ax
        push ds
        mov ax, BDA_SEG
        mov ds, ax
        inc dword ptr [0x6C]
        cmp dword ptr [0x6C], 0x1800B0  # a day
        jb 1f
        mov dword ptr [0x6C], 0
        mov byte ptr [0x70], 1
1:      int 0x1C
        mov al, PIC_EOI
        out PIC1, al
        pop ds
        pop ax
        iret

irq_slave:
        push ax
        mov al, PIC_EOI
        out PIC2, al
        out PIC1, al
        pop ax
        iret

irq_master:
        push ax
        mov al, PIC_EOI
        out PIC1, al
        pop ax
int_nothing:
        iret

# ---------------------------------------------------------------------------------------------------------------------
# Processors.

apic_write: # EAX to local APIC register EDI, by an excursion into protected mode.  Interrupts off.  Uses FS.
        push eax
        push ebx
        mov ebx, eax
        lgdtd cs:[gdt_pointer]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        jmp 1f
1:      mov ax, 0x08
        mov fs, ax
        mov dword ptr fs:[edi + APIC_BASE], ebx
        mov ax, 0x10
        mov fs, ax                      # a 64 KiB limit again
        mov eax, cr0
        and al, 0xFE
        mov cr0, eax
        jmp 2f
2:      xor ax, ax
        mov fs, ax
        pop ebx
        pop eax
        ret

        .balign 8
gdt:    # all with the accessed bit set: this is ROM
        .quad 0
        .quad 0x00CF93000000FFFF        # 08h: data, 0 to 4 GiB
        .quad 0x000093000000FFFF        # 10h: data, 0 to 64 KiB
gdt_pointer:
        .word 3 * 8 - 1
        .long (ROM_SEG << 4) + gdt

count_processors: # V_WANTED
        call fw_cfg_present
        jne 1f
        mov ax, FW_CFG_NB_CPUS
        call fw_cfg_select
        mov di, V_WANTED
        mov cx, 2
        call fw_cfg_read
        jmp 2f
1:      mov al, 0x5F                    # processors less one
        out CMOS_INDEX, al
        in al, CMOS_DATA
        movzx ax, al
        inc ax
        mov word ptr [V_WANTED], ax
2:      cmp word ptr [V_WANTED], 0
        jne 3f
        mov word ptr [V_WANTED], 1
3:      ret

start_processors:
        call count_processors
        mov eax, 1
        cpuid
        test dh, 0x02                   # CPUID.1:EDX[9]: there is a local APIC
        jz report_processors
        cli
        mov edi, APIC_SVR
        mov eax, 0x1FF                  # on, spurious vector FFh
        call apic_write
        mov edi, APIC_LINT0
        mov eax, 0x8700                 # ExtINT: the 8259s
        call apic_write
        mov edi, APIC_LINT1
        mov eax, 0x8400                 # NMI
        call apic_write
        cmp word ptr [V_WANTED], 1
        je 1f
        mov edi, APIC_ICR
        mov eax, ICR_INIT_OTHERS
        call apic_write
        mov cx, 11932                   # 10 ms, as the multiprocessor specification has it
        call pit_wait
        mov eax, ICR_SIPI_OTHERS
        call apic_write
        mov bx, 2                       # ticks to wait before the second one
        call wait_started
        je 1f
        mov edi, APIC_ICR
        mov eax, ICR_SIPI_OTHERS
        call apic_write
        mov bx, 40                      # about two seconds
        call wait_started
1:      sti
report_processors:
        mov si, offset text_processors
        call print
        movzx eax, word ptr [V_STARTED]
        call print_number
        mov si, offset text_started
        call print
        mov ax, word ptr [V_WANTED]
        cmp ax, word ptr [V_STARTED]
        je 1f
        mov si, offset text_of
        call print
        movzx eax, ax
        call print_number
1:      mov si, offset text_newline
        jmp print

wait_started: # until all have started (ZF=1) or BX timer ticks have gone by (ZF=0).  Leaves interrupts off.
        push es
        mov ax, BDA_SEG
        mov es, ax
        add bx, word ptr es:[0x6C]
1:      sti
        pause
        cli
        mov ax, word ptr [V_WANTED]
        cmp ax, word ptr [V_STARTED]
        je 2f
        cmp bx, word ptr es:[0x6C]
        jne 1b
        cmp ax, word ptr [V_STARTED]
2:      pop es
        ret

# ---------------------------------------------------------------------------------------------------------------------
# The disk: primary master, PIO, 28-bit LBA.

disk_wait: # until BSY falls; AL = status.  CF=1 when it does not.  Uses CX, DX.
        mov dx, IDE + IDE_STATUS
        push ebx
        mov ebx, 2000000
1:      in al, dx
        test al, ST_BSY
        jz 2f
        dec ebx
        jnz 1b
        stc
        jmp 3f
2:      clc
3:      pop ebx
        ret

disk_init:
        mov dx, IDE_CONTROL
        mov al, 0x0A                    # no interrupts
        out dx, al
        mov dx, IDE + IDE_DEVICE
        mov al, 0xE0                    # master, LBA
        out dx, al
        mov dx, IDE + IDE_STATUS
        in al, dx
        cmp al, 0xFF                    # nobody drives the bus
        je 9f
        call disk_wait
        jc 9f
        test al, 0x40                   # DRDY
        jz 9f
        mov dx, IDE + IDE_STATUS
        mov al, ATA_IDENTIFY
        out dx, al
        in al, dx
        test al, al                     # no device
        jz 9f
        call disk_wait
        jc 9f
        test al, ST_ERR | ST_DF         # an ATAPI device refuses
        jnz 9f
        test al, ST_DRQ
        jz 9f
        mov dx, IDE
        xor si, si
1:      in ax, dx
        cmp si, 60                      # words 60 and 61: sectors
        jne 2f
        mov word ptr [V_SECTORS], ax
2:      cmp si, 61
        jne 3f
        mov word ptr [V_SECTORS + 2], ax
3:      inc si
        cmp si, 256
        jb 1b
        mov byte ptr [V_DISK], 1
        push ds
        mov ax, BDA_SEG
        mov ds, ax
        mov byte ptr [0x75], 1
        pop ds

        # LBA-assisted geometry: 63 sectors, as many heads as keep the cylinders within 1024.
        mov ecx, 16
4:      imul eax, ecx, SECTORS_PER_TRACK * 1024
        cmp eax, dword ptr [V_SECTORS]
        jae 5f
        shl cx, 1
        cmp cx, 256
        jb 4b
        mov cx, 255
5:      mov word ptr [V_HEADS], cx
        imul ecx, ecx, SECTORS_PER_TRACK
        mov eax, dword ptr [V_SECTORS]
        xor edx, edx
        div ecx
        cmp eax, 1024
        jbe 6f
        mov eax, 1024
6:      test eax, eax
        jnz 7f
        inc eax
7:      mov word ptr [V_CYLINDERS], ax
        mov si, offset text_disk
        call print
        mov eax, dword ptr [V_SECTORS]
        call print_number
        mov si, offset text_sectors
        call print
9:      ret

disk_transfer: # V_COUNT sectors from V_LBA by V_COMMAND, to or from ES:SI; AH = status, CF.  V_COUNT = sectors not done.
        mov eax, dword ptr [V_LBA]
        movzx ecx, word ptr [V_COUNT]
        add ecx, eax
        jc 7f
        cmp ecx, dword ptr [V_SECTORS]
        ja 7f
        push ax
        call disk_wait
        pop ax
        jc 8f
        mov ecx, eax
        shr eax, 24
        or al, 0xE0
        mov dx, IDE + IDE_DEVICE
        out dx, al
        mov dx, IDE + IDE_COUNT
        mov al, byte ptr [V_COUNT]
        out dx, al
        mov eax, ecx
        mov dx, IDE + IDE_LBA0
        out dx, al
        inc dx
        shr eax, 8
        out dx, al
        inc dx
        shr eax, 8
        out dx, al
        mov dx, IDE + IDE_STATUS
        mov al, byte ptr [V_COMMAND]
        out dx, al
        cmp al, ATA_VERIFY
        je 5f
1:      call disk_wait
        jc 8f
        test al, ST_ERR | ST_DF
        jnz 8f
        test al, ST_DRQ
        jz 8f
        mov dx, IDE
        mov cx, 256
        cmp byte ptr [V_COMMAND], ATA_WRITE
        je 2f
        push di
        mov di, si
        rep insw
        mov si, di
        pop di
        jmp 3f
2:      rep outs dx, word ptr es:[si]
3:      sub si, 512                     # keep the offset, move the segment: no wrap within 64 KiB
        mov ax, es
        add ax, 512 / 16
        mov es, ax
        dec word ptr [V_COUNT]
        jnz 1b
        cmp byte ptr [V_COMMAND], ATA_WRITE
        jne 6f
        mov dx, IDE + IDE_STATUS
        mov al, ATA_FLUSH
        out dx, al
5:      call disk_wait
        jc 8f
        test al, ST_ERR | ST_DF
        jnz 8f
        mov word ptr [V_COUNT], 0
6:      xor ah, ah
        clc
        ret
7:      mov ah, 0x04                    # sector not found
        stc
        ret
8:      mov ah, 0x20                    # controller failed
        stc
        ret

# ---------------------------------------------------------------------------------------------------------------------
# Services.  Every one keeps its caller's registers in a frame on the stack, at BP:

.set F_ES, 0
.set F_DS, 2
.set F_EDI, 4
.set F_ESI, 8
.set F_EBX, 20
.set F_EDX, 24
.set F_ECX, 28
.set F_EAX, 32
.set F_FLAGS, 40                        # IP, CS between
.set CF, 0x01
.set ZF, 0x40

.macro ENTER_SERVICE
        pushad
        push ds
        push es
        mov bp, sp
        mov bx, EBDA_SEG
        mov ds, bx
        mov ebx, dword ptr [bp + F_EBX]
        cld
.endm

service_fail: # AH of the caller = AH, CF=1
        mov byte ptr [bp + F_EAX + 1], ah
service_carry:
        or byte ptr [bp + F_FLAGS], CF
        jmp service_return
service_ok:
        and byte ptr [bp + F_FLAGS], ~CF & 0xFF
service_return:
        pop es
        pop ds
        popad
        iret

int10:  # video: a teletype on the serial port
        ENTER_SERVICE
        cmp ah, 0x0E
        je 1f
        cmp ah, 0x03
        je 2f
        cmp ah, 0x0F
        jne service_return
        mov word ptr [bp + F_EAX], 0x5003 # 80 columns, mode 3
        mov byte ptr [bp + F_EBX + 1], 0
        jmp service_return
1:      call put
        jmp service_return
2:      mov word ptr [bp + F_ECX], 0x0607
        mov word ptr [bp + F_EDX], 0
        jmp service_return

int11:  # equipment
        push ds
        mov ax, BDA_SEG
        mov ds, ax
        mov ax, word ptr [0x10]
        pop ds
        iret

int12:  # conventional memory in KiB
        push ds
        mov ax, BDA_SEG
        mov ds, ax
        mov ax, word ptr [0x13]
        pop ds
        iret

int13:  # disk
        ENTER_SERVICE
        sti
        cmp dl, 0x80
        jne disk_bad
        cmp byte ptr [V_DISK], 0
        je disk_bad
        cmp ah, 0x00
        je disk_good
        cmp ah, 0x01
        je disk_last
        cmp ah, 0x08
        je disk_parameters
        cmp ah, 0x15
        je disk_type
        cmp ah, 0x41
        je disk_extensions
        cmp ah, 0x48
        je disk_extended_parameters
        mov al, ATA_READ
        cmp ah, 0x02
        je disk_chs
        cmp ah, 0x42
        je disk_lba
        mov al, ATA_WRITE
        cmp ah, 0x03
        je disk_chs
        cmp ah, 0x43
        je disk_lba
        mov al, ATA_VERIFY
        cmp ah, 0x04
        je disk_chs
        cmp ah, 0x44
        je disk_lba
disk_bad:
        mov ah, 0x01
disk_fail:
        mov byte ptr [V_DISK_STATUS], ah
        jmp service_fail
disk_good:
        mov byte ptr [V_DISK_STATUS], 0
        mov byte ptr [bp + F_EAX + 1], 0
        jmp service_ok

disk_last:
        mov ah, byte ptr [V_DISK_STATUS]
        mov byte ptr [bp + F_EAX + 1], ah
        jmp service_ok

disk_parameters:
        mov cx, word ptr [V_CYLINDERS]
        dec cx
        xchg cl, ch                     # CH = low eight bits, CL[7:6] = the two above
        shl cl, 6
        or cl, SECTORS_PER_TRACK
        mov word ptr [bp + F_ECX], cx
        mov dx, word ptr [V_HEADS]
        dec dx
        mov dh, dl
        mov dl, 1                       # disks
        mov word ptr [bp + F_EDX], dx
        mov byte ptr [bp + F_EAX], 0
        mov byte ptr [bp + F_EBX], 0
        jmp disk_good

disk_type:
        mov byte ptr [bp + F_EAX + 1], 3 # a fixed disk
        mov eax, dword ptr [V_SECTORS]
        mov word ptr [bp + F_EDX], ax
        shr eax, 16
        mov word ptr [bp + F_ECX], ax
        jmp service_ok

disk_extensions:
        cmp bx, 0x55AA
        jne disk_bad
        mov word ptr [bp + F_EBX], 0xAA55
        mov word ptr [bp + F_ECX], 0x0001 # packet access
        mov byte ptr [bp + F_EAX + 1], 0x01 # version 1
        mov byte ptr [V_DISK_STATUS], 0
        jmp service_ok

disk_extended_parameters:
        mov es, word ptr [bp + F_DS]
        cmp word ptr es:[si], 26
        jb disk_bad
        mov word ptr es:[si], 26
        mov word ptr es:[si + 2], 0x0002 # the geometry is valid
        movzx eax, word ptr [V_CYLINDERS]
        mov dword ptr es:[si + 4], eax
        movzx eax, word ptr [V_HEADS]
        mov dword ptr es:[si + 8], eax
        mov dword ptr es:[si + 12], SECTORS_PER_TRACK
        mov eax, dword ptr [V_SECTORS]
        mov dword ptr es:[si + 16], eax
        mov dword ptr es:[si + 20], 0
        mov word ptr es:[si + 24], 512
        jmp disk_good

disk_chs: # AL = command; CH, CL[7:6] cylinder, DH head, CL[5:0] sector from 1
        mov byte ptr [V_COMMAND], al
        mov al, byte ptr [bp + F_EAX]
        test al, al
        jz disk_bad
        xor ah, ah
        mov word ptr [V_COUNT], ax
        mov dl, cl
        and dl, 0x3F
        jz disk_bad
        movzx edi, dl
        dec edi                         # sector from 0
        movzx esi, dh
        shr cl, 6
        xchg cl, ch
        movzx ecx, cx
        movzx eax, word ptr [V_HEADS]
        cmp esi, eax
        jae disk_bad
        imul eax, ecx
        add eax, esi
        imul eax, eax, SECTORS_PER_TRACK
        add eax, edi
        mov dword ptr [V_LBA], eax
        mov es, word ptr [bp + F_ES]
        mov si, bx
        mov bx, word ptr [V_COUNT]
        call disk_transfer
        jnc disk_good
        sub bx, word ptr [V_COUNT]
        mov byte ptr [bp + F_EAX], bl   # sectors done
        jmp disk_fail

disk_lba: # AL = command; DS:SI packet: size, 0, count, offset, segment, LBA
        mov byte ptr [V_COMMAND], al
        mov es, word ptr [bp + F_DS]
        mov di, si
        cmp byte ptr es:[di], 16
        jb disk_bad
        mov ax, word ptr es:[di + 2]
        cmp ax, 127
        ja disk_bad
        test ax, ax
        jz disk_good
        mov word ptr [V_COUNT], ax
        mov eax, dword ptr es:[di + 8]
        mov dword ptr [V_LBA], eax
        mov ah, 0x04
        cmp dword ptr es:[di + 12], 0
        jne disk_fail
        mov bx, word ptr es:[di + 2]
        push es
        push di
        mov si, word ptr es:[di + 4]
        mov es, word ptr es:[di + 6]
        call disk_transfer
        pop di
        pop es
        jnc disk_good
        sub bx, word ptr [V_COUNT]
        mov word ptr es:[di + 2], bx
        jmp disk_fail

int14:  # serial port 0
        ENTER_SERVICE
        test dx, dx
        jnz service_return
        cmp ah, 1
        jb 4f
        je 1f
        cmp ah, 2
        je 2f
        cmp ah, 3
        jne service_return
        mov dx, COM1 + UART_MSR
        in al, dx
        mov byte ptr [bp + F_EAX], al
        jmp 5f
1:      call put
        jmp 5f
2:      mov dx, COM1 + UART_LSR
        xor cx, cx
3:      in al, dx
        test al, LSR_DR
        loopz 3b
        mov ah, 0x80                    # timed out
        jz 6f
        mov dx, COM1 + UART_DATA
        in al, dx
        mov byte ptr [bp + F_EAX], al
        xor ah, ah
        jmp 6f
4:      call serial_init
        mov dx, COM1 + UART_MSR
        in al, dx
        mov byte ptr [bp + F_EAX], al
5:      mov dx, COM1 + UART_LSR
        in al, dx
        mov ah, al
6:      mov byte ptr [bp + F_EAX + 1], ah
        jmp service_return

int15:  # system services
        ENTER_SERVICE
        cmp ah, 0x24
        je a20_services
        cmp ah, 0x88
        je extended_memory
        cmp ah, 0xC0
        je system_table
        cmp ax, 0xE801
        je memory_e801
        cmp ax, 0xE820
        je memory_map
        mov ah, 0x86                    # not supported
        jmp service_fail

a20_services:
        cmp al, 1
        jb 1f
        je 2f
        cmp al, 2
        je 3f
        cmp al, 3
        mov ah, 0x86
        jne service_fail
        mov word ptr [bp + F_EBX], 0x0002 # by port 92h
        jmp 4f
1:      in al, PORT92
        and al, ~(PORT92_A20 | PORT92_RESET) & 0xFF
        out PORT92, al
        jmp 4f
2:      in al, PORT92
        or al, PORT92_A20
        and al, ~PORT92_RESET & 0xFF
        out PORT92, al
        jmp 4f
3:      in al, PORT92
        shr al, 1
        and al, 1
        mov byte ptr [bp + F_EAX], al
4:      mov byte ptr [bp + F_EAX + 1], 0
        jmp service_ok

extended_memory: # AX = KiB above 1 MiB, at most 63 MiB
        mov eax, dword ptr [V_LOW_TOP]
        shr eax, 10
        sub eax, 1024
        jae 1f
        xor eax, eax
1:      cmp eax, 63 * 1024
        jbe 2f
        mov eax, 63 * 1024
2:      mov word ptr [bp + F_EAX], ax
        jmp service_ok

memory_e801: # AX = CX = KiB from 1 to 16 MiB, BX = DX = 64 KiB blocks above
        mov eax, dword ptr [V_LOW_TOP]
        xor ecx, ecx
        sub eax, 0x100000
        jbe 2f
        mov ecx, eax
        xor eax, eax
        cmp ecx, 15 * 0x100000
        jbe 1f
        mov eax, ecx
        mov ecx, 15 * 0x100000
        sub eax, ecx
        shr eax, 16
1:      shr ecx, 10
        jmp 3f
2:      xor eax, eax
3:      mov word ptr [bp + F_EAX], cx
        mov word ptr [bp + F_ECX], cx
        mov word ptr [bp + F_EBX], ax
        mov word ptr [bp + F_EDX], ax
        jmp service_ok

memory_map: # one entry to ES:DI; EBX = which, then which is next or 0
        cmp edx, 0x534D4150             # "SMAP"
        jne 1f
        cmp ecx, 20
        jb 1f
        movzx eax, word ptr [V_E820_COUNT]
        cmp ebx, eax
        jae 1f
        imul si, bx, 20
        add si, V_E820
        mov cx, 10
        rep movsw
        inc ebx
        cmp ebx, eax
        jb 2f
        xor ebx, ebx
2:      mov dword ptr [bp + F_EBX], ebx
        mov dword ptr [bp + F_ECX], 20
        mov dword ptr [bp + F_EAX], 0x534D4150
        jmp service_ok
1:      mov ah, 0x86
        jmp service_fail

system_table:
        mov word ptr [bp + F_ES], ROM_SEG
        mov word ptr [bp + F_EBX], offset configuration
        mov byte ptr [bp + F_EAX + 1], 0
        jmp service_ok

configuration:
        .word 8
        .byte 0xFC, 0x00, 0x00          # model, submodel, revision
        .byte 0x70                      # cascaded 8259, RTC, INT 4Fh not called
        .byte 0, 0, 0, 0

int16:  # keys: what comes in on the serial port
        ENTER_SERVICE
        and ah, 0xEF
        cmp ah, 1
        jb 2f
        je 3f
        cmp ah, 2
        jne service_return
        mov byte ptr [bp + F_EAX], 0    # no shift keys down
        jmp service_return
2:      sti
        mov dx, COM1 + UART_LSR
1:      pause
        in al, dx
        test al, LSR_DR
        jz 1b
        mov dx, COM1 + UART_DATA
        in al, dx
        xor ah, ah
        mov word ptr [bp + F_EAX], ax
        jmp service_return
3:      mov dx, COM1 + UART_LSR         # the byte cannot be looked at without taking it: AX = 0, ZF tells
        in al, dx
        and byte ptr [bp + F_FLAGS], ~ZF & 0xFF
        test al, LSR_DR
        jnz 4f
        or byte ptr [bp + F_FLAGS], ZF
4:      mov word ptr [bp + F_EAX], 0
        jmp service_return

int1a:  # timer ticks
        push ds
        push ax
        mov ax, BDA_SEG
        mov ds, ax
        pop ax
        cmp ah, 1
        je 1f
        ja 2f
        mov dx, word ptr [0x6C]
        mov cx, word ptr [0x6E]
        mov al, byte ptr [0x70]
        mov byte ptr [0x70], 0
        jmp 2f
1:      mov word ptr [0x6C], dx
        mov word ptr [0x6E], cx
        mov byte ptr [0x70], 0
2:      pop ds
        iret

int18:  # nothing to boot
        mov ax, EBDA_SEG
        mov ds, ax
        mov si, offset text_no_device
        call print
        cli
1:      hlt
        jmp 1b

int19:  # boot: by a boot ROM in fw_cfg if there is one, else from the disk
        xor ax, ax
        mov ss, ax
        mov sp, 0x7C00
        sti
        mov ax, EBDA_SEG
        mov ds, ax
        call fw_cfg_present
        jne 2f
        mov si, offset text_boot_roms
        mov cx, text_boot_roms_end - text_boot_roms
        call fw_cfg_find
        jne 2f
        mov ecx, dword ptr [V_FILE]
        bswap ecx                       # the ROM has at most 64 KiB
        mov ax, BOOT_ROM_SEG
        mov ds, ax
        xor di, di
        call fw_cfg_read
        mov bx, word ptr [PNP_POINTER]
        push ds
        push word ptr [bx + PNP_BOOT_VECTOR]
        retf                            # it comes back by INT 18h
2:      xor ax, ax
        mov es, ax
        mov bx, 0x7C00
        mov ax, 0x0201
        mov cx, 0x0001
        mov dx, 0x0080
        int 0x13
        jc 1f
        cmp word ptr es:[0x7C00 + 510], 0xAA55
        jne 1f
        mov ax, EBDA_SEG
        mov ds, ax
        mov si, offset text_boot
        call print
        xor ax, ax
        mov ds, ax
        mov es, ax
        mov dx, 0x0080
        ljmp 0x0000, 0x7C00
1:      int 0x18

# ---------------------------------------------------------------------------------------------------------------------
# Data.

vectors: # number, handler
        .word 0x08, irq0
        .word 0x09, irq_master, 0x0A, irq_master, 0x0B, irq_master, 0x0C, irq_master
        .word 0x0D, irq_master, 0x0E, irq_master, 0x0F, irq_master
        .word 0x70, irq_slave, 0x71, irq_slave, 0x72, irq_slave, 0x73, irq_slave
        .word 0x74, irq_slave, 0x75, irq_slave, 0x76, irq_slave, 0x77, irq_slave
        .word 0x10, int10, 0x11, int11, 0x12, int12, 0x13, int13, 0x14, int14, 0x15, int15, 0x16, int16
        .word 0x18, int18, 0x19, int19, 0x1A, int1a
        .word 0xFFFF

text_banner:     .asciz "qom firmware 0.1\r\n"
text_memory:     .asciz "memory: "
text_mib:        .asciz " MiB\r\n"
text_processors: .asciz "processors: "
text_started:    .asciz " started"
text_of:         .asciz " of "
text_newline:    .asciz "\r\n"
text_disk:       .asciz "disk 80h: "
text_sectors:    .asciz " sectors\r\n"
text_boot:       .asciz "Booting from disk 80h.\r\n"
text_no_device:  .asciz "No bootable device.\r\n"
text_e820_file:  .asciz "etc/e820"
text_e820_file_end:
text_boot_roms:  .ascii "genroms/"
text_boot_roms_end:

        .org 0xFFF0
        ljmp ROM_SEG, offset post
        .ascii "01/01/25"               # the date of the firmware, where software looks for one
        .org 0xFFFE
        .byte 0xFC                      # model: PC/AT
        .byte 0
