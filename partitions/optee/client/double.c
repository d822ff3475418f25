// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Has a trusted application double a number in a shared buffer: the whole life
 * of a client of the TEE Client API, in one page.
 *
 * Usage: double [NUMBER]
 */

#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <double_ta.h>
#include <tee_client_api.h>

static void check(TEEC_Result result, const char *what)
{
	if (result != TEEC_SUCCESS)
		errx(EXIT_FAILURE, "%s: error %#" PRIx32, what, result);
}

int main(int argc, char **argv)
{
	const TEEC_UUID uuid = TA_DOUBLE_UUID;
	uint32_t number = argc > 1 ? strtoul(argv[1], NULL, 0) : 21;
	TEEC_Context context;
	TEEC_Session session;
	/* Memory of our own, which OP-TEE gets to see for a while. */
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

	check(TEEC_InitializeContext(NULL, &context), "the TEE");
	check(TEEC_OpenSession(&context, &session, &uuid, TEEC_LOGIN_PUBLIC,
			       NULL, NULL, NULL),
	      "a session");
	check(TEEC_RegisterSharedMemory(&context, &shared), "shared memory");

	check(TEEC_InvokeCommand(&session, TA_DOUBLE_CMD_DOUBLE, &operation,
				 NULL),
	      "the command");
	printf("%" PRIu32 "\n", number);

	TEEC_ReleaseSharedMemory(&shared);
	TEEC_CloseSession(&session);
	TEEC_FinalizeContext(&context);

	return EXIT_SUCCESS;
}
