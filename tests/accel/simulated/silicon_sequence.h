/* Cases that are sequences of instructions.  See silicon_sequence.c. */
#ifndef SILICON_SEQUENCE_H
#define SILICON_SEQUENCE_H
#include "silicon_make.h"

/* Reads the roles, as silicon_sequence.py writes them; false when the file is not one. */
bool sequence_load(const char *path, uint32_t template_count);
void make_sequence(uint64_t seed, uint64_t number, const struct template *templates, struct test_case *c);
/* Flags that may be undefined before each step of the case, and behind the last one. */
void sequence_flow(const struct test_case *c, uint16_t before[STEPS_MOST + 1]);
/* Whether no step reads a flag that is undefined there. */
bool sequence_valid(const struct test_case *c);
/* Flags not to be compared when the case ended with `vector` at `rip`; *step: the step it ended in, or NO_STEP. */
uint32_t sequence_undefined(const struct test_case *c, uint32_t vector, uint64_t rip, int *step);
/* The case with step k replaced by NOPs; false when it cannot be left out. */
bool sequence_without(struct test_case *c, unsigned k);

#endif
