// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Tests of the path from a client application to trusted applications and
 * back. Prints "test gp::NAME ... RESULT" for each.
 *
 * Usage: gp-test
 */

#include <stdlib.h>

#include "test.h"

static const char *const words[] = {
	[PASSED] = "ok",
	[FAILED] = "FAILED",
	[SKIPPED] = "skipped",
};

static bool run(const struct test *tests)
{
	enum outcome outcome;
	bool good = true;

	for (; tests->name; tests++) {
		outcome = tests->run();
		printf("test gp::%s ... %s\n", tests->name, words[outcome]);
		fflush(stdout);
		good &= outcome != FAILED;
	}

	return good;
}

int main(void)
{
	bool good = run(double_tests);

	good &= run(notary_tests);

	return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
