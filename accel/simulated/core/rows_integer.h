/* Rows of general-register instructions with a mandatory prefix, of 0F38, 0F3A and VEX, and of AES, SHA, PCLMULQDQ: see
 * decode_vector.c. */

// clang-format off

/* bases of FS and GS */
GRP(F3, AE, 0, rdsegbase, none, NONE, FSGSBASE)
GRP(F3, AE, 1, rdsegbase, none, NONE, FSGSBASE)
GRP(F3, AE, 2, wrsegbase, none, NONE, FSGSBASE)
GRP(F3, AE, 3, wrsegbase, none, NONE, FSGSBASE)

/* counting; without the feature the prefix means nothing */
LEG(F3, 0F, 0xb8, popcnt_r, popcnt_m, NONE, POPCNT, V_OSZ)
LEG(F3, 0F, 0xbc, tzcnt_r, tzcnt_m, NONE, BMI1, V_OSZ, .absent = op_bsf_any)
LEG(F3, 0F, 0xbd, lzcnt_r, lzcnt_m, NONE, LZCNT, V_OSZ, .absent = op_bsr_any)

/* BMI1, BMI2 */
// clang-format off
#define BMI(pp, map, op, name, feature, attr)                                                                          \
    VEX(pp, map, op, W0L0, name##_r, name##_m, VEX, feature, V_GPR | (attr))                                           \
    VEX(pp, map, op, W1L0, name##_r, name##_m, VEX, feature, V_GPR | (attr))
#define BMI_GRP(digit, name)                                                                                           \
    VGRP(NP, 38F3, digit, W0L0, name##_r, name##_m, VEX, BMI1, V_GPR | V_NDS)                                          \
    VGRP(NP, 38F3, digit, W1L0, name##_r, name##_m, VEX, BMI1, V_GPR | V_NDS)
BMI(NP, 0F38, 0xf2, andn, BMI1, V_NDS)
BMI_GRP(1, blsr) BMI_GRP(2, blsmsk) BMI_GRP(3, blsi)
BMI(NP, 0F38, 0xf7, bextr, BMI1, V_NDS)
BMI(NP, 0F38, 0xf5, bzhi, BMI2, V_NDS) BMI(F3, 0F38, 0xf5, pext, BMI2, V_NDS) BMI(F2, 0F38, 0xf5, pdep, BMI2, V_NDS)
BMI(F2, 0F38, 0xf6, mulx, BMI2, V_NDS) BMI(F2, 0F3A, 0xf0, rorx, BMI2, V_IMM)
BMI(66, 0F38, 0xf7, shlx, BMI2, V_NDS) BMI(F3, 0F38, 0xf7, sarx, BMI2, V_NDS) BMI(F2, 0F38, 0xf7, shrx, BMI2, V_NDS)
#undef BMI
#undef BMI_GRP

LEG(66, 0F38, 0xf6, adcx_r, adcx_m, NONE, ADX, V_GPR)
LEG(F3, 0F38, 0xf6, adox_r, adox_m, NONE, ADX, V_GPR)
LEG(NP, 0F38, 0xf0, none, movbe_load, NONE, MOVBE, V_OSZ) LEG(66, 0F38, 0xf0, none, movbe_load, NONE, MOVBE, V_OSZ)
LEG(NP, 0F38, 0xf1, none, movbe_store, NONE, MOVBE, V_OSZ) LEG(66, 0F38, 0xf1, none, movbe_store, NONE, MOVBE, V_OSZ)
LEG(F2, 0F38, 0xf0, crc32_byte_r, crc32_byte_m, NONE, SSE42, V_RM8)
LEG(F2, 0F38, 0xf1, crc32_r, crc32_m, NONE, SSE42, V_OSZ)

/* random numbers, RDPID */
GRP(NP, C7, 6, rdrand, none, NONE, RDRAND, V_OSZ) GRP(66, C7, 6, rdrand, none, NONE, RDRAND, V_OSZ)
GRP(NP, C7, 7, rdrand, none, NONE, RDSEED, V_OSZ) GRP(66, C7, 7, rdrand, none, NONE, RDSEED, V_OSZ)
GRP(F3, C7, 7, rdpid, none, NONE, RDPID, 0)

/* cache lines: there are no caches, so what is left is the access */
GRPM(NP, AE, 7, clflush, NONE, CLFSH, 0)
GRP(66, AE, 7, none, clflush, NONE, CLFLUSHOPT, 0)
GRP(66, AE, 6, none, clflush, NONE, CLWB, 0)

LEG(66, 0F38, 0x82, none, invpcid, NONE, INVPCID)

/* AES, carry-less multiplication, SHA */
#define ROUND(op, name)                                                                                                \
    LEG(66, 0F38, op, name##_r, name##_m, SSE, AES)                                                                    \
    VEX(66, 0F38, op, WIGL0, v##name##_r, v##name##_m, AVX, AES, V_NDS)                                                \
    VEX(66, 0F38, op, WIGL1, y##name##_r, y##name##_m, AVX, VAES, V_NDS)
ROUND(0xdc, aesenc) ROUND(0xdd, aesenclast) ROUND(0xde, aesdec) ROUND(0xdf, aesdeclast)
#undef ROUND
LEG(66, 0F38, 0xdb, aesimc_r, aesimc_m, SSE, AES) VEX(66, 0F38, 0xdb, WIGL0, vaesimc_r, vaesimc_m, AVX, AES, 0)
LEG(66, 0F3A, 0xdf, aeskeygenassist_r, aeskeygenassist_m, SSE, AES, V_IMM)
VEX(66, 0F3A, 0xdf, WIGL0, vaeskeygenassist_r, vaeskeygenassist_m, AVX, AES, V_IMM)
LEG(66, 0F3A, 0x44, pclmulqdq_r, pclmulqdq_m, SSE, PCLMULQDQ, V_IMM)
VEX(66, 0F3A, 0x44, WIGL0, vpclmulqdq_r, vpclmulqdq_m, AVX, PCLMULQDQ, V_NDS | V_IMM)
VEX(66, 0F3A, 0x44, WIGL1, ypclmulqdq_r, ypclmulqdq_m, AVX, VPCLMULQDQ, V_NDS | V_IMM)
LEG(NP, 0F3A, 0xcc, sha1rnds4_r, sha1rnds4_m, SSE, SHA, V_IMM) LEG(NP, 0F38, 0xc8, sha1nexte_r, sha1nexte_m, SSE, SHA)
LEG(NP, 0F38, 0xc9, sha1msg1_r, sha1msg1_m, SSE, SHA) LEG(NP, 0F38, 0xca, sha1msg2_r, sha1msg2_m, SSE, SHA)
LEG(NP, 0F38, 0xcb, sha256rnds2_r, sha256rnds2_m, SSE, SHA) LEG(NP, 0F38, 0xcc, sha256msg1_r, sha256msg1_m, SSE, SHA)
LEG(NP, 0F38, 0xcd, sha256msg2_r, sha256msg2_m, SSE, SHA)
    // clang-format on
