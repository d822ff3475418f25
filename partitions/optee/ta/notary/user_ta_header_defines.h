/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef USER_TA_HEADER_DEFINES_H
#define USER_TA_HEADER_DEFINES_H

#include <notary_ta.h>

#define TA_UUID		TA_NOTARY_UUID
/* An instance for each session: two clients need not wait for each other. */
#define TA_FLAGS	0
#define TA_STACK_SIZE	(4 * 1024)
#define TA_DATA_SIZE	(32 * 1024)
#define TA_VERSION	"1.0"
#define TA_DESCRIPTION	"Has documents stamped by the vault"

#endif
