/*
 * The file is found through HEADROOM_NVMLTEST_FILE. Every call stats it (about 1 us) and reads it again when its inode,
 * size or time differ, so a writer that replaces it by rename is seen at the next call and never half written.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "nvmltest.h"

enum { SLOTS_EACH = 1 + MAX_INSTANCES };

struct machine machine;
int references;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct stat seen; /* guarded by lock: the file that machine was read from */
static int have_seen;    /* guarded by lock */

/* A handle is the address of a slot: of each device the first is its own, and the others are its instances'. */
static char slots[MAX_DEVICES * SLOTS_EACH];

static int same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* refresh remembers the stat of the opened file, not of the name: a rename in between is then seen next time. */
static void refresh(void)
{
	const char *path = getenv("HEADROOM_NVMLTEST_FILE");
	struct stat now;
	int fd;

	if (path != NULL && stat(path, &now) == 0 && have_seen && same_file(&now, &seen))
		return;
	have_seen = 0;
	machine.state = DRIVER_NOT_LOADED;
	fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (fstat(fd, &seen) == 0 && seen.st_size <= MAX_FILE) {
		have_seen = 1;
		machine.state = parse(&machine, fd, (size_t)seen.st_size);
	}
	close(fd);
}

void look(void)
{
	pthread_mutex_lock(&lock);
	refresh();
}

nvmlReturn_t leave(nvmlReturn_t ret)
{
	pthread_mutex_unlock(&lock);
	return ret;
}

nvmlDevice_t handle_of(unsigned device, int instance) { return &slots[(int)device * SLOTS_EACH + 1 + instance]; }

static nvmlReturn_t right_kind(enum kind kind, int instance)
{
	switch (kind) {
	case GPU: return instance ? NOT_SUPPORTED : SUCCESS;
	case GPU_ELSE_INVALID: return instance ? INVALID_ARGUMENT : SUCCESS;
	case INSTANCE: return instance ? SUCCESS : NOT_SUPPORTED;
	default: return SUCCESS;
	}
}

static nvmlReturn_t find(enum kind kind, nvmlDevice_t handle, struct target *t)
{
	size_t slot = (uintptr_t)handle - (uintptr_t)slots; /* wraps to something huge for an address below */
	size_t instance = slot % SLOTS_EACH;

	memset(t, 0, sizeof *t);
	if (kind != BEFORE_INIT && references == 0)
		return UNINITIALIZED;
	if (machine.state != SUCCESS || kind == BEFORE_INIT || kind == HOST)
		return machine.state;
	if (slot >= sizeof slots)
		return INVALID_ARGUMENT;
	t->index = (unsigned)(slot / SLOTS_EACH);
	if (t->index >= machine.n)
		return GPU_IS_LOST; /* it was there when the handle was given out */
	t->device = &machine.devices[t->index];
	t->unit = &t->device->unit;
	if (instance > 0) {
		if (instance > t->device->n_instances)
			return INVALID_ARGUMENT; /* nvml.h: the handle of a destroyed instance remains invalid */
		t->instance = &t->device->instances[instance - 1];
		t->unit = &t->instance->unit;
	}
	return right_kind(kind, instance > 0);
}

static void apply(const struct faults *faults, const char *call, struct fault *sum)
{
	for (int i = 0; i < faults->n; i++) {
		const struct fault *f = &faults->list[i];

		if (strcmp(f->call, call) != 0 && strcmp(f->call, "*") != 0)
			continue;
		sum->hang_ms = f->hang_ms > sum->hang_ms ? f->hang_ms : sum->hang_ms;
		sum->code = sum->code == SUCCESS ? f->code : sum->code;
		sum->grow += f->grow;
	}
}

void sleep_us(long long us)
{
	struct timespec left = {us / 1000000, us % 1000000 * 1000};

	while (us > 0 && nanosleep(&left, &left) != 0 && errno == EINTR)
		;
}

nvmlReturn_t enter(const char *call, enum kind kind, nvmlDevice_t handle, struct target *t)
{
	struct fault sum = {.code = SUCCESS};
	nvmlReturn_t ret;

	look();
	ret = find(kind, handle, t);
	if (ret == SUCCESS) {
		if (t->instance != NULL)
			apply(&t->instance->unit.faults, call, &sum);
		if (t->device != NULL)
			apply(&t->device->unit.faults, call, &sum);
		apply(&machine.faults, call, &sum);
	}
	if (sum.hang_ms > 0) {
		leave(SUCCESS);
		sleep_us(sum.hang_ms * 1000LL);
		look();
		ret = find(kind, handle, t); /* the machine may be another one by now */
	}
	t->grow = (unsigned)sum.grow;
	if (ret == SUCCESS)
		ret = sum.code;
	return ret == SUCCESS ? SUCCESS : leave(ret);
}

nvmlReturn_t give_text(const char *from, char *to, unsigned length)
{
	if (to == NULL)
		return INVALID_ARGUMENT;
	if (strlen(from) >= length)
		return INSUFFICIENT_SIZE;
	strcpy(to, from);
	return SUCCESS;
}
