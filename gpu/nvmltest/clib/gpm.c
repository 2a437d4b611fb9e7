/* GPU performance monitoring: metrics of Hopper and later, computed from two samples. */
#include <string.h>

#include "nvmltest.h"

/* What a caller does not free is missing here some time, so a leak shows. Enough for 2 per GPU and instance. */
enum { MAX_SAMPLES = 2 * MAX_DEVICES * (1 + MAX_INSTANCES), METRIC_MAX = 477, VERSION = 1 };

struct gpm_sample {
	int allocated;
	u64 taken; /* a number that rises with every sample taken, 0 before the first */
	nvmlDevice_t handle;
	unsigned gpu_instance;
	unsigned n;
	struct metric metrics[MAX_GPM];
};

typedef struct { struct gpm_sample *handle; } nvmlGpmSample_t;

typedef struct {
	unsigned metricId;
	nvmlReturn_t nvmlReturn;
	double value;
	struct { char *shortName, *longName, *unit; } metricInfo;
} nvmlGpmMetric_t;

typedef struct {
	unsigned version, numMetrics;
	nvmlGpmSample_t sample1, sample2;
	nvmlGpmMetric_t metrics[METRIC_MAX];
} nvmlGpmMetricsGet_t;

typedef struct { unsigned version, isSupportedDevice; } nvmlGpmSupport_t;

static struct gpm_sample samples[MAX_SAMPLES]; /* guarded by the lock */
static u64 taken;                              /* guarded by the lock */

static int valid(const struct gpm_sample *s)
{
	uintptr_t offset = (uintptr_t)s - (uintptr_t)samples;

	return offset < sizeof samples && offset % sizeof *samples == 0 && s->allocated;
}

API nvmlReturn_t nvmlGpmQueryDeviceSupport(nvmlDevice_t handle, nvmlGpmSupport_t *support)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlGpmQueryDeviceSupport", EITHER, handle, &t);

	if (ret != SUCCESS)
		return ret;
	if (support == NULL)
		return leave(INVALID_ARGUMENT);
	if (support->version != VERSION)
		return leave(ARGUMENT_VERSION_MISMATCH);
	support->isSupportedDevice = (unsigned)supports_gpm(t.device);
	return leave(SUCCESS);
}

API nvmlReturn_t nvmlGpmSampleAlloc(nvmlGpmSample_t *sample)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlGpmSampleAlloc", HOST, NULL, &t);

	if (ret != SUCCESS)
		return ret;
	if (sample == NULL)
		return leave(INVALID_ARGUMENT);
	for (int i = 0; i < MAX_SAMPLES; i++) {
		if (samples[i].allocated)
			continue;
		samples[i].allocated = 1;
		samples[i].taken = 0;
		sample->handle = &samples[i];
		return leave(SUCCESS);
	}
	return leave(OUT_OF_MEMORY);
}

/* nvmlGpmSampleFree needs neither driver nor nvmlInit, as freeing memory does not, and knows no faults. */
API nvmlReturn_t nvmlGpmSampleFree(nvmlGpmSample_t sample)
{
	look();
	if (!valid(sample.handle))
		return leave(INVALID_ARGUMENT);
	sample.handle->allocated = 0;
	return leave(SUCCESS);
}

/* take is the end of both calls that fill a sample. */
static nvmlReturn_t take(struct gpm_sample *s, nvmlDevice_t gpu, unsigned gpu_instance, const struct unit *u)
{
	if (!valid(s))
		return INVALID_ARGUMENT;
	if (u->n_gpm == 0)
		return NOT_SUPPORTED;
	s->taken = ++taken;
	s->handle = gpu;
	s->gpu_instance = gpu_instance;
	s->n = u->n_gpm;
	memcpy(s->metrics, u->gpm, u->n_gpm * sizeof *u->gpm);
	return SUCCESS;
}

API nvmlReturn_t nvmlGpmSampleGet(nvmlDevice_t handle, nvmlGpmSample_t sample)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlGpmSampleGet", EITHER, handle, &t);

	if (ret != SUCCESS)
		return ret;
	return leave(take(sample.handle, handle_of(t.index, -1),
			  t.instance != NULL ? t.instance->gpu_instance : NO_INSTANCE, t.unit));
}

/* The first instance with the ID stands for it, its faults too. */
API nvmlReturn_t nvmlGpmMigSampleGet(nvmlDevice_t handle, unsigned gpu_instance, nvmlGpmSample_t sample)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlGpmMigSampleGet", GPU_ELSE_INVALID, handle, &t);
	nvmlDevice_t found = NULL;

	if (ret != SUCCESS)
		return ret;
	if (!t.device->mig)
		return leave(NOT_SUPPORTED);
	for (unsigned i = 0; i < t.device->n_instances && found == NULL; i++)
		if (t.device->instances[i].gpu_instance == gpu_instance)
			found = handle_of(t.index, (int)i);
	leave(SUCCESS);
	if (found == NULL)
		return NOT_FOUND;
	ret = enter("nvmlGpmMigSampleGet", INSTANCE, found, &t);
	return ret == SUCCESS ? leave(take(sample.handle, handle, gpu_instance, t.unit)) : ret;
}

static void fill(nvmlGpmMetric_t *m, const struct gpm_sample *from)
{
	m->nvmlReturn = NOT_SUPPORTED;
	m->value = 0;
	memset(&m->metricInfo, 0, sizeof m->metricInfo);
	for (unsigned i = 0; i < from->n; i++) {
		if (from->metrics[i].id != m->metricId)
			continue;
		m->nvmlReturn = SUCCESS;
		m->value = from->metrics[i].value;
	}
}

/* It asks no device, so only the host's faults apply. */
API nvmlReturn_t nvmlGpmMetricsGet(nvmlGpmMetricsGet_t *get)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlGpmMetricsGet", HOST, NULL, &t);
	const struct gpm_sample *a, *b;

	if (ret != SUCCESS)
		return ret;
	if (get == NULL || get->numMetrics > METRIC_MAX)
		return leave(INVALID_ARGUMENT);
	if (get->version != VERSION)
		return leave(ARGUMENT_VERSION_MISMATCH);
	a = get->sample1.handle;
	b = get->sample2.handle;
	if (!valid(a) || !valid(b) || a->taken == 0 || a->taken >= b->taken)
		return leave(INVALID_ARGUMENT);
	if (a->handle != b->handle || a->gpu_instance != b->gpu_instance)
		return leave(INVALID_ARGUMENT);
	for (unsigned i = 0; i < get->numMetrics; i++)
		fill(&get->metrics[i], b);
	return leave(SUCCESS);
}
