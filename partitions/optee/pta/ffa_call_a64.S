/* SPDX-License-Identifier: MIT OR Apache-2.0 */

#include <arm64_macros.S>
#include <asm.S>

/*
 * void vault_ffa_call(uint64_t regs[18]);
 *
 * Calls the SPMC with x0-x17, all that a direct message of FF-A 1.2 has.
 * OP-TEE's own thread_smccc() passes x0-x7.
 */
FUNC vault_ffa_call , :
	push	x19, x30
	mov	x19, x0
	load_xregs x19, 0, 0, 17
	hvc	#0
	store_xregs x19, 0, 0, 17
	pop	x19, x30
	ret
END_FUNC vault_ffa_call

BTI(emit_aarch64_feature_1_and     GNU_PROPERTY_AARCH64_FEATURE_1_BTI)
