/* Who uses a GPU, and who did. */
#include <string.h>

#include "nvmltest.h"

typedef struct {
	unsigned pid;
	u64 usedGpuMemory;
} nvmlProcessInfo_v1_t;

typedef struct {
	unsigned pid;
	u64 usedGpuMemory;
	unsigned gpuInstanceId, computeInstanceId;
} nvmlProcessInfo_t; /* version 3; version 2 is the same */

typedef struct {
	unsigned gpuUtilization, memoryUtilization;
	u64 maxMemoryUsage, time, startTime;
	unsigned isRunning;
	unsigned reserved[5];
} nvmlAccountingStats_t;

/* list is where a call writes to: the array of one version or of the other. */
struct list {
	unsigned n, room;
	nvmlProcessInfo_v1_t *v1;
	nvmlProcessInfo_t *v3;
};

static void add(struct list *to, const struct unit *u, const struct instance *i, int mps)
{
	for (unsigned j = 0; j < u->n_processes; j++) {
		const struct process *p = &u->processes[j];
		unsigned at = to->n;

		if (p->mps != mps)
			continue;
		to->n++;
		if (at >= to->room)
			continue; /* only counted */
		if (to->v1 != NULL)
			to->v1[at] = (nvmlProcessInfo_v1_t){p->pid, p->bytes};
		else
			to->v3[at] = (nvmlProcessInfo_t){p->pid, p->bytes, i != NULL ? i->gpu_instance : NO_INSTANCE,
							 i != NULL ? i->compute_instance : NO_INSTANCE};
	}
}

/* The handle of a GPU in MIG mode lists its instances' processes too. */
static nvmlReturn_t list(const char *call, nvmlDevice_t handle, int mps, unsigned *count, struct list to)
{
	struct target t;
	nvmlReturn_t ret = enter(call, EITHER, handle, &t);

	if (ret != SUCCESS)
		return ret;
	if (count == NULL || (*count > 0 && to.v1 == NULL && to.v3 == NULL))
		return leave(INVALID_ARGUMENT);
	to.room = *count;
	add(&to, t.unit, t.instance, mps);
	for (unsigned i = 0; t.instance == NULL && i < t.device->n_instances; i++)
		add(&to, &t.device->instances[i].unit, &t.device->instances[i], mps);
	*count = to.n;
	return leave(to.n > to.room ? INSUFFICIENT_SIZE : SUCCESS);
}

API nvmlReturn_t nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t handle, unsigned *count, nvmlProcessInfo_v1_t *infos)
{
	return list("nvmlDeviceGetComputeRunningProcesses", handle, 0, count, (struct list){.v1 = infos});
}

API nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t handle, unsigned *count, nvmlProcessInfo_t *infos)
{
	return list("nvmlDeviceGetComputeRunningProcesses_v2", handle, 0, count, (struct list){.v3 = infos});
}

API nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t handle, unsigned *count, nvmlProcessInfo_t *infos)
{
	return list("nvmlDeviceGetComputeRunningProcesses_v3", handle, 0, count, (struct list){.v3 = infos});
}

API nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses(nvmlDevice_t handle, unsigned *count,
							 nvmlProcessInfo_v1_t *infos)
{
	return list("nvmlDeviceGetMPSComputeRunningProcesses", handle, 1, count, (struct list){.v1 = infos});
}

API nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses_v2(nvmlDevice_t handle, unsigned *count,
							    nvmlProcessInfo_t *infos)
{
	return list("nvmlDeviceGetMPSComputeRunningProcesses_v2", handle, 1, count, (struct list){.v3 = infos});
}

API nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses_v3(nvmlDevice_t handle, unsigned *count,
							    nvmlProcessInfo_t *infos)
{
	return list("nvmlDeviceGetMPSComputeRunningProcesses_v3", handle, 1, count, (struct list){.v3 = infos});
}

API nvmlReturn_t nvmlDeviceGetAccountingMode(nvmlDevice_t handle, int *mode)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlDeviceGetAccountingMode", GPU, handle, &t);

	if (ret != SUCCESS)
		return ret;
	if (mode == NULL)
		return leave(INVALID_ARGUMENT);
	*mode = t.device->accounting;
	return leave(SUCCESS);
}

API nvmlReturn_t nvmlDeviceGetAccountingStats(nvmlDevice_t handle, unsigned pid, nvmlAccountingStats_t *stats)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlDeviceGetAccountingStats", GPU, handle, &t);

	if (ret != SUCCESS)
		return ret;
	if (!t.device->accounting || stats == NULL)
		return leave(stats == NULL ? INVALID_ARGUMENT : NOT_SUPPORTED);
	for (unsigned i = t.device->n_accounts; i-- > 0;) { /* of several with one PID the latest counts */
		const struct account *a = &t.device->accounts[i];

		if (a->pid != pid)
			continue;
		memset(stats, 0, sizeof *stats);
		stats->gpuUtilization = stats->memoryUtilization = NOT_AVAILABLE;
		stats->maxMemoryUsage = a->max_bytes;
		stats->time = a->running ? 0 : 1; /* ms; 0 is what says that it still runs */
		stats->isRunning = (unsigned)a->running;
		return leave(SUCCESS);
	}
	return leave(NOT_FOUND);
}

API nvmlReturn_t nvmlDeviceGetAccountingPids(nvmlDevice_t handle, unsigned *count, unsigned *pids)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlDeviceGetAccountingPids", GPU, handle, &t);
	unsigned room;

	if (ret != SUCCESS)
		return ret;
	if (!t.device->accounting)
		return leave(NOT_SUPPORTED);
	if (count == NULL || (*count > 0 && pids == NULL))
		return leave(INVALID_ARGUMENT);
	room = *count;
	*count = t.device->n_accounts;
	if (room < t.device->n_accounts)
		return leave(INSUFFICIENT_SIZE);
	for (unsigned i = 0; i < t.device->n_accounts; i++)
		pids[i] = t.device->accounts[i].pid;
	return leave(SUCCESS);
}
