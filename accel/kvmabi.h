/* C half of accel._kvmabi: KVM's user-space interface plus the few helpers that must not go through Python.
 *
 * A "handle" is one of KVM's three objects (system, VM, vCPU) on any transport: an abi_ioctl_fn and the pointer it
 * takes.  For /dev/kvm the pointer carries the file descriptor; the simulated accelerator passes its own functions.
 * All functions return -errno, as the kernel does, and leave errno alone.
 */
#ifndef ACCEL_KVMABI_H
#define ACCEL_KVMABI_H

#include <stdint.h>
#include <stddef.h>
#include <linux/kvm.h>

typedef long (*abi_ioctl_fn)(void *handle, unsigned long request, uintptr_t arg);
typedef void (*abi_kick_fn)(void *handle);

/* Pseudo exit reasons of abi_run(), outside the range of KVM_EXIT_*. */
#define ABI_EXIT_INTERRUPTED 0xfe /* KVM_RUN returned -EINTR: kicked; all pending I/O is complete */
#define ABI_EXIT_ERROR       0xff /* KVM_RUN failed: errno in `data` */

/* The word abi_run() returns.  It has 30 bits, which is what the interpreter handles fastest, and describes an access
 * but for its data, so that it can be the key of a table of handlers. */
#define ABI_REASON_MASK 0xff
#define ABI_SIZE_SHIFT  8      /* I/O, MMIO: bytes of the access, 4 bits */
#define ABI_WRITE       0x1000 /* I/O, MMIO, MSR: direction is out / write */
#define ABI_STRING      0x2000 /* I/O: count != 1, the data is in the run page */
#define ABI_PORT_SHIFT  14     /* I/O: port, 16 bits */

#define ABI_EXIT_REASONS 256

struct abi_vcpu {
    abi_ioctl_fn ioctl;
    abi_kick_fn kick; /* interrupts KVM_RUN; called only while `running` */
    void *handle;
    struct kvm_run *run;
    uint64_t address;                 /* of the last MMIO exit; of the last MSR exit the MSR */
    uint64_t data;                    /* of the last MMIO, MSR or single port write; errno of ABI_EXIT_ERROR */
    uint32_t pending;                 /* bytes of a read that the next abi_run() hands in */
    int32_t thread;                   /* kernel id of the thread that calls abi_run(), 0 if none yet */
    uint32_t running;                 /* 1 while KVM_RUN may be in the guest; atomic */
    uint32_t held;                    /* how many abi_hold() are in force: the guest is not entered; atomic */
    uint32_t kickers;                 /* threads inside abi_kick(); atomic */
    uint32_t retired;                 /* the run page goes away: kicks do nothing; atomic */
    int32_t kick_signal;              /* for abi_fd_kick */
    uint64_t exits[ABI_EXIT_REASONS]; /* user-space exits per reason; readable at any time */
};

/* ioctl(2) on a file descriptor. */
long abi_fd_ioctl(void *handle, unsigned long request, uintptr_t arg);
/* Any handle. */
long abi_ioctl(abi_ioctl_fn function, void *handle, unsigned long request, uintptr_t arg);

/* mmap the shared run page of a vCPU descriptor; *error becomes 0 or -errno. */
struct kvm_run *abi_map_run(int descriptor, size_t size, int *error);
long abi_unmap_run(struct kvm_run *run, size_t size);

/* Finds a real-time signal nobody uses and gives it a handler that does nothing (no SA_RESTART), so that it interrupts
 * KVM_RUN.  Returns the signal's number, the same one on every call, or -errno. */
int abi_install_kick_signal(void);

/* Name the calling thread as the one that runs this vCPU, and unblock the kick signal in it. */
long abi_attach_thread(struct abi_vcpu *vcpu);
/* A kick_fn for descriptors: `handle` is the struct abi_vcpu itself. */
void abi_fd_kick(void *handle);

/* The two functions above as values for struct abi_vcpu (cffi wraps a function it can call, not its address). */
abi_ioctl_fn abi_fd_ioctl_address(void);
abi_kick_fn abi_fd_kick_address(void);

/* Any thread: make the current or next abi_run() return ABI_EXIT_INTERRUPTED.  Never lost: it holds until abi_rearm().
 */
void abi_kick(struct abi_vcpu *vcpu);
/* Any thread: return when KVM_RUN is not under way; the vCPU's thread does not call it (not even to finish an exit)
 * until abi_release().  Called on that very thread it only counts. */
void abi_hold(struct abi_vcpu *vcpu);
void abi_release(struct abi_vcpu *vcpu);
/* Before the run page is given back: kicks from now on do nothing, and none is under way. */
void abi_retire(struct abi_vcpu *vcpu);
/* The vCPU's thread, after ABI_EXIT_INTERRUPTED and before it looks at what was asked of it. */
void abi_rearm(struct abi_vcpu *vcpu);

/* The vCPU's thread: finish the last exit (value = what a read returned), run the guest, describe the next exit. */
uint32_t abi_run(struct abi_vcpu *vcpu, uint64_t value);

#endif
