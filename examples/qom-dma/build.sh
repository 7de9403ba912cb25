#!/bin/sh
# Builds guest/driver.bin from guest/driver.S; needs GNU as and ld.
set -e
cd "$(dirname "$0")/guest"
as --32 -o driver.o driver.S
ld -m elf_i386 --oformat binary -Ttext 0xffff0000 -e 0xffff0000 -o driver.bin driver.o
rm driver.o
