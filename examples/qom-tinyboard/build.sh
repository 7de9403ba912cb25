#!/bin/sh
# Builds qom_tinyboard/rom.bin from rom.S; needs GNU as and ld.
set -e
cd "$(dirname "$0")/qom_tinyboard"
as --32 -o rom.o rom.S
ld -m elf_i386 --oformat binary -Ttext 0xf000 -e start -o rom.bin rom.o
rm rom.o
