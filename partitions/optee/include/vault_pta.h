/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The pseudo-TA through which trusted applications reach the vault. */
#ifndef VAULT_PTA_H
#define VAULT_PTA_H

#define PTA_VAULT_UUID \
	{ 0x5b0c3c6c, 0x8f2b, 0x4d40, \
		{ 0x9e, 0x0a, 0x6a, 0x1f, 0x6b, 0x2d, 0x7c, 0x11 } }

/* Bytes of the data that is stamped, and of a stamp: no more, no less. */
#define PTA_VAULT_SIZE		32

/*
 * What the vault's counter is.
 *
 * [out] value[0]: the counter, a the lower half, b the upper
 * [out] value[1].a: whether OP-TEE may have stamps made
 */
#define PTA_VAULT_CMD_READ	0

/*
 * Has data stamped.
 *
 * [in]  memref[0]: the data
 * [out] value[1]: the counter
 * [out] memref[2]: the stamp
 */
#define PTA_VAULT_CMD_STAMP	1

/*
 * Has a stamp verified; TEE_ERROR_MAC_INVALID when it is none.
 *
 * [in] memref[0]: the data
 * [in] value[1]: the counter
 * [in] memref[2]: the stamp
 */
#define PTA_VAULT_CMD_VERIFY	2

#endif
