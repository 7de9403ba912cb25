/* IN OUT INS OUTS.
 *
 * Each leaves the guest with EXIT_REASON_IO_INSTRUCTION and rip on itself; when the access has been made the
 * instruction starts again, finds replay.pio_done and completes.  A repetition over plain RAM hands over up to a page
 * of elements.
 */
#include "access.h"
#include "ops.h"

static unsigned port_of(sim_vcpu *cpu, const struct insn *i) { return i->opcode & 8 ? RD16(RDX) : (unsigned)i->imm; }

static _Noreturn void io_exit(sim_vcpu *cpu, unsigned port, unsigned size, bool in, bool string, u32 count) {
    cpu->exit.io.port = (u16)port;
    cpu->exit.io.size = (u8)size;
    cpu->exit.io.in = in;
    cpu->exit.io.string = string;
    cpu->exit.io.count = count;
    vm_exit(cpu, EXIT_REASON_IO_INSTRUCTION);
}

static void do_in(sim_vcpu *cpu, const struct insn *i, unsigned w) {
    unsigned port = port_of(cpu, i);
    u64 v = 0;
    BEGIN(cpu, i);
    if (!cpu->replay.pio_done) {
        io_check(cpu, (u16)port, 1u << w);
        io_exit(cpu, port, 1u << w, true, false, 1);
    }
    memcpy(&v, cpu->pio_data, 1u << w);
    if (w == W8)
        WR8(0, v);
    else
        set_reg(cpu, RAX, w, v);
    RETIRE(cpu, i, insn_next_ip(i));
}

static void do_out(sim_vcpu *cpu, const struct insn *i, unsigned w) {
    unsigned port = port_of(cpu, i);
    BEGIN(cpu, i);
    if (!cpu->replay.pio_done) {
        io_check(cpu, (u16)port, 1u << w);
        memcpy(cpu->pio_data, &cpu->regs[RAX], 1u << w);
        io_exit(cpu, port, 1u << w, false, false, 1);
    }
    RETIRE(cpu, i, insn_next_ip(i));
}

static u64 rep_count(sim_vcpu *cpu, const struct insn *i) {
    return i->flags & (IF_REP | IF_REPNE) ? cpu->regs[RCX] & width_mask(i->asz) : 1;
}
/* n elements went through: move the registers, and rip when that was all. */
static void string_done(sim_vcpu *cpu, const struct insn *i, unsigned reg, s64 step, u64 n) {
    u64 left = rep_count(cpu, i) - n;
    set_reg(cpu, reg, i->asz, cpu->regs[reg] + n * (u64)step);
    if (i->flags & (IF_REP | IF_REPNE))
        set_reg(cpu, RCX, i->asz, cpu->regs[RCX] - n);
    replay_iteration_done(cpu);
    if (left == 0) {
        RETIRE(cpu, i, insn_next_ip(i));
        return;
    }
    cpu->icount += i->idx;
    cpu->rip = insn_ip(i);
    cpu->cur = NULL;
}
static u32 batch(u64 count, unsigned size, s64 step) {
    if (step < 0)
        return 1;
    return (u32)(count < PAGE_SIZE / size ? count : PAGE_SIZE / size);
}

static void do_ins(sim_vcpu *cpu, const struct insn *i, unsigned w) {
    unsigned size = 1u << w;
    s64 step = cpu->eflags & FL_DF ? -(s64)size : (s64)size;
    u64 mask = width_mask(i->asz), di = cpu->regs[RDI] & mask, count = rep_count(cpu, i);
    u8 *host;
    u32 n;

    BEGIN(cpu, i);
    if (!cpu->replay.pio_done)
        io_check(cpu, RD16(RDX), size); /* also when nothing is to be done, as the processor has it */
    if (!count) {
        RETIRE(cpu, i, insn_next_ip(i));
        return;
    }
    if (!cpu->replay.pio_done) {
        n = batch(count, size, step);
        n = n > 1 && !(cpu->step_flags & STEP_TF) ? mem_span(cpu, ES, di, n * size, true, &host) / size : 0;
        if (n == 0) {
            mem_probe(cpu, ES, di, size, true);
            n = 1;
        }
        io_exit(cpu, RD16(RDX), size, true, true, n);
    }
    n = cpu->replay.pio_count;
    for (u32 k = 0; k < n; k++) {
        u64 v = 0;
        memcpy(&v, cpu->pio_data + k * size, size);
        st_w(cpu, i, ES, (di + (u64)k * (u64)step) & mask, w, v);
    }
    string_done(cpu, i, RDI, step, n);
}

static void do_outs(sim_vcpu *cpu, const struct insn *i, unsigned w) {
    unsigned size = 1u << w;
    s64 step = cpu->eflags & FL_DF ? -(s64)size : (s64)size;
    u64 si = cpu->regs[RSI] & width_mask(i->asz), count = rep_count(cpu, i);
    u8 *host;
    u32 n;

    BEGIN(cpu, i);
    if (!cpu->replay.pio_done)
        io_check(cpu, RD16(RDX), size);
    if (!count) {
        RETIRE(cpu, i, insn_next_ip(i));
        return;
    }
    if (!cpu->replay.pio_done) {
        n = batch(count, size, step);
        n = n > 1 && !(cpu->step_flags & STEP_TF) ? mem_span(cpu, i->seg, si, n * size, false, &host) / size : 0;
        if (n)
            memcpy(cpu->pio_data, host, n * size);
        else {
            u64 v = ld_w(cpu, i, i->seg, si, w);
            memcpy(cpu->pio_data, &v, size);
            n = 1;
        }
        io_exit(cpu, RD16(RDX), size, false, true, n);
    }
    string_done(cpu, i, RSI, step, cpu->replay.pio_count);
}

#define GEN_IO(name, W)                                                                                                \
    OP(name##W) { do_##name(cpu, i, LOG2_##W); }
enum { LOG2_8 = W8, LOG2_16 = W16, LOG2_32 = W32 };
#define GEN_IOS(name) GEN_IO(name, 8) GEN_IO(name, 16) GEN_IO(name, 32)
GEN_IOS(in)
GEN_IOS(out)
GEN_IOS(ins)
GEN_IOS(outs)
/* there are no 64-bit ports; the decoder never gets here but from 32-bit forms with REX.W, which stay 32-bit */
OP(in64) { do_in(cpu, i, W32); }
OP(out64) { do_out(cpu, i, W32); }
OP(ins64) { do_ins(cpu, i, W32); }
OP(outs64) { do_outs(cpu, i, W32); }
