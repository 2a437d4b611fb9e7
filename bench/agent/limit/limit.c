/*
 * The calls of a pass over the GPUs, from C: what a pass costs at least, with this driver. The library is the first
 * argument, the number of passes, one a second, the second.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

typedef void *device;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory;
typedef struct { unsigned long long stamp, value; } sample;
typedef struct { unsigned pid; unsigned long long stamp; unsigned sm, mem, enc, dec; } use;
typedef struct { unsigned pid; unsigned long long used; unsigned gi, ci; } process;
typedef struct { unsigned id; int ret; double value; char *names[3]; } metric;
typedef struct { unsigned version, n; void *first, *second; metric metrics[477]; } metrics;

static void *library;

static void *find(const char *name)
{
	void *f = dlsym(library, name);

	if (f == NULL) {
		fprintf(stderr, "no %s: %s\n", name, dlerror());
		exit(1);
	}
	return f;
}

#define CALL(name, types, ...) (((int (*) types)find(name))(__VA_ARGS__))

static void pass(device d, void *samples[2], unsigned long long seen[2])
{
	static const unsigned ids[] = {1, 2, 3, 5, 10, 174, 20, 21, 60, 61};
	static metrics m;
	static sample ring[128];
	static use uses[256];
	static process list[128];
	memory mem = {.version = sizeof(memory) | 2u << 24};
	unsigned n = 0, mps = 128;
	int kind = 0;

	CALL("nvmlDeviceGetSamples", (device, int, unsigned long long, int *, unsigned *, void *), d, 1, seen[0], &kind, &n, NULL);
	n = 128;
	if (CALL("nvmlDeviceGetSamples", (device, int, unsigned long long, int *, unsigned *, void *), d, 1, seen[0], &kind, &n, ring) == 0 && n > 0)
		seen[0] = ring[n - 1].stamp;
	CALL("nvmlDeviceGetMemoryInfo_v2", (device, memory *), d, &mem);
	CALL("nvmlGpmSampleGet", (device, void *), d, samples[1]);
	memset(&m, 0, sizeof m);
	m.version = 1;
	m.n = sizeof ids / sizeof *ids;
	m.first = samples[0];
	m.second = samples[1];
	for (unsigned i = 0; i < m.n; i++)
		m.metrics[i].id = ids[i];
	CALL("nvmlGpmMetricsGet", (metrics *), &m);
	void *swap = samples[0];
	samples[0] = samples[1];
	samples[1] = swap;
	n = 0;
	CALL("nvmlDeviceGetProcessUtilization", (device, void *, unsigned *, unsigned long long), d, NULL, &n, seen[1]);
	n = 256;
	if (CALL("nvmlDeviceGetProcessUtilization", (device, void *, unsigned *, unsigned long long), d, uses, &n, seen[1]) == 0 && n > 0)
		seen[1] = uses[n - 1].stamp;
	n = 128;
	CALL("nvmlDeviceGetComputeRunningProcesses_v3", (device, unsigned *, process *), d, &n, list);
	CALL("nvmlDeviceGetMPSComputeRunningProcesses_v3", (device, unsigned *, process *), d, &mps, list);
}

int main(int argc, char **argv)
{
	device devices[64];
	void *samples[64][2];
	unsigned long long seen[64][2] = {{0}};
	unsigned count = 0;
	struct rusage before, after;

	if (argc != 3 || (library = dlopen(argv[1], RTLD_LAZY)) == NULL) {
		fprintf(stderr, "usage: limit LIBRARY PASSES: %s\n", dlerror());
		return 1;
	}
	if (CALL("nvmlInit_v2", (void)) != 0 || CALL("nvmlDeviceGetCount_v2", (unsigned *), &count) != 0 || count > 64)
		return 1;
	for (unsigned i = 0; i < count; i++) {
		CALL("nvmlDeviceGetHandleByIndex_v2", (unsigned, device *), i, &devices[i]);
		for (int j = 0; j < 2; j++)
			CALL("nvmlGpmSampleAlloc", (void **), &samples[i][j]);
		CALL("nvmlGpmSampleGet", (device, void *), devices[i], samples[i][0]);
	}
	getrusage(RUSAGE_SELF, &before);
	for (int n = 0; n < atoi(argv[2]); n++) {
		sleep(1);
		CALL("nvmlDeviceGetCount_v2", (unsigned *), &count);
		for (unsigned i = 0; i < count; i++)
			pass(devices[i], samples[i], seen[i]);
	}
	getrusage(RUSAGE_SELF, &after);
	printf("%f\n", (after.ru_utime.tv_sec - before.ru_utime.tv_sec + after.ru_stime.tv_sec - before.ru_stime.tv_sec) * 1e3 +
	       (after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec - before.ru_stime.tv_usec) / 1e3);
	return 0;
}
