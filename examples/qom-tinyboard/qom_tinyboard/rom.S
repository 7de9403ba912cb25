# The ROM of tinyboard: 4 KiB, seen below 4 GiB and below 1 MiB; the segment offset of its first byte is f000h.
# Greets on port e9h.  With a stopwatch at 2a0h: arms it, waits for its interrupt, prints "ring".  Ends by port 501h.

        .code16
        .set    PIC, 0x20
        .set    STOPWATCH, 0x2a0
        .set    EXIT, 0x501
        .set    DEBUG, 0xe9
        .set    VECTORS, 8              # of the first interrupt line

        .text
        .globl  start
start:  cli
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %ss
        movw    $0x7000, %sp
        movw    $hello, %si
        call    print

        movw    $STOPWATCH + 4, %dx     # LIMIT: all ones where nothing answers
        inl     %dx, %eax
        cmpl    $0xffffffff, %eax
        jne     watch
        xorb    %al, %al
        jmp     leave

watch:  movb    $0x13, %al              # ICW1: edge, single, ICW4 follows
        outb    %al, $PIC
        movb    $VECTORS, %al           # ICW2
        outb    %al, $PIC + 1
        movb    $0x01, %al              # ICW4: 8086
        outb    %al, $PIC + 1
        movb    $~0x20, %al             # OCW1: line 5 only
        outb    %al, $PIC + 1
        movw    $ring, (VECTORS + 5) * 4
        movw    $0xf000, (VECTORS + 5) * 4 + 2

        movw    $STOPWATCH + 4, %dx
        movl    $100, %eax
        outl    %eax, %dx
        movw    $STOPWATCH, %dx
        movl    $1, %eax                # CTRL: run
        outl    %eax, %dx
wait:   sti
        hlt
        cli
        cmpb    $0, 0x500
        je      wait
        movw    $rang, %si
        call    print
        movb    $1, %al
leave:  movw    $EXIT, %dx
        outb    %al, %dx
stop:   hlt
        jmp     stop

ring:   pushw   %ax
        movb    $1, 0x500
        movb    $0x20, %al              # end of interrupt
        outb    %al, $PIC
        popw    %ax
        iret

print:  movb    %cs:(%si), %al
        incw    %si
        testb   %al, %al
        jz      1f
        outb    %al, $DEBUG
        jmp     print
1:      ret

hello:  .asciz  "tinyboard\n"
rang:   .asciz  "ring\n"

        .org    0xff0
reset:  jmp     start
        .org    0xfff
        .byte   0
