/* Rows of general-register instructions with a mandatory prefix, of 0F38, 0F3A and VEX, and of AES, SHA, PCLMULQDQ: see
 * decode_vector.c. */
