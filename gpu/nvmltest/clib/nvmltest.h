/*
 * A libnvidia-ml.so.1 for tests and labs. It serves what a text file describes (see the Go package comment for the
 * format) through the part of NVIDIA's ABI that a GPU agent calls, so that the real go-nvml loads it unchanged.
 *
 * Names that begin with nvml are NVIDIA's, with the layouts, values and return codes of go-nvml's nvml.h.
 */
#ifndef NVMLTEST_H
#define NVMLTEST_H

#include <stddef.h>
#include <stdint.h>

/* The library is compiled with -fvisibility=hidden: only what is NVIDIA's is seen by others. */
#define API __attribute__((visibility("default")))

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
	OUT_OF_MEMORY = 20,
	ARGUMENT_VERSION_MISMATCH = 25,
	UNKNOWN = 999,
};

#define NO_INSTANCE 0xFFFFFFFFu   /* the ID of a GPU or compute instance where there is none */
#define NOT_AVAILABLE 0xFFFFFFFFu /* NVML_VALUE_NOT_AVAILABLE as a 32-bit number */

/* The Go side refuses to write more than these. */
enum {
	MAX_DEVICES = 64,
	MAX_INSTANCES = 8,
	MAX_FAULTS = 16,
	MAX_RING = 128,
	MAX_PROCESSES = 128,
	MAX_PROCESS_SAMPLES = 256,
	MAX_GPM = 64,
	MAX_FIELDS = 64,
	MAX_ACCOUNTS = 128,
	MAX_EVENTS = 64,
	MAX_TEXT = 96,
	MAX_LINE = 256,
	MAX_FILE = 8 << 20, /* what the others allow is less */
};

struct fault {
	char call[MAX_TEXT];
	int code;
	int hang_ms;
	int grow;
};

struct faults {
	int n;
	struct fault list[MAX_FAULTS];
};

struct process {
	unsigned pid;
	int mps;
	u64 bytes; /* all ones: not available */
};

struct metric {
	unsigned id;
	double value;
};

/* unit is what a GPU and a MIG instance have in common. */
struct unit {
	char uuid[MAX_TEXT];
	char name[MAX_TEXT];
	u64 total, used;
	struct faults faults;
	unsigned n_processes, n_gpm;
	struct process processes[MAX_PROCESSES];
	struct metric gpm[MAX_GPM];
};

struct instance {
	struct unit unit;
	unsigned gpu_instance, compute_instance, slices;
};

struct ring_sample {
	u64 stamp;
	unsigned percent;
};

struct process_sample {
	u64 stamp;
	unsigned pid, sm, memory;
};

struct field {
	unsigned id;
	u64 value;
};

struct account {
	unsigned pid;
	int running;
	u64 max_bytes;
};

struct event {
	u64 sequence, xid;
	unsigned gpu_instance;
};

struct device {
	struct unit unit;
	unsigned gpu_percent, memory_percent;
	unsigned domain;
	unsigned char bus, slot;
	unsigned power, power_limit, temperature, sm_clock, memory_clock;
	u64 clock_reasons;
	int accounting, mig;
	unsigned n_ring, n_process_samples, n_fields, n_accounts, n_events, n_instances;
	struct ring_sample ring[MAX_RING];
	struct process_sample process_samples[MAX_PROCESS_SAMPLES];
	struct field fields[MAX_FIELDS];
	struct account accounts[MAX_ACCOUNTS];
	struct event events[MAX_EVENTS];
	struct instance instances[MAX_INSTANCES]; /* last, so that a device without any is cleared without them */
};

struct machine {
	nvmlReturn_t state; /* SUCCESS, DRIVER_NOT_LOADED without a file, UNKNOWN with a malformed one */
	char driver[MAX_TEXT];
	struct faults faults;
	unsigned n;
	struct device devices[MAX_DEVICES];
};

/*
 * kind says what a call takes. Where nvml.h lists NVML_ERROR_NOT_SUPPORTED for a call, that is what the wrong kind of
 * handle gets, and NVML_ERROR_INVALID_ARGUMENT elsewhere.
 */
enum kind {
	BEFORE_INIT,       /* no handle, and no nvmlInit either */
	HOST,              /* no handle */
	EITHER,            /* a GPU or a MIG instance */
	GPU,               /* else NOT_SUPPORTED */
	GPU_ELSE_INVALID,
	INSTANCE,          /* else NOT_SUPPORTED */
};

/* target is what a handle means while the lock is held. */
struct target {
	struct device *device;
	struct instance *instance; /* NULL for a GPU */
	struct unit *unit;         /* the instance's or the device's */
	unsigned index;            /* the device's */
	unsigned grow;             /* the sum of what "grow" says of the call */
};

extern struct machine machine; /* guarded by the lock that enter takes */
extern int references;         /* guarded by the same: nvmlInit minus nvmlShutdown */

/*
 * enter is the start of every call. It reads the file if it is another one, applies the faults (which may sleep, without
 * the lock: one hanging device leaves the others readable), and on SUCCESS leaves the lock taken for leave to release.
 */
nvmlReturn_t enter(const char *call, enum kind kind, nvmlDevice_t handle, struct target *t);

/* leave releases the lock and returns ret. */
nvmlReturn_t leave(nvmlReturn_t ret);

/* look takes the lock and reads the file if it is another one, whatever state it is in. */
void look(void);

/* handle_of returns the handle of a device, or of its instance if that is not negative. */
nvmlDevice_t handle_of(unsigned device, int instance);

nvmlReturn_t give_text(const char *from, char *to, unsigned length);

void sleep_us(long long us);

/* parse reads the file open at fd into m. */
nvmlReturn_t parse(struct machine *m, int fd, size_t size);

int supports_gpm(const struct device *d);

#endif
