/* MIG: instances of a GPU with handles of their own. */
#include <string.h>

#include "nvmltest.h"

typedef struct {
	unsigned multiprocessorCount, sharedCopyEngineCount, sharedDecoderCount, sharedEncoderCount, sharedJpegCount;
	unsigned sharedOfaCount, gpuInstanceSliceCount, computeInstanceSliceCount;
	u64 memorySizeMB;
} nvmlDeviceAttributes_t;

API nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t handle, unsigned *current, unsigned *pending)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlDeviceGetMigMode", GPU, handle, &t);

	if (ret != SUCCESS)
		return ret;
	if (current == NULL || pending == NULL)
		return leave(INVALID_ARGUMENT);
	*current = *pending = (unsigned)t.device->mig;
	return leave(SUCCESS);
}

API nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t handle, unsigned *count)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlDeviceGetMaxMigDeviceCount", GPU_ELSE_INVALID, handle, &t);

	if (ret != SUCCESS)
		return ret;
	if (count == NULL)
		return leave(INVALID_ARGUMENT);
	*count = t.device->mig ? MAX_INSTANCES : 0;
	return leave(SUCCESS);
}

API nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t handle, unsigned index, nvmlDevice_t *to)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlDeviceGetMigDeviceHandleByIndex", GPU, handle, &t);

	if (ret != SUCCESS)
		return ret;
	if (to == NULL || index >= MAX_INSTANCES)
		return leave(INVALID_ARGUMENT);
	if (index >= t.device->n_instances)
		return leave(NOT_FOUND);
	*to = handle_of(t.index, (int)index);
	return leave(SUCCESS);
}

/* give_id serves the member of struct instance at offset. */
static nvmlReturn_t give_id(const char *call, nvmlDevice_t handle, unsigned *id, size_t offset)
{
	struct target t;
	nvmlReturn_t ret = enter(call, INSTANCE, handle, &t);

	if (ret != SUCCESS)
		return ret;
	if (id == NULL)
		return leave(INVALID_ARGUMENT);
	*id = *(const unsigned *)((const char *)t.instance + offset);
	return leave(SUCCESS);
}

API nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t handle, unsigned *id)
{
	return give_id("nvmlDeviceGetGpuInstanceId", handle, id, offsetof(struct instance, gpu_instance));
}

API nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t handle, unsigned *id)
{
	return give_id("nvmlDeviceGetComputeInstanceId", handle, id, offsetof(struct instance, compute_instance));
}

API nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t handle, unsigned *is)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlDeviceIsMigDeviceHandle", EITHER, handle, &t);

	if (ret != SUCCESS)
		return ret;
	if (is == NULL)
		return leave(INVALID_ARGUMENT);
	*is = t.instance != NULL;
	return leave(SUCCESS);
}

API nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t handle, nvmlDeviceAttributes_t *attributes)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlDeviceGetAttributes_v2", INSTANCE, handle, &t);

	if (ret != SUCCESS)
		return ret;
	if (attributes == NULL)
		return leave(INVALID_ARGUMENT);
	memset(attributes, 0, sizeof *attributes);
	attributes->gpuInstanceSliceCount = t.instance->slices;
	attributes->computeInstanceSliceCount = t.instance->slices;
	attributes->memorySizeMB = t.unit->total >> 20;
	return leave(SUCCESS);
}

API nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t handle, nvmlDevice_t *to)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", INSTANCE, handle, &t);

	if (ret != SUCCESS)
		return ret;
	if (to == NULL)
		return leave(INVALID_ARGUMENT);
	*to = handle_of(t.index, -1);
	return leave(SUCCESS);
}
