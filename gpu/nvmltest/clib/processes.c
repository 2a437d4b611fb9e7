/* The driver's rings of samples, processes and their accounts. */
#include "nvmltest.h"

#include <string.h>

typedef union { unsigned ui; u64 ull; } nvmlValue_t;
typedef struct { u64 timeStamp; nvmlValue_t sampleValue; } nvmlSample_t;
typedef struct {
	unsigned pid;
	u64 timeStamp;
	unsigned smUtil, memUtil, encUtil, decUtil;
} nvmlProcessUtilizationSample_t;
typedef struct { unsigned pid; u64 usedGpuMemory; } nvmlProcessInfo_v1_t;
typedef struct { unsigned pid; u64 usedGpuMemory; unsigned gpuInstanceId, computeInstanceId; } nvmlProcessInfo_t;
typedef struct {
	unsigned gpuUtilization, memoryUtilization;
	u64 maxMemoryUsage, time, startTime;
	unsigned isRunning, reserved[5];
} nvmlAccountingStats_t;

enum { GPU_UTILIZATION_SAMPLES = 1, VALUE_UNSIGNED_INT = 1 };

/* Entries with stamp 0 are placeholders; NVIDIA's driver gives them out when asked for everything. */
static int newer(u64 stamp, u64 seen) { return stamp > seen || (stamp == 0 && seen == 0); }

nvmlReturn_t nvmlDeviceGetSamples(nvmlDevice_t handle, int type, u64 seen, int *kind, unsigned *count, nvmlSample_t *samples)
{
	struct unit *u;
	nvmlReturn_t ret = ENTER_GPU(&u, handle);
	unsigned n = 0;

	if (ret != SUCCESS)
		return ret;
	if (kind == NULL || count == NULL)
		return nvmltest_leave(INVALID_ARGUMENT);
	if (u->mig || type != GPU_UTILIZATION_SAMPLES)
		return nvmltest_leave(NOT_SUPPORTED);
	for (int i = 0; i < u->n_ring; i++)
		n += (unsigned)newer(u->ring[i].stamp, seen);
	if (n == 0)
		return nvmltest_leave(NOT_FOUND);
	*kind = VALUE_UNSIGNED_INT;
	if (samples == NULL) {
		unsigned grow = (unsigned)nvmltest_grow(u, __func__);

		*count = n > grow ? n - grow : 1;
		return nvmltest_leave(SUCCESS);
	}
	if (*count < n)
		return nvmltest_leave(INSUFFICIENT_SIZE);
	n = 0;
	for (int i = 0; i < u->n_ring; i++) {
		if (!newer(u->ring[i].stamp, seen))
			continue;
		samples[n].timeStamp = u->ring[i].stamp;
		samples[n].sampleValue.ull = 0;
		samples[n++].sampleValue.ui = u->ring[i].percent;
	}
	*count = n;
	return nvmltest_leave(SUCCESS);
}

nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t handle, nvmlProcessUtilizationSample_t *samples, unsigned *count, u64 seen)
{
	struct unit *u;
	nvmlReturn_t ret = ENTER_GPU(&u, handle);
	unsigned n = 0, room;

	if (ret != SUCCESS)
		return ret;
	if (count == NULL)
		return nvmltest_leave(INVALID_ARGUMENT);
	if (u->mig)
		return nvmltest_leave(NOT_SUPPORTED);
	for (int i = 0; i < u->n_uses; i++)
		n += (unsigned)newer(u->uses[i].stamp, seen);
	if (n == 0)
		return nvmltest_leave(NOT_FOUND);
	room = *count;
	*count = n;
	if (samples == NULL) {
		unsigned grow = (unsigned)nvmltest_grow(u, __func__);

		*count = n > grow ? n - grow : 1;
		return nvmltest_leave(INSUFFICIENT_SIZE);
	}
	if (room < n)
		return nvmltest_leave(INSUFFICIENT_SIZE);
	n = 0;
	for (int i = 0; i < u->n_uses; i++)
		if (newer(u->uses[i].stamp, seen))
			samples[n++] = (nvmlProcessUtilizationSample_t){u->uses[i].pid, u->uses[i].stamp, u->uses[i].sm, u->uses[i].memory, 0, 0};
	return nvmltest_leave(SUCCESS);
}

/* list gives out the processes of one kind. The first form of the call knows no instances. */
static nvmlReturn_t list(const char *call, nvmlDevice_t handle, int mps, unsigned *count, nvmlProcessInfo_t *infos, nvmlProcessInfo_v1_t *first)
{
	struct unit *u;
	nvmlReturn_t ret = nvmltest_enter(call, handle, &u);
	unsigned n = 0, room;

	if (ret != SUCCESS)
		return ret;
	if (count == NULL || (*count > 0 && infos == NULL && first == NULL))
		return nvmltest_leave(INVALID_ARGUMENT);
	room = *count;
	for (int i = 0; i < u->n_processes; i++)
		n += u->processes[i].mps == mps;
	*count = n;
	if (n > room)
		return nvmltest_leave(INSUFFICIENT_SIZE);
	n = 0;
	for (int i = 0; i < u->n_processes; i++) {
		const struct process *p = &u->processes[i];

		if (p->mps != mps)
			continue;
		if (first != NULL)
			first[n++] = (nvmlProcessInfo_v1_t){p->pid, p->memory};
		else
			infos[n++] = (nvmlProcessInfo_t){p->pid, p->memory, u->parent < 0 ? NO_INSTANCE : u->gpu_instance,
			                                 u->parent < 0 ? NO_INSTANCE : u->compute_instance};
	}
	return nvmltest_leave(SUCCESS);
}

#define LIST(name, mps)                                                                                       \
	nvmlReturn_t name(nvmlDevice_t handle, unsigned *count, nvmlProcessInfo_v1_t *infos)                  \
	{                                                                                                     \
		return list(#name, handle, mps, count, NULL, infos);                                          \
	}                                                                                                     \
	nvmlReturn_t name##_v2(nvmlDevice_t handle, unsigned *count, nvmlProcessInfo_t *infos)                \
	{                                                                                                     \
		return list(#name "_v2", handle, mps, count, infos, NULL);                                    \
	}                                                                                                     \
	nvmlReturn_t name##_v3(nvmlDevice_t handle, unsigned *count, nvmlProcessInfo_t *infos)                \
	{                                                                                                     \
		return list(#name "_v3", handle, mps, count, infos, NULL);                                    \
	}

LIST(nvmlDeviceGetComputeRunningProcesses, 0)
LIST(nvmlDeviceGetMPSComputeRunningProcesses, 1)

nvmlReturn_t nvmlDeviceGetAccountingMode(nvmlDevice_t handle, int *mode)
{
	struct unit *u;
	nvmlReturn_t ret = ENTER_GPU(&u, handle);

	if (ret != SUCCESS)
		return ret;
	if (mode == NULL)
		return nvmltest_leave(INVALID_ARGUMENT);
	*mode = u->accounting;
	return nvmltest_leave(SUCCESS);
}

nvmlReturn_t nvmlDeviceGetAccountingStats(nvmlDevice_t handle, unsigned pid, nvmlAccountingStats_t *stats)
{
	struct unit *u;
	nvmlReturn_t ret = ENTER_GPU(&u, handle);

	if (ret != SUCCESS)
		return ret;
	if (stats == NULL)
		return nvmltest_leave(INVALID_ARGUMENT);
	if (!u->accounting)
		return nvmltest_leave(NOT_SUPPORTED);
	for (int i = 0; i < u->n_accounts; i++) {
		if (u->accounts[i].pid != pid)
			continue;
		memset(stats, 0, sizeof *stats);
		stats->maxMemoryUsage = u->accounts[i].peak;
		stats->isRunning = (unsigned)u->accounts[i].running;
		return nvmltest_leave(SUCCESS);
	}
	return nvmltest_leave(NOT_FOUND);
}

nvmlReturn_t nvmlDeviceGetAccountingPids(nvmlDevice_t handle, unsigned *count, unsigned *pids)
{
	struct unit *u;
	nvmlReturn_t ret = ENTER_GPU(&u, handle);
	unsigned room;

	if (ret != SUCCESS)
		return ret;
	if (count == NULL)
		return nvmltest_leave(INVALID_ARGUMENT);
	if (!u->accounting)
		return nvmltest_leave(NOT_SUPPORTED);
	room = *count;
	*count = (unsigned)u->n_accounts;
	if (pids == NULL || room < *count)
		return nvmltest_leave(INSUFFICIENT_SIZE);
	for (int i = 0; i < u->n_accounts; i++)
		pids[i] = u->accounts[i].pid;
	return nvmltest_leave(SUCCESS);
}
