// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Sends a direct message to a secure partition and prints the answer.
 *
 * Usage: ffa-send [-1] ID [WORD]...
 *   -1     by FFA_MSG_SEND_DIRECT_REQ, with up to 5 words, instead of REQ2,
 *          with up to 14
 *   ID     the partition's, as /sys/bus/arm_ffa/devices has it: 8001
 */

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "../module/ffa_message.h"

static uint64_t number(const char *text)
{
	uint64_t value;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 0);
	if (errno || end == text || *end)
		errx(EXIT_FAILURE, "%s is no number", text);

	return value;
}

int main(int argc, char **argv)
{
	bool is_short = argc > 1 && !strcmp(argv[1], "-1");
	int words = is_short ? 5 : 14, first = 2 + is_short, i, device;
	struct ffa_message message = { 0 };
	char path[32];

	if (argc < first || argc - first > words)
		errx(EXIT_FAILURE, "usage: ffa-send [-1] ID [WORD]...");
	for (i = first; i < argc; i++)
		message.words[i - first] = number(argv[i]);

	snprintf(path, sizeof(path), "/dev/ffa-%.16s", argv[first - 1]);
	device = open(path, O_RDWR | O_CLOEXEC);
	if (device < 0)
		err(EXIT_FAILURE, "%s", path);
	if (ioctl(device, is_short ? FFA_MESSAGE_REQ : FFA_MESSAGE_REQ2,
		  &message))
		err(EXIT_FAILURE, "no answer");

	for (i = 0; i < words; i++)
		printf("%#" PRIx64 "%c", (uint64_t)message.words[i],
		       i == words - 1 ? '\n' : ' ');

	return EXIT_SUCCESS;
}
