// SPDX-License-Identifier: MIT OR Apache-2.0
/* Tests with the doubling trusted application, call by call of the API. */

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <double_ta.h>
#include <tee_client_api.h>

#include "test.h"

#define INOUT (TEEC_MEM_INPUT | TEEC_MEM_OUTPUT)

static const TEEC_UUID uuid = TA_DOUBLE_UUID;

/* One context and one session, from the first tests to the last. */
static TEEC_Context context;
static TEEC_Session session;

static TEEC_Result open_session(TEEC_Session *new)
{
	return TEEC_OpenSession(&context, new, &uuid, TEEC_LOGIN_PUBLIC, NULL,
				NULL, NULL);
}

/* A command with one parameter; where an error came from goes to origin. */
static TEEC_Result invoke(TEEC_Session *in, uint32_t command,
			  TEEC_Operation *operation, uint32_t type,
			  uint32_t *origin)
{
	operation->paramTypes =
		TEEC_PARAM_TYPES(type, TEEC_NONE, TEEC_NONE, TEEC_NONE);

	return TEEC_InvokeCommand(in, command, operation, origin);
}

/* Doubles a number in a buffer that is shared only for the call. */
static TEEC_Result double_temporary(TEEC_Session *in, void *number, size_t size,
				    uint32_t *origin)
{
	TEEC_Operation operation = {
		.params[0].tmpref = { .buffer = number, .size = size },
	};

	return invoke(in, TA_DOUBLE_CMD_DOUBLE, &operation,
		      TEEC_MEMREF_TEMP_INOUT, origin);
}

static TEEC_Result double_shared(TEEC_Session *in, TEEC_SharedMemory *shared)
{
	TEEC_Operation operation = { .params[0].memref.parent = shared };

	return invoke(in, TA_DOUBLE_CMD_DOUBLE, &operation, TEEC_MEMREF_WHOLE,
		      NULL);
}

/* How many numbers the session has doubled, how many sessions there were. */
static TEEC_Result count(TEEC_Session *in, uint32_t *doubled,
			 uint32_t *sessions)
{
	TEEC_Operation operation = { 0 };
	TEEC_Result result = invoke(in, TA_DOUBLE_CMD_COUNT, &operation,
				    TEEC_VALUE_OUTPUT, NULL);

	*doubled = operation.params[0].value.a;
	*sessions = operation.params[0].value.b;

	return result;
}

static enum outcome initialize_context(void)
{
	EXPECT_EQ(TEEC_InitializeContext(NULL, &context), TEEC_SUCCESS);
	return PASSED;
}

static enum outcome initialize_context_without_such_a_tee(void)
{
	TEEC_Context other;

	EXPECT_EQ(TEEC_InitializeContext("no such TEE", &other),
		  TEEC_ERROR_ITEM_NOT_FOUND);
	return PASSED;
}

static enum outcome open_the_session(void)
{
	EXPECT_EQ(open_session(&session), TEEC_SUCCESS);
	return PASSED;
}

static enum outcome open_session_of_unknown_ta(void)
{
	const TEEC_UUID unknown = { 0x12345678, 1, 2, { 3 } };
	TEEC_Session other;
	uint32_t origin = 0;

	EXPECT_EQ(TEEC_OpenSession(&context, &other, &unknown,
				   TEEC_LOGIN_PUBLIC, NULL, NULL, &origin),
		  TEEC_ERROR_ITEM_NOT_FOUND);
	EXPECT_EQ(origin, TEEC_ORIGIN_TEE);
	return PASSED;
}

static enum outcome open_session_with_parameters_it_takes_none(void)
{
	TEEC_Operation operation = {
		.paramTypes = TEEC_PARAM_TYPES(TEEC_VALUE_INPUT, TEEC_NONE,
					       TEEC_NONE, TEEC_NONE),
	};
	TEEC_Session other;
	uint32_t origin = 0;

	EXPECT_EQ(TEEC_OpenSession(&context, &other, &uuid, TEEC_LOGIN_PUBLIC,
				   NULL, &operation, &origin),
		  TEEC_ERROR_BAD_PARAMETERS);
	EXPECT_EQ(origin, TEEC_ORIGIN_TRUSTED_APP);
	return PASSED;
}

static enum outcome invoke_doubles_in_registered_memory(void)
{
	uint32_t number = 21;
	TEEC_SharedMemory shared = {
		.buffer = &number, .size = sizeof(number), .flags = INOUT
	};

	EXPECT_EQ(TEEC_RegisterSharedMemory(&context, &shared), TEEC_SUCCESS);
	EXPECT_EQ(double_shared(&session, &shared), TEEC_SUCCESS);
	EXPECT_EQ(number, 42);
	EXPECT_EQ(double_shared(&session, &shared), TEEC_SUCCESS);
	EXPECT_EQ(number, 84);
	TEEC_ReleaseSharedMemory(&shared);
	return PASSED;
}

static enum outcome invoke_doubles_in_allocated_memory(void)
{
	TEEC_SharedMemory shared = { .size = sizeof(uint32_t), .flags = INOUT };

	EXPECT_EQ(TEEC_AllocateSharedMemory(&context, &shared), TEEC_SUCCESS);
	EXPECT(shared.buffer);
	memcpy(shared.buffer, &(uint32_t){ 1 << 30 }, sizeof(uint32_t));
	EXPECT_EQ(double_shared(&session, &shared), TEEC_SUCCESS);
	EXPECT_EQ(*(uint32_t *)shared.buffer, 1u << 31);
	TEEC_ReleaseSharedMemory(&shared);
	EXPECT(!shared.buffer);
	return PASSED;
}

static enum outcome invoke_doubles_in_temporary_memory(void)
{
	uint32_t number = 1000;

	EXPECT_EQ(double_temporary(&session, &number, sizeof(number), NULL),
		  TEEC_SUCCESS);
	EXPECT_EQ(number, 2000);
	return PASSED;
}

/* Across a page boundary, with neighbours that stay as they are. */
static enum outcome invoke_doubles_in_a_part_of_shared_memory(void)
{
	static uint8_t memory[3 * 4096] __attribute__((aligned(4096)));
	TEEC_SharedMemory shared = {
		.buffer = memory, .size = sizeof(memory), .flags = INOUT
	};
	TEEC_Operation operation = {
		.params[0].memref = { .parent = &shared, .size = 4,
				      .offset = 4094 },
	};
	uint32_t number = 0x01020304;
	size_t i;

	memset(memory, 0x5a, sizeof(memory));
	memcpy(memory + 4094, &number, sizeof(number));
	EXPECT_EQ(TEEC_RegisterSharedMemory(&context, &shared), TEEC_SUCCESS);
	EXPECT_EQ(invoke(&session, TA_DOUBLE_CMD_DOUBLE, &operation,
			 TEEC_MEMREF_PARTIAL_INOUT, NULL),
		  TEEC_SUCCESS);
	TEEC_ReleaseSharedMemory(&shared);
	memcpy(&number, memory + 4094, sizeof(number));
	EXPECT_EQ(number, 0x02040608);
	for (i = 0; i < sizeof(memory); i++)
		EXPECT(i - 4094 < 4 || memory[i] == 0x5a);
	return PASSED;
}

static enum outcome invoke_with_wrong_types(void)
{
	static const uint32_t types[] = {
		TEEC_NONE, TEEC_VALUE_INPUT, TEEC_VALUE_INOUT,
		TEEC_MEMREF_TEMP_INPUT, TEEC_MEMREF_TEMP_OUTPUT,
	};
	uint32_t number = 5;
	size_t i;

	for (i = 0; i < sizeof(types) / sizeof(*types); i++) {
		TEEC_Operation operation = { 0 };
		uint32_t origin = 0;

		if (types[i] >= TEEC_MEMREF_TEMP_INPUT)
			operation.params[0].tmpref =
				(TEEC_TempMemoryReference){ &number, 4 };
		EXPECT_EQ(invoke(&session, TA_DOUBLE_CMD_DOUBLE, &operation,
				 types[i], &origin),
			  TEEC_ERROR_BAD_PARAMETERS);
		EXPECT_EQ(origin, TEEC_ORIGIN_TRUSTED_APP);
	}
	EXPECT_EQ(number, 5);
	return PASSED;
}

static enum outcome invoke_with_one_parameter_too_many(void)
{
	uint32_t number = 5;
	TEEC_Operation operation = {
		.paramTypes = TEEC_PARAM_TYPES(TEEC_MEMREF_TEMP_INOUT,
					       TEEC_VALUE_INPUT, TEEC_NONE,
					       TEEC_NONE),
		.params[0].tmpref = { &number, sizeof(number) },
	};

	EXPECT_EQ(TEEC_InvokeCommand(&session, TA_DOUBLE_CMD_DOUBLE, &operation,
				     NULL),
		  TEEC_ERROR_BAD_PARAMETERS);
	EXPECT_EQ(number, 5);
	return PASSED;
}

static enum outcome invoke_with_too_small_a_buffer_tells_the_size(void)
{
	uint8_t bytes[3] = { 1, 2, 3 };
	TEEC_Operation operation = {
		.params[0].tmpref = { bytes, sizeof(bytes) },
	};
	uint32_t origin = 0;

	EXPECT_EQ(invoke(&session, TA_DOUBLE_CMD_DOUBLE, &operation,
			 TEEC_MEMREF_TEMP_INOUT, &origin),
		  TEEC_ERROR_SHORT_BUFFER);
	EXPECT_EQ(origin, TEEC_ORIGIN_TRUSTED_APP);
	EXPECT_EQ(operation.params[0].tmpref.size, sizeof(uint32_t));
	EXPECT(bytes[0] == 1 && bytes[1] == 2 && bytes[2] == 3);
	return PASSED;
}

static enum outcome invoke_without_a_buffer(void)
{
	EXPECT_EQ(double_temporary(&session, NULL, 0, NULL),
		  TEEC_ERROR_SHORT_BUFFER);
	return PASSED;
}

static enum outcome invoke_with_a_reference_to_nothing(void)
{
	EXPECT_EQ(double_temporary(&session, NULL, sizeof(uint32_t), NULL),
		  TEEC_ERROR_BAD_PARAMETERS);
	return PASSED;
}

static enum outcome invoke_with_too_big_a_buffer(void)
{
	uint64_t number = 5;

	EXPECT_EQ(double_temporary(&session, &number, sizeof(number), NULL),
		  TEEC_ERROR_EXCESS_DATA);
	EXPECT_EQ(number, 5);
	return PASSED;
}

static enum outcome invoke_that_overflows_changes_nothing(void)
{
	uint32_t number = 1u << 31;

	EXPECT_EQ(double_temporary(&session, &number, sizeof(number), NULL),
		  TEE_ERROR_OVERFLOW);
	EXPECT_EQ(number, 1u << 31);
	return PASSED;
}

static enum outcome invoke_of_unknown_command(void)
{
	TEEC_Operation operation = { 0 };
	uint32_t origin = 0;

	EXPECT_EQ(invoke(&session, 99, &operation, TEEC_NONE, &origin),
		  TEEC_ERROR_NOT_SUPPORTED);
	EXPECT_EQ(origin, TEEC_ORIGIN_TRUSTED_APP);
	return PASSED;
}

/* The library stops what the memory was not shared for. */
static enum outcome invoke_beyond_what_memory_is_shared_for(void)
{
	uint32_t number = 5;
	TEEC_SharedMemory shared = {
		.buffer = &number, .size = sizeof(number),
		.flags = TEEC_MEM_INPUT
	};
	TEEC_Operation operation = {
		.params[0].memref = { .parent = &shared, .size = 4 },
	};
	uint32_t origin = 0;

	EXPECT_EQ(TEEC_RegisterSharedMemory(&context, &shared), TEEC_SUCCESS);
	EXPECT_EQ(invoke(&session, TA_DOUBLE_CMD_DOUBLE, &operation,
			 TEEC_MEMREF_PARTIAL_INOUT, &origin),
		  TEEC_ERROR_BAD_PARAMETERS);
	EXPECT_EQ(origin, TEEC_ORIGIN_API);
	TEEC_ReleaseSharedMemory(&shared);
	return PASSED;
}

/* More than could be shared at the same time if a release kept anything. */
static enum outcome release_gives_everything_back(void)
{
	static uint8_t memory[1 << 20] __attribute__((aligned(4096)));
	uint32_t number = 1;
	int i;

	memcpy(memory, &number, sizeof(number));
	for (i = 1; i <= 30; i++) {
		TEEC_SharedMemory shared = {
			.buffer = memory, .size = sizeof(memory), .flags = INOUT
		};
		TEEC_Operation operation = {
			.params[0].memref = { .parent = &shared, .size = 4 },
		};

		EXPECT_EQ(TEEC_RegisterSharedMemory(&context, &shared),
			  TEEC_SUCCESS);
		EXPECT_EQ(invoke(&session, TA_DOUBLE_CMD_DOUBLE, &operation,
				 TEEC_MEMREF_PARTIAL_INOUT, NULL),
			  TEEC_SUCCESS);
		TEEC_ReleaseSharedMemory(&shared);
	}
	memcpy(&number, memory, sizeof(number));
	EXPECT_EQ(number, 1u << 30);
	return PASSED;
}

static enum outcome sessions_have_a_state_of_their_own(void)
{
	uint32_t doubled, sessions, before, number = 1;
	TEEC_Session other;

	EXPECT_EQ(count(&session, &before, &sessions), TEEC_SUCCESS);
	EXPECT_EQ(open_session(&other), TEEC_SUCCESS);
	EXPECT_EQ(double_temporary(&other, &number, 4, NULL), TEEC_SUCCESS);
	EXPECT_EQ(count(&other, &doubled, &sessions), TEEC_SUCCESS);
	EXPECT_EQ(doubled, 1);
	EXPECT_EQ(count(&session, &doubled, &sessions), TEEC_SUCCESS);
	EXPECT_EQ(doubled, before);
	TEEC_CloseSession(&other);
	return PASSED;
}

/* Numbers doubled by one client, in a context and a session of its own. */
static bool be_a_client(uint32_t first, int rounds)
{
	TEEC_Context own;
	TEEC_Session in;
	bool good = false;
	int i;

	if (TEEC_InitializeContext(NULL, &own))
		return false;
	if (TEEC_OpenSession(&own, &in, &uuid, TEEC_LOGIN_PUBLIC, NULL, NULL,
			     NULL))
		goto out;
	for (i = 0; i < rounds; i++) {
		uint32_t number = first + i;

		if (double_temporary(&in, &number, sizeof(number), NULL) ||
		    number != 2 * (first + i))
			break;
	}
	good = i == rounds;
	TEEC_CloseSession(&in);
out:
	TEEC_FinalizeContext(&own);
	return good;
}

static enum outcome two_clients_at_once(void)
{
	int status, client;
	pid_t children[2];
	bool good = true;

	fflush(stdout);
	for (client = 0; client < 2; client++) {
		children[client] = fork();
		EXPECT(children[client] >= 0);
		if (!children[client])
			_exit(!be_a_client(1000000 * (client + 1), 200));
	}
	for (client = 0; client < 2; client++)
		good &= waitpid(children[client], &status, 0) > 0 &&
			WIFEXITED(status) && !WEXITSTATUS(status);
	EXPECT(good);
	return PASSED;
}

/* A client that dies in the middle leaves nothing open. */
static enum outcome client_that_dies_is_cleaned_up(void)
{
	uint32_t number = 7;
	int status;
	pid_t child;

	fflush(stdout);
	child = fork();
	EXPECT(child >= 0);
	if (!child) {
		TEEC_Context own;
		TEEC_Session in;

		if (TEEC_InitializeContext(NULL, &own) ||
		    TEEC_OpenSession(&own, &in, &uuid, TEEC_LOGIN_PUBLIC, NULL,
				     NULL, NULL))
			_exit(1);
		_exit(0);
	}
	EXPECT(waitpid(child, &status, 0) > 0 && !status);
	EXPECT_EQ(double_temporary(&session, &number, 4, NULL), TEEC_SUCCESS);
	EXPECT_EQ(number, 14);
	return PASSED;
}

/*
 * The application's own entry points show from here by the count of sessions
 * since TA_CreateEntryPoint: it goes on while one is open, and starts again
 * after the last has been closed and TA_DestroyEntryPoint has been called.
 */
static enum outcome close_session_destroys_the_instance(void)
{
	uint32_t doubled, sessions, before;
	TEEC_Session other;

	EXPECT_EQ(count(&session, &doubled, &before), TEEC_SUCCESS);
	EXPECT_EQ(open_session(&other), TEEC_SUCCESS);
	EXPECT_EQ(count(&other, &doubled, &sessions), TEEC_SUCCESS);
	EXPECT_EQ(sessions, before + 1);
	TEEC_CloseSession(&other);
	TEEC_CloseSession(&session);
	EXPECT_EQ(open_session(&session), TEEC_SUCCESS);
	EXPECT_EQ(count(&session, &doubled, &sessions), TEEC_SUCCESS);
	EXPECT_EQ(sessions, 1);
	EXPECT_EQ(doubled, 0);
	TEEC_CloseSession(&session);
	return PASSED;
}

static enum outcome invoke_in_a_closed_session(void)
{
	uint32_t number = 5;

	EXPECT_EQ(double_temporary(&session, &number, 4, NULL),
		  TEEC_ERROR_BAD_PARAMETERS);
	EXPECT_EQ(number, 5);
	return PASSED;
}

static enum outcome finalize_context(void)
{
	TEEC_FinalizeContext(&context);
	EXPECT_EQ(TEEC_InitializeContext(NULL, &context), TEEC_SUCCESS);
	TEEC_FinalizeContext(&context);
	return PASSED;
}

const struct test double_tests[] = {
	{ "initialize_context", initialize_context },
	{ "initialize_context_without_such_a_tee",
	  initialize_context_without_such_a_tee },
	{ "open_session", open_the_session },
	{ "open_session_of_unknown_ta", open_session_of_unknown_ta },
	{ "open_session_with_parameters_it_takes_none",
	  open_session_with_parameters_it_takes_none },
	{ "invoke_doubles_in_registered_memory",
	  invoke_doubles_in_registered_memory },
	{ "invoke_doubles_in_allocated_memory",
	  invoke_doubles_in_allocated_memory },
	{ "invoke_doubles_in_temporary_memory",
	  invoke_doubles_in_temporary_memory },
	{ "invoke_doubles_in_a_part_of_shared_memory",
	  invoke_doubles_in_a_part_of_shared_memory },
	{ "invoke_with_wrong_types", invoke_with_wrong_types },
	{ "invoke_with_one_parameter_too_many",
	  invoke_with_one_parameter_too_many },
	{ "invoke_with_too_small_a_buffer_tells_the_size",
	  invoke_with_too_small_a_buffer_tells_the_size },
	{ "invoke_without_a_buffer", invoke_without_a_buffer },
	{ "invoke_with_a_reference_to_nothing",
	  invoke_with_a_reference_to_nothing },
	{ "invoke_with_too_big_a_buffer", invoke_with_too_big_a_buffer },
	{ "invoke_that_overflows_changes_nothing",
	  invoke_that_overflows_changes_nothing },
	{ "invoke_of_unknown_command", invoke_of_unknown_command },
	{ "invoke_beyond_what_memory_is_shared_for",
	  invoke_beyond_what_memory_is_shared_for },
	{ "release_gives_everything_back", release_gives_everything_back },
	{ "sessions_have_a_state_of_their_own",
	  sessions_have_a_state_of_their_own },
	{ "two_clients_at_once", two_clients_at_once },
	{ "client_that_dies_is_cleaned_up", client_that_dies_is_cleaned_up },
	{ "close_session_destroys_the_instance",
	  close_session_destroys_the_instance },
	{ "invoke_in_a_closed_session", invoke_in_a_closed_session },
	{ "finalize_context", finalize_context },
	{ NULL, NULL },
};
