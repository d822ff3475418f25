/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A trusted application that has documents stamped by the vault, a partition
 * beside OP-TEE. It sends the vault a digest, by way of a pseudo-TA.
 */

#include <notary_ta.h>
#include <tee_internal_api.h>
#include <vault_pta.h>

TEE_Result TA_CreateEntryPoint(void)
{
	return TEE_SUCCESS;
}

void TA_DestroyEntryPoint(void)
{
}

/* A session of the client is a session of ours with the pseudo-TA. */
TEE_Result TA_OpenSessionEntryPoint(uint32_t types,
				    TEE_Param params[TEE_NUM_PARAMS],
				    void **context)
{
	static const TEE_UUID vault = PTA_VAULT_UUID;
	TEE_TASessionHandle session = TEE_HANDLE_NULL;
	TEE_Result res = TEE_SUCCESS;

	(void)params;
	if (types != TEE_PARAM_TYPES(TEE_PARAM_TYPE_NONE, TEE_PARAM_TYPE_NONE,
				     TEE_PARAM_TYPE_NONE, TEE_PARAM_TYPE_NONE))
		return TEE_ERROR_BAD_PARAMETERS;
	res = TEE_OpenTASession(&vault, TEE_TIMEOUT_INFINITE, 0, NULL, &session,
				NULL);
	if (res)
		return res;
	*context = session;

	return TEE_SUCCESS;
}

void TA_CloseSessionEntryPoint(void *context)
{
	TEE_CloseTASession(context);
}

static TEE_Result sha256(TEE_Param document, uint8_t digest[NOTARY_DIGEST_SIZE])
{
	TEE_OperationHandle operation = TEE_HANDLE_NULL;
	size_t size = NOTARY_DIGEST_SIZE;
	TEE_Result res = TEE_SUCCESS;

	res = TEE_AllocateOperation(&operation, TEE_ALG_SHA256, TEE_MODE_DIGEST,
				    0);
	if (res)
		return res;
	res = TEE_DigestDoFinal(operation, document.memref.buffer,
				document.memref.size, digest, &size);
	TEE_FreeOperation(operation);

	return res;
}

/* A reference to nothing may claim any size. */
static bool is_there(TEE_Param param)
{
	return param.memref.buffer || !param.memref.size;
}

static bool too_small(TEE_Param *param, size_t size)
{
	if (param->memref.size >= size)
		return false;
	param->memref.size = size;

	return true;
}

static TEE_Result stamp(TEE_TASessionHandle vault, uint32_t types,
			TEE_Param params[TEE_NUM_PARAMS])
{
	uint8_t digest[NOTARY_DIGEST_SIZE] = { };
	uint8_t tag[NOTARY_STAMP_SIZE] = { };
	TEE_Param request[TEE_NUM_PARAMS] = { };
	TEE_Result res = TEE_SUCCESS;

	if (types != TEE_PARAM_TYPES(TEE_PARAM_TYPE_MEMREF_INPUT,
				     TEE_PARAM_TYPE_VALUE_OUTPUT,
				     TEE_PARAM_TYPE_MEMREF_OUTPUT,
				     TEE_PARAM_TYPE_MEMREF_OUTPUT))
		return TEE_ERROR_BAD_PARAMETERS;
	if (too_small(&params[2], sizeof(tag)) ||
	    too_small(&params[3], sizeof(digest)))
		return TEE_ERROR_SHORT_BUFFER;
	if (!is_there(params[0]) || !is_there(params[2]) ||
	    !is_there(params[3]))
		return TEE_ERROR_BAD_PARAMETERS;
	res = sha256(params[0], digest);
	if (res)
		return res;

	request[0].memref.buffer = digest;
	request[0].memref.size = sizeof(digest);
	request[2].memref.buffer = tag;
	request[2].memref.size = sizeof(tag);
	types = TEE_PARAM_TYPES(TEE_PARAM_TYPE_MEMREF_INPUT,
				TEE_PARAM_TYPE_VALUE_OUTPUT,
				TEE_PARAM_TYPE_MEMREF_OUTPUT,
				TEE_PARAM_TYPE_NONE);
	res = TEE_InvokeTACommand(vault, TEE_TIMEOUT_INFINITE,
				  PTA_VAULT_CMD_STAMP, types, request, NULL);
	if (res)
		return res;

	params[1].value = request[1].value;
	TEE_MemMove(params[2].memref.buffer, tag, sizeof(tag));
	params[2].memref.size = sizeof(tag);
	TEE_MemMove(params[3].memref.buffer, digest, sizeof(digest));
	params[3].memref.size = sizeof(digest);

	return TEE_SUCCESS;
}

static TEE_Result verify(TEE_TASessionHandle vault, uint32_t types,
			 TEE_Param params[TEE_NUM_PARAMS])
{
	uint8_t digest[NOTARY_DIGEST_SIZE] = { };
	uint8_t tag[NOTARY_STAMP_SIZE] = { };
	TEE_Param request[TEE_NUM_PARAMS] = { };
	TEE_Result res = TEE_SUCCESS;

	if (types != TEE_PARAM_TYPES(TEE_PARAM_TYPE_MEMREF_INPUT,
				     TEE_PARAM_TYPE_VALUE_INPUT,
				     TEE_PARAM_TYPE_MEMREF_INPUT,
				     TEE_PARAM_TYPE_NONE) ||
	    params[2].memref.size != sizeof(tag) || !is_there(params[0]) ||
	    !is_there(params[2]))
		return TEE_ERROR_BAD_PARAMETERS;
	res = sha256(params[0], digest);
	if (res)
		return res;

	TEE_MemMove(tag, params[2].memref.buffer, sizeof(tag));
	request[0].memref.buffer = digest;
	request[0].memref.size = sizeof(digest);
	request[1].value = params[1].value;
	request[2].memref.buffer = tag;
	request[2].memref.size = sizeof(tag);

	return TEE_InvokeTACommand(vault, TEE_TIMEOUT_INFINITE,
				   PTA_VAULT_CMD_VERIFY, types, request, NULL);
}

TEE_Result TA_InvokeCommandEntryPoint(void *context, uint32_t command,
				      uint32_t types,
				      TEE_Param params[TEE_NUM_PARAMS])
{
	switch (command) {
	case TA_NOTARY_CMD_STAMP:
		return stamp(context, types, params);
	case TA_NOTARY_CMD_VERIFY:
		return verify(context, types, params);
	default:
		return TEE_ERROR_NOT_SUPPORTED;
	}
}
