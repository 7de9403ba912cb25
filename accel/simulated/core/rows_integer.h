/* Rows of general-register instructions with a mandatory prefix, of 0F38, 0F3A and VEX, and of AES, SHA, PCLMULQDQ: see
 * decode_vector.c. */

/* bases of FS and GS */
GRP(F3, AE, 0, rdsegbase, none, NONE, FSGSBASE)
GRP(F3, AE, 1, rdsegbase, none, NONE, FSGSBASE)
GRP(F3, AE, 2, wrsegbase, none, NONE, FSGSBASE)
GRP(F3, AE, 3, wrsegbase, none, NONE, FSGSBASE)
