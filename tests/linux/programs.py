"""Programs that run on the host and in the guest from the same files, and write what they find: integer, floating-point,
string, hash and compression work.  Nothing here may depend on time, machine or place.

    python3 programs.py [PREFIX ...]

The words of PREFIX come before each tool's name: the loader with its options, where the files are not in their places.
"""

import array
import bz2
import cmath
import decimal
import fractions
import hashlib
import itertools
import json
import lzma
import math
import os
import random
import re
import struct
import subprocess
import sys
import zlib

PREFIX = sys.argv[1:-1]
ROOT = sys.argv[-1] if len(sys.argv) > 1 else ""


def show(name, value):
    print(f"{name}: {value}")


def tool(words, data=b""):
    """Run one of the tools; show its status and the hash of its output."""
    path = next(path for folder in ("/usr/bin/", "/bin/") if os.path.exists(path := ROOT + folder + words[0]))
    done = subprocess.run([*PREFIX, path, *words[1:]], input=data, capture_output=True, env={"LC_ALL": "C"})
    digest = hashlib.sha256(done.stdout).hexdigest()[:32]
    said = done.stderr.replace(ROOT.encode(), b"")[:60]
    show(" ".join(words), f"{done.returncode} {len(done.stdout)} {digest} {done.stdout[:60]!r} {said!r}")


def integers():
    numbers = random.Random(1)
    total = 0
    for bits in (8, 16, 31, 32, 33, 63, 64, 65, 128, 1000):
        for _ in range(200):
            a, b = numbers.getrandbits(bits) - (1 << bits - 1), numbers.getrandbits(bits) | 1
            total = (total * 31 + a * b + a // b + a % b + (a ^ b) + (a << bits % 7) + (b >> 3)) & (1 << 256) - 1
    show("integers", total)
    show("factorial", hashlib.md5(str(math.factorial(1000)).encode()).hexdigest())
    show("power", pow(3, 10**30 + 7, 2**521 - 1))
    show("isqrt", math.isqrt(10**101))
    show("gcd", math.gcd(math.factorial(40), 2**200 * 3**50))


def floats():
    numbers = random.Random(2)
    digest = hashlib.sha256()
    names = "sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh exp expm1 log log2 log10 log1p sqrt gamma lgamma erf"
    for name in names.split():
        function = getattr(math, name)
        for _ in range(300):
            x = numbers.uniform(-4, 4) * 10 ** numbers.randrange(-8, 8)
            try:
                digest.update(struct.pack("<d", function(x)))
            except (ValueError, OverflowError) as error:
                digest.update(type(error).__name__.encode())
    show("math", digest.hexdigest())
    values = [numbers.uniform(-1, 1) * 2.0 ** numbers.randrange(-1000, 1000) for _ in range(2000)]
    show("fsum", repr(math.fsum(values)))
    show("sum", repr(sum(values)))
    show("repr", hashlib.sha256(" ".join(map(repr, values)).encode()).hexdigest())
    show("products", repr([math.prod(values[n : n + 8]) for n in range(0, 80, 8)]))
    show("fmod", repr([math.fmod(a, b) for a, b in itertools.pairwise(values[:40])]))
    show("hypot", repr([math.hypot(a, b) for a, b in itertools.pairwise(values[:40])]))
    show("ldexp", repr([math.ldexp(0.7, n) for n in range(-1080, 1030, 90)]))
    show("singles", hashlib.sha256(struct.pack("<2000e", *[v % 1000 for v in values])).hexdigest())
    show("narrowed", hashlib.sha256(array.array("f", [v % 1e30 for v in values]).tobytes()).hexdigest())
    show("cmath", repr([cmath.exp(complex(a % 5, b % 5)) for a, b in itertools.pairwise(values[:30])]))
    show("rounds", repr([round(v % 1e6, 3) for v in values[:50]]))
    show("fractions", sum((fractions.Fraction(1, n) for n in range(1, 60)), fractions.Fraction(0)))
    decimal.getcontext().prec = 60
    show("decimal", decimal.Decimal(2).sqrt() + decimal.Decimal("1.1").exp() + decimal.Decimal(7).ln())
    x, y = 0.1, 0.2
    for _ in range(20000):  # a chaotic map: one wrong bit anywhere is all over the result
        x, y = 1 - 1.4 * x * x + y, 0.3 * x
    show("henon", (repr(x), repr(y)))


def strings():
    numbers = random.Random(3)
    words = ["".join(chr(numbers.randrange(97, 123)) for _ in range(numbers.randrange(1, 40))) for _ in range(5000)]
    text = " ".join(words)
    show("sorted", hashlib.md5(" ".join(sorted(words)).encode()).hexdigest())
    show("regexp", len(re.findall(r"\b[aeiou]\w*?(st|nd|rd)\w*\b", text)))
    show("find", [text.find(word) for word in words[::500]])
    show("count", [text.count(letter) for letter in "aeiouxyz"])
    show("replace", hashlib.md5(text.replace("ab", "BA").upper().translate({65: "ä", 90: None}).encode()).hexdigest())
    show("unicode", hashlib.md5("".join(map(chr, range(0x20, 0x3000))).casefold().encode("utf-16-be")).hexdigest())
    show("json", hashlib.md5(json.dumps([{w: [n, n / 7]} for n, w in enumerate(words)]).encode()).hexdigest())
    show("format", f"{12345.678901:>20,.3f} {-0.0:+g} {255:#x} {2**70:_b} {1e-320:.17g} {1 / 3:.40f} {1e300:a<30}")


def hashes_and_compression():
    numbers = random.Random(4)
    data = bytes(numbers.randrange(256) for _ in range(20000)) + b"abcabcabd" * 5000
    for name in sorted(hashlib.algorithms_guaranteed):
        maker = hashlib.new(name, data)
        show(name, maker.hexdigest(32) if name.startswith("shake") else maker.hexdigest())
    show("pbkdf2", hashlib.pbkdf2_hmac("sha256", b"word", b"salt", 2000).hex())
    show("scrypt", hashlib.scrypt(b"word", salt=b"salt", n=256, r=8, p=1).hex())
    show("crc32", (zlib.crc32(data), zlib.adler32(data)))
    for level in (1, 6, 9):
        packed = zlib.compress(data, level)
        show(f"zlib {level}", (len(packed), hashlib.md5(packed).hexdigest(), zlib.decompress(packed) == data))
    packed = bz2.compress(data)
    show("bz2", (len(packed), hashlib.md5(packed).hexdigest(), bz2.decompress(packed) == data))
    packed = lzma.compress(data, preset=3)
    show("lzma", (len(packed), hashlib.md5(packed).hexdigest(), lzma.decompress(packed) == data))


def tools():
    numbers = random.Random(5)
    lines = "".join(f"{numbers.uniform(-1e9, 1e9):.9g} {numbers.getrandbits(40):x}\n" for _ in range(3000)).encode()
    for words in (
        ["sha1sum"], ["sha224sum"], ["sha256sum"], ["sha384sum"], ["sha512sum"], ["md5sum"], ["b2sum"], ["cksum"], ["sum"],
        ["base64"], ["base32"], ["od", "-A", "x", "-t", "x8"], ["od", "-t", "fD"], ["od", "-t", "fL"], ["od", "-t", "fF"],
        ["sort"], ["sort", "-g"], ["sort", "-r", "-k2"], ["tac"], ["wc"], ["uniq", "-c"], ["tr", "0-9", "j-s"],
        ["cut", "-d", " ", "-f", "2"], ["fold", "-w", "17"], ["nl"], ["expand"], ["comm", "-", "/dev/null"],
        ["gzip", "-c", "-n"], ["xz", "-c", "-2", "-T1"],
        ["mawk", "{ s += $1; t += sin($1) * sqrt($1 * $1) } END { printf \"%.17g %.17g\\n\", s, t }"],
        ["mawk", "{ n[substr($2, 1, 2)]++ } END { for (i = 0; i < 256; i++) printf \"%d \", n[sprintf(\"%02x\", i)] }"],
    ):  # fmt: skip
        tool(words, lines)
    for words in (
        ["factor", "600851475143", "18446744073709551557", "340282366920938463463374607431768211455"],
        ["seq", "-f", "%.15g", "0", "0.1", "40"],
        ["seq", "1e18", "7e15", "2e18"],
        ["printf", "%.25Lf %La %e %g\\n", "3.14159265358979323846", "0.1", "1e-4940", "1e4000"],
        ["numfmt", "--to=iec", "1", "1023", "123456789", "9999999999999"],
        ["expr", "9223372036854775807", "*", "9223372036854775807", "%", "1000003"],
    ):
        tool(words)


for part in (integers, floats, strings, hashes_and_compression, tools):
    part()
