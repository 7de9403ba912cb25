/* The system and VM handles: capabilities, memory slots, dirty log, and getting all vCPUs out of the guest.
 *
 * Slots change only while every vCPU's guest_lock is held (vm_pause), so the running side reads them without a lock.
 * Lock order: vm->lock, then guest_locks, then code_lock.  A vCPU thread never waits for vm->lock with its guest_lock.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "system.h"
#include "translate.h"

struct sim_system {
    int unused;
};

/* ---- system handle ------------------------------------------------------------------------------------------------
 */

sim_system *sim_open(void) { return calloc(1, sizeof(sim_system)); }
void sim_system_close(sim_system *system) { free(system); }

/* MSRs that are not known here, or whose value is wrong, may go to user space; there is no filter that asks for others.
 */
#define USER_MSR_REASONS (KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_INVAL)

long check_extension(long capability) {
    switch (capability) {
    case KVM_CAP_HLT:
    case KVM_CAP_USER_MEMORY:
    case KVM_CAP_EXT_CPUID:
    case KVM_CAP_NOP_IO_DELAY:
    case KVM_CAP_MP_STATE:
    case KVM_CAP_SYNC_MMU:
    case KVM_CAP_DESTROY_MEMORY_REGION_WORKS:
    case KVM_CAP_USER_NMI:
    case KVM_CAP_SET_GUEST_DEBUG:
    case KVM_CAP_JOIN_MEMORY_REGIONS_WORKS:
    case KVM_CAP_VCPU_EVENTS:
    case KVM_CAP_DEBUGREGS:
    case KVM_CAP_XSAVE:
    case KVM_CAP_XCRS:
    case KVM_CAP_X86_ROBUST_SINGLESTEP:
    case KVM_CAP_READONLY_MEM:
    case KVM_CAP_IMMEDIATE_EXIT:
    case KVM_CAP_ENABLE_CAP_VM:
    case KVM_CAP_CHECK_EXTENSION_VM:
    case KVM_CAP_TSC_CONTROL:
    case KVM_CAP_GET_TSC_KHZ:
    case KVM_CAP_VCPU_ATTRIBUTES:
        return 1;
    case KVM_CAP_X86_USER_SPACE_MSR:
        return USER_MSR_REASONS;
    case KVM_CAP_NR_VCPUS:
    case KVM_CAP_MAX_VCPUS:
        return MAX_VCPUS;
    case KVM_CAP_MAX_VCPU_ID:
        return MAX_VCPU_ID;
    case KVM_CAP_NR_MEMSLOTS:
        return MAX_SLOTS;
    default:
        return 0;
    }
}

static long get_msr_index_list(struct kvm_msr_list *list) {
    u32 room = list->nmsrs;
    list->nmsrs = msr_index_count;
    if (room < msr_index_count)
        return -E2BIG;
    memcpy(list->indices, msr_index_list, msr_index_count * sizeof msr_index_list[0]);
    return 0;
}

static long get_supported_cpuid(struct kvm_cpuid2 *cpuid) {
    unsigned n = cpuid_supported(cpuid->entries, cpuid->nent);
    if (cpuid->nent < n)
        return -E2BIG;
    cpuid->nent = n;
    return 0;
}

long sim_system_ioctl(sim_system *system, unsigned long request, uintptr_t arg) {
    (void)system;
    switch (request) {
    case KVM_GET_API_VERSION:
        return arg ? -EINVAL : KVM_API_VERSION;
    case KVM_CHECK_EXTENSION:
        return check_extension((long)arg);
    case KVM_GET_VCPU_MMAP_SIZE:
        return arg ? -EINVAL : RUN_SIZE;
    case KVM_GET_MSR_INDEX_LIST:
        return arg ? get_msr_index_list((struct kvm_msr_list *)arg) : -EFAULT;
    case KVM_GET_SUPPORTED_CPUID:
        return arg ? get_supported_cpuid((struct kvm_cpuid2 *)arg) : -EFAULT;
    default:
        return -EINVAL;
    }
}

/* ---- VM handle ----------------------------------------------------------------------------------------------------
 */

sim_vm *sim_create_vm(sim_system *system, int *error) {
    sim_vm *vm = calloc(1, sizeof *vm);
    struct vm_state *state = calloc(1, sizeof *state);
    if (!vm || !state) {
        free(vm);
        free(state);
        *error = ENOMEM;
        return NULL;
    }
    vm->system = system;
    vm->translate_after = TRANSLATE_AFTER;
    vm->system_private = state;
    pthread_mutex_init(&vm->lock, NULL);
    pthread_mutex_init(&vm->code_lock, NULL);
    pthread_mutex_init(&vm->split_lock, NULL);
    *error = 0;
    return vm;
}

static void slot_free(struct slot *s) {
    if (!s)
        return;
    free((void *)s->dirty);
    free((void *)s->code);
    free((void *)s->code_exact);
    free(s);
}

void sim_vm_close(sim_vm *vm) {
    for (unsigned n = 0; n < vm->nslots; n++)
        slot_free(vm->slots[n]);
    pthread_mutex_destroy(&vm->lock);
    pthread_mutex_destroy(&vm->code_lock);
    pthread_mutex_destroy(&vm->split_lock);
    free(vm->system_private);
    free(vm);
}

void vm_pause(sim_vm *vm) {
    pthread_mutex_lock(&vm->lock);
    for (unsigned n = 0; n < MAX_VCPUS; n++)
        if (vm->vcpus[n])
            post_event(vm->vcpus[n], EV_PAUSE);
    for (unsigned n = 0; n < MAX_VCPUS; n++)
        if (vm->vcpus[n])
            pthread_mutex_lock(&vm->vcpus[n]->guest_lock);
}

void vm_resume(sim_vm *vm) {
    for (unsigned n = 0; n < MAX_VCPUS; n++)
        if (vm->vcpus[n])
            pthread_mutex_unlock(&vm->vcpus[n]->guest_lock);
    pthread_mutex_unlock(&vm->lock);
}

void vm_pause_point(sim_vcpu *cpu) {
    atomic_fetch_and(&cpu->stop, ~EV_PAUSE);
    pthread_mutex_unlock(&cpu->guest_lock);
    pthread_mutex_lock(&cpu->vm->lock); /* until whoever paused us is done */
    pthread_mutex_unlock(&cpu->vm->lock);
    pthread_mutex_lock(&cpu->guest_lock);
}

static void flush_all_tlbs(sim_vm *vm) {
    for (unsigned n = 0; n < MAX_VCPUS; n++)
        if (vm->vcpus[n])
            post_event(vm->vcpus[n], EV_TLB);
}

/* ---- memory slots ---------------------------------------------------------------------------------------------------
 */

struct slot *vm_slot(sim_vm *vm, u64 gpa) {
    unsigned low = 0, high = vm->nslots;
    struct slot *last = atomic_load_explicit(&vm->last_slot, memory_order_relaxed);
    if (likely(last && gpa - last->gpa < last->size))
        return last;
    while (low < high) {
        unsigned mid = (low + high) / 2;
        struct slot *s = vm->slots[mid];
        if (gpa < s->gpa)
            high = mid;
        else if (gpa - s->gpa >= s->size)
            low = mid + 1;
        else {
            atomic_store_explicit(&vm->last_slot, s, memory_order_relaxed);
            return s;
        }
    }
    return NULL;
}

static _Atomic u64 *new_dirty_map(u64 size) { return calloc((size / PAGE_SIZE + 63) / 64, 8); }

static int slot_index(sim_vm *vm, u32 id) {
    for (unsigned n = 0; n < vm->nslots; n++)
        if (vm->slots[n]->id == id)
            return (int)n;
    return -1;
}

static void remove_slot(sim_vm *vm, unsigned at) {
    memmove(&vm->slots[at], &vm->slots[at + 1], (--vm->nslots - at) * sizeof vm->slots[0]);
}

static void insert_slot(sim_vm *vm, struct slot *s) {
    unsigned at = vm->nslots++;
    for (; at > 0 && vm->slots[at - 1]->gpa > s->gpa; at--)
        vm->slots[at] = vm->slots[at - 1];
    vm->slots[at] = s;
}

/* Under vm_pause().  *old is what may be freed afterwards. */
static long change_slot(sim_vm *vm, const struct kvm_userspace_memory_region *r, struct slot *fresh,
                        struct slot **old) {
    int at = slot_index(vm, r->slot);
    struct slot *cur = at >= 0 ? vm->slots[at] : NULL;
    if (!r->memory_size) {
        if (!cur)
            return -EINVAL;
        remove_slot(vm, (unsigned)at);
        *old = cur;
        return 0;
    }
    if (cur) {
        if (cur->size != r->memory_size || cur->host != (u8 *)(uintptr_t)r->userspace_addr ||
            ((cur->flags ^ r->flags) & KVM_MEM_READONLY))
            return -EINVAL;
        if (cur->gpa == r->guest_phys_addr && cur->flags == r->flags)
            return 0;
    }
    for (unsigned n = 0; n < vm->nslots; n++) {
        struct slot *s = vm->slots[n];
        if (s != cur && r->guest_phys_addr < s->gpa + s->size && s->gpa < r->guest_phys_addr + r->memory_size)
            return -EEXIST;
    }
    if (!cur && vm->nslots == MAX_SLOTS)
        return -EINVAL;
    if (cur) {
        remove_slot(vm, (unsigned)at);
        *old = cur;
    }
    insert_slot(vm, fresh);
    return 1;
}

static long set_user_memory_region(sim_vm *vm, const struct kvm_userspace_memory_region *r) {
    if (r->flags & ~(u32)(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY))
        return -EINVAL;
    if ((r->memory_size | r->guest_phys_addr | r->userspace_addr) & (PAGE_SIZE - 1))
        return -EINVAL;
    if (r->slot >= MAX_SLOTS || r->guest_phys_addr + r->memory_size < r->guest_phys_addr)
        return -EINVAL;
    struct slot *fresh = NULL, *old = NULL;
    if (r->memory_size) {
        fresh = calloc(1, sizeof *fresh);
        if (!fresh)
            return -ENOMEM;
        fresh->gpa = r->guest_phys_addr;
        fresh->size = r->memory_size;
        fresh->host = (u8 *)(uintptr_t)r->userspace_addr;
        fresh->id = r->slot;
        fresh->flags = r->flags;
        fresh->code = calloc(r->memory_size / PAGE_SIZE, 8);
        fresh->code_exact = calloc(r->memory_size / PAGE_SIZE * CODE_WORDS, 8); /* the host backs what is touched */
        if (r->flags & KVM_MEM_LOG_DIRTY_PAGES)
            fresh->dirty = new_dirty_map(r->memory_size);
        if (!fresh->code || !fresh->code_exact || ((r->flags & KVM_MEM_LOG_DIRTY_PAGES) && !fresh->dirty)) {
            slot_free(fresh);
            return -ENOMEM;
        }
    }
    vm_pause(vm);
    long result = change_slot(vm, r, fresh, &old);
    atomic_store_explicit(&vm->last_slot, NULL, memory_order_relaxed);
    if (old || result == 1)
        flush_all_tlbs(vm);
    vm_resume(vm);
    slot_free(old);
    if (result != 1)
        slot_free(fresh);
    return result < 0 ? result : 0;
}

static long get_dirty_log(sim_vm *vm, const struct kvm_dirty_log *log) {
    if (!log->dirty_bitmap && log->slot < MAX_SLOTS)
        return -EFAULT;
    if (log->slot >= MAX_SLOTS)
        return -EINVAL;
    long result = -ENOENT;
    vm_pause(vm);
    int at = slot_index(vm, log->slot);
    if (at >= 0 && vm->slots[at]->dirty) {
        struct slot *s = vm->slots[at];
        u64 words = (s->size / PAGE_SIZE + 63) / 64, any = 0, *out = log->dirty_bitmap;
        for (u64 n = 0; n < words; n++) {
            out[n] = atomic_exchange(&s->dirty[n], 0);
            any |= out[n];
        }
        if (any)
            flush_all_tlbs(vm); /* the next write to each page must come by the slow path again */
        result = 0;
    }
    vm_resume(vm);
    return result;
}

/* Has code been decoded from there? */
static bool range_marked(sim_vm *vm, u64 gpa, u64 size) {
    for (unsigned n = 0; n < vm->nslots; n++) {
        struct slot *s = vm->slots[n];
        u64 from = gpa > s->gpa ? gpa : s->gpa, to = gpa + size < s->gpa + s->size ? gpa + size : s->gpa + s->size;
        for (u64 page = from & PAGE_MASK; page < to; page += PAGE_SIZE)
            if (atomic_load(slot_code(s, page)))
                return true;
    }
    return false;
}

void sim_vm_memory_written(sim_vm *vm, uint64_t gpa, uint64_t size) {
    pthread_mutex_lock(&vm->lock);             /* the slots hold still */
    atomic_thread_fence(memory_order_seq_cst); /* a vCPU marks first, then compares what it decoded with memory */
    bool marked = range_marked(vm, gpa, size);
    pthread_mutex_unlock(&vm->lock);
    if (marked)
        code_invalidate_all(vm, gpa, size);
}

void sim_vm_translate(sim_vm *vm, unsigned after) { vm->translate_after = after; }
void sim_vm_writes_are_told(sim_vm *vm) { vm->writes_are_told = true; }

static long enable_cap(sim_vm *vm, const struct kvm_enable_cap *c) {
    if (c->flags || c->cap != KVM_CAP_X86_USER_SPACE_MSR || (c->args[0] & ~(u64)USER_MSR_REASONS))
        return -EINVAL;
    atomic_store(&vm_state(vm)->user_msr, (u32)c->args[0]);
    return 0;
}

void sim_vm_seed(sim_vm *vm, uint64_t seed) {
    pthread_mutex_lock(&vm->lock);
    vm->seeded = true;
    vm->seed = seed;
    pthread_mutex_unlock(&vm->lock);
}

long sim_vm_ioctl(sim_vm *vm, unsigned long request, uintptr_t arg) {
    switch (request) {
    case KVM_CHECK_EXTENSION:
        return check_extension((long)arg);
    case KVM_SET_USER_MEMORY_REGION:
        return arg ? set_user_memory_region(vm, (const struct kvm_userspace_memory_region *)arg) : -EFAULT;
    case KVM_ENABLE_CAP:
        return arg ? enable_cap(vm, (const struct kvm_enable_cap *)arg) : -EFAULT;
    case KVM_GET_DIRTY_LOG:
        return arg ? get_dirty_log(vm, (const struct kvm_dirty_log *)arg) : -EFAULT;
    default:
        return -ENOTTY;
    }
}
