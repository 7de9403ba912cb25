/* Rows of floating-point SSE, AVX, FMA and F16C: see decode_vector.c. */
