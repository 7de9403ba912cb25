/* The public face of the simulated accelerator: KVM's three handles, without the kernel.
 *
 * The same text feeds cffi (accel/simulated/build_core.py drops the preprocessor lines).  Requests, structs and numbers
 * are those of <linux/kvm.h>; every call that can fail returns -errno exactly as the kernel would.
 *
 * Threads: one thread at a time per vCPU (KVM_RUN and its other ioctls); VM ioctls from any thread, also while vCPUs
 * run; sim_vcpu_kick, sim_vcpu_instructions and the exit counts from any thread at any time.
 */
#ifndef SIM_CORE_H
#define SIM_CORE_H
#include <stdint.h>
#include <linux/kvm.h>

typedef struct sim_system sim_system;
typedef struct sim_vm sim_vm;
typedef struct sim_vcpu sim_vcpu;

/* system: KVM_GET_API_VERSION, KVM_CHECK_EXTENSION, KVM_GET_VCPU_MMAP_SIZE, KVM_GET_MSR_INDEX_LIST,
 * KVM_GET_SUPPORTED_CPUID */
sim_system *sim_open(void);
void sim_system_close(sim_system *system);
long sim_system_ioctl(sim_system *system, unsigned long request, uintptr_t arg);

/* VM: KVM_CHECK_EXTENSION, KVM_SET_USER_MEMORY_REGION, KVM_GET_DIRTY_LOG */
sim_vm *sim_create_vm(sim_system *system, int *error);
void sim_vm_close(sim_vm *vm);
long sim_vm_ioctl(sim_vm *vm, unsigned long request, uintptr_t arg);
/* User space wrote guest memory itself (DMA): drop code decoded from there.  Only a vCPU that is inside KVM_RUN at that
 * moment needs to be told; a vCPU checks its code against memory whenever it enters KVM_RUN. */
void sim_vm_memory_written(sim_vm *vm, uint64_t gpa, uint64_t size);
/* Before the first KVM_RUN: user space is going to tell every write of its own, so that vCPUs need not check. */
void sim_vm_writes_are_told(sim_vm *vm);

/* Before the first KVM_RUN: blocks of 64-bit code become machine code of the host after so many executions; 0: never.
 * Does nothing where the host is not an x86-64. */
void sim_vm_translate(sim_vm *vm, unsigned after);

/* RDRAND and RDSEED of the vCPUs made from now on: numbers that follow from the seed, instead of the system's. */
void sim_vm_seed(sim_vm *vm, uint64_t seed);

/* vCPU: KVM_RUN and the register, CPUID, MSR, event and debug ioctls */
sim_vcpu *sim_create_vcpu(sim_vm *vm, unsigned id, int *error);
void sim_vcpu_close(sim_vcpu *vcpu);
long sim_vcpu_ioctl(sim_vcpu *vcpu, unsigned long request, uintptr_t arg);
/* The shared page(s), KVM_GET_VCPU_MMAP_SIZE bytes; lives as long as the vCPU. */
struct kvm_run *sim_vcpu_run_page(sim_vcpu *vcpu);
/* From any thread: leave the guest soon; the KVM_RUN under way, or the next one, returns -EINTR. */
void sim_vcpu_kick(sim_vcpu *vcpu);

/* After KVM_EXIT_SHUTDOWN: the vectors of the faults that led to it, in turn; returns how many, at most 3. */
unsigned sim_vcpu_fault_chain(sim_vcpu *vcpu, uint8_t out[3]);
/* Does the guest do nothing but fault?  The vector, once, or -1.  KVM_RUN returns -EINTR when that is found; the guest
 * goes on as a processor would. */
int sim_vcpu_fault_loop(sim_vcpu *vcpu);

/* The inner half's exit table.  A name is NULL for a number without a meaning. */
unsigned sim_exit_reason_count(void);
const char *sim_exit_reason_name(unsigned reason);
uint64_t sim_vcpu_exit_count(sim_vcpu *vcpu, unsigned reason);
uint64_t sim_vcpu_exit_count_user(sim_vcpu *vcpu, unsigned reason);
uint64_t sim_vcpu_instructions(sim_vcpu *vcpu);
#endif
