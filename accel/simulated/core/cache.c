/* The code cache: blocks of decoded instructions, by guest-physical address, guest rip and decoding mode.
 *
 * Each vCPU has its own.  Memory that code was decoded from is marked in slot->code, a bit for every 64 bytes; a page
 * with marks has no direct writes in any TLB, so that every write to it comes to code_written() through the slow path.
 * Firmware keeps data beside its code (SeaBIOS a spin lock, written at every try): slot->code_exact, a bit for every
 * four bytes, tells it apart.
 * Dropped blocks are overwritten with op_resync, which makes it safe to drop the block that is running, and links to it
 * need no search; their memory comes back when the arena is full and everything is forgotten.
 *
 * User space writes guest memory without telling: every block keeps a copy of its bytes and compares it with memory
 * before its first use after each KVM_RUN (cpu->epoch).
 *
 * Between vCPUs: a vCPU that decodes from memory without marks posts PROTECT to the others, one that writes into marked
 * memory posts DROP.  They act on it at the next end of a block (EV_CODE).  A vCPU that could still write directly to a
 * page it is told to protect answers with DROP, as it may have done so; so does one that wrote there by the slow path
 * (cpu->slow_writes), as it may have looked at the marks before they were set.  What was written before the PROTECT was
 * posted is found by its sender, who compares a new block with memory once more after posting.
 */
#include <stdlib.h>
#include <string.h>
#include "access.h"
#include "chain.h"
#include "ops.h"
#include "special.h"
#include "translate.h"

#ifndef ARENA_SIZE /* tests make it small, so that it overflows */
#define ARENA_SIZE (48u << 20)
#endif
#define HASH_SIZE    16384
#define PAGE_BUCKETS 4096
#define MESSAGES     256
#define MAX_INSN     15

enum { MSG_PROTECT, MSG_DROP };

struct code_cache {
    u8 *arena;
    size_t used;
    struct block *hash[HASH_SIZE];
    struct block *pages[PAGE_BUCKETS];
    struct specials specials;
    struct translator translator;
    /* from other threads, under vm->code_lock */
    struct {
        u64 gpa, size;
        u8 kind;
    } msg[MESSAGES];
    unsigned nmsg;
    bool overflow; /* messages were lost: forget everything */
};

struct code_cache *code_cache_new(void) {
    struct code_cache *cache = calloc(1, sizeof *cache);
    if (cache && !(cache->arena = malloc(ARENA_SIZE))) {
        free(cache);
        cache = NULL;
    }
    if (cache) {
        specials_fill(&cache->specials);
        translator_open(&cache->translator);
    }
    return cache;
}
void code_cache_free(struct code_cache *cache) {
    if (!cache)
        return;
    translator_close(&cache->translator);
    free(cache->arena);
    free(cache);
}

void code_flush(sim_vcpu *cpu) {
    struct code_cache *cache = cpu->cache;
    cache->used = 0;
    translator_reset(&cache->translator);
    memset(cache->hash, 0, sizeof cache->hash);
    memset(cache->pages, 0, sizeof cache->pages);
    memset(cpu->jc, 0, sizeof cpu->jc);
    map_changed(cpu);
    cpu->want_link = NULL;
}

static unsigned block_hash(u64 gpa, u64 ip) { return (unsigned)((gpa ^ gpa >> 13 ^ ip << 3) % HASH_SIZE); }
static struct block **page_bucket(struct code_cache *cache, u64 gpa) {
    return &cache->pages[(gpa >> PAGE_SHIFT) % PAGE_BUCKETS];
}

/* Take b out of everything and make whoever still runs it leave. */
static void kill_block(sim_vcpu *cpu, struct block *b) {
    struct code_cache *cache = cpu->cache;
    struct block **p;
    for (p = &cache->hash[block_hash(b->gpa, b->ip)]; *p != b; p = &(*p)->hash_next) {
    }
    *p = b->hash_next;
    for (p = page_bucket(cache, b->gpa); *p != b; p = &(*p)->page_next) {
    }
    *p = b->page_next;
    b->flags |= BF_DEAD;
    map_changed(cpu); /* links and the jump cache look and see */
    for (unsigned k = 0; k <= b->count; k++)
        b->insns[k].fn = op_resync;
}

/* The marks for [gpa, gpa + size), all in one page. */
static u64 line_mask(u64 gpa, u64 size) {
    unsigned first = (unsigned)(gpa & 0xfff) / 64, last = (unsigned)((gpa + size - 1) & 0xfff) / 64;
    return (~(u64)0 >> (63 - (last - first))) << first;
}

/* The words of the exact marks for [gpa, gpa + size), all in one page. */
#define EACH_EXACT_WORD(k, gpa, size)                                                                                  \
    for (unsigned k = (unsigned)((gpa)&0xfff) / 256, end_ = (unsigned)(((gpa) + (size)-1) & 0xfff) / 256; k <= end_;   \
         k++)
/* The bits of word k, which is one of these. */
static u64 exact_mask(unsigned k, u64 gpa, u64 size) {
    unsigned first = (unsigned)(gpa & 0xfff) / 4, last = (unsigned)((gpa + size - 1) & 0xfff) / 4;
    u64 from = k == first / 64 ? ~(u64)0 << (first % 64) : ~(u64)0,
        to = k == last / 64 ? ~(u64)0 >> (63 - last % 64) : ~(u64)0;
    return from & to;
}
static bool marked_exactly(struct slot *slot, u64 gpa, u64 size) {
    EACH_EXACT_WORD(k, gpa, size) {
        if (atomic_load_explicit(&slot_code_exact(slot, gpa)[k], memory_order_relaxed) & exact_mask(k, gpa, size))
            return true;
    }
    return false;
}
/* Whether one of them was not there. */
static bool mark_exactly(struct slot *slot, u64 gpa, u64 size) {
    bool news = false;
    EACH_EXACT_WORD(k, gpa, size) {
        u64 mask = exact_mask(k, gpa, size);
        _Atomic u64 *word = &slot_code_exact(slot, gpa)[k];
        if ((atomic_load_explicit(word, memory_order_relaxed) & mask) != mask) {
            atomic_fetch_or(word, mask);
            news = true;
        }
    }
    return news;
}
static void clear_exact_marks(struct slot *slot, u64 gpa) {
    for (unsigned k = 0; k < CODE_WORDS; k++)
        atomic_store_explicit(&slot_code_exact(slot, gpa)[k], 0, memory_order_relaxed);
}

static void post(sim_vcpu *to, unsigned kind, u64 gpa, u64 size) {
    struct code_cache *cache = to->cache;
    if (cache->nmsg && cache->msg[cache->nmsg - 1].kind == kind && cache->msg[cache->nmsg - 1].gpa == gpa &&
        cache->msg[cache->nmsg - 1].size == size)
        return;
    if (cache->nmsg == MESSAGES)
        cache->overflow = true;
    else {
        cache->msg[cache->nmsg].gpa = gpa;
        cache->msg[cache->nmsg].size = size;
        cache->msg[cache->nmsg++].kind = (u8)kind;
    }
    atomic_fetch_or(&to->stop, EV_CODE);
}
static void post_others(sim_vcpu *cpu, unsigned kind, u64 gpa, u64 size) {
    sim_vm *vm = cpu->vm;
    if (vm->nvcpus < 2)
        return;
    pthread_mutex_lock(&vm->code_lock);
    for (unsigned k = 0; k < MAX_VCPUS; k++)
        if (vm->vcpus[k] && vm->vcpus[k] != cpu)
            post(vm->vcpus[k], kind, gpa, size);
    pthread_mutex_unlock(&vm->code_lock);
}

void code_invalidate_all(sim_vm *vm, u64 gpa, u64 size) {
    if (!size)
        return;
    pthread_mutex_lock(&vm->code_lock);
    for (unsigned k = 0; k < MAX_VCPUS; k++)
        if (vm->vcpus[k])
            post(vm->vcpus[k], MSG_DROP, gpa, size);
    pthread_mutex_unlock(&vm->code_lock);
}

/* Own blocks that overlap [gpa, gpa+size) of one page; the marks that are left in the page, in `slot` too unless NULL.
 */
static u64 drop_range(sim_vcpu *cpu, struct slot *slot, u64 gpa, u64 size) {
    u64 marks = 0, page = gpa & PAGE_MASK;
    for (struct block *b = *page_bucket(cpu->cache, gpa), *next; b; b = next) {
        next = b->page_next;
        if ((b->gpa & PAGE_MASK) != page)
            continue;
        if (b->gpa < gpa + size && gpa < b->gpa + b->len)
            kill_block(cpu, b);
        else {
            u64 room = page + PAGE_SIZE - b->gpa;
            u64 len = b->len < room ? b->len : room;
            marks |= line_mask(b->gpa, len);
            if (slot)
                mark_exactly(slot, b->gpa, len);
        }
    }
    return marks;
}

void code_written(sim_vcpu *cpu, struct slot *slot, u64 gpa, unsigned size) {
    _Atomic u64 *marks = slot_code(slot, gpa);
    if (!(atomic_load_explicit(marks, memory_order_relaxed) & line_mask(gpa, size)) || !marked_exactly(slot, gpa, size))
        return;
    if (cpu->vm->nvcpus < 2) {
        clear_exact_marks(slot, gpa);
        atomic_store(marks, drop_range(cpu, slot, gpa, size));
    } else { /* the others' blocks are not known here: all of the page goes, and comes back as it is used */
        atomic_store(marks, 0);
        clear_exact_marks(slot, gpa);
        drop_range(cpu, NULL, gpa & PAGE_MASK, PAGE_SIZE);
        post_others(cpu, MSG_DROP, gpa & PAGE_MASK, PAGE_SIZE);
    }
}

void code_messages(sim_vcpu *cpu) {
    struct code_cache *cache = cpu->cache;
    unsigned n;
    pthread_mutex_lock(&cpu->vm->code_lock);
    atomic_fetch_and(&cpu->stop, ~EV_CODE);
    n = cache->nmsg;
    if (cache->overflow) { /* what should have been protected is not known: the others forget everything, too */
        cache->overflow = false;
        cache->nmsg = 0;
        code_flush(cpu);
        tlb_flush(cpu, true);
        for (unsigned v = 0; v < MAX_VCPUS; v++)
            if (cpu->vm->vcpus[v] && cpu->vm->vcpus[v] != cpu)
                post(cpu->vm->vcpus[v], MSG_DROP, 0, ~(u64)0);
        n = 0;
    }
    for (unsigned k = 0; k < n; k++) {
        u64 gpa = cache->msg[k].gpa, end = gpa + cache->msg[k].size;
        if (cache->msg[k].kind == MSG_PROTECT) {
            bool direct = tlb_protect_code(cpu, gpa);
            if (direct || (cpu->slow_writes & page_bit(gpa)))
                for (unsigned v = 0; v < MAX_VCPUS; v++)
                    if (cpu->vm->vcpus[v] && cpu->vm->vcpus[v] != cpu)
                        post(cpu->vm->vcpus[v], MSG_DROP, gpa, PAGE_SIZE);
        } else if (end - gpa > ((u64)1 << 28))
            code_flush(cpu);
        else
            for (u64 page = gpa & PAGE_MASK; page < end; page += PAGE_SIZE)
                drop_range(cpu, NULL, page, PAGE_SIZE);
    }
    cache->nmsg = 0;
    cpu->slow_writes = 0;
    pthread_mutex_unlock(&cpu->vm->code_lock);
    map_changed(cpu);
}

/* Where the code at cpu->rip is.  Leaves by an exit when there is no RAM. */
static struct slot *locate(sim_vcpu *cpu, u64 lin, u64 *gpa, const u8 **host) {
    struct slot *slot;
    u64 page;
    const u8 *host_page;
    u32 flags;
    struct code_map *map = &cpu->code_map[cpu->cpl == 3];
    slot = fetch_page(cpu, lin, &page, &host_page, &flags);
    if (unlikely(!slot)) {
        cpu->exit.gpa = page | (lin & 0xfff);
        cpu->exit.write = 2;
        cpu->exit.size = 0;
        cpu->exit.value = 0;
        vm_exit(cpu, EXIT_REASON_EPT_VIOLATION);
    }
    *gpa = page | (lin & 0xfff);
    *host = host_page + (lin & 0xfff);
    *code_page_word(map, lin) |= code_page_bit(lin);
    if (flags & TI_LARGE)
        map->regions |= code_region_bit(lin);
    map->local |= !(flags & TI_GLOBAL);
    return slot;
}

/* The bytes at rip when its first instruction may run into the next page: up to 15 of them, in order. */
static unsigned gather(sim_vcpu *cpu, u64 lin, const u8 *host, u8 *out) {
    unsigned here = PAGE_SIZE - (unsigned)(lin & 0xfff);
    u64 gpa;
    const u8 *rest;
    memcpy(out, host, here);
    locate(cpu, linear_ip(cpu, cpu->rip + here), &gpa, &rest);
    memcpy(out + here, rest, MAX_INSN - here);
    return MAX_INSN;
}

static void mark(sim_vcpu *cpu, struct slot *slot, u64 gpa, unsigned len) {
    u64 mask = line_mask(gpa, len), old = atomic_load_explicit(slot_code(slot, gpa), memory_order_relaxed);
    bool news = mark_exactly(slot, gpa, len);
    if (!news && (old & mask) == mask)
        return;
    if (atomic_fetch_or(slot_code(slot, gpa), mask) == 0)
        tlb_protect_code(cpu, gpa & PAGE_MASK);
    post_others(cpu, MSG_PROTECT, gpa & PAGE_MASK, PAGE_SIZE);
}

/* Where the flags of an instruction are overwritten before anything can see them, take the handler that leaves them
 * out. */
static void drop_dead_flags(struct insn *insns, const struct decode_info *info, unsigned n) {
    bool dead = false;
    while (n--) {
        if (dead && info[n].quiet)
            insns[n].fn = info[n].quiet;
        if (info[n].effect == EFFECT_NEEDS)
            dead = false;
        else if (info[n].effect == EFFECT_KILLS)
            dead = true;
    }
}

/* What a unit that the control registers in `key` switch off raises: op_ud, op_nm, or NULL when it may be used. */
static op_fn refused(unsigned unit, u32 key) {
    bool off = false;
    switch (unit) {
    case UNIT_X87:
    case UNIT_FXSR:
        return key & (KEY_EM | KEY_TS) ? op_nm : NULL;
    case UNIT_WAIT:
        return (~key & (KEY_MP | KEY_TS)) == 0 ? op_nm : NULL;
    case UNIT_MMX:
        off = (key & KEY_EM) != 0;
        break;
    case UNIT_SSE:
        off = (key & (KEY_EM | KEY_OSFXSR)) != KEY_OSFXSR;
        break;
    case UNIT_AVX:
        off = (key & (KEY_REAL | KEY_OSXSAVE | KEY_AVX)) != (KEY_OSXSAVE | KEY_AVX);
        break;
    case UNIT_VEX:
        return key & KEY_REAL ? op_ud : NULL;
    case UNIT_XSAVE:
        off = !(key & KEY_OSXSAVE);
        break;
    case UNIT_XCR:
        return key & KEY_OSXSAVE ? NULL : op_ud;
    default:
        return NULL;
    }
    return off ? op_ud : key & KEY_TS ? op_nm : NULL;
}

/* Put in the place of an instruction that CPUID does not announce, or that is switched off now, what it does then. */
static void replace_unavailable(const sim_vcpu *cpu, struct insn *i, struct decode_info *info) {
    op_fn fn = NULL;
    if (info->feature && !has_feature(cpu, info->feature)) {
        fn = info->absent ? info->absent : op_ud;
        info->end |= !info->absent;
    } else if (info->unit && (fn = refused(info->unit, cpu->code_key)))
        info->end = true;
    if (fn) {
        i->fn = fn;
        info->quiet = NULL;
        info->effect = EFFECT_NEEDS;
    }
}

/* NULL: the bytes changed meanwhile. */
static struct block *build(sim_vcpu *cpu, u64 lin, u64 gpa, const u8 *host, struct slot *slot) {
    struct code_cache *cache = cpu->cache;
    unsigned avail = PAGE_SIZE - (unsigned)(lin & 0xfff), limit = cpu->code_key & KEY_STEP ? 1 : BLOCK_MAX, n = 0,
             pos = 0;
    u64 room = cpu->ip_limit - (cpu->rip + cpu->ip_bias); /* bytes after the first that CS allows */
    struct decode_info info = {0}, all[BLOCK_MAX];
    bool cross = false;
    u8 two_pages[32];
    const u8 *bytes = host;
    struct block *b;

    if (ARENA_SIZE - cache->used < sizeof *b + (BLOCK_MAX + 3) * sizeof(struct insn) + BLOCK_MAX * MAX_INSN + 64 ||
        !translator_has_room(&cache->translator))
        code_flush(cpu);
    b = (struct block *)(cache->arena + cache->used);
    memset(b, 0, sizeof *b);
    if (room < avail - 1)
        avail = (unsigned)room + 1;
    while (n < limit && !info.end) {
        struct insn *i = &b->insns[n];
        unsigned len = decode(bytes + pos, avail - pos, cpu->mode, stack_big(cpu), i, &info);
        if (!len) {
            if (n)
                break;           /* it begins the next block */
            if (avail <= room) { /* the page ends, not the segment */
                avail = gather(cpu, lin, host, two_pages);
                if (room < avail - 1)
                    avail = (unsigned)room + 1;
                bytes = two_pages;
                cross = true;
                limit = 1;
                len = decode(bytes, avail, cpu->mode, stack_big(cpu), i, &info);
            }
            if (!len)
                raise_gp0(cpu);
        }
        replace_unavailable(cpu, i, &info);
        i->off = (u16)pos;
        i->idx = (u8)n;
        all[n++] = info;
        pos += len;
    }
    /* Go on with the next block; also after an instruction that ends its block, as it may still say NEXT. */
    memset(&b->insns[n], 0, sizeof b->insns[n]);
    b->insns[n].fn = op_block_end;
    b->insns[n].off = (u16)pos;
    b->insns[n].idx = (u8)n;
    memset(&b->insns[n + 1], 0, sizeof(struct insn)); /* the links */
    drop_dead_flags(b->insns, all, n);
    specialise(&cache->specials, b->insns, n, cpu->rip, cpu->mode);
    b->ip = cpu->rip;
    b->gpa = gpa;
    b->key = cpu->code_key;
    b->len = (u16)pos;
    b->count = (u8)n;
    b->flags = cross ? BF_CROSS : 0;
    b->epoch = cpu->epoch;
    b->host = host;
    if (cpu->vm->translate_after && cpu->mode == MODE64 && !cross && !(cpu->code_key & KEY_STEP)) {
        b->first = b->insns[0].fn;
        b->insns[0].fn = op_warm;
    }
    b->copy = (u8 *)&b->insns[n + 2];
    memcpy(b->copy, bytes, pos);
    cache->used += ((size_t)(b->copy + pos - (u8 *)b) + 63) & ~(size_t)63;
    b->hash_next = cache->hash[block_hash(gpa, cpu->rip)];
    cache->hash[block_hash(gpa, cpu->rip)] = b;
    b->page_next = *page_bucket(cache, gpa);
    *page_bucket(cache, gpa) = b;
    if (!cross) {
        mark(cpu, slot, gpa, pos);
        if (unlikely(memcmp(b->copy, host, pos) != 0)) {
            kill_block(cpu, b);
            return NULL;
        }
    }
    return b;
}

void code_translate(sim_vcpu *cpu, struct block *b) {
    struct insn raw[BLOCK_MAX];
    struct decode_info info[BLOCK_MAX];
    struct translator *t = &cpu->cache->translator;
    b->insns[0].fn = b->first;
    if (!t->code || !translator_has_room(t))
        return;
    for (unsigned k = 0; k < b->count; k++) {
        struct insn *i = &raw[k];
        decode(b->copy + b->insns[k].off, b->insns[k].len, MODE64, false, i, &info[k]);
        i->off = b->insns[k].off;
        i->idx = (u8)k;
        replace_unavailable(cpu, i, &info[k]);
    }
    translate(t, b, raw, info);
}

/* Is b the block at cpu->rip, which is at `lin`, guest-physical `gpa`, `host`?  A block that cannot be used any more is
 * dropped. */
static bool fits(sim_vcpu *cpu, struct block *b, u64 lin, u64 gpa, const u8 *host, struct slot *slot) {
    u8 two_pages[32];
    if (b->gpa != gpa || b->ip != cpu->rip || b->key != cpu->code_key || (b->flags & BF_DEAD))
        return false;
    if (unlikely(b->len - 1u > cpu->ip_limit - (cpu->rip + cpu->ip_bias))) { /* CS has shrunk */
        kill_block(cpu, b);
        return false;
    }
    if (unlikely(b->flags & BF_CROSS)) {
        gather(cpu, lin, host, two_pages);
        if (memcmp(b->copy, two_pages, b->len) == 0)
            return true;
        kill_block(cpu, b);
        return false;
    }
    if (b->epoch != cpu->epoch || b->host != host) {
        mark(cpu, slot, gpa, b->len); /* the marks may have gone with a slot that was replaced */
        if (unlikely(memcmp(b->copy, host, b->len) != 0)) {
            kill_block(cpu, b);
            return false;
        }
        b->epoch = cpu->epoch;
        b->host = host;
    }
    return true;
}

struct block *code_lookup(sim_vcpu *cpu) {
    u64 lin, gpa, ip = cpu->rip;
    const u8 *host;
    struct slot *slot;
    struct jc_entry *jc = &cpu->jc[jc_hash(ip)];
    struct block *b, *next;

    if (unlikely(!ip_ok(cpu, ip)))
        raise_gp0(cpu);
    lin = linear_ip(cpu, ip);
    slot = locate(cpu, lin, &gpa, &host);
    if (jc->ip == ip && jc->block && fits(cpu, jc->block, lin, gpa, host, slot)) {
        jc->gen = cpu->map_gen;
        return jc->block;
    }
    for (b = cpu->cache->hash[block_hash(gpa, ip)]; b; b = next) {
        next = b->hash_next;
        if (fits(cpu, b, lin, gpa, host, slot))
            break;
    }
    if (!b && !(b = build(cpu, lin, gpa, host, slot)))
        engine_again(cpu); /* the bytes changed: once more, after a look at cpu->stop */
    if (!(b->flags & BF_CROSS)) {
        jc->ip = ip;
        jc->gen = cpu->map_gen;
        jc->block = b;
    }
    return b;
}
