/* Reads the file. The format is in the Go package comment. */
#include "nvmltest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int copy_text(char *to, const char *from)
{
	if (*from == '\0' || strlen(from) >= MAX_TEXT)
		return -1;
	strcpy(to, from);
	return 0;
}

/* add_fault takes "CALL NUMBER"; faults of several kinds for the same call are entries of their own, and all apply. */
static int add_fault(struct faults *to, const char *rest, char kind)
{
	struct fault f = {{0}, 0, 0, 0};
	int number = 0;
	char extra;

	if (to->n == MAX_FAULTS || sscanf(rest, "%95s %d %c", f.call, &number, &extra) != 2)
		return -1;
	if (kind == 'h')
		f.hang_ms = number;
	else if (kind == 'g')
		f.grow = number;
	else
		f.code = number;
	to->list[to->n++] = f;
	return 0;
}

/* numbers reads up to four unsigned numbers, and -1 if there are not as many as wanted. "-" is NOT_AVAILABLE. */
static int numbers(const char *rest, u64 *to, int wanted)
{
	for (int i = 0; i < wanted; i++) {
		char *end;

		if (rest[0] == '-' && (rest[1] == ' ' || rest[1] == '\0')) {
			to[i] = NOT_AVAILABLE;
			end = (char *)rest + 1;
		} else {
			to[i] = strtoull(rest, &end, 10);
			if (end == rest)
				return -1;
		}
		if (i + 1 < wanted ? *end != ' ' : *end != '\0')
			return -1;
		rest = end + 1;
	}
	return 0;
}

/* begin_unit starts a GPU, or an instance of the last one. The arrays count for nothing beyond their numbers. */
static struct unit *begin_unit(struct machine *m, int instance)
{
	int last = m->n_devices - 1;
	struct unit *u;

	if (instance) {
		if (m->units[last].n_instances == MAX_INSTANCES)
			return NULL;
		u = &m->units[nvmltest_instance(last, m->units[last].n_instances++)];
		memset(u, 0, offsetof(struct unit, ring));
		u->parent = last;
		u->index = (unsigned)last;
		return u;
	}
	if (m->n_devices == MAX_DEVICES)
		return NULL;
	u = &m->units[m->n_devices];
	memset(u, 0, offsetof(struct unit, ring));
	u->parent = -1;
	u->index = (unsigned)m->n_devices++;
	snprintf(u->bus, sizeof u->bus, "00000000:%02X:00.0", u->index);
	return u;
}

/* parse_list reads the words of which there may be many. */
static int parse_list(struct unit *u, const char *word, const char *rest)
{
	u64 v[4];

	if (strcmp(word, "sample") == 0) {
		if (u->n_ring == MAX_RING || numbers(rest, v, 2) != 0)
			return -1;
		u->ring[u->n_ring].stamp = v[0];
		u->ring[u->n_ring++].percent = (unsigned)v[1];
		return 0;
	}
	if (strcmp(word, "process") == 0 || strcmp(word, "mps-process") == 0) {
		if (u->n_processes == MAX_PROCESSES || numbers(rest, v, 2) != 0)
			return -1;
		u->processes[u->n_processes++] = (struct process){(unsigned)v[0], v[1], word[0] == 'm'};
		return 0;
	}
	if (strcmp(word, "use") == 0) {
		if (u->n_uses == MAX_USES || numbers(rest, v, 4) != 0)
			return -1;
		u->uses[u->n_uses++] = (struct use){(unsigned)v[0], v[1], (unsigned)v[2], (unsigned)v[3]};
		return 0;
	}
	if (strcmp(word, "field") == 0) {
		if (u->n_fields == MAX_FIELDS || numbers(rest, v, 2) != 0)
			return -1;
		u->fields[u->n_fields++] = (struct field){(unsigned)v[0], v[1]};
		return 0;
	}
	if (strcmp(word, "account") == 0) {
		if (u->n_accounts == MAX_PROCESSES || numbers(rest, v, 3) != 0)
			return -1;
		u->accounts[u->n_accounts++] = (struct account){(unsigned)v[0], v[1], (int)v[2]};
		return 0;
	}
	if (strcmp(word, "event") == 0) {
		if (u->n_events == MAX_EVENTS || numbers(rest, v, 3) != 0)
			return -1;
		u->events[u->n_events++] = (struct event){v[0], v[1], (unsigned)v[2]};
		return 0;
	}
	if (strcmp(word, "gpm") == 0) {
		struct metric *m = &u->metrics[u->n_metrics];
		char extra;

		if (u->n_metrics == MAX_METRICS || sscanf(rest, "%u %lf %c", &m->id, &m->value, &extra) != 2)
			return -1;
		u->n_metrics++;
		return 0;
	}
	return -1;
}

/* parse_word reads the words of which there is one in a unit. */
static int parse_word(struct unit *u, const char *word, const char *rest)
{
	u64 v[4];

	if (strcmp(word, "name") == 0)
		return copy_text(u->name, rest);
	if (strcmp(word, "bus") == 0)
		return copy_text(u->bus, rest);
	if (strcmp(word, "memory") == 0) {
		if (numbers(rest, v, 2) != 0)
			return -1;
		u->total = v[0];
		u->used = v[1];
		return 0;
	}
	if (strcmp(word, "utilization") == 0) {
		if (numbers(rest, v, 2) != 0)
			return -1;
		u->gpu_percent = (unsigned)v[0];
		u->memory_percent = (unsigned)v[1];
		return 0;
	}
	if (strcmp(word, "placement") == 0) {
		if (numbers(rest, v, 3) != 0)
			return -1;
		u->gpu_instance = (unsigned)v[0];
		u->compute_instance = (unsigned)v[1];
		u->slices = (unsigned)v[2];
		return 0;
	}
	if (strcmp(word, "power") == 0) {
		if (numbers(rest, v, 2) != 0)
			return -1;
		u->power = (unsigned)v[0];
		u->power_limit = (unsigned)v[1];
		return 0;
	}
	if (strcmp(word, "clocks") == 0) {
		if (numbers(rest, v, 3) != 0)
			return -1;
		u->sm_clock = (unsigned)v[0];
		u->memory_clock = (unsigned)v[1];
		u->reasons = v[2];
		return 0;
	}
	if (strcmp(word, "temperature") == 0) {
		if (numbers(rest, v, 1) != 0)
			return -1;
		u->temperature = (unsigned)v[0];
		return 0;
	}
	if (strcmp(word, "mig") == 0 && strcmp(rest, "on") == 0) {
		u->mig = 1;
		return 0;
	}
	if (strcmp(word, "accounting") == 0 && strcmp(rest, "on") == 0) {
		u->accounting = 1;
		return 0;
	}
	return parse_list(u, word, rest);
}

/* parse_line reads a line into the last unit that was begun, *last. */
static int parse_line(struct machine *m, struct unit **last, char *line)
{
	struct unit *u = *last;
	struct faults *faults = u ? &u->faults : &m->faults;
	char *rest = strchr(line, ' ');

	if (rest == NULL)
		return -1;
	*rest++ = '\0';
	if (strcmp(line, "error") == 0 || strcmp(line, "hang") == 0 || strcmp(line, "grow") == 0)
		return add_fault(faults, rest, line[0]);
	if (strcmp(line, "driver") == 0)
		return copy_text(m->driver, rest);
	if (strcmp(line, "device") == 0 || (u != NULL && strcmp(line, "instance") == 0)) {
		*last = begin_unit(m, line[0] == 'i');
		return *last == NULL ? -1 : copy_text((*last)->uuid, rest);
	}
	return u == NULL ? -1 : parse_word(u, line, rest);
}

nvmlReturn_t nvmltest_parse(struct machine *m, int fd)
{
	char line[MAX_LINE];
	struct unit *last = NULL;
	int first = 1;
	nvmlReturn_t ret = SUCCESS;
	FILE *f = fdopen(fd, "r");

	m->n_devices = m->faults.n = 0;
	m->driver[0] = '\0';
	if (f == NULL) {
		close(fd);
		return UNKNOWN;
	}
	while (ret == SUCCESS && fgets(line, sizeof line, f) != NULL) {
		size_t n = strlen(line);

		if (n == 0 || line[n - 1] != '\n') {
			ret = UNKNOWN; /* too long, or cut off */
			break;
		}
		line[n - 1] = '\0';
		if (first ? strcmp(line, "nvmltest 2") != 0 : parse_line(m, &last, line) != 0)
			ret = UNKNOWN;
		first = 0;
	}
	if (first || ferror(f))
		ret = UNKNOWN;
	fclose(f);
	return ret;
}
