/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The notary trusted application: has documents stamped by a partition beside
 * OP-TEE, the vault, which it reaches through a pseudo-TA.
 */
#ifndef NOTARY_TA_H
#define NOTARY_TA_H

#define TA_NOTARY_UUID \
	{ 0xe3a86c51, 0x0f94, 0x47d2, \
		{ 0xa6, 0x7d, 0x15, 0xb2, 0x8e, 0x3c, 0x90, 0x44 } }

/* Bytes of a stamp, and of a SHA-256 digest. */
#define NOTARY_STAMP_SIZE	32
#define NOTARY_DIGEST_SIZE	32

/*
 * Has a document stamped.
 *
 * [in]  memref[0]: the document
 * [out] value[1]: the vault's counter, a the lower half, b the upper
 * [out] memref[2]: the stamp
 * [out] memref[3]: the document's SHA-256 digest, which is what was stamped
 */
#define TA_NOTARY_CMD_STAMP	0

/*
 * Has a stamp verified: TEE_ERROR_MAC_INVALID when it is none of the vault's
 * over this document and counter.
 *
 * [in] memref[0]: the document
 * [in] value[1]: the counter, a the lower half, b the upper
 * [in] memref[2]: the stamp
 */
#define TA_NOTARY_CMD_VERIFY	1

/*
 * Both: TEE_ERROR_BAD_PARAMETERS for other types, no buffer where there should
 * be one, or a stamp of another size to be verified; TEE_ERROR_SHORT_BUFFER for too little room. Any
 * other command: TEE_ERROR_NOT_SUPPORTED. A session can't be opened when this
 * OP-TEE has no pseudo-TA (TEE_ERROR_ITEM_NOT_FOUND) or there is no vault.
 */

#endif
