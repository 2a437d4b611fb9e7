/*
 * The machine, and the start and end of every call. The file is found through HEADROOM_NVMLTEST_FILE. Every call stats it
 * (about 1 us) and reads it again when its inode, size or time differ, so a writer that replaces it by rename is seen at
 * the next call and never half written.
 */
#include "nvmltest.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct machine nvmltest_machine;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct stat seen;      /* guarded by lock: the file that the machine was read from */
static int have_seen;         /* guarded by lock */
static int references;        /* guarded by lock: nvmlInit minus nvmlShutdown */
static char slots[MAX_UNITS]; /* a unit's handle is the address of its slot */

nvmlDevice_t nvmltest_handle(int unit) { return &slots[unit]; }

static int same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* refresh runs under lock. It remembers the stat of the opened file, not of the name: a rename in between is then seen next time. */
static void refresh(void)
{
	const char *path = getenv("HEADROOM_NVMLTEST_FILE");
	struct machine *m = &nvmltest_machine;
	struct stat now;
	int fd;

	if (path != NULL && stat(path, &now) == 0 && have_seen && same_file(&now, &seen))
		return;
	have_seen = 0;
	m->state = DRIVER_NOT_LOADED;
	fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (fstat(fd, &seen) != 0 || seen.st_size > MAX_FILE) {
		close(fd);
		return;
	}
	have_seen = 1;
	m->state = nvmltest_parse(m, fd);
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

int nvmltest_grow(const struct unit *u, const char *call)
{
	for (int i = 0; i < u->faults.n; i++)
		if (u->faults.list[i].grow > 0 && strcmp(u->faults.list[i].call, call) == 0)
			return u->faults.list[i].grow;
	return 0;
}

void nvmltest_sleep(int ms)
{
	struct timespec left = {ms / 1000, (ms % 1000) * 1000000L};

	while (ms > 0 && nanosleep(&left, &left) != 0 && errno == EINTR)
		;
}

/* find runs under lock. Of what is no longer there a handle was good once: a GPU is lost, an instance is not found. */
static nvmlReturn_t find(nvmlDevice_t handle, struct unit **u)
{
	const struct machine *m = &nvmltest_machine;
	size_t slot = (uintptr_t)handle - (uintptr_t)slots; /* wraps to something huge for an address below */

	if (slot >= MAX_UNITS)
		return INVALID_ARGUMENT;
	if (slot >= MAX_DEVICES) {
		size_t device = (slot - MAX_DEVICES) / MAX_INSTANCES, i = (slot - MAX_DEVICES) % MAX_INSTANCES;

		if (device >= (size_t)m->n_devices || i >= (size_t)m->units[device].n_instances)
			return NOT_FOUND;
	} else if (slot >= (size_t)m->n_devices) {
		return GPU_IS_LOST;
	}
	*u = &nvmltest_machine.units[slot];
	return SUCCESS;
}

static nvmlReturn_t start(const char *call, int initialised, nvmlDevice_t handle, struct unit **u)
{
	int hang_ms = 0, code = SUCCESS;
	nvmlReturn_t ret;

	pthread_mutex_lock(&lock);
	refresh();
	ret = initialised && references == 0 ? UNINITIALIZED : nvmltest_machine.state;
	if (ret == SUCCESS && u != NULL && (ret = find(handle, u)) == SUCCESS)
		apply(&(*u)->faults, call, &hang_ms, &code);
	if (ret == SUCCESS) {
		apply(&nvmltest_machine.faults, call, &hang_ms, &code);
		ret = code;
	}
	if (hang_ms > 0) {
		pthread_mutex_unlock(&lock);
		nvmltest_sleep(hang_ms); /* outside the lock: one hanging device leaves the others readable */
		pthread_mutex_lock(&lock);
		if (ret == SUCCESS && u != NULL)
			ret = find(handle, u);
	}
	if (ret != SUCCESS)
		pthread_mutex_unlock(&lock);
	return ret;
}

nvmlReturn_t nvmltest_enter(const char *call, nvmlDevice_t handle, struct unit **u) { return start(call, 1, handle, u); }

nvmlReturn_t nvmltest_enter_gpu(const char *call, nvmlDevice_t handle, struct unit **u)
{
	nvmlReturn_t ret = start(call, 1, handle, u);

	if (ret == SUCCESS && (*u)->parent >= 0)
		return nvmltest_leave(NOT_SUPPORTED);
	return ret;
}

nvmlReturn_t nvmltest_leave(nvmlReturn_t ret)
{
	pthread_mutex_unlock(&lock);
	return ret;
}

nvmlReturn_t nvmltest_text(const char *from, char *to, unsigned length)
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
	nvmlReturn_t ret = start(call, 0, NULL, NULL);

	if (ret != SUCCESS)
		return ret;
	references++;
	return nvmltest_leave(SUCCESS);
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
	case ARGUMENT_VERSION_MISMATCH: return "Argument version mismatch";
	default: return "Unknown Error";
	}
}
