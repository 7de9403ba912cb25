/* The page walk: two-level with 4 MiB pages (PSE, PSE-36), PAE, and four-level tables with
 * 2 MiB and 1 GiB pages; no-execute, SMEP, SMAP.
 *
 * Accessed and dirty bits are set as the processor does, atomically, only when the whole walk succeeded.  A table that
 * lies where there is no RAM reads as not present; one in read-only RAM keeps its bits as they are (KVM does both).
 */
#include "system.h"

#define PTE_P   0x001u
#define PTE_W   0x002u
#define PTE_U   0x004u
#define PTE_A   0x020u
#define PTE_D   0x040u
#define PTE_PS  0x080u
#define PTE_G   0x100u
#define PTE_NX  ((u64)1 << 63)
#define RSVD_HI (((u64)1 << 52) - ((u64)1 << PHYS_BITS)) /* address bits the processor does not have */

u8 *phys_host(sim_vcpu *cpu, u64 gpa) {
    struct slot *s = vm_slot(cpu->vm, gpa);
    return s ? slot_host(s, gpa) : NULL;
}

static bool table_read(sim_vcpu *cpu, u64 gpa, bool wide, u64 *entry) {
    const u8 *p = phys_host(cpu, gpa);
    if (!p)
        return false;
    *entry = wide ? atomic_load_explicit((const _Atomic u64 *)(const void *)p, memory_order_acquire)
                  : atomic_load_explicit((const _Atomic u32 *)(const void *)p, memory_order_acquire);
    return true;
}

/* Add `bits` to an entry still equal to `old`.  False: it changed meanwhile, walk again. */
static bool table_set_bits(sim_vcpu *cpu, u64 gpa, bool wide, u64 old, u64 bits) {
    struct slot *s = vm_slot(cpu->vm, gpa);
    if (!s || (s->flags & KVM_MEM_READONLY))
        return true;
    cpu->slow_writes |= page_bit(gpa);
    if (atomic_load(slot_code(s, gpa)))
        code_written(cpu, s, gpa, wide ? 8 : 4);
    slot_mark_dirty(s, gpa);
    u8 *p = slot_host(s, gpa);
    if (wide)
        return atomic_compare_exchange_strong((_Atomic u64 *)(void *)p, &old, old | bits);
    u32 old32 = (u32)old;
    return atomic_compare_exchange_strong((_Atomic u32 *)(void *)p, &old32, old32 | (u32)bits);
}

bool load_pdptes(sim_vcpu *cpu, u64 cr3) {
    u64 table = cr3 & 0xffffffe0, e[4];
    for (unsigned n = 0; n < 4; n++) {
        if (!table_read(cpu, table + 8 * n, true, &e[n]))
            e[n] = 0;
        if ((e[n] & PTE_P) && (e[n] & (RSVD_HI | ~(((u64)1 << 52) - 1) | 0x1e6)))
            return false;
    }
    for (unsigned n = 0; n < 4; n++)
        cpu->pdpte[n] = e[n];
    return true;
}

struct level {
    u64 gpa, entry;
};

/* The memo for the table whose entries span 1 << shift, on the way to `lin`. */
static struct walk_memo *walk_memo(sim_vcpu *cpu, u64 lin, unsigned shift, u64 *tag) {
    u64 over = lin >> (shift + 9);
    *tag = over << 6 | shift;
    return &cpu->walk_memo[(over ^ over >> 6 ^ (shift == PAGE_SHIFT ? 0 : 32)) % 64];
}

bool page_walk(sim_vcpu *cpu, u64 lin, enum access access, unsigned level, struct walk *w) {
    if (!(cpu->cr0 & CR0_PG)) {
        w->gpa = lin & PAGE_MASK;
        w->flags = TI_READ | TI_WRITE | TI_EXEC;
        w->error = 0;
        return true;
    }
    bool lm = long_mode(cpu), wide = (cpu->cr4 & CR4_PAE) != 0, nxe = wide && (cpu->efer & EFER_NXE),
         user = level == LEVEL_USER, smep = (cpu->cr4 & CR4_SMEP) != 0;
    u32 error = (access == ACCESS_WRITE ? PF_WRITE : 0) | (user ? PF_USER : 0) |
                (access == ACCESS_EXEC && (nxe || smep) ? PF_FETCH : 0);
    struct level lv[4];
    u64 tables[4], table_rights[4]; /* what lv[n]'s entry was found in and by, but for the first */
    bool use_memo = wide;           /* a walk from a memo that ends in a fault is made again from the top */
    for (;;) {
        unsigned n = 0, shift = PAGE_SHIFT;
        u64 table = 0, rights = PTE_W | PTE_U, nx = 0, entry, tag;
        bool large = false, from_memo = false;
        for (; use_memo && shift <= (lm ? 21 : PAGE_SHIFT); shift += 9) {
            const struct walk_memo *m = walk_memo(cpu, lin, shift, &tag);
            if (m->tag == tag) {
                table = m->table;
                rights = m->rights;
                nx = m->rights & PTE_NX;
                from_memo = true;
                break;
            }
        }
        use_memo = false;
        if (from_memo) {
        } else if (lm) {
            table = cpu->cr3 & PHYS_MASK & PAGE_MASK;
            shift = 39;
        } else if (wide) {
            u64 e = cpu->pdpte[(lin >> 30) & 3];
            if (!(e & PTE_P))
                return w->error = error, false;
            table = e & PHYS_MASK & PAGE_MASK;
            shift = 21;
        } else {
            table = cpu->cr3 & 0xfffff000;
            shift = 22;
        }
        for (;;) {
            u64 gpa = table + (wide ? ((lin >> shift) & 0x1ff) * 8 : ((lin >> shift) & 0x3ff) * 4);
            if (!table_read(cpu, gpa, wide, &entry) || !(entry & PTE_P)) {
                w->error = error;
                goto fault;
            }
            u64 rsvd = 0;
            if (wide)
                rsvd = RSVD_HI | (nxe ? 0 : PTE_NX) | (lm ? 0 : ((u64)0x7ff << 52));
            if (shift > PAGE_SHIFT && (entry & PTE_PS)) {
                if (!wide) {
                    if (cpu->cr4 & CR4_PSE)
                        large = true, rsvd = 1u << 21;
                } else if (shift > 30 || (shift == 30 && !has_feature(cpu, FEAT_PDPE1GB))) {
                    rsvd |= PTE_PS;
                } else { /* bit 12 is PAT, those between it and the page's address are nothing yet */
                    large = true;
                    rsvd |= ((u64)1 << shift) - 0x2000;
                }
            }
            if (entry & rsvd) {
                w->error = error | PF_RSVD | PF_PRESENT;
                goto fault;
            }
            lv[n].gpa = gpa;
            lv[n++].entry = entry;
            rights &= entry;
            nx |= entry & PTE_NX;
            if (large || shift == PAGE_SHIFT)
                break;
            table = entry & (wide ? PHYS_MASK & PAGE_MASK : 0xfffff000);
            shift -= wide ? 9 : 10;
            tables[n] = table;
            table_rights[n] = (rights & (PTE_W | PTE_U)) | nx;
        }
        if (!nxe)
            nx = 0;
        bool user_page = (rights & PTE_U) != 0, writable = (rights & PTE_W) || (!user && !(cpu->cr0 & CR0_WP)),
             exec = !nx && (user || !user_page || !smep);
        bool readable = !(user_page && level == LEVEL_SYSTEM && (cpu->cr4 & CR4_SMAP));
        if ((user && !user_page) || (access == ACCESS_WRITE && !writable) ||
            !(access == ACCESS_EXEC ? exec : readable)) {
            w->error = error | PF_PRESENT;
            goto fault;
        }

        bool again = false;
        for (unsigned k = 0; k < n && !again; k++) {
            u64 want = PTE_A | (k == n - 1 && access == ACCESS_WRITE ? PTE_D : 0);
            if ((lv[k].entry & want) != want) {
                again = !table_set_bits(cpu, lv[k].gpa, wide, lv[k].entry, want);
                lv[k].entry |= want;
            }
        }
        if (again)
            continue;
        for (unsigned k = n - 1, over = shift; wide && k > 0 && over <= 21; k--, over += 9) {
            struct walk_memo *m = walk_memo(cpu, lin, over, &tag); /* accessed bits on the way are set */
            *m = (struct walk_memo){tag, tables[k], table_rights[k]};
        }

        entry = lv[n - 1].entry;
        if (!large)
            w->gpa = entry & (wide ? PHYS_MASK & PAGE_MASK : 0xfffff000);
        else if (wide) {
            u64 within = ((u64)1 << shift) - 1;
            w->gpa = (entry & PHYS_MASK & ~within) | (lin & within & PAGE_MASK);
        } else
            w->gpa = (entry & 0xffc00000) | ((entry & 0x1fe000) << 19) | (lin & 0x3ff000);
        w->flags = (readable ? TI_READ : 0) | (readable && writable && (entry & PTE_D) ? TI_WRITE : 0) |
                   (exec ? TI_EXEC : 0) | (large ? shift == 30 ? TI_LARGE | TI_HUGE : TI_LARGE : 0) |
                   ((entry & PTE_G) && (cpu->cr4 & CR4_PGE) ? TI_GLOBAL : 0);
        w->error = 0;
        return true;
    fault:
        if (!from_memo)
            return false;
    }
}
