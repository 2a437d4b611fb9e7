/*
 * A libnvidia-ml.so.1 for tests and labs. It serves what a text file describes (see the Go package comment for the
 * format) through the part of NVIDIA's ABI that Headroom calls, so that the real go-nvml loads it unchanged.
 *
 * The file is found through HEADROOM_NVMLTEST_FILE. Every call stats it (about 1 us) and reads it again when its inode,
 * size or time differ, so a writer that replaces it by rename is seen at the next call and never half written.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef int nvmlReturn_t;
typedef void *nvmlDevice_t;
typedef unsigned long long u64;

typedef struct { u64 total, free, used; } nvmlMemory_t;
typedef struct { unsigned version; u64 total, reserved, free, used; } nvmlMemory_v2_t;
typedef struct { unsigned gpu, memory; } nvmlUtilization_t;

enum {
	SUCCESS = 0,
	UNINITIALIZED = 1,
	INVALID_ARGUMENT = 2,
	NOT_FOUND = 6,
	INSUFFICIENT_SIZE = 7,
	DRIVER_NOT_LOADED = 9,
	GPU_IS_LOST = 15,
	ARGUMENT_VERSION_MISMATCH = 25,
	UNKNOWN = 999,
};

/* The Go side refuses to write more than these. */
enum { MAX_DEVICES = 64, MAX_FAULTS = 16, MAX_TEXT = 96, MAX_FILE = 1 << 20, MAX_LINE = 256 };

struct fault {
	char call[MAX_TEXT];
	int code;
	int hang_ms;
};

struct faults {
	int n;
	struct fault list[MAX_FAULTS];
};

struct device {
	char uuid[MAX_TEXT];
	char name[MAX_TEXT];
	u64 total, used;
	unsigned gpu_percent, memory_percent;
	struct faults faults;
};

struct machine {
	nvmlReturn_t state; /* SUCCESS, DRIVER_NOT_LOADED without a file, UNKNOWN with a malformed one */
	char driver[MAX_TEXT];
	struct faults faults;
	int n;
	struct device devices[MAX_DEVICES];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct machine machine;  /* guarded by lock */
static struct stat seen;        /* guarded by lock: the file that machine was read from */
static int have_seen;           /* guarded by lock */
static int references;          /* guarded by lock: nvmlInit minus nvmlShutdown */
static char slots[MAX_DEVICES]; /* a device's handle is the address of its slot */

static int copy_text(char *to, const char *from)
{
	if (*from == '\0' || strlen(from) >= MAX_TEXT)
		return -1;
	strcpy(to, from);
	return 0;
}

/* add_fault takes "CALL NUMBER"; a hang and an error for the same call are two entries, and both apply. */
static int add_fault(struct faults *to, const char *rest, int hang)
{
	struct fault f = {{0}, 0, 0};
	int number = 0;
	char extra;

	if (to->n == MAX_FAULTS || sscanf(rest, "%95s %d %c", f.call, &number, &extra) != 2)
		return -1;
	if (hang)
		f.hang_ms = number;
	else
		f.code = number;
	to->list[to->n++] = f;
	return 0;
}

static int parse_line(struct machine *m, char *line)
{
	struct device *d = m->n > 0 ? &m->devices[m->n - 1] : NULL;
	struct faults *faults = d ? &d->faults : &m->faults;
	char *rest = strchr(line, ' ');
	char extra;

	if (rest == NULL)
		return -1;
	*rest++ = '\0';
	if (strcmp(line, "driver") == 0)
		return copy_text(m->driver, rest);
	if (strcmp(line, "error") == 0)
		return add_fault(faults, rest, 0);
	if (strcmp(line, "hang") == 0)
		return add_fault(faults, rest, 1);
	if (strcmp(line, "device") == 0)
		return m->n == MAX_DEVICES ? -1 : copy_text(m->devices[m->n++].uuid, rest);
	if (d == NULL)
		return -1;
	if (strcmp(line, "name") == 0)
		return copy_text(d->name, rest);
	if (strcmp(line, "memory") == 0)
		return sscanf(rest, "%llu %llu %c", &d->total, &d->used, &extra) == 2 ? 0 : -1;
	if (strcmp(line, "utilization") == 0)
		return sscanf(rest, "%u %u %c", &d->gpu_percent, &d->memory_percent, &extra) == 2 ? 0 : -1;
	return -1;
}

static nvmlReturn_t parse(struct machine *m, FILE *f)
{
	char line[MAX_LINE];
	int first = 1;

	memset(m, 0, sizeof *m);
	while (fgets(line, sizeof line, f) != NULL) {
		size_t n = strlen(line);

		if (n == 0 || line[n - 1] != '\n')
			return UNKNOWN; /* too long, or cut off */
		line[n - 1] = '\0';
		if (first ? strcmp(line, "nvmltest 1") != 0 : parse_line(m, line) != 0)
			return UNKNOWN;
		first = 0;
	}
	return first || ferror(f) ? UNKNOWN : SUCCESS;
}

static int same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* refresh runs under lock. It remembers the stat of the opened file, not of the name: a rename in between is then seen next time. */
static void refresh(void)
{
	const char *path = getenv("HEADROOM_NVMLTEST_FILE");
	struct stat now;
	FILE *f;

	if (path == NULL || stat(path, &now) != 0 || !have_seen || !same_file(&now, &seen)) {
		have_seen = 0;
		machine.state = DRIVER_NOT_LOADED;
		f = path == NULL ? NULL : fopen(path, "re");
		if (f == NULL)
			return;
		if (fstat(fileno(f), &seen) == 0 && seen.st_size <= MAX_FILE) {
			have_seen = 1;
			machine.state = parse(&machine, f);
		}
		fclose(f);
	}
}

static void apply(const struct faults *faults, const char *call, int *hang_ms, int *code)
{
	for (int i = 0; i < faults->n; i++) {
		const struct fault *f = &faults->list[i];

		if (strcmp(f->call, call) != 0 && strcmp(f->call, "*") != 0)
			continue;
		*hang_ms = f->hang_ms > *hang_ms ? f->hang_ms : *hang_ms;
		*code = *code == SUCCESS ? f->code : *code;
	}
}

static void sleep_ms(int ms)
{
	struct timespec left = {ms / 1000, (ms % 1000) * 1000000L};

	while (ms > 0 && nanosleep(&left, &left) != 0 && errno == EINTR)
		;
}

/* enter is the common start of every call about the machine as a whole, or about one device when d is given. */
static nvmlReturn_t enter(const char *call, int initialised, nvmlDevice_t handle, struct device *d)
{
	int hang_ms = 0, code = SUCCESS;
	nvmlReturn_t ret;
	size_t slot = (uintptr_t)handle - (uintptr_t)slots; /* wraps to something huge for an address below */

	pthread_mutex_lock(&lock);
	refresh();
	ret = initialised && references == 0 ? UNINITIALIZED : machine.state;
	if (ret == SUCCESS && d != NULL) {
		if (slot >= MAX_DEVICES) {
			ret = INVALID_ARGUMENT;
		} else if (slot >= (size_t)machine.n) {
			ret = GPU_IS_LOST; /* it was there when the handle was given out */
		} else {
			*d = machine.devices[slot];
			apply(&d->faults, call, &hang_ms, &code);
		}
	}
	if (ret == SUCCESS) {
		apply(&machine.faults, call, &hang_ms, &code);
		ret = code;
	}
	pthread_mutex_unlock(&lock);
	sleep_ms(hang_ms); /* outside the lock: one hanging device leaves the others readable */
	return ret;
}

static nvmlReturn_t give_text(const char *from, char *to, unsigned length)
{
	if (to == NULL)
		return INVALID_ARGUMENT;
	if (strlen(from) >= length)
		return INSUFFICIENT_SIZE;
	strcpy(to, from);
	return SUCCESS;
}

static nvmlReturn_t init(const char *call)
{
	nvmlReturn_t ret = enter(call, 0, NULL, NULL);

	if (ret == SUCCESS) {
		pthread_mutex_lock(&lock);
		references++;
		pthread_mutex_unlock(&lock);
	}
	return ret;
}

nvmlReturn_t nvmlInit_v2(void) { return init("nvmlInit_v2"); }

nvmlReturn_t nvmlInitWithFlags(unsigned flags)
{
	(void)flags;
	return init("nvmlInitWithFlags");
}

/* nvmlShutdown works without a driver too, as NVIDIA's does. */
nvmlReturn_t nvmlShutdown(void)
{
	nvmlReturn_t ret = UNINITIALIZED;

	pthread_mutex_lock(&lock);
	if (references > 0) {
		references--;
		ret = SUCCESS;
	}
	pthread_mutex_unlock(&lock);
	return ret;
}

const char *nvmlErrorString(nvmlReturn_t code)
{
	switch (code) {
	case SUCCESS: return "Success";
	case UNINITIALIZED: return "Uninitialized";
	case INVALID_ARGUMENT: return "Invalid Argument";
	case 3: return "Not Supported";
	case 4: return "Insufficient Permissions";
	case NOT_FOUND: return "Not Found";
	case INSUFFICIENT_SIZE: return "Insufficient Size";
	case DRIVER_NOT_LOADED: return "Driver Not Loaded";
	case 10: return "Timeout";
	case 13: return "Function Not Found";
	case GPU_IS_LOST: return "GPU is lost";
	case 16: return "GPU requires reset";
	case 18: return "Driver/library version mismatch";
	case ARGUMENT_VERSION_MISMATCH: return "Argument version mismatch";
	default: return "Unknown Error";
	}
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned length)
{
	nvmlReturn_t ret = enter("nvmlSystemGetDriverVersion", 1, NULL, NULL);
	char driver[MAX_TEXT];

	if (ret != SUCCESS)
		return ret;
	pthread_mutex_lock(&lock);
	memcpy(driver, machine.driver, sizeof driver);
	pthread_mutex_unlock(&lock);
	return give_text(driver, version, length);
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count)
{
	nvmlReturn_t ret = enter("nvmlDeviceGetCount_v2", 1, NULL, NULL);

	if (ret != SUCCESS)
		return ret;
	if (count == NULL)
		return INVALID_ARGUMENT;
	pthread_mutex_lock(&lock);
	*count = (unsigned)machine.n;
	pthread_mutex_unlock(&lock);
	return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *handle)
{
	nvmlReturn_t ret;
	struct device d;
	int known;

	if (handle == NULL || index >= MAX_DEVICES) {
		ret = enter("nvmlDeviceGetHandleByIndex_v2", 1, NULL, NULL);
		return ret == SUCCESS ? INVALID_ARGUMENT : ret;
	}
	pthread_mutex_lock(&lock);
	refresh();
	known = (int)index < machine.n;
	pthread_mutex_unlock(&lock);
	ret = enter("nvmlDeviceGetHandleByIndex_v2", 1, known ? &slots[index] : NULL, known ? &d : NULL);
	if (ret == SUCCESS && !known)
		return INVALID_ARGUMENT;
	if (ret == SUCCESS)
		*handle = &slots[index];
	return ret;
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *handle)
{
	nvmlReturn_t ret = enter("nvmlDeviceGetHandleByUUID", 1, NULL, NULL);
	struct device d;
	int slot = -1;

	if (ret != SUCCESS)
		return ret;
	if (uuid == NULL || handle == NULL)
		return INVALID_ARGUMENT;
	pthread_mutex_lock(&lock);
	for (int i = 0; i < machine.n; i++)
		if (strcmp(machine.devices[i].uuid, uuid) == 0)
			slot = i;
	pthread_mutex_unlock(&lock);
	if (slot < 0)
		return NOT_FOUND;
	ret = enter("nvmlDeviceGetHandleByUUID", 1, &slots[slot], &d);
	if (ret == SUCCESS)
		*handle = &slots[slot];
	return ret;
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t handle, char *uuid, unsigned length)
{
	struct device d;
	nvmlReturn_t ret = enter("nvmlDeviceGetUUID", 1, handle, &d);

	return ret == SUCCESS ? give_text(d.uuid, uuid, length) : ret;
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t handle, char *name, unsigned length)
{
	struct device d;
	nvmlReturn_t ret = enter("nvmlDeviceGetName", 1, handle, &d);

	return ret == SUCCESS ? give_text(d.name, name, length) : ret;
}

nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t handle, unsigned *minor)
{
	struct device d;
	nvmlReturn_t ret = enter("nvmlDeviceGetMinorNumber", 1, handle, &d);

	if (ret != SUCCESS)
		return ret;
	if (minor == NULL)
		return INVALID_ARGUMENT;
	*minor = (unsigned)((char *)handle - slots);
	return SUCCESS;
}

/* reserved is what the driver keeps for itself: 1/128 of the memory, near what an H100 shows (about 0.6 of 80 GB). */
static u64 reserved(const struct device *d) { return d->total / 128; }

static u64 at_most(u64 value, u64 limit) { return value < limit ? value : limit; }

/* Version 1 counts the reserved memory as used, version 2 tells it apart; as in NVIDIA's. */
nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t handle, nvmlMemory_t *memory)
{
	struct device d;
	nvmlReturn_t ret = enter("nvmlDeviceGetMemoryInfo", 1, handle, &d);

	if (ret != SUCCESS)
		return ret;
	if (memory == NULL)
		return INVALID_ARGUMENT;
	memory->total = d.total;
	memory->used = at_most(d.used + reserved(&d), d.total);
	memory->free = d.total - memory->used;
	return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t handle, nvmlMemory_v2_t *memory)
{
	struct device d;
	nvmlReturn_t ret = enter("nvmlDeviceGetMemoryInfo_v2", 1, handle, &d);

	if (ret != SUCCESS)
		return ret;
	if (memory == NULL)
		return INVALID_ARGUMENT;
	if (memory->version != (sizeof(nvmlMemory_v2_t) | 2u << 24))
		return ARGUMENT_VERSION_MISMATCH;
	memory->total = d.total;
	memory->used = at_most(d.used, d.total);
	memory->reserved = at_most(reserved(&d), d.total - memory->used);
	memory->free = d.total - memory->used - memory->reserved;
	return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t handle, nvmlUtilization_t *rates)
{
	struct device d;
	nvmlReturn_t ret = enter("nvmlDeviceGetUtilizationRates", 1, handle, &d);

	if (ret != SUCCESS)
		return ret;
	if (rates == NULL)
		return INVALID_ARGUMENT;
	rates->gpu = d.gpu_percent;
	rates->memory = d.memory_percent;
	return SUCCESS;
}
