// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * The life of a client, step by step, for somebody who watches the processor:
 * each step is between two system calls with a number that no other has.
 *
 * Before that it opens a session to keep, so that the trusted application is
 * loaded, says that it is ready, and waits for whoever watches to begin.
 *
 * Usage: gp-trace NAME ROUNDS    says "trace: NAME", invokes so often
 */

#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <double_ta.h>
#include <tee_client_api.h>

/* There is no such system call: the kernel says so and nothing happens. */
#define MARK 0x7a6e

/* Seconds for whoever watches to begin. */
#define WAIT 5

enum step {
	END,
	INITIALIZE,
	OPEN,
	REGISTER,
	INVOKE,
	RELEASE,
	CLOSE,
	FINALIZE,
	OVER,
};

static void mark(enum step step)
{
	syscall(MARK, step);
}

static void step(enum step step, TEEC_Result result)
{
	mark(END);
	if (result != TEEC_SUCCESS)
		errx(EXIT_FAILURE, "step %d: error %#" PRIx32, step, result);
}

static const TEEC_UUID uuid = TA_DOUBLE_UUID;

static void live(int rounds)
{
	uint32_t number = 1;
	TEEC_Context context;
	TEEC_Session session;
	TEEC_SharedMemory shared = {
		.buffer = &number,
		.size = sizeof(number),
		.flags = TEEC_MEM_INPUT | TEEC_MEM_OUTPUT,
	};
	TEEC_Operation operation = {
		.paramTypes = TEEC_PARAM_TYPES(TEEC_MEMREF_WHOLE, TEEC_NONE,
					       TEEC_NONE, TEEC_NONE),
		.params[0].memref.parent = &shared,
	};

	mark(INITIALIZE);
	step(INITIALIZE, TEEC_InitializeContext(NULL, &context));
	mark(OPEN);
	step(OPEN, TEEC_OpenSession(&context, &session, &uuid,
				    TEEC_LOGIN_PUBLIC, NULL, NULL, NULL));
	mark(REGISTER);
	step(REGISTER, TEEC_RegisterSharedMemory(&context, &shared));
	while (rounds-- > 0) {
		number = 21;
		mark(INVOKE);
		step(INVOKE, TEEC_InvokeCommand(&session, TA_DOUBLE_CMD_DOUBLE,
						&operation, NULL));
	}
	mark(RELEASE);
	TEEC_ReleaseSharedMemory(&shared);
	mark(END);
	mark(CLOSE);
	TEEC_CloseSession(&session);
	mark(END);
	mark(FINALIZE);
	TEEC_FinalizeContext(&context);
	mark(END);
	mark(OVER);
}

int main(int argc, char **argv)
{
	TEEC_Context context;
	TEEC_Session kept;

	if (argc != 3)
		errx(EXIT_FAILURE, "usage: gp-trace NAME ROUNDS");
	if (TEEC_InitializeContext(NULL, &context) ||
	    TEEC_OpenSession(&context, &kept, &uuid, TEEC_LOGIN_PUBLIC, NULL,
			     NULL, NULL))
		errx(EXIT_FAILURE, "no session");
	printf("trace: %s\n", argv[1]);
	fflush(stdout);
	sleep(WAIT);
	live(atoi(argv[2]));
	TEEC_CloseSession(&kept);
	TEEC_FinalizeContext(&context);

	return EXIT_SUCCESS;
}
