// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * A pseudo-TA that passes requests of trusted applications on to the vault, a
 * partition beside OP-TEE, as FF-A direct messages. Which of them the vault
 * obeys is its own affair: it knows who asks, OP-TEE or the normal world.
 */

#include <ffa.h>
#include <kernel/pseudo_ta.h>
#include <kernel/ts_manager.h>
#include <kernel/user_ta.h>
#include <string.h>
#include <vault_pta.h>

#define FFA_REGS		18

/* More than a partition that answers at once is ever interrupted. */
#define MAX_RUNS		1000

/* The vault's service, as the registers of FF-A have a UUID. */
#define VAULT_UUID_LO		U(0x574bc1eaf03ed896)
#define VAULT_UUID_HI		U(0x50f7e4198d026db3)

#define OP_READ			1
#define OP_STAMP		2
#define OP_VERIFY		3

#define WORDS			(PTA_VAULT_SIZE / sizeof(uint64_t))

enum vault_status {
	VAULT_DONE,
	VAULT_UNKNOWN,
	VAULT_DENIED,
	VAULT_TOO_SHORT,
	VAULT_RESERVED,
	VAULT_MISMATCH,
	VAULT_EXHAUSTED,
};

void vault_ffa_call(uint64_t regs[FFA_REGS]);

static bool is_success(const uint64_t regs[FFA_REGS])
{
	uint32_t fid = regs[0];

	return fid == FFA_SUCCESS_32 || fid == FFA_SUCCESS_64;
}

static TEE_Result ffa_error(const uint64_t regs[FFA_REGS])
{
	if ((uint32_t)regs[0] == FFA_ERROR) {
		switch ((int32_t)regs[2]) {
		case FFA_BUSY:
		case FFA_RETRY:
			return TEE_ERROR_BUSY;
		case FFA_DENIED:
			return TEE_ERROR_ACCESS_DENIED;
		case FFA_NO_MEMORY:
			return TEE_ERROR_OUT_OF_MEMORY;
		case FFA_INVALID_PARAMETERS:
			return TEE_ERROR_ITEM_NOT_FOUND;
		default:
			break;
		}
	}
	return TEE_ERROR_COMMUNICATION;
}

/* Ids of OP-TEE and of the vault, as a message has them. */
static TEE_Result find_vault(uint32_t *ids)
{
	uint64_t me[FFA_REGS] = { FFA_ID_GET };
	uint64_t vault[FFA_REGS] = {
		FFA_PARTITION_INFO_GET_REGS, VAULT_UUID_LO, VAULT_UUID_HI
	};

	vault_ffa_call(me);
	if (!is_success(me))
		return ffa_error(me);
	vault_ffa_call(vault);
	if (!is_success(vault))
		return ffa_error(vault);
	*ids = SHIFT_U32(me[2] & UINT16_MAX, 16) | (vault[3] & UINT16_MAX);

	return TEE_SUCCESS;
}

/* Sends regs[4] and up to the vault; the words of its answer are there then. */
static TEE_Result ask_vault(uint64_t regs[FFA_REGS])
{
	TEE_Result res = TEE_SUCCESS;
	unsigned int runs = 0;
	uint32_t ids = 0;

	res = find_vault(&ids);
	if (res)
		return res;
	regs[0] = FFA_MSG_SEND_DIRECT_REQ2;
	regs[1] = ids;
	regs[2] = VAULT_UUID_LO;
	regs[3] = VAULT_UUID_HI;
	vault_ffa_call(regs);
	/* Interrupted on our behalf: it goes on with our time. */
	while ((uint32_t)regs[0] == FFA_INTERRUPT && runs++ < MAX_RUNS) {
		regs[0] = FFA_RUN;
		memset(regs + 2, 0, (FFA_REGS - 2) * sizeof(*regs));
		vault_ffa_call(regs);
	}
	if ((uint32_t)regs[0] != FFA_MSG_SEND_DIRECT_RESP2)
		return ffa_error(regs);

	switch (regs[4]) {
	case VAULT_DONE:
		return TEE_SUCCESS;
	case VAULT_DENIED:
		return TEE_ERROR_ACCESS_DENIED;
	case VAULT_MISMATCH:
		return TEE_ERROR_MAC_INVALID;
	case VAULT_EXHAUSTED:
		return TEE_ERROR_OVERFLOW;
	case VAULT_UNKNOWN:
		return TEE_ERROR_NOT_SUPPORTED;
	default:
		return TEE_ERROR_COMMUNICATION;
	}
}

static TEE_Result read_counter(uint32_t types, TEE_Param params[TEE_NUM_PARAMS])
{
	uint64_t regs[FFA_REGS] = { [4] = OP_READ };
	TEE_Result res = TEE_SUCCESS;

	if (types != TEE_PARAM_TYPES(TEE_PARAM_TYPE_VALUE_OUTPUT,
				     TEE_PARAM_TYPE_VALUE_OUTPUT,
				     TEE_PARAM_TYPE_NONE, TEE_PARAM_TYPE_NONE))
		return TEE_ERROR_BAD_PARAMETERS;
	res = ask_vault(regs);
	if (res)
		return res;
	reg_pair_from_64(regs[5], &params[0].value.b, &params[0].value.a);
	params[1].value.a = regs[6];
	params[1].value.b = 0;

	return TEE_SUCCESS;
}

static TEE_Result stamp(uint32_t types, TEE_Param params[TEE_NUM_PARAMS])
{
	uint64_t regs[FFA_REGS] = { [4] = OP_STAMP };
	TEE_Result res = TEE_SUCCESS;

	if (types != TEE_PARAM_TYPES(TEE_PARAM_TYPE_MEMREF_INPUT,
				     TEE_PARAM_TYPE_VALUE_OUTPUT,
				     TEE_PARAM_TYPE_MEMREF_OUTPUT,
				     TEE_PARAM_TYPE_NONE) ||
	    params[0].memref.size != PTA_VAULT_SIZE ||
	    params[2].memref.size != PTA_VAULT_SIZE)
		return TEE_ERROR_BAD_PARAMETERS;
	memcpy(regs + 5, params[0].memref.buffer, PTA_VAULT_SIZE);
	res = ask_vault(regs);
	if (res)
		return res;
	reg_pair_from_64(regs[5], &params[1].value.b, &params[1].value.a);
	memcpy(params[2].memref.buffer, regs + 6, PTA_VAULT_SIZE);

	return TEE_SUCCESS;
}

static TEE_Result verify(uint32_t types, TEE_Param params[TEE_NUM_PARAMS])
{
	uint64_t regs[FFA_REGS] = { [4] = OP_VERIFY };

	if (types != TEE_PARAM_TYPES(TEE_PARAM_TYPE_MEMREF_INPUT,
				     TEE_PARAM_TYPE_VALUE_INPUT,
				     TEE_PARAM_TYPE_MEMREF_INPUT,
				     TEE_PARAM_TYPE_NONE) ||
	    params[0].memref.size != PTA_VAULT_SIZE ||
	    params[2].memref.size != PTA_VAULT_SIZE)
		return TEE_ERROR_BAD_PARAMETERS;
	regs[5] = reg_pair_to_64(params[1].value.b, params[1].value.a);
	memcpy(regs + 6, params[0].memref.buffer, PTA_VAULT_SIZE);
	memcpy(regs + 6 + WORDS, params[2].memref.buffer, PTA_VAULT_SIZE);

	return ask_vault(regs);
}

/* For trusted applications: the normal world has the vault's door of its own. */
static TEE_Result open_session(uint32_t types __unused,
			       TEE_Param params[TEE_NUM_PARAMS] __unused,
			       void **context __unused)
{
	struct ts_session *caller = ts_get_calling_session();
	uint32_t ids = 0;

	if (!caller || !is_user_ta_ctx(caller->ctx))
		return TEE_ERROR_ACCESS_DENIED;

	return find_vault(&ids);
}

static TEE_Result dispatch(uint32_t command, uint32_t types,
			   TEE_Param params[TEE_NUM_PARAMS])
{
	switch (command) {
	case PTA_VAULT_CMD_READ:
		return read_counter(types, params);
	case PTA_VAULT_CMD_STAMP:
		return stamp(types, params);
	case PTA_VAULT_CMD_VERIFY:
		return verify(types, params);
	default:
		return TEE_ERROR_NOT_SUPPORTED;
	}
}

static TEE_Result invoke_command(void *context __unused, uint32_t command,
				 uint32_t types,
				 TEE_Param params[TEE_NUM_PARAMS])
{
	TEE_Param bounced[TEE_NUM_PARAMS] = { };
	TEE_Param *reachable = NULL;
	TEE_Result res = TEE_SUCCESS;

	res = to_bounce_params(types, params, bounced, &reachable);
	if (res)
		return res;
	res = dispatch(command, types, reachable);
	if (res)
		return res;

	return from_bounce_params(types, params, bounced, reachable);
}

pseudo_ta_register(.uuid = PTA_VAULT_UUID, .name = "vault.pta",
		   .flags = PTA_DEFAULT_FLAGS | TA_FLAG_CONCURRENT,
		   .open_session_entry_point = open_session,
		   .invoke_command_entry_point = invoke_command);
