/* XID errors, delivered through event sets. */
#include <string.h>
#include <time.h>

#include "nvmltest.h"

enum {
	XID_CRITICAL_ERROR = 0x8,
	EVERY_TYPE = 0xFF9F, /* nvmlEventTypeAll */
	MAX_SETS = 64,
	POLL_US = 5000, /* how late an event may be: each poll stats the file, and every 1 ms would cost 2 % of a core */
};

struct event_set {
	int created;
	int registered[MAX_DEVICES];
	u64 last[MAX_DEVICES]; /* sequence of the device's last event that was delivered or came before registration */
};

typedef struct { struct event_set *handle; } nvmlEventSet_t;

typedef struct {
	nvmlDevice_t device;
	u64 eventType, eventData;
	unsigned gpuInstanceId, computeInstanceId;
} nvmlEventData_t;

static struct event_set sets[MAX_SETS]; /* guarded by the lock */

static int valid(const struct event_set *s)
{
	uintptr_t offset = (uintptr_t)s - (uintptr_t)sets;

	return offset < sizeof sets && offset % sizeof *sets == 0 && s->created;
}

API nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlEventSetCreate", HOST, NULL, &t);

	if (ret != SUCCESS)
		return ret;
	if (set == NULL)
		return leave(INVALID_ARGUMENT);
	for (int i = 0; i < MAX_SETS; i++) {
		if (sets[i].created)
			continue;
		memset(&sets[i], 0, sizeof sets[i]);
		sets[i].created = 1;
		set->handle = &sets[i];
		return leave(SUCCESS);
	}
	return leave(UNKNOWN);
}

API nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlEventSetFree", HOST, NULL, &t);

	if (ret != SUCCESS)
		return ret;
	if (!valid(set.handle))
		return leave(UNKNOWN);
	set.handle->created = 0;
	return leave(SUCCESS);
}

API nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t handle, u64 *types)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlDeviceGetSupportedEventTypes", GPU_ELSE_INVALID, handle, &t);

	if (ret != SUCCESS)
		return ret;
	if (types == NULL)
		return leave(INVALID_ARGUMENT);
	*types = XID_CRITICAL_ERROR;
	return leave(SUCCESS);
}

API nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t handle, u64 types, nvmlEventSet_t set)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlDeviceRegisterEvents", GPU, handle, &t);

	if (ret != SUCCESS)
		return ret;
	if (!valid(set.handle) || types == 0 || (types & ~(u64)EVERY_TYPE) != 0)
		return leave(INVALID_ARGUMENT);
	if (types != XID_CRITICAL_ERROR)
		return leave(NOT_SUPPORTED);
	if (set.handle->registered[t.index])
		return leave(SUCCESS); /* and what has happened since the first time is still to come */
	set.handle->registered[t.index] = 1;
	set.handle->last[t.index] = 0;
	for (unsigned i = 0; i < t.device->n_events; i++)
		if (t.device->events[i].sequence > set.handle->last[t.index])
			set.handle->last[t.index] = t.device->events[i].sequence;
	return leave(SUCCESS);
}

/* next returns the event of a device that comes first after last, or NULL. */
static const struct event *next(const struct device *d, u64 last)
{
	const struct event *found = NULL;

	for (unsigned i = 0; i < d->n_events; i++) {
		const struct event *e = &d->events[i];

		if (e->sequence > last && (found == NULL || e->sequence < found->sequence))
			found = e;
	}
	return found;
}

/* deliver runs under the lock and returns TIMEOUT if there is nothing. */
static nvmlReturn_t deliver(struct event_set *set, nvmlEventData_t *data)
{
	if (references == 0)
		return UNINITIALIZED;
	if (machine.state != SUCCESS)
		return machine.state;
	if (!valid(set))
		return INVALID_ARGUMENT;
	for (unsigned i = 0; i < MAX_DEVICES; i++) {
		const struct event *e;

		if (!set->registered[i])
			continue;
		if (i >= machine.n)
			return GPU_IS_LOST;
		e = next(&machine.devices[i], set->last[i]);
		if (e == NULL)
			continue;
		set->last[i] = e->sequence;
		*data = (nvmlEventData_t){handle_of(i, -1), XID_CRITICAL_ERROR, e->xid, e->gpu_instance, NO_INSTANCE};
		return SUCCESS;
	}
	return TIMEOUT;
}

static long long now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

/* Faults are those of the host, and of the time when it was called. */
API nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, unsigned timeout)
{
	struct target t;
	long long end = now_us() + timeout * 1000LL, left;
	nvmlReturn_t ret = enter("nvmlEventSetWait_v2", HOST, NULL, &t);

	if (ret != SUCCESS)
		return ret;
	if (data == NULL)
		return leave(INVALID_ARGUMENT);
	for (;;) {
		ret = leave(deliver(set.handle, data));
		left = end - now_us();
		if (ret != TIMEOUT || left <= 0)
			return ret;
		sleep_us(left < POLL_US ? left : POLL_US);
		look();
	}
}
