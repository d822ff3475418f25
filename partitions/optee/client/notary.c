// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Has a trusted application get a file stamped by the vault, a partition
 * beside OP-TEE. Prints the counter, the digest and the stamp, as the words
 * that the vault takes to verify it.
 *
 * Usage: notary FILE
 */

#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <notary_ta.h>
#include <tee_client_api.h>

#define MAX_SIZE (64 * 1024)

static void check(TEEC_Result result, const char *what)
{
	if (result != TEEC_SUCCESS)
		errx(EXIT_FAILURE, "%s: error %#" PRIx32, what, result);
}

static void print_words(const uint8_t *bytes, size_t size)
{
	uint64_t word;
	size_t i;

	for (i = 0; i < size; i += sizeof(word)) {
		memcpy(&word, bytes + i, sizeof(word));
		printf(" 0x%016" PRIx64, word);
	}
}

static size_t read_file(const char *path, uint8_t *buffer, size_t room)
{
	FILE *file = fopen(path, "r");
	size_t size;

	if (!file)
		err(EXIT_FAILURE, "%s", path);
	size = fread(buffer, 1, room, file);
	if (ferror(file) || fgetc(file) != EOF)
		errx(EXIT_FAILURE, "%s: not a file of %zu bytes or less", path,
		     room);
	fclose(file);

	return size;
}

int main(int argc, char **argv)
{
	const TEEC_UUID uuid = TA_NOTARY_UUID;
	static uint8_t document[MAX_SIZE];
	uint8_t stamp[NOTARY_STAMP_SIZE], digest[NOTARY_DIGEST_SIZE];
	TEEC_Operation operation = {
		.paramTypes = TEEC_PARAM_TYPES(TEEC_MEMREF_TEMP_INPUT,
					       TEEC_VALUE_OUTPUT,
					       TEEC_MEMREF_TEMP_OUTPUT,
					       TEEC_MEMREF_TEMP_OUTPUT),
		.params[0].tmpref.buffer = document,
		.params[2].tmpref = { stamp, sizeof(stamp) },
		.params[3].tmpref = { digest, sizeof(digest) },
	};
	TEEC_Context context;
	TEEC_Session session;

	if (argc != 2)
		errx(EXIT_FAILURE, "usage: notary FILE");
	operation.params[0].tmpref.size =
		read_file(argv[1], document, sizeof(document));

	check(TEEC_InitializeContext(NULL, &context), "the TEE");
	check(TEEC_OpenSession(&context, &session, &uuid, TEEC_LOGIN_PUBLIC,
			       NULL, NULL, NULL),
	      "a session");
	check(TEEC_InvokeCommand(&session, TA_NOTARY_CMD_STAMP, &operation,
				 NULL),
	      "the stamp");
	printf("%#" PRIx64, (uint64_t)operation.params[1].value.b << 32 |
				    operation.params[1].value.a);
	print_words(digest, sizeof(digest));
	print_words(stamp, sizeof(stamp));
	putchar('\n');
	TEEC_CloseSession(&session);
	TEEC_FinalizeContext(&context);

	return EXIT_SUCCESS;
}
