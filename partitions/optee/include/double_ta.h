/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The doubling trusted application: what it is called and what it does. */
#ifndef DOUBLE_TA_H
#define DOUBLE_TA_H

#define TA_DOUBLE_UUID \
	{ 0x7c1f0a4e, 0x5d2b, 0x4e86, \
		{ 0x9b, 0x13, 0x6e, 0x4a, 0xc8, 0x27, 0xd0, 0x5f } }

/*
 * Doubles a number.
 *
 * [inout] memref[0]: a uint32_t, in the byte order of the processor
 *
 * TEE_ERROR_BAD_PARAMETERS	other types of parameters, or no buffer
 * TEE_ERROR_SHORT_BUFFER	a smaller buffer; its size becomes the right one
 * TEE_ERROR_EXCESS_DATA	a bigger one
 * TEE_ERROR_OVERFLOW		twice the number is not a uint32_t; it stays
 */
#define TA_DOUBLE_CMD_DOUBLE	0

/*
 * Tells what has happened.
 *
 * [out] value[0].a: numbers doubled in this session
 * [out] value[0].b: sessions opened since TA_CreateEntryPoint
 */
#define TA_DOUBLE_CMD_COUNT	1

/* Any other command: TEE_ERROR_NOT_SUPPORTED. */

#endif
