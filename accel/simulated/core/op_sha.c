/* SHA1RNDS4 SHA1NEXTE SHA1MSG1 SHA1MSG2, SHA256RNDS2 SHA256MSG1 SHA256MSG2: FIPS 180-4 as the manual cuts it up.
 *
 * Words are numbered from the low end of a register.  SHA-1's instructions have the first word of four at the high end,
 * SHA-256's at the low end.
 */
#include "vector.h"

union words {
    x128 x;
    u32 d[4];
};

static inline u32 rotl(u32 v, unsigned n) { return v << n | v >> (32 - n); }
static inline u32 rotr(u32 v, unsigned n) { return v >> n | v << (32 - n); }

/* ---- SHA-1 ---- */

static inline x128 sha1_rounds(x128 state, x128 message, unsigned stage) {
    static const u32 constant[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
    union words s = {.x = state}, w = {.x = message};
    u32 a = s.d[3], b = s.d[2], c = s.d[1], d = s.d[0], e = 0; /* E is in the message already */
    for (int n = 3; n >= 0; n--) {
        u32 f = stage == 0 ? (b & c) ^ (~b & d) : stage == 2 ? (b & c) ^ (b & d) ^ (c & d) : b ^ c ^ d;
        u32 next = f + rotl(a, 5) + w.d[n] + e + constant[stage];
        e = d;
        d = c;
        c = rotl(b, 30);
        b = a;
        a = next;
    }
    return (union words){.d = {d, c, b, a}}.x;
}
static inline x128 do_sha1nexte(x128 a, x128 b) {
    union words s = {.x = a}, w = {.x = b};
    w.d[3] += rotl(s.d[3], 30);
    return w.x;
}
static inline x128 do_sha1msg1(x128 a, x128 b) {
    union words x = {.x = a}, y = {.x = b};
    return (union words){.d = {y.d[2] ^ x.d[0], y.d[3] ^ x.d[1], x.d[0] ^ x.d[2], x.d[1] ^ x.d[3]}}.x;
}
static inline x128 do_sha1msg2(x128 a, x128 b) {
    union words x = {.x = a}, y = {.x = b}, r;
    r.d[3] = rotl(x.d[3] ^ y.d[2], 1);
    r.d[2] = rotl(x.d[2] ^ y.d[1], 1);
    r.d[1] = rotl(x.d[1] ^ y.d[0], 1);
    r.d[0] = rotl(x.d[0] ^ r.d[3], 1);
    return r.x;
}

/* ---- SHA-256: the state is CDGH in the destination, ABEF in the source; XMM0 has the message plus constants ---- */

static inline x128 sha256_rounds(x128 cdgh, x128 abef, x128 message) {
    union words x = {.x = cdgh}, y = {.x = abef}, w = {.x = message};
    u32 a = y.d[3], b = y.d[2], c = x.d[3], d = x.d[2], e = y.d[1], f = y.d[0], g = x.d[1], h = x.d[0];
    for (unsigned n = 0; n < 2; n++) {
        u32 t1 = h + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + ((e & f) ^ (~e & g)) + w.d[n];
        u32 t2 = (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        h = g;
        g = f;
        f = e;
        e = d + t1;
        d = c;
        c = b;
        b = a;
        a = t1 + t2;
    }
    return (union words){.d = {f, e, b, a}}.x;
}
static inline u32 sigma0(u32 v) { return rotr(v, 7) ^ rotr(v, 18) ^ v >> 3; }
static inline u32 sigma1(u32 v) { return rotr(v, 17) ^ rotr(v, 19) ^ v >> 10; }
static inline x128 do_sha256msg1(x128 a, x128 b) {
    union words x = {.x = a}, y = {.x = b};
    u32 next = y.d[0];
    for (unsigned n = 0; n < 4; n++)
        x.d[n] += sigma0(n < 3 ? x.d[n + 1] : next);
    return x.x;
}
static inline x128 do_sha256msg2(x128 a, x128 b) {
    union words x = {.x = a}, y = {.x = b}, r;
    r.d[0] = x.d[0] + sigma1(y.d[2]);
    r.d[1] = x.d[1] + sigma1(y.d[3]);
    r.d[2] = x.d[2] + sigma1(r.d[0]);
    r.d[3] = x.d[3] + sigma1(r.d[1]);
    return r.x;
}

GEN_BINARY_SSE(sha1nexte)
GEN_BINARY_SSE(sha1msg1)
GEN_BINARY_SSE(sha1msg2)
GEN_BINARY_SSE(sha256msg1)
GEN_BINARY_SSE(sha256msg2)
OP(sha1rnds4_r) {
    set_x(cpu, i->reg, sha1_rounds(get_x(cpu, i->reg), get_x(cpu, i->rm), vex_imm8(i) & 3));
    NEXT(cpu, i);
}
GEN_LOAD_X(sha1rnds4_m, 16, set_x(cpu, i->reg, sha1_rounds(get_x(cpu, i->reg), x, vex_imm8(i) & 3)))
OP(sha256rnds2_r) {
    set_x(cpu, i->reg, sha256_rounds(get_x(cpu, i->reg), get_x(cpu, i->rm), get_x(cpu, 0)));
    NEXT(cpu, i);
}
GEN_LOAD_X(sha256rnds2_m, 16, set_x(cpu, i->reg, sha256_rounds(get_x(cpu, i->reg), x, get_x(cpu, 0))))
