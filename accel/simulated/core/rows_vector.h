/* Rows of MMX, SSE and AVX moves, shuffles and integer arithmetic, and of the state instructions: see decode_vector.c. */

/* moves */
LEG(NP, 0F, 0x10, movaps_load_r, movups_load_m, SSE, SSE, V_NEUT)
LEG(NP, 0F, 0x11, movaps_store_r, movups_store_m, SSE, SSE, V_NEUT)
