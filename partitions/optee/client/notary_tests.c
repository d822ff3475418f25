// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Tests with the notary: a trusted application that has the vault, a partition
 * beside OP-TEE, stamp documents.
 */

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <double_ta.h>
#include <notary_ta.h>
#include <tee_client_api.h>
#include <vault_pta.h>

#include "test.h"

static const TEEC_UUID notary_uuid = TA_NOTARY_UUID;

static TEEC_Context context;
static TEEC_Session notary;
static bool is_open;

struct stamp {
	uint64_t counter;
	uint8_t tag[NOTARY_STAMP_SIZE];
	uint8_t digest[NOTARY_DIGEST_SIZE];
};

static char document[] = "I owe the reader one dinner.";
/* SHA-256 of it, from another implementation (sha256sum). */
static const uint8_t digest_of_document[NOTARY_DIGEST_SIZE] = {
	0xf4, 0x97, 0x37, 0x4a, 0xdb, 0x3c, 0xd9, 0x28,
	0x20, 0x3e, 0x9f, 0x3b, 0x9b, 0x7d, 0x83, 0x4e,
	0xef, 0xd6, 0xd1, 0xa5, 0xa3, 0xb2, 0xf5, 0x0f,
	0x9d, 0xa0, 0xa7, 0xe5, 0x1f, 0xbc, 0xb1, 0x11,
};

static TEEC_Result stamp_document(TEEC_Session *in, struct stamp *stamp)
{
	TEEC_Operation operation = {
		.paramTypes = TEEC_PARAM_TYPES(TEEC_MEMREF_TEMP_INPUT,
					       TEEC_VALUE_OUTPUT,
					       TEEC_MEMREF_TEMP_OUTPUT,
					       TEEC_MEMREF_TEMP_OUTPUT),
		.params[0].tmpref = { document, strlen(document) },
		.params[2].tmpref = { stamp->tag, sizeof(stamp->tag) },
		.params[3].tmpref = { stamp->digest, sizeof(stamp->digest) },
	};
	TEEC_Result result = TEEC_InvokeCommand(in, TA_NOTARY_CMD_STAMP,
						&operation, NULL);

	stamp->counter = (uint64_t)operation.params[1].value.b << 32 |
			 operation.params[1].value.a;

	return result;
}

static TEEC_Result verify(char *text, size_t size, const struct stamp *stamp)
{
	struct stamp copy = *stamp;
	TEEC_Operation operation = {
		.paramTypes = TEEC_PARAM_TYPES(TEEC_MEMREF_TEMP_INPUT,
					       TEEC_VALUE_INPUT,
					       TEEC_MEMREF_TEMP_INPUT,
					       TEEC_NONE),
		.params[0].tmpref = { text, size },
		.params[1].value = { (uint32_t)copy.counter,
				     (uint32_t)(copy.counter >> 32) },
		.params[2].tmpref = { copy.tag, sizeof(copy.tag) },
	};

	return TEEC_InvokeCommand(&notary, TA_NOTARY_CMD_VERIFY, &operation,
				  NULL);
}

/* Without the pseudo-TA, or the vault, there is nothing to test. */
static enum outcome notary_opens(void)
{
	TEEC_Result result;

	EXPECT_EQ(TEEC_InitializeContext(NULL, &context), TEEC_SUCCESS);
	result = TEEC_OpenSession(&context, &notary, &notary_uuid,
				  TEEC_LOGIN_PUBLIC, NULL, NULL, NULL);
	if (result == TEEC_ERROR_ITEM_NOT_FOUND)
		return SKIPPED;
	EXPECT_EQ(result, TEEC_SUCCESS);
	is_open = true;
	return PASSED;
}

static enum outcome notary_stamps(void)
{
	struct stamp stamp;

	if (!is_open)
		return SKIPPED;
	EXPECT_EQ(stamp_document(&notary, &stamp), TEEC_SUCCESS);
	EXPECT(stamp.counter > 0);
	EXPECT(!memcmp(stamp.digest, digest_of_document,
		       sizeof(stamp.digest)));
	EXPECT_EQ(verify(document, strlen(document), &stamp), TEEC_SUCCESS);
	return PASSED;
}

static enum outcome notary_counts_up(void)
{
	struct stamp first, second;

	if (!is_open)
		return SKIPPED;
	EXPECT_EQ(stamp_document(&notary, &first), TEEC_SUCCESS);
	EXPECT_EQ(stamp_document(&notary, &second), TEEC_SUCCESS);
	EXPECT_EQ(second.counter, first.counter + 1);
	EXPECT(memcmp(first.tag, second.tag, sizeof(first.tag)));
	EXPECT_EQ(verify(document, strlen(document), &first), TEEC_SUCCESS);
	return PASSED;
}

static enum outcome notary_finds_forgeries(void)
{
	struct stamp stamp, other;

	if (!is_open)
		return SKIPPED;
	EXPECT_EQ(stamp_document(&notary, &stamp), TEEC_SUCCESS);
	other = stamp;
	other.counter++;
	EXPECT_EQ(verify(document, strlen(document), &other),
		  TEE_ERROR_MAC_INVALID);
	other = stamp;
	other.tag[31] ^= 1;
	EXPECT_EQ(verify(document, strlen(document), &other),
		  TEE_ERROR_MAC_INVALID);
	EXPECT_EQ(verify(document, strlen(document) - 1, &stamp),
		  TEE_ERROR_MAC_INVALID);
	return PASSED;
}

static enum outcome notary_tells_the_size_of_stamps(void)
{
	uint8_t tag[NOTARY_STAMP_SIZE - 1], digest[NOTARY_DIGEST_SIZE];
	TEEC_Operation operation = {
		.paramTypes = TEEC_PARAM_TYPES(TEEC_MEMREF_TEMP_INPUT,
					       TEEC_VALUE_OUTPUT,
					       TEEC_MEMREF_TEMP_OUTPUT,
					       TEEC_MEMREF_TEMP_OUTPUT),
		.params[0].tmpref = { document, strlen(document) },
		.params[2].tmpref = { tag, sizeof(tag) },
		.params[3].tmpref = { digest, sizeof(digest) },
	};

	if (!is_open)
		return SKIPPED;
	EXPECT_EQ(TEEC_InvokeCommand(&notary, TA_NOTARY_CMD_STAMP, &operation,
				     NULL),
		  TEEC_ERROR_SHORT_BUFFER);
	EXPECT_EQ(operation.params[2].tmpref.size, NOTARY_STAMP_SIZE);
	return PASSED;
}

static enum outcome notary_refuses_references_to_nothing(void)
{
	uint8_t bytes[NOTARY_STAMP_SIZE] = { 0 };
	int nothing;

	if (!is_open)
		return SKIPPED;
	for (nothing = 0; nothing < 4; nothing++) {
		TEEC_Operation operation = {
			.paramTypes = TEEC_PARAM_TYPES(TEEC_MEMREF_TEMP_INPUT,
						       TEEC_VALUE_OUTPUT,
						       TEEC_MEMREF_TEMP_OUTPUT,
						       TEEC_MEMREF_TEMP_OUTPUT),
			.params[0].tmpref = { bytes, sizeof(bytes) },
			.params[2].tmpref = { bytes, sizeof(bytes) },
			.params[3].tmpref = { bytes, sizeof(bytes) },
		};

		if (nothing == 1)
			continue;
		operation.params[nothing].tmpref.buffer = NULL;
		EXPECT_EQ(TEEC_InvokeCommand(&notary, TA_NOTARY_CMD_STAMP,
					     &operation, NULL),
			  TEEC_ERROR_BAD_PARAMETERS);
	}
	return PASSED;
}

static enum outcome notary_refuses_other_parameters_and_commands(void)
{
	TEEC_Operation operation = { 0 };

	if (!is_open)
		return SKIPPED;
	EXPECT_EQ(TEEC_InvokeCommand(&notary, TA_NOTARY_CMD_STAMP, &operation,
				     NULL),
		  TEEC_ERROR_BAD_PARAMETERS);
	EXPECT_EQ(TEEC_InvokeCommand(&notary, TA_NOTARY_CMD_VERIFY, &operation,
				     NULL),
		  TEEC_ERROR_BAD_PARAMETERS);
	EXPECT_EQ(TEEC_InvokeCommand(&notary, 77, &operation, NULL),
		  TEEC_ERROR_NOT_SUPPORTED);
	return PASSED;
}

/* The pseudo-TA is for trusted applications, not for us. */
static enum outcome pseudo_ta_is_denied_to_the_normal_world(void)
{
	const TEEC_UUID uuid = PTA_VAULT_UUID;
	TEEC_Session session;

	if (!is_open)
		return SKIPPED;
	EXPECT_EQ(TEEC_OpenSession(&context, &session, &uuid,
				   TEEC_LOGIN_PUBLIC, NULL, NULL, NULL),
		  TEEC_ERROR_ACCESS_DENIED);
	return PASSED;
}

static enum outcome two_tas_at_once(void)
{
	const TEEC_UUID double_uuid = TA_DOUBLE_UUID;
	uint32_t number = 3;
	TEEC_Operation operation = {
		.paramTypes = TEEC_PARAM_TYPES(TEEC_MEMREF_TEMP_INOUT,
					       TEEC_NONE, TEEC_NONE, TEEC_NONE),
		.params[0].tmpref = { &number, sizeof(number) },
	};
	struct stamp stamp;
	TEEC_Session doubler;
	int i;

	if (!is_open)
		return SKIPPED;
	EXPECT_EQ(TEEC_OpenSession(&context, &doubler, &double_uuid,
				   TEEC_LOGIN_PUBLIC, NULL, NULL, NULL),
		  TEEC_SUCCESS);
	for (i = 1; i <= 10; i++) {
		EXPECT_EQ(TEEC_InvokeCommand(&doubler, TA_DOUBLE_CMD_DOUBLE,
					     &operation, NULL),
			  TEEC_SUCCESS);
		EXPECT_EQ(number, 3u << i);
		EXPECT_EQ(stamp_document(&notary, &stamp), TEEC_SUCCESS);
	}
	TEEC_CloseSession(&doubler);
	return PASSED;
}

/* Stamps of one client: their counters only go up. */
static bool be_a_client(int rounds)
{
	struct stamp stamp;
	uint64_t last = 0;
	TEEC_Context own;
	TEEC_Session in;
	bool good = true;

	if (TEEC_InitializeContext(NULL, &own))
		return false;
	if (TEEC_OpenSession(&own, &in, &notary_uuid, TEEC_LOGIN_PUBLIC, NULL,
			     NULL, NULL)) {
		TEEC_FinalizeContext(&own);
		return false;
	}
	while (good && rounds--) {
		good = !stamp_document(&in, &stamp) && stamp.counter > last;
		last = stamp.counter;
	}
	TEEC_CloseSession(&in);
	TEEC_FinalizeContext(&own);
	return good;
}

static enum outcome two_clients_of_the_vault_at_once(void)
{
	struct stamp before, after;
	int status, client;
	bool good = true;

	if (!is_open)
		return SKIPPED;
	EXPECT_EQ(stamp_document(&notary, &before), TEEC_SUCCESS);
	fflush(stdout);
	for (client = 0; client < 2; client++) {
		pid_t child = fork();

		EXPECT(child >= 0);
		if (!child)
			_exit(!be_a_client(50));
	}
	for (client = 0; client < 2; client++)
		good &= wait(&status) > 0 && !status;
	EXPECT(good);
	EXPECT_EQ(stamp_document(&notary, &after), TEEC_SUCCESS);
	EXPECT_EQ(after.counter, before.counter + 101);
	return PASSED;
}

static enum outcome notary_closes(void)
{
	if (is_open)
		TEEC_CloseSession(&notary);
	TEEC_FinalizeContext(&context);
	return is_open ? PASSED : SKIPPED;
}

const struct test notary_tests[] = {
	{ "notary_opens", notary_opens },
	{ "notary_stamps", notary_stamps },
	{ "notary_counts_up", notary_counts_up },
	{ "notary_finds_forgeries", notary_finds_forgeries },
	{ "notary_tells_the_size_of_stamps", notary_tells_the_size_of_stamps },
	{ "notary_refuses_references_to_nothing",
	  notary_refuses_references_to_nothing },
	{ "notary_refuses_other_parameters_and_commands",
	  notary_refuses_other_parameters_and_commands },
	{ "pseudo_ta_is_denied_to_the_normal_world",
	  pseudo_ta_is_denied_to_the_normal_world },
	{ "two_tas_at_once", two_tas_at_once },
	{ "two_clients_of_the_vault_at_once",
	  two_clients_of_the_vault_at_once },
	{ "notary_closes", notary_closes },
	{ NULL, NULL },
};
