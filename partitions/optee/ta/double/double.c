/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A trusted application that doubles the number in a shared buffer. */

#include <double_ta.h>
#include <string.h>
#include <tee_internal_api.h>

/* Of this instance: an instance is all sessions until the last one closes. */
static uint32_t sessions;

struct session {
	uint32_t doubled;
};

TEE_Result TA_CreateEntryPoint(void)
{
	DMSG("created");
	return TEE_SUCCESS;
}

void TA_DestroyEntryPoint(void)
{
	DMSG("destroyed after %"PRIu32" sessions", sessions);
}

TEE_Result TA_OpenSessionEntryPoint(uint32_t types,
				    TEE_Param params[TEE_NUM_PARAMS],
				    void **context)
{
	struct session *session = NULL;

	(void)params;
	if (types != TEE_PARAM_TYPES(TEE_PARAM_TYPE_NONE, TEE_PARAM_TYPE_NONE,
				     TEE_PARAM_TYPE_NONE, TEE_PARAM_TYPE_NONE))
		return TEE_ERROR_BAD_PARAMETERS;
	session = TEE_Malloc(sizeof(*session), TEE_MALLOC_FILL_ZERO);
	if (!session)
		return TEE_ERROR_OUT_OF_MEMORY;
	sessions++;
	*context = session;

	return TEE_SUCCESS;
}

void TA_CloseSessionEntryPoint(void *context)
{
	TEE_Free(context);
}

static TEE_Result double_number(struct session *session, uint32_t types,
				TEE_Param params[TEE_NUM_PARAMS])
{
	uint32_t number = 0;

	if (types != TEE_PARAM_TYPES(TEE_PARAM_TYPE_MEMREF_INOUT,
				     TEE_PARAM_TYPE_NONE, TEE_PARAM_TYPE_NONE,
				     TEE_PARAM_TYPE_NONE))
		return TEE_ERROR_BAD_PARAMETERS;
	if (params[0].memref.size < sizeof(number)) {
		params[0].memref.size = sizeof(number);
		return TEE_ERROR_SHORT_BUFFER;
	}
	if (params[0].memref.size > sizeof(number))
		return TEE_ERROR_EXCESS_DATA;
	/* A reference to nothing may claim any size. */
	if (!params[0].memref.buffer)
		return TEE_ERROR_BAD_PARAMETERS;

	/* Read once: the normal world may be writing there meanwhile. */
	memcpy(&number, params[0].memref.buffer, sizeof(number));
	if (__builtin_mul_overflow(number, 2, &number))
		return TEE_ERROR_OVERFLOW;
	memcpy(params[0].memref.buffer, &number, sizeof(number));
	session->doubled++;

	return TEE_SUCCESS;
}

static TEE_Result count(const struct session *session, uint32_t types,
			TEE_Param params[TEE_NUM_PARAMS])
{
	if (types != TEE_PARAM_TYPES(TEE_PARAM_TYPE_VALUE_OUTPUT,
				     TEE_PARAM_TYPE_NONE, TEE_PARAM_TYPE_NONE,
				     TEE_PARAM_TYPE_NONE))
		return TEE_ERROR_BAD_PARAMETERS;
	params[0].value.a = session->doubled;
	params[0].value.b = sessions;

	return TEE_SUCCESS;
}

TEE_Result TA_InvokeCommandEntryPoint(void *context, uint32_t command,
				      uint32_t types,
				      TEE_Param params[TEE_NUM_PARAMS])
{
	switch (command) {
	case TA_DOUBLE_CMD_DOUBLE:
		return double_number(context, types, params);
	case TA_DOUBLE_CMD_COUNT:
		return count(context, types, params);
	default:
		return TEE_ERROR_NOT_SUPPORTED;
	}
}
