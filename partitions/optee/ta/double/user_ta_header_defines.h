/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef USER_TA_HEADER_DEFINES_H
#define USER_TA_HEADER_DEFINES_H

#include <double_ta.h>

#define TA_UUID		TA_DOUBLE_UUID
/* One instance with all sessions, gone with the last of them. */
#define TA_FLAGS	(TA_FLAG_SINGLE_INSTANCE | TA_FLAG_MULTI_SESSION)
#define TA_STACK_SIZE	(2 * 1024)
#define TA_DATA_SIZE	(16 * 1024)
#define TA_VERSION	"1.0"
#define TA_DESCRIPTION	"Doubles the number in a shared buffer"

#endif
