/* Helpers of accel._kvmabi; see kvmabi.h for the contract of each. */
#define _GNU_SOURCE
#include "kvmabi.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

long abi_fd_ioctl(void *handle, unsigned long request, uintptr_t arg) {
    int saved = errno;
    long result = ioctl((int)(intptr_t)handle, request, arg);
    if (result < 0)
        result = -errno;
    errno = saved;
    return result;
}

long abi_ioctl(abi_ioctl_fn function, void *handle, unsigned long request, uintptr_t arg) {
    return function(handle, request, arg);
}

struct kvm_run *abi_map_run(int descriptor, size_t size, int *error) {
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    *error = page == MAP_FAILED ? -errno : 0;
    return page == MAP_FAILED ? NULL : page;
}

long abi_unmap_run(struct kvm_run *run, size_t size) { return munmap(run, size) ? -errno : 0; }

static void wake_only(int number) { (void)number; }

int abi_install_kick_signal(void) {
    for (int number = SIGRTMIN + 1; number <= SIGRTMAX; number++) {
        struct sigaction action;
        if (sigaction(number, NULL, &action))
            return -errno;
        if (action.sa_handler == wake_only)
            return number;
        if (action.sa_handler != SIG_DFL)
            continue;
        memset(&action, 0, sizeof action);
        action.sa_handler = wake_only;
        sigemptyset(&action.sa_mask);
        return sigaction(number, &action, NULL) ? -errno : number;
    }
    return -EBUSY;
}

long abi_attach_thread(struct abi_vcpu *vcpu) {
    if (vcpu->kick_signal) {
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, vcpu->kick_signal);
        int error = pthread_sigmask(SIG_UNBLOCK, &set, NULL);
        if (error)
            return -error;
    }
    vcpu->thread = (int32_t)syscall(SYS_gettid);
    return 0;
}

void abi_fd_kick(void *handle) {
    struct abi_vcpu *vcpu = handle;
    syscall(SYS_tgkill, getpid(), vcpu->thread, vcpu->kick_signal);
}

abi_ioctl_fn abi_fd_ioctl_address(void) { return abi_fd_ioctl; }
abi_kick_fn abi_fd_kick_address(void) { return abi_fd_kick; }

/* The order of the two accesses matters in both abi_kick() and abi_run(), and is sequentially consistent in both:
 * either the vCPU's thread sees immediate_exit when it enters KVM_RUN, or the kicker sees `running`. */
void abi_kick(struct abi_vcpu *vcpu) {
    __atomic_fetch_add(&vcpu->kickers, 1, __ATOMIC_SEQ_CST);
    if (!__atomic_load_n(&vcpu->retired, __ATOMIC_SEQ_CST)) {
        uint8_t before = __atomic_exchange_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
        if (!before && __atomic_load_n(&vcpu->running, __ATOMIC_SEQ_CST))
            vcpu->kick(vcpu->kick == abi_fd_kick ? vcpu : vcpu->handle);
    }
    __atomic_fetch_sub(&vcpu->kickers, 1, __ATOMIC_SEQ_CST);
}

void abi_retire(struct abi_vcpu *vcpu) {
    __atomic_store_n(&vcpu->retired, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&vcpu->kickers, __ATOMIC_SEQ_CST))
        sched_yield();
}

void abi_rearm(struct abi_vcpu *vcpu) { __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST); }

/* The same pattern: either the vCPU's thread sees `held`, or we see `running`. */
void abi_hold(struct abi_vcpu *vcpu) {
    __atomic_fetch_add(&vcpu->held, 1, __ATOMIC_SEQ_CST);
    abi_kick(vcpu);
    while (__atomic_load_n(&vcpu->running, __ATOMIC_SEQ_CST))
        sched_yield();
}

void abi_release(struct abi_vcpu *vcpu) { __atomic_fetch_sub(&vcpu->held, 1, __ATOMIC_SEQ_CST); }

static void enter(struct abi_vcpu *vcpu) {
    for (;;) {
        __atomic_store_n(&vcpu->running, 1, __ATOMIC_SEQ_CST);
        if (__builtin_expect(!__atomic_load_n(&vcpu->held, __ATOMIC_SEQ_CST), 1))
            return;
        __atomic_store_n(&vcpu->running, 0, __ATOMIC_SEQ_CST);
        sched_yield();
    }
}

static uint32_t describe_io(struct abi_vcpu *vcpu, struct kvm_run *run) {
    uint32_t word = KVM_EXIT_IO | (uint32_t)run->io.size << ABI_SIZE_SHIFT | (uint32_t)run->io.port << ABI_PORT_SHIFT;
    if (run->io.direction == KVM_EXIT_IO_OUT)
        word |= ABI_WRITE;
    if (run->io.count != 1)
        return word | ABI_STRING;
    if (run->io.direction == KVM_EXIT_IO_OUT) {
        vcpu->data = 0;
        memcpy(&vcpu->data, (char *)run + run->io.data_offset, run->io.size);
    } else {
        vcpu->pending = run->io.size;
    }
    return word;
}

static uint32_t describe_mmio(struct abi_vcpu *vcpu, struct kvm_run *run) {
    uint32_t word = KVM_EXIT_MMIO | run->mmio.len << ABI_SIZE_SHIFT;
    vcpu->address = run->mmio.phys_addr;
    if (run->mmio.is_write) {
        vcpu->data = 0;
        memcpy(&vcpu->data, run->mmio.data, run->mmio.len);
        return word | ABI_WRITE;
    }
    vcpu->pending = run->mmio.len;
    return word;
}

static uint32_t describe_msr(struct abi_vcpu *vcpu, struct kvm_run *run, uint32_t reason) {
    vcpu->address = run->msr.index;
    if (reason == KVM_EXIT_X86_WRMSR) {
        vcpu->data = run->msr.data;
        return reason | ABI_WRITE;
    }
    vcpu->pending = sizeof run->msr.data;
    return reason;
}

static void *place_of_read(struct kvm_run *run) {
    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        return (char *)run + run->io.data_offset;
    case KVM_EXIT_MMIO:
        return run->mmio.data;
    default:
        return &run->msr.data;
    }
}

uint32_t abi_run(struct abi_vcpu *vcpu, uint64_t value) {
    struct kvm_run *run = vcpu->run;
    if (vcpu->pending) {
        memcpy(place_of_read(run), &value, vcpu->pending);
        vcpu->pending = 0;
    }
    enter(vcpu);
    long result = vcpu->ioctl(vcpu->handle, KVM_RUN, 0);
    __atomic_store_n(&vcpu->running, 0, __ATOMIC_SEQ_CST);
    if (result < 0) {
        /* EAGAIN: a vCPU waiting for its start-up IPI was woken; the caller treats both as "look again". */
        uint32_t word = result == -EINTR || result == -EAGAIN ? ABI_EXIT_INTERRUPTED : ABI_EXIT_ERROR;
        vcpu->data = (uint64_t)-result;
        vcpu->exits[word]++;
        return word;
    }
    uint32_t reason = run->exit_reason & ABI_REASON_MASK;
    vcpu->exits[reason]++;
    if (reason == KVM_EXIT_IO)
        return describe_io(vcpu, run);
    if (reason == KVM_EXIT_MMIO)
        return describe_mmio(vcpu, run);
    if (reason == KVM_EXIT_X86_RDMSR || reason == KVM_EXIT_X86_WRMSR)
        return describe_msr(vcpu, run, reason);
    return reason;
}
