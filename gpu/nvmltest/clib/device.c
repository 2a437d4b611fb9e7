/* The library itself, and what a device is. */
#include <stdio.h>
#include <string.h>

#include "nvmltest.h"

typedef struct { u64 total, free, used; } nvmlMemory_t;
typedef struct { unsigned version; u64 total, reserved, free, used; } nvmlMemory_v2_t;

typedef struct {
	char busIdLegacy[16];
	unsigned domain, bus, device, pciDeviceId, pciSubSystemId;
	char busId[32];
} nvmlPciInfo_t;

static nvmlReturn_t init(const char *call)
{
	struct target t;
	nvmlReturn_t ret = enter(call, BEFORE_INIT, NULL, &t);

	if (ret != SUCCESS)
		return ret;
	references++;
	return leave(SUCCESS);
}

API nvmlReturn_t nvmlInit_v2(void) { return init("nvmlInit_v2"); }

API nvmlReturn_t nvmlInitWithFlags(unsigned flags)
{
	(void)flags;
	return init("nvmlInitWithFlags");
}

/* nvmlShutdown works without a driver too, as NVIDIA's does. */
API nvmlReturn_t nvmlShutdown(void)
{
	look();
	if (references == 0)
		return leave(UNINITIALIZED);
	references--;
	return leave(SUCCESS);
}

API const char *nvmlErrorString(nvmlReturn_t code)
{
	switch (code) {
	case SUCCESS: return "Success";
	case UNINITIALIZED: return "Uninitialized";
	case INVALID_ARGUMENT: return "Invalid Argument";
	case NOT_SUPPORTED: return "Not Supported";
	case 4: return "Insufficient Permissions";
	case NOT_FOUND: return "Not Found";
	case INSUFFICIENT_SIZE: return "Insufficient Size";
	case DRIVER_NOT_LOADED: return "Driver Not Loaded";
	case TIMEOUT: return "Timeout";
	case 13: return "Function Not Found";
	case GPU_IS_LOST: return "GPU is lost";
	case 16: return "GPU requires reset";
	case 18: return "Driver/library version mismatch";
	case OUT_OF_MEMORY: return "Insufficient Memory";
	case ARGUMENT_VERSION_MISMATCH: return "Argument version mismatch";
	default: return "Unknown Error";
	}
}

API nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned length)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlSystemGetDriverVersion", HOST, NULL, &t);

	return ret == SUCCESS ? leave(give_text(machine.driver, version, length)) : ret;
}

API nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlDeviceGetCount_v2", HOST, NULL, &t);

	if (ret != SUCCESS)
		return ret;
	if (count == NULL)
		return leave(INVALID_ARGUMENT);
	*count = machine.n;
	return leave(SUCCESS);
}

/* give_handle is the end of both calls that look for a device: found is NULL if there is none, which absent says. */
static nvmlReturn_t give_handle(const char *call, nvmlDevice_t found, nvmlReturn_t absent, nvmlDevice_t *to)
{
	struct target t;
	nvmlReturn_t ret = enter(call, found != NULL ? EITHER : HOST, found, &t);

	if (ret != SUCCESS)
		return ret;
	if (to == NULL || found == NULL)
		return leave(to == NULL ? INVALID_ARGUMENT : absent);
	*to = found;
	return leave(SUCCESS);
}

API nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *to)
{
	nvmlDevice_t found;

	look();
	found = machine.state == SUCCESS && index < machine.n ? handle_of(index, -1) : NULL;
	leave(SUCCESS);
	return give_handle("nvmlDeviceGetHandleByIndex_v2", found, INVALID_ARGUMENT, to);
}

static nvmlDevice_t named(const char *uuid)
{
	for (unsigned i = 0; i < machine.n; i++) {
		const struct device *d = &machine.devices[i];

		if (strcmp(d->unit.uuid, uuid) == 0)
			return handle_of(i, -1);
		for (unsigned j = 0; j < d->n_instances; j++)
			if (strcmp(d->instances[j].unit.uuid, uuid) == 0)
				return handle_of(i, (int)j);
	}
	return NULL;
}

API nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *to)
{
	nvmlDevice_t found;

	look();
	found = machine.state == SUCCESS && uuid != NULL ? named(uuid) : NULL;
	leave(SUCCESS);
	return give_handle("nvmlDeviceGetHandleByUUID", found, uuid == NULL ? INVALID_ARGUMENT : NOT_FOUND, to);
}

API nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t handle, char *uuid, unsigned length)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlDeviceGetUUID", EITHER, handle, &t);

	return ret == SUCCESS ? leave(give_text(t.unit->uuid, uuid, length)) : ret;
}

API nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t handle, char *name, unsigned length)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlDeviceGetName", EITHER, handle, &t);

	return ret == SUCCESS ? leave(give_text(t.unit->name, name, length)) : ret;
}

API nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t handle, unsigned *minor)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlDeviceGetMinorNumber", GPU, handle, &t);

	if (ret != SUCCESS)
		return ret;
	if (minor == NULL)
		return leave(INVALID_ARGUMENT);
	*minor = t.index;
	return leave(SUCCESS);
}

API nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t handle, nvmlPciInfo_t *pci)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlDeviceGetPciInfo_v3", GPU_ELSE_INVALID, handle, &t);

	if (ret != SUCCESS)
		return ret;
	if (pci == NULL)
		return leave(INVALID_ARGUMENT);
	memset(pci, 0, sizeof *pci);
	pci->domain = t.device->domain;
	pci->bus = t.device->bus;
	pci->device = t.device->slot;
	pci->pciDeviceId = 0x10DE; /* the vendor; the product is not told */
	snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "%04X:%02X:%02X.0", t.device->domain & 0xFFFF, t.device->bus,
		 t.device->slot);
	snprintf(pci->busId, sizeof pci->busId, "%08X:%02X:%02X.0", t.device->domain, t.device->bus, t.device->slot);
	return leave(SUCCESS);
}

int supports_gpm(const struct device *d)
{
	unsigned n = d->unit.n_gpm;

	for (unsigned i = 0; i < d->n_instances; i++)
		n += d->instances[i].unit.n_gpm;
	return n > 0;
}

/* NVIDIA's GPUs have GPM from Hopper on, which is 9.0; 8.0 is the A100. */
API nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t handle, int *major, int *minor)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlDeviceGetCudaComputeCapability", GPU_ELSE_INVALID, handle, &t);

	if (ret != SUCCESS)
		return ret;
	if (major == NULL || minor == NULL)
		return leave(INVALID_ARGUMENT);
	*major = supports_gpm(t.device) ? 9 : 8;
	*minor = 0;
	return leave(SUCCESS);
}

/* reserved is what the driver keeps for itself: 1/128 of the memory, near what an H100 shows (about 0.6 of 80 GB). */
static u64 reserved(const struct unit *u) { return u->total / 128; }

static u64 at_most(u64 value, u64 limit) { return value < limit ? value : limit; }

/* Version 1 counts the reserved memory as used, version 2 tells it apart; as in NVIDIA's. */
API nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t handle, nvmlMemory_t *memory)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlDeviceGetMemoryInfo", EITHER, handle, &t);

	if (ret != SUCCESS)
		return ret;
	if (memory == NULL)
		return leave(INVALID_ARGUMENT);
	memory->total = t.unit->total;
	memory->used = at_most(t.unit->used + reserved(t.unit), t.unit->total);
	memory->free = memory->total - memory->used;
	return leave(SUCCESS);
}

API nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t handle, nvmlMemory_v2_t *memory)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlDeviceGetMemoryInfo_v2", EITHER, handle, &t);

	if (ret != SUCCESS)
		return ret;
	if (memory == NULL)
		return leave(INVALID_ARGUMENT);
	if (memory->version != (sizeof(nvmlMemory_v2_t) | 2u << 24))
		return leave(ARGUMENT_VERSION_MISMATCH);
	memory->total = t.unit->total;
	memory->used = at_most(t.unit->used, t.unit->total);
	memory->reserved = at_most(reserved(t.unit), t.unit->total - memory->used);
	memory->free = memory->total - memory->used - memory->reserved;
	return leave(SUCCESS);
}
