/* RDRAND and RDSEED, and where their numbers come from: the operating system, or a generator started from a seed.
 *
 * With a seed (sim_vm_seed) every vCPU has a sequence of its own, which its number and the seed determine: xoshiro256**
 * (Blackman, Vigna) filled by splitmix64.  Not for secrets.  Without one, getrandom(2), a block at a time.
 */
#include <sys/random.h>
#include "access.h"
#include "flags.h"
#include "ops.h"
#include "system.h"

static u64 splitmix(u64 *state) {
    u64 z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}
static u64 rotl(u64 v, unsigned n) { return v << n | v >> (64 - n); }

void random_seed(struct random *r, u64 seed, unsigned vcpu) {
    u64 state = seed ^ rotl(vcpu, 32);
    r->seeded = true;
    for (unsigned n = 0; n < 4; n++)
        r->word[n] = splitmix(&state);
}

/* False: there is no number now. */
static bool random_take(struct random *r, u64 *value) {
    if (!r->seeded) {
        if (r->left == 0) {
            if (getrandom(r->word, sizeof r->word, GRND_NONBLOCK) != sizeof r->word)
                return false;
            r->left = sizeof r->word / sizeof r->word[0];
        }
        *value = r->word[--r->left];
        r->word[r->left] = 0;
        return true;
    }
    u64 *s = r->word, shifted = s[1] << 17;
    *value = rotl(s[1] * 5, 7) * 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotl(s[3], 45);
    return true;
}

/* CF: there was one; without, the destination becomes 0. */
OP(rdrand) {
    u64 value = 0;
    bool there = random_take(&cpu->random, &value);
    set_reg(cpu, i->rm, i->osz, value);
    set_arith_flags(cpu, there ? FL_CF : 0);
    NEXT(cpu, i);
}
