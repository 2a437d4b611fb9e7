/*
 * A libnvidia-ml.so.1 for tests and labs. It serves what a text file describes (see the Go package comment for the
 * format) through the part of NVIDIA's ABI that Headroom calls, so that the real go-nvml loads it unchanged. Structs and
 * codes are those of NVIDIA's nvml.h.
 */
#ifndef NVMLTEST_H
#define NVMLTEST_H

#include <stddef.h>
#include <stdint.h>

typedef int nvmlReturn_t;
typedef void *nvmlDevice_t;
typedef unsigned long long u64;

enum {
	SUCCESS = 0,
	UNINITIALIZED = 1,
	INVALID_ARGUMENT = 2,
	NOT_SUPPORTED = 3,
	NOT_FOUND = 6,
	INSUFFICIENT_SIZE = 7,
	DRIVER_NOT_LOADED = 9,
	TIMEOUT = 10,
	GPU_IS_LOST = 15,
	ARGUMENT_VERSION_MISMATCH = 25,
	UNKNOWN = 999,
};

/* The Go side refuses to write more than these. A unit is a GPU or a MIG instance. */
enum {
	MAX_DEVICES = 64,
	MAX_INSTANCES = 8, /* of a GPU */
	MAX_UNITS = MAX_DEVICES * (1 + MAX_INSTANCES),
	MAX_FAULTS = 16,
	MAX_TEXT = 96,
	MAX_RING = 128,
	MAX_PROCESSES = 128,
	MAX_USES = 256,
	MAX_METRICS = 64,
	MAX_FIELDS = 64,
	MAX_EVENTS = 64,
	MAX_FILE = 1 << 20,
	MAX_LINE = 256,
};

#define NO_INSTANCE 0xFFFFFFFFu
#define NOT_AVAILABLE 0xFFFFFFFFFFFFFFFFull

struct fault {
	char call[MAX_TEXT];
	int code;
	int hang_ms;
	int grow; /* how much smaller the size of a ring is said to be than it is */
};

struct faults {
	int n;
	struct fault list[MAX_FAULTS];
};

struct process { unsigned pid; u64 memory; int mps; };
struct use { unsigned pid; u64 stamp; unsigned sm, memory; };
struct metric { unsigned id; double value; };
struct field { unsigned id; u64 value; };
struct account { unsigned pid; u64 peak; int running; };
struct event { u64 sequence, xid; unsigned instance; };

struct unit {
	char uuid[MAX_TEXT], name[MAX_TEXT], bus[MAX_TEXT];
	int parent;     /* unit of the GPU that a MIG instance is a part of; -1 for a GPU */
	unsigned index; /* of the GPU */
	u64 total, used;
	unsigned gpu_percent, memory_percent;
	int mig; /* MIG mode is on */
	int n_instances; /* of a GPU; where they are, nvmltest_instance says */
	unsigned gpu_instance, compute_instance, slices;
	unsigned power, power_limit, temperature, sm_clock, memory_clock;
	u64 reasons;
	int accounting;
	struct faults faults;
	int n_ring, n_processes, n_uses, n_metrics, n_fields, n_accounts, n_events;
	struct { u64 stamp; unsigned percent; } ring[MAX_RING];
	struct process processes[MAX_PROCESSES];
	struct use uses[MAX_USES];
	struct metric metrics[MAX_METRICS];
	struct field fields[MAX_FIELDS];
	struct account accounts[MAX_PROCESSES];
	struct event events[MAX_EVENTS];
};

struct machine {
	nvmlReturn_t state; /* SUCCESS, DRIVER_NOT_LOADED without a file, UNKNOWN with a malformed one */
	char driver[MAX_TEXT];
	struct faults faults;
	int n_devices;
	/* The GPUs, by index, and then MAX_INSTANCES places for the instances of each: a unit stays where it is, as handles do. */
	struct unit units[MAX_UNITS];
};

#pragma GCC visibility push(hidden) /* the rest is NVIDIA's interface */

extern struct machine nvmltest_machine; /* guarded by the lock that enter takes */

/*
 * enter is the start of every call: about the machine as a whole, or about one unit when u is given. After SUCCESS the
 * lock is held, and the call ends with leave.
 */
nvmlReturn_t nvmltest_enter(const char *call, nvmlDevice_t handle, struct unit **u);
nvmlReturn_t nvmltest_leave(nvmlReturn_t ret);

/* enter_gpu is enter for calls that MIG instances do not support. */
nvmlReturn_t nvmltest_enter_gpu(const char *call, nvmlDevice_t handle, struct unit **u);

nvmlDevice_t nvmltest_handle(int unit);
static inline int nvmltest_instance(int device, int i) { return MAX_DEVICES + device * MAX_INSTANCES + i; }
int nvmltest_grow(const struct unit *u, const char *call);
nvmlReturn_t nvmltest_parse(struct machine *m, int fd);
void nvmltest_sleep(int ms);
nvmlReturn_t nvmltest_text(const char *from, char *to, unsigned length);

#pragma GCC visibility pop

#define ENTER(u, handle) nvmltest_enter(__func__, handle, u)
#define ENTER_GPU(u, handle) nvmltest_enter_gpu(__func__, handle, u)

#endif
