/* The instruction sets that CPUID announces one by one: a row each, with the place of its flag.
 *
 * F(name, leaf, subleaf, register, bit).  decode.c names FEAT_<name> in its rows; cpu->features has a bit for each that
 * the CPUID entries in force announce (cpuid.c); cache.c replaces what is not announced when it builds a block.
 */
#ifndef SIM_FEATURE_LIST_H
#define SIM_FEATURE_LIST_H

// clang-format off
#define FEATURES(F)                                                                                                    \
    F(FPU, 1, 0, EDX, 0) F(DE, 1, 0, EDX, 2) F(PSE, 1, 0, EDX, 3) F(PAE, 1, 0, EDX, 6) F(MCE, 1, 0, EDX, 7)            \
    F(PGE, 1, 0, EDX, 13) F(SMEP, 7, 0, EBX, 7) F(UMIP, 7, 0, ECX, 2) F(NX, 0x80000001, 0, EDX, 20)                    \
    F(PDPE1GB, 0x80000001, 0, EDX, 26)                                                                                 \
    F(TSC, 1, 0, EDX, 4) F(MSR, 1, 0, EDX, 5) F(CX8, 1, 0, EDX, 8) F(SEP, 1, 0, EDX, 11)          \
    F(CMOV, 1, 0, EDX, 15) F(CLFSH, 1, 0, EDX, 19) F(MMX, 1, 0, EDX, 23) F(FXSR, 1, 0, EDX, 24)                        \
    F(SSE, 1, 0, EDX, 25) F(SSE2, 1, 0, EDX, 26)                                                                       \
    F(SSE3, 1, 0, ECX, 0) F(PCLMULQDQ, 1, 0, ECX, 1) F(MONITOR, 1, 0, ECX, 3) F(SSSE3, 1, 0, ECX, 9)                   \
    F(FMA, 1, 0, ECX, 12) F(CX16, 1, 0, ECX, 13) F(SSE41, 1, 0, ECX, 19) F(SSE42, 1, 0, ECX, 20) F(X2APIC, 1, 0, ECX, 21) \
    F(PCID, 1, 0, ECX, 17) F(MOVBE, 1, 0, ECX, 22) F(POPCNT, 1, 0, ECX, 23) F(AES, 1, 0, ECX, 25) F(XSAVE, 1, 0, ECX, 26)                     \
    F(AVX, 1, 0, ECX, 28) F(F16C, 1, 0, ECX, 29) F(RDRAND, 1, 0, ECX, 30)                                              \
    F(FSGSBASE, 7, 0, EBX, 0) F(BMI1, 7, 0, EBX, 3) F(AVX2, 7, 0, EBX, 5) F(BMI2, 7, 0, EBX, 8)                        \
    F(INVPCID, 7, 0, EBX, 10) F(RDSEED, 7, 0, EBX, 18) F(ADX, 7, 0, EBX, 19) F(SMAP, 7, 0, EBX, 20)                    \
    F(CLFLUSHOPT, 7, 0, EBX, 23) F(CLWB, 7, 0, EBX, 24) F(SHA, 7, 0, EBX, 29)                                          \
    F(GFNI, 7, 0, ECX, 8) F(VAES, 7, 0, ECX, 9) F(VPCLMULQDQ, 7, 0, ECX, 10) F(RDPID, 7, 0, ECX, 22)                   \
    F(XSAVEOPT, 13, 1, EAX, 0) F(XSAVEC, 13, 1, EAX, 1) F(XGETBV1, 13, 1, EAX, 2) F(XSAVES, 13, 1, EAX, 3)             \
    F(SYSCALL, 0x80000001, 0, EDX, 11) F(RDTSCP, 0x80000001, 0, EDX, 27) F(LM, 0x80000001, 0, EDX, 29)                 \
    F(3DNOWEXT, 0x80000001, 0, EDX, 30) F(3DNOW, 0x80000001, 0, EDX, 31)                                               \
    F(LAHF64, 0x80000001, 0, ECX, 0) F(LZCNT, 0x80000001, 0, ECX, 5) F(SSE4A, 0x80000001, 0, ECX, 6)                   \
    F(PREFETCHW, 0x80000001, 0, ECX, 8) F(WBNOINVD, 0x80000008, 0, EBX, 9)                                             \
    /* CMOV's and SSE3's share of the x87: only with an FPU */                                                         \
    F(FCMOV, 1, 0, EDX, 15) F(FISTTP, 1, 0, ECX, 0)                                                                    \
    /* these gate no instruction */                                                                                    \
    F(APIC, 1, 0, EDX, 9) F(MTRR, 1, 0, EDX, 12) F(MCA, 1, 0, EDX, 14) F(PAT, 1, 0, EDX, 16) F(PSE36, 1, 0, EDX, 17)   \
    F(TSC_DEADLINE, 1, 0, ECX, 24) F(HYPERVISOR, 1, 0, ECX, 31) F(ARAT, 6, 0, EAX, 2) F(TSC_ADJUST, 7, 0, EBX, 1)      \
    F(ERMS, 7, 0, EBX, 9) F(CLDEMOTE, 7, 0, ECX, 25) F(FSRM, 7, 0, EDX, 4) F(INVTSC, 0x80000007, 0, EDX, 8)
// clang-format on

enum {
    FEAT_NONE, /* part of every processor */
#define F(name, leaf, sub, reg, bit) FEAT_##name,
    FEATURES(F)
#undef F
        FEAT_COUNT
};
_Static_assert(FEAT_COUNT <= 128, "cpu->features has 128 bits");

#endif
