/* Event sets: what happened to a GPU since it was registered. */
#include "nvmltest.h"

#include <stdlib.h>
#include <string.h>

#define XID_CRITICAL_ERROR 0x8ull

typedef struct {
	nvmlDevice_t device;
	u64 eventType, eventData;
	unsigned gpuInstanceId, computeInstanceId;
} nvmlEventData_t;

/* A set remembers by UUID which of a GPU's events it has given out, so that it survives other GPUs' coming and going. */
struct set {
	int n;
	struct { char uuid[MAX_TEXT]; u64 given; } registered[MAX_DEVICES];
};

nvmlReturn_t nvmlEventSetCreate(struct set **set)
{
	nvmlReturn_t ret = ENTER(NULL, NULL);

	if (ret != SUCCESS)
		return ret;
	nvmltest_leave(SUCCESS);
	if (set == NULL)
		return INVALID_ARGUMENT;
	*set = calloc(1, sizeof **set);
	return *set == NULL ? UNKNOWN : SUCCESS;
}

nvmlReturn_t nvmlEventSetFree(struct set *set)
{
	if (set == NULL)
		return INVALID_ARGUMENT;
	free(set);
	return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t handle, u64 *types)
{
	struct unit *u;
	nvmlReturn_t ret = ENTER_GPU(&u, handle);

	if (ret != SUCCESS)
		return ret;
	if (types == NULL)
		return nvmltest_leave(INVALID_ARGUMENT);
	*types = XID_CRITICAL_ERROR;
	return nvmltest_leave(SUCCESS);
}

nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t handle, u64 types, struct set *set)
{
	struct unit *u;
	nvmlReturn_t ret = ENTER_GPU(&u, handle);

	if (ret != SUCCESS)
		return ret;
	if (set == NULL || set->n == MAX_DEVICES)
		return nvmltest_leave(INVALID_ARGUMENT);
	if ((types & ~XID_CRITICAL_ERROR) != 0)
		return nvmltest_leave(NOT_SUPPORTED);
	strcpy(set->registered[set->n].uuid, u->uuid);
	set->registered[set->n].given = 0;
	for (int i = 0; i < u->n_events; i++) /* of before */
		if (u->events[i].sequence > set->registered[set->n].given)
			set->registered[set->n].given = u->events[i].sequence;
	set->n++;
	return nvmltest_leave(SUCCESS);
}

/* next runs under the lock. It gives out the oldest event that the set has not given out. */
static int next(struct set *set, nvmlEventData_t *data)
{
	for (int i = 0; i < nvmltest_machine.n_devices; i++) {
		struct unit *u = &nvmltest_machine.units[i];

		for (int j = 0; j < set->n; j++) {
			if (strcmp(set->registered[j].uuid, u->uuid) != 0)
				continue;
			for (int k = 0; k < u->n_events; k++) {
				if (u->events[k].sequence <= set->registered[j].given)
					continue;
				set->registered[j].given = u->events[k].sequence;
				*data = (nvmlEventData_t){nvmltest_handle(i), XID_CRITICAL_ERROR, u->events[k].xid,
				                          u->events[k].instance, NO_INSTANCE};
				return 1;
			}
		}
	}
	return 0;
}

nvmlReturn_t nvmlEventSetWait_v2(struct set *set, nvmlEventData_t *data, unsigned timeout_ms)
{
	for (unsigned waited = 0;; waited++) {
		nvmlReturn_t ret = ENTER(NULL, NULL);
		int found;

		if (ret != SUCCESS)
			return ret;
		if (set == NULL || data == NULL)
			return nvmltest_leave(INVALID_ARGUMENT);
		found = next(set, data);
		nvmltest_leave(SUCCESS);
		if (found)
			return SUCCESS;
		if (waited >= timeout_ms)
			return TIMEOUT;
		nvmltest_sleep(1);
	}
}
