/* Identity, memory and instantaneous rates. */
#include "nvmltest.h"

#include <stdio.h>
#include <string.h>

typedef struct { u64 total, free, used; } nvmlMemory_t;
typedef struct { unsigned version; u64 total, reserved, free, used; } nvmlMemory_v2_t;
typedef struct { unsigned gpu, memory; } nvmlUtilization_t;
typedef struct {
	char busIdLegacy[16];
	unsigned domain, bus, device, pciDeviceId, pciSubSystemId;
	char busId[32];
} nvmlPciInfo_t;

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned length)
{
	nvmlReturn_t ret = ENTER(NULL, NULL);

	return ret == SUCCESS ? nvmltest_leave(nvmltest_text(nvmltest_machine.driver, version, length)) : ret;
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count)
{
	nvmlReturn_t ret = ENTER(NULL, NULL);

	if (ret != SUCCESS)
		return ret;
	if (count == NULL)
		return nvmltest_leave(INVALID_ARGUMENT);
	*count = (unsigned)nvmltest_machine.n_devices;
	return nvmltest_leave(SUCCESS);
}

/* give hands out a handle, if the unit's own faults let it. */
static nvmlReturn_t give(const char *call, int unit, nvmlDevice_t *handle)
{
	struct unit *u;
	nvmlReturn_t ret = nvmltest_enter(call, nvmltest_handle(unit), &u);

	if (ret != SUCCESS)
		return ret;
	*handle = nvmltest_handle(unit);
	return nvmltest_leave(SUCCESS);
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *handle)
{
	nvmlReturn_t ret = ENTER(NULL, NULL);
	int unit = -1;

	if (ret != SUCCESS)
		return ret;
	if (handle != NULL && index < (unsigned)nvmltest_machine.n_devices)
		unit = (int)index;
	nvmltest_leave(SUCCESS);
	return unit < 0 ? INVALID_ARGUMENT : give(__func__, unit, handle);
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *handle)
{
	nvmlReturn_t ret = ENTER(NULL, NULL);
	int unit = -1;

	if (ret != SUCCESS)
		return ret;
	if (uuid == NULL || handle == NULL)
		return nvmltest_leave(INVALID_ARGUMENT);
	for (int i = 0; i < nvmltest_machine.n_devices; i++) {
		if (strcmp(nvmltest_machine.units[i].uuid, uuid) == 0)
			unit = i;
		for (int k = 0; k < nvmltest_machine.units[i].n_instances; k++)
			if (strcmp(nvmltest_machine.units[nvmltest_instance(i, k)].uuid, uuid) == 0)
				unit = nvmltest_instance(i, k);
	}
	nvmltest_leave(SUCCESS);
	return unit < 0 ? NOT_FOUND : give(__func__, unit, handle);
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t handle, char *uuid, unsigned length)
{
	struct unit *u;
	nvmlReturn_t ret = ENTER(&u, handle);

	return ret == SUCCESS ? nvmltest_leave(nvmltest_text(u->uuid, uuid, length)) : ret;
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t handle, char *name, unsigned length)
{
	struct unit *u;
	nvmlReturn_t ret = ENTER(&u, handle);

	return ret == SUCCESS ? nvmltest_leave(nvmltest_text(u->name, name, length)) : ret;
}

nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t handle, unsigned *minor)
{
	struct unit *u;
	nvmlReturn_t ret = ENTER_GPU(&u, handle);

	if (ret != SUCCESS)
		return ret;
	if (minor == NULL)
		return nvmltest_leave(INVALID_ARGUMENT);
	*minor = u->index;
	return nvmltest_leave(SUCCESS);
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t handle, nvmlPciInfo_t *pci)
{
	struct unit *u;
	nvmlReturn_t ret = ENTER_GPU(&u, handle);

	if (ret != SUCCESS)
		return ret;
	if (pci == NULL)
		return nvmltest_leave(INVALID_ARGUMENT);
	memset(pci, 0, sizeof *pci);
	snprintf(pci->busId, sizeof pci->busId, "%.31s", u->bus);
	if (sscanf(u->bus, "%x:%x:%x", &pci->domain, &pci->bus, &pci->device) == 3)
		snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "%04X:%02X:%02X.0", pci->domain & 0xFFFF, pci->bus & 0xFF, pci->device & 0xFF);
	return nvmltest_leave(SUCCESS);
}

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t handle, int *major, int *minor)
{
	struct unit *u;
	nvmlReturn_t ret = ENTER(&u, handle);

	if (ret != SUCCESS)
		return ret;
	if (major == NULL || minor == NULL)
		return nvmltest_leave(INVALID_ARGUMENT);
	*major = u->n_metrics > 0 ? 9 : 8; /* Hopper has the counters, Ampere does not */
	*minor = 0;
	return nvmltest_leave(SUCCESS);
}

/* reserved is what the driver keeps for itself: 1/128 of the memory, near what an H100 shows (about 0.6 of 80 GB). */
static u64 reserved(const struct unit *u) { return u->total / 128; }

static u64 at_most(u64 value, u64 limit) { return value < limit ? value : limit; }

/* Version 1 counts the reserved memory as used, version 2 tells it apart; as in NVIDIA's. */
nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t handle, nvmlMemory_t *memory)
{
	struct unit *u;
	nvmlReturn_t ret = ENTER(&u, handle);

	if (ret != SUCCESS)
		return ret;
	if (memory == NULL)
		return nvmltest_leave(INVALID_ARGUMENT);
	memory->total = u->total;
	memory->used = at_most(u->used + reserved(u), u->total);
	memory->free = u->total - memory->used;
	return nvmltest_leave(SUCCESS);
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t handle, nvmlMemory_v2_t *memory)
{
	struct unit *u;
	nvmlReturn_t ret = ENTER(&u, handle);

	if (ret != SUCCESS)
		return ret;
	if (memory == NULL)
		return nvmltest_leave(INVALID_ARGUMENT);
	if (memory->version != (sizeof(nvmlMemory_v2_t) | 2u << 24))
		return nvmltest_leave(ARGUMENT_VERSION_MISMATCH);
	memory->total = u->total;
	memory->used = at_most(u->used, u->total);
	memory->reserved = at_most(reserved(u), u->total - memory->used);
	memory->free = u->total - memory->used - memory->reserved;
	return nvmltest_leave(SUCCESS);
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t handle, nvmlUtilization_t *rates)
{
	struct unit *u;
	nvmlReturn_t ret = ENTER_GPU(&u, handle);

	if (ret != SUCCESS)
		return ret;
	if (u->mig)
		return nvmltest_leave(NOT_SUPPORTED); /* nvml.h: not while MIG is on */
	if (rates == NULL)
		return nvmltest_leave(INVALID_ARGUMENT);
	rates->gpu = u->gpu_percent;
	rates->memory = u->memory_percent;
	return nvmltest_leave(SUCCESS);
}
