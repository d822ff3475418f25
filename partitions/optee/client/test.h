/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Tests, each a function that says "ok", "FAILED" or "skipped". */
#ifndef TEST_H
#define TEST_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

enum outcome { PASSED, FAILED, SKIPPED };

struct test {
	const char *name;
	enum outcome (*run)(void);
};

/* Ends the test as failed unless the condition holds. */
#define EXPECT(condition)                                                     \
	do {                                                                  \
		if (!(condition)) {                                           \
			printf("    %s:%d: not so: %s\n", __FILE__, __LINE__, \
			       #condition);                                   \
			return FAILED;                                        \
		}                                                             \
	} while (0)

/* The same for a number that is to have a value. */
#define EXPECT_EQ(expression, expected)                                       \
	do {                                                                  \
		uint64_t got_ = (expression), expected_ = (expected);         \
		if (got_ != expected_) {                                      \
			printf("    %s:%d: %s: %#" PRIx64                     \
			       ", expected %#" PRIx64 "\n",                   \
			       __FILE__, __LINE__, #expression, got_,         \
			       expected_);                                    \
			return FAILED;                                        \
		}                                                             \
	} while (0)

extern const struct test double_tests[];
extern const struct test notary_tests[];

#endif
