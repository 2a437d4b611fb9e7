/* GPM: samples of the hardware counters, and what lies between two of them. */
#include "nvmltest.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { METRICS_GET_VERSION = 1, SUPPORT_VERSION = 1, METRIC_MAX = 477 };

typedef struct { unsigned version, isSupportedDevice; } nvmlGpmSupport_t;
typedef struct {
	unsigned metricId;
	nvmlReturn_t nvmlReturn;
	double value;
	struct { char *shortName, *longName, *unit; } metricInfo;
} nvmlGpmMetric_t;

/* A sample keeps a copy of what the unit's counters would give. */
struct sample {
	char uuid[MAX_TEXT]; /* empty while nothing was read */
	struct timespec at;
	int n;
	struct metric metrics[MAX_METRICS];
};

typedef struct {
	unsigned version, numMetrics;
	struct sample *sample1, *sample2;
	nvmlGpmMetric_t metrics[METRIC_MAX];
} nvmlGpmMetricsGet_t;

nvmlReturn_t nvmlGpmQueryDeviceSupport(nvmlDevice_t handle, nvmlGpmSupport_t *support)
{
	struct unit *u;
	nvmlReturn_t ret = ENTER_GPU(&u, handle);

	if (ret != SUCCESS)
		return ret;
	if (support == NULL)
		return nvmltest_leave(INVALID_ARGUMENT);
	if (support->version != SUPPORT_VERSION)
		return nvmltest_leave(ARGUMENT_VERSION_MISMATCH);
	support->isSupportedDevice = u->n_metrics > 0;
	return nvmltest_leave(SUCCESS);
}

nvmlReturn_t nvmlGpmSampleAlloc(struct sample **sample)
{
	nvmlReturn_t ret = ENTER(NULL, NULL);

	if (ret != SUCCESS)
		return ret;
	nvmltest_leave(SUCCESS);
	if (sample == NULL)
		return INVALID_ARGUMENT;
	*sample = calloc(1, sizeof **sample);
	return *sample == NULL ? UNKNOWN : SUCCESS;
}

nvmlReturn_t nvmlGpmSampleFree(struct sample *sample)
{
	if (sample == NULL)
		return INVALID_ARGUMENT;
	free(sample);
	return SUCCESS;
}

static nvmlReturn_t take(const struct unit *u, struct sample *sample)
{
	if (sample == NULL)
		return INVALID_ARGUMENT;
	if (u->n_metrics == 0)
		return NOT_SUPPORTED;
	strcpy(sample->uuid, u->uuid);
	clock_gettime(CLOCK_MONOTONIC, &sample->at);
	sample->n = u->n_metrics;
	memcpy(sample->metrics, u->metrics, (size_t)u->n_metrics * sizeof *u->metrics);
	return SUCCESS;
}

nvmlReturn_t nvmlGpmSampleGet(nvmlDevice_t handle, struct sample *sample)
{
	struct unit *u;
	nvmlReturn_t ret = ENTER_GPU(&u, handle);

	return ret == SUCCESS ? nvmltest_leave(take(u, sample)) : ret;
}

nvmlReturn_t nvmlGpmMigSampleGet(nvmlDevice_t handle, unsigned instance, struct sample *sample)
{
	struct unit *u;
	nvmlReturn_t ret = ENTER_GPU(&u, handle);

	if (ret != SUCCESS)
		return ret;
	for (int i = 0; i < u->n_instances; i++) {
		const struct unit *v = &nvmltest_machine.units[nvmltest_instance((int)u->index, i)];

		if (v->gpu_instance == instance)
			return nvmltest_leave(take(v, sample));
	}
	return nvmltest_leave(NOT_FOUND);
}

static int before(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec < b->tv_nsec);
}

nvmlReturn_t nvmlGpmMetricsGet(nvmlGpmMetricsGet_t *get)
{
	nvmlReturn_t ret = ENTER(NULL, NULL);

	if (ret != SUCCESS)
		return ret;
	nvmltest_leave(SUCCESS);
	if (get == NULL || get->sample1 == NULL || get->sample2 == NULL || get->numMetrics == 0 || get->numMetrics > METRIC_MAX)
		return INVALID_ARGUMENT;
	if (get->version != METRICS_GET_VERSION)
		return ARGUMENT_VERSION_MISMATCH;
	if (get->sample1->uuid[0] == '\0' || strcmp(get->sample1->uuid, get->sample2->uuid) != 0 || !before(&get->sample1->at, &get->sample2->at))
		return INVALID_ARGUMENT;
	for (unsigned i = 0; i < get->numMetrics; i++) {
		nvmlGpmMetric_t *m = &get->metrics[i];

		m->nvmlReturn = NOT_SUPPORTED;
		for (int j = 0; j < get->sample2->n; j++) {
			if (get->sample2->metrics[j].id == m->metricId) {
				m->nvmlReturn = SUCCESS;
				m->value = get->sample2->metrics[j].value;
			}
		}
	}
	return SUCCESS;
}
