/* Reading of the file: see the Go package comment for the format. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nvmltest.h"

/* context is where a line belongs: the instance that began last, or the device, or the host. */
struct context {
	struct machine *machine;
	struct device *device;     /* NULL before the first */
	struct instance *instance; /* NULL before the device's first */
	struct unit *unit;         /* the instance's or the device's */
};

static int copy_text(char *to, const char *from)
{
	if (*from == '\0' || strlen(from) >= MAX_TEXT)
		return -1;
	strcpy(to, from);
	return 0;
}

/* numbers takes exactly n decimal numbers with one space between; strtoull alone would take signs and more space. */
static int numbers(const char *rest, u64 *to, int n)
{
	for (int i = 0; i < n; i++) {
		char *end;

		if (*rest < '0' || *rest > '9')
			return -1;
		errno = 0;
		to[i] = strtoull(rest, &end, 10);
		if (errno != 0 || *end != (i == n - 1 ? '\0' : ' '))
			return -1;
		rest = end + 1;
	}
	return 0;
}

/* narrow takes numbers of 32 bits. */
static int narrow(const char *rest, unsigned *to, int n)
{
	u64 wide[4];

	if (numbers(rest, wide, n) != 0)
		return -1;
	for (int i = 0; i < n; i++) {
		if (wide[i] > UINT32_MAX)
			return -1;
		to[i] = (unsigned)wide[i];
	}
	return 0;
}

/* add_fault takes "CALL NUMBER"; a hang and an error for the same call are two entries, and both apply. */
static int add_fault(struct context *c, const char *rest, size_t member)
{
	struct faults *to = c->unit != NULL ? &c->unit->faults : &c->machine->faults;
	struct fault f = {.code = SUCCESS};
	const char *space = strchr(rest, ' ');
	u64 number;

	if (to->n == MAX_FAULTS || space == NULL || space == rest || space - rest >= MAX_TEXT)
		return -1;
	if (numbers(space + 1, &number, 1) != 0 || number > INT32_MAX)
		return -1;
	memcpy(f.call, rest, (size_t)(space - rest));
	*(int *)((char *)&f + member) = (int)number;
	to->list[to->n++] = f;
	return 0;
}

static int driver(struct context *c, const char *rest) { return copy_text(c->machine->driver, rest); }

static int error(struct context *c, const char *rest) { return add_fault(c, rest, offsetof(struct fault, code)); }

static int hang(struct context *c, const char *rest) { return add_fault(c, rest, offsetof(struct fault, hang_ms)); }

static int grow(struct context *c, const char *rest) { return add_fault(c, rest, offsetof(struct fault, grow)); }

static int device(struct context *c, const char *rest)
{
	struct device *d;

	if (c->machine->n == MAX_DEVICES)
		return -1;
	d = &c->machine->devices[c->machine->n++];
	memset(d, 0, offsetof(struct device, instances));
	d->bus = (unsigned char)c->machine->n; /* 0 is the root's */
	c->device = d;
	c->instance = NULL;
	c->unit = &d->unit;
	return copy_text(d->unit.uuid, rest);
}

static int instance(struct context *c, const char *rest)
{
	struct instance *i;

	if (!c->device->mig || c->device->n_instances == MAX_INSTANCES)
		return -1;
	i = &c->device->instances[c->device->n_instances++];
	memset(i, 0, sizeof *i);
	c->instance = i;
	c->unit = &i->unit;
	return copy_text(i->unit.uuid, rest);
}

static int name(struct context *c, const char *rest) { return copy_text(c->unit->name, rest); }

static int memory(struct context *c, const char *rest)
{
	u64 v[2];

	if (numbers(rest, v, 2) != 0)
		return -1;
	c->unit->total = v[0];
	c->unit->used = v[1];
	return 0;
}

static int add_process(struct context *c, const char *rest, int mps)
{
	struct unit *u = c->unit;
	u64 v[2];

	if (u->n_processes == MAX_PROCESSES || numbers(rest, v, 2) != 0 || v[0] > UINT32_MAX)
		return -1;
	u->processes[u->n_processes++] = (struct process){(unsigned)v[0], mps, v[1]};
	return 0;
}

static int process(struct context *c, const char *rest) { return add_process(c, rest, 0); }

static int mps(struct context *c, const char *rest) { return add_process(c, rest, 1); }

static int gpm(struct context *c, const char *rest)
{
	char *end, *value;
	double v;
	u64 id;

	if (c->unit->n_gpm == MAX_GPM || *rest < '0' || *rest > '9')
		return -1;
	id = strtoull(rest, &end, 10);
	if (id > UINT32_MAX || *end != ' ')
		return -1;
	value = end + 1;
	v = strtod(value, &end);
	if (end == value || *end != '\0')
		return -1;
	c->unit->gpm[c->unit->n_gpm++] = (struct metric){(unsigned)id, v};
	return 0;
}

static int placement(struct context *c, const char *rest)
{
	unsigned v[3];

	if (narrow(rest, v, 3) != 0)
		return -1;
	c->instance->gpu_instance = v[0];
	c->instance->compute_instance = v[1];
	c->instance->slices = v[2];
	return 0;
}

static int utilization(struct context *c, const char *rest)
{
	unsigned v[2];

	if (narrow(rest, v, 2) != 0)
		return -1;
	c->device->gpu_percent = v[0];
	c->device->memory_percent = v[1];
	return 0;
}

static int pci(struct context *c, const char *rest)
{
	unsigned domain, bus, slot;
	int length = 0;

	if (sscanf(rest, "%8x:%2x:%2x.0%n", &domain, &bus, &slot, &length) != 3 || length != 16 || rest[16] != '\0')
		return -1;
	c->device->domain = domain;
	c->device->bus = (unsigned char)bus;
	c->device->slot = (unsigned char)slot;
	return 0;
}

static int power(struct context *c, const char *rest)
{
	unsigned v[2];

	if (narrow(rest, v, 2) != 0)
		return -1;
	c->device->power = v[0];
	c->device->power_limit = v[1];
	return 0;
}

static int temperature(struct context *c, const char *rest) { return narrow(rest, &c->device->temperature, 1); }

static int clocks(struct context *c, const char *rest)
{
	u64 v[3];

	if (numbers(rest, v, 3) != 0 || v[0] > UINT32_MAX || v[1] > UINT32_MAX)
		return -1;
	c->device->sm_clock = (unsigned)v[0];
	c->device->memory_clock = (unsigned)v[1];
	c->device->clock_reasons = v[2];
	return 0;
}

static int ring(struct context *c, const char *rest)
{
	struct device *d = c->device;
	u64 v[2];

	if (d->n_ring == MAX_RING || numbers(rest, v, 2) != 0 || v[1] > UINT32_MAX)
		return -1;
	d->ring[d->n_ring++] = (struct ring_sample){v[0], (unsigned)v[1]};
	return 0;
}

static int sample(struct context *c, const char *rest)
{
	struct device *d = c->device;
	u64 v[4];

	if (d->n_process_samples == MAX_PROCESS_SAMPLES || numbers(rest, v, 4) != 0)
		return -1;
	if (v[0] > UINT32_MAX || v[2] > UINT32_MAX || v[3] > UINT32_MAX)
		return -1;
	d->process_samples[d->n_process_samples++] =
		(struct process_sample){v[1], (unsigned)v[0], (unsigned)v[2], (unsigned)v[3]};
	return 0;
}

static int field(struct context *c, const char *rest)
{
	struct device *d = c->device;
	u64 v[2];

	if (d->n_fields == MAX_FIELDS || numbers(rest, v, 2) != 0 || v[0] > UINT32_MAX)
		return -1;
	d->fields[d->n_fields++] = (struct field){(unsigned)v[0], v[1]};
	return 0;
}

static int account(struct context *c, const char *rest)
{
	struct device *d = c->device;
	u64 v[3];

	if (d->n_accounts == MAX_ACCOUNTS || numbers(rest, v, 3) != 0 || v[0] > UINT32_MAX || v[2] > 1)
		return -1;
	d->accounts[d->n_accounts++] = (struct account){(unsigned)v[0], (int)v[2], v[1]};
	return 0;
}

static int event(struct context *c, const char *rest)
{
	struct device *d = c->device;
	u64 v[3];

	if (d->n_events == MAX_EVENTS || numbers(rest, v, 3) != 0 || v[2] > UINT32_MAX)
		return -1;
	d->events[d->n_events++] = (struct event){v[0], v[1], (unsigned)v[2]};
	return 0;
}

static int switched_on(int *to, const char *rest)
{
	*to = 1;
	return strcmp(rest, "on") == 0 ? 0 : -1;
}

static int accounting(struct context *c, const char *rest) { return switched_on(&c->device->accounting, rest); }

static int mig(struct context *c, const char *rest) { return switched_on(&c->device->mig, rest); }

enum place { ON_HOST = 1, ON_DEVICE = 2, ON_INSTANCE = 4, ON_UNIT = ON_DEVICE | ON_INSTANCE, ANYWHERE = 7 };

static const struct {
	const char *word;
	int (*parse)(struct context *, const char *rest);
	int where;
} words[] = {
	{"driver", driver, ON_HOST},
	{"error", error, ANYWHERE},
	{"hang", hang, ANYWHERE},
	{"grow", grow, ANYWHERE},
	{"device", device, ANYWHERE},
	{"name", name, ON_UNIT},
	{"memory", memory, ON_UNIT},
	{"process", process, ON_UNIT},
	{"mps", mps, ON_UNIT},
	{"gpm", gpm, ON_UNIT},
	{"utilization", utilization, ON_DEVICE},
	{"ring", ring, ON_DEVICE},
	{"sample", sample, ON_DEVICE},
	{"pci", pci, ON_DEVICE},
	{"power", power, ON_DEVICE},
	{"temperature", temperature, ON_DEVICE},
	{"clocks", clocks, ON_DEVICE},
	{"field", field, ON_DEVICE},
	{"accounting", accounting, ON_DEVICE},
	{"account", account, ON_DEVICE},
	{"event", event, ON_DEVICE},
	{"mig", mig, ON_DEVICE},
	{"instance", instance, ON_UNIT},
	{"placement", placement, ON_INSTANCE},
};

static int parse_line(struct context *c, char *line)
{
	int here = c->device == NULL ? ON_HOST : c->instance == NULL ? ON_DEVICE : ON_INSTANCE;
	char *rest = strchr(line, ' ');

	if (rest == NULL)
		return -1;
	*rest++ = '\0';
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (strcmp(words[i].word, line) == 0)
			return words[i].where & here ? words[i].parse(c, rest) : -1;
	return -1;
}

static nvmlReturn_t parse_text(struct machine *m, char *text, size_t size)
{
	struct context c = {.machine = m};
	char *line = text, *end;
	int first = 1;

	m->driver[0] = '\0';
	m->faults.n = 0;
	m->n = 0;
	while (line < text + size) {
		end = memchr(line, '\n', (size_t)(text + size - line));
		if (end == NULL || end - line >= MAX_LINE)
			return UNKNOWN; /* cut off, or too long */
		*end = '\0';
		if (first ? strcmp(line, "nvmltest 2") != 0 : parse_line(&c, line) != 0)
			return UNKNOWN;
		first = 0;
		line = end + 1;
	}
	return first ? UNKNOWN : SUCCESS;
}

nvmlReturn_t parse(struct machine *m, int fd, size_t size)
{
	char *text = malloc(size + 1);
	size_t have = 0;
	ssize_t n = 0;
	nvmlReturn_t ret;

	if (text == NULL)
		return UNKNOWN;
	while (have < size && (n = read(fd, text + have, size - have)) > 0)
		have += (size_t)n;
	ret = have == size ? parse_text(m, text, size) : UNKNOWN;
	free(text);
	return ret;
}
