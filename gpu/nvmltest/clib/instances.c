/* MIG. */
#include "nvmltest.h"

#include <string.h>

typedef struct {
	unsigned multiprocessorCount, sharedCopyEngineCount, sharedDecoderCount, sharedEncoderCount, sharedJpegCount, sharedOfaCount,
		gpuInstanceSliceCount, computeInstanceSliceCount;
	u64 memorySizeMB;
} nvmlDeviceAttributes_t;

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t handle, unsigned *current, unsigned *pending)
{
	struct unit *u;
	nvmlReturn_t ret = ENTER_GPU(&u, handle);

	if (ret != SUCCESS)
		return ret;
	if (current == NULL || pending == NULL)
		return nvmltest_leave(INVALID_ARGUMENT);
	*current = *pending = (unsigned)u->mig;
	return nvmltest_leave(SUCCESS);
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t handle, unsigned *count)
{
	struct unit *u;
	nvmlReturn_t ret = ENTER_GPU(&u, handle);

	if (ret != SUCCESS)
		return ret;
	if (count == NULL)
		return nvmltest_leave(INVALID_ARGUMENT);
	*count = MAX_INSTANCES;
	return nvmltest_leave(SUCCESS);
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t handle, unsigned index, nvmlDevice_t *instance)
{
	struct unit *u;
	nvmlReturn_t ret = ENTER_GPU(&u, handle);

	if (ret != SUCCESS)
		return ret;
	if (instance == NULL || index >= MAX_INSTANCES)
		return nvmltest_leave(INVALID_ARGUMENT);
	if (index >= (unsigned)u->n_instances)
		return nvmltest_leave(NOT_FOUND);
	*instance = nvmltest_handle(nvmltest_instance((int)u->index, (int)index));
	return nvmltest_leave(SUCCESS);
}

/* enter_instance is enter for calls that only MIG instances support. */
static nvmlReturn_t enter_instance(const char *call, nvmlDevice_t handle, const void *result, struct unit **u)
{
	nvmlReturn_t ret = nvmltest_enter(call, handle, u);

	if (ret == SUCCESS && (result == NULL || (*u)->parent < 0))
		return nvmltest_leave(INVALID_ARGUMENT);
	return ret;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t handle, unsigned *id)
{
	struct unit *u;
	nvmlReturn_t ret = enter_instance(__func__, handle, id, &u);

	if (ret != SUCCESS)
		return ret;
	*id = u->gpu_instance;
	return nvmltest_leave(SUCCESS);
}

nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t handle, unsigned *id)
{
	struct unit *u;
	nvmlReturn_t ret = enter_instance(__func__, handle, id, &u);

	if (ret != SUCCESS)
		return ret;
	*id = u->compute_instance;
	return nvmltest_leave(SUCCESS);
}

nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t handle, nvmlDeviceAttributes_t *attributes)
{
	struct unit *u;
	nvmlReturn_t ret = enter_instance(__func__, handle, attributes, &u);

	if (ret != SUCCESS)
		return ret;
	memset(attributes, 0, sizeof *attributes);
	attributes->gpuInstanceSliceCount = attributes->computeInstanceSliceCount = u->slices;
	attributes->memorySizeMB = u->total >> 20;
	return nvmltest_leave(SUCCESS);
}

nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t handle, nvmlDevice_t *device)
{
	struct unit *u;
	nvmlReturn_t ret = enter_instance(__func__, handle, device, &u);

	if (ret != SUCCESS)
		return ret;
	*device = nvmltest_handle(u->parent);
	return nvmltest_leave(SUCCESS);
}

nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t handle, unsigned *is)
{
	struct unit *u;
	nvmlReturn_t ret = ENTER(&u, handle);

	if (ret != SUCCESS)
		return ret;
	if (is == NULL)
		return nvmltest_leave(INVALID_ARGUMENT);
	*is = u->parent >= 0;
	return nvmltest_leave(SUCCESS);
}
