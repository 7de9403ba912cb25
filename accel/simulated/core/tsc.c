/* The time-stamp counter.
 *
 * It is the host's monotonic time, scaled to a fixed frequency, plus an offset.  So it has the same frequency on every
 * host (1 GHz unless KVM_SET_TSC_KHZ says otherwise), never stops in HLT, agrees with the machine's other clocks, which
 * follow the same host clock, and is the same on all vCPUs until a guest changes one of them.
 */
#include <time.h>
#include "system.h"

#define NS_PER_MS     1000000u
#define TSC_KHZ_MAX   100000000u
#define ADJUST_SYNC_S 1

static u64 scaled(sim_vcpu *cpu) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    u64 ns = (u64)t.tv_sec * 1000000000u + (u64)t.tv_nsec;
    return (u64)((unsigned __int128)ns * sys_state(cpu)->tsc_mult >> 32);
}

u64 guest_tsc(sim_vcpu *cpu) { return scaled(cpu) + cpu->tsc_offset; }

static u64 multiplier(u32 khz) { return ((u64)khz << 32) / NS_PER_MS; }

void tsc_init(sim_vcpu *cpu) {
    struct system_state *s = sys_state(cpu);
    struct vm_state *vm = vm_state(cpu->vm);
    s->tsc_khz = TSC_KHZ_DEFAULT;
    s->tsc_mult = multiplier(s->tsc_khz);
    if (!cpu->vm->nvcpus && !vm->tsc_written)
        vm->tsc_last_offset = (u64)0 - scaled(cpu);
    cpu->tsc_offset = vm->tsc_last_offset; /* one time for all vCPUs of the VM */
}

bool tsc_set_khz(sim_vcpu *cpu, u64 khz) {
    struct system_state *s = sys_state(cpu);
    if (khz > TSC_KHZ_MAX)
        return false;
    u64 now = guest_tsc(cpu);
    s->tsc_khz = khz ? (u32)khz : TSC_KHZ_DEFAULT; /* as KVM: 0 is the default */
    s->tsc_mult = multiplier(s->tsc_khz);
    cpu->tsc_offset += now - guest_tsc(cpu); /* it goes on from where it is */
    return true;
}

u32 tsc_khz(sim_vcpu *cpu) { return sys_state(cpu)->tsc_khz; }

void tsc_write_guest(sim_vcpu *cpu, u64 value) {
    u64 change = value - guest_tsc(cpu);
    cpu->tsc_offset += change;
    sys_state(cpu)->tsc_adjust += change; /* SDM volume 3, 17.17.3 */
}

/* KVM_SET_MSRS of the TSC on several vCPUs one after the other means: the same time on all. */
void tsc_write_host(sim_vcpu *cpu, u64 value) {
    u64 offset = value - scaled(cpu);
    struct vm_state *vm = vm_state(cpu->vm);
    s64 apart = (s64)(offset - vm->tsc_last_offset), sync = (s64)sys_state(cpu)->tsc_khz * 1000 * ADJUST_SYNC_S;
    if (vm->tsc_written && apart > -sync && apart < sync)
        offset = vm->tsc_last_offset;
    vm->tsc_written = true;
    vm->tsc_last_offset = offset;
    cpu->tsc_offset = offset;
}

void tsc_adjust_write(sim_vcpu *cpu, u64 value, bool host) {
    struct system_state *s = sys_state(cpu);
    if (!host)
        cpu->tsc_offset += value - s->tsc_adjust;
    s->tsc_adjust = value;
}
