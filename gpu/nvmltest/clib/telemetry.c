/* What a GPU measures of itself. */
#include <time.h>

#include "nvmltest.h"

typedef struct { unsigned gpu, memory; } nvmlUtilization_t;

typedef union {
	double dVal;
	unsigned uiVal;
	u64 ullVal;
} nvmlValue_t;

typedef struct {
	u64 timeStamp;
	nvmlValue_t sampleValue;
} nvmlSample_t;

typedef struct {
	unsigned pid;
	u64 timeStamp;
	unsigned smUtil, memUtil, encUtil, decUtil;
} nvmlProcessUtilizationSample_t;

typedef struct {
	unsigned fieldId, scopeId;
	long long timestamp, latencyUsec;
	int valueType;
	nvmlReturn_t nvmlReturn;
	nvmlValue_t value;
} nvmlFieldValue_t;

enum { VALUE_TYPE_UNSIGNED_INT = 1, VALUE_TYPE_UNSIGNED_LONG_LONG = 3 };
enum { GPU_UTILIZATION_SAMPLES = 1 };
enum { TEMPERATURE_GPU = 0, TEMPERATURE_COUNT = 2 };
enum { CLOCK_GRAPHICS = 0, CLOCK_SM = 1, CLOCK_MEM = 2, CLOCK_COUNT = 4 };

API nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t handle, nvmlUtilization_t *rates)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlDeviceGetUtilizationRates", GPU, handle, &t);

	if (ret != SUCCESS)
		return ret;
	if (t.device->mig || rates == NULL)
		return leave(t.device->mig ? NOT_SUPPORTED : INVALID_ARGUMENT);
	rates->gpu = t.device->gpu_percent;
	rates->memory = t.device->memory_percent;
	return leave(SUCCESS);
}

/* newer tells what a call with last seen delivers. Real rings hold placeholders, whose stamp is 0. */
static int newer(u64 stamp, u64 last) { return last == 0 || stamp > last; }

/* fewer is what a size query says of n when "grow" wants it to be outdated at the next call. */
static unsigned fewer(unsigned n, unsigned grow) { return n > grow ? n - grow : 0; }

/*
 * nvml.h lets a buffer that is too small be filled as far as it goes. Through go-nvml it can only be too small when the
 * ring has grown since the size query, and then the error is the harder case for the caller.
 */
API nvmlReturn_t nvmlDeviceGetSamples(nvmlDevice_t handle, int type, u64 last, int *value_type, unsigned *count,
				      nvmlSample_t *samples)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlDeviceGetSamples", GPU, handle, &t);
	unsigned n = 0, at = 0;

	if (ret != SUCCESS)
		return ret;
	if (t.device->mig || type != GPU_UTILIZATION_SAMPLES)
		return leave(NOT_SUPPORTED);
	if (value_type == NULL || count == NULL || (samples != NULL && *count == 0))
		return leave(INVALID_ARGUMENT);
	*value_type = VALUE_TYPE_UNSIGNED_INT;
	for (unsigned i = 0; i < t.device->n_ring; i++)
		n += newer(t.device->ring[i].stamp, last);
	if (samples == NULL)
		n = fewer(n, t.grow);
	if (n == 0)
		return leave(NOT_FOUND);
	if (samples == NULL || n > *count) {
		*count = n;
		return leave(samples == NULL ? SUCCESS : INSUFFICIENT_SIZE);
	}
	for (unsigned i = 0; i < t.device->n_ring; i++) {
		if (!newer(t.device->ring[i].stamp, last))
			continue;
		samples[at].timeStamp = t.device->ring[i].stamp;
		samples[at].sampleValue.ullVal = 0;
		samples[at++].sampleValue.uiVal = t.device->ring[i].percent;
	}
	*count = n;
	return leave(SUCCESS);
}

API nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t handle, nvmlProcessUtilizationSample_t *to,
						 unsigned *count, u64 last)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlDeviceGetProcessUtilization", GPU, handle, &t);
	unsigned n = 0, at = 0;

	if (ret != SUCCESS)
		return ret;
	if (t.device->mig || count == NULL)
		return leave(t.device->mig ? NOT_SUPPORTED : INVALID_ARGUMENT);
	for (unsigned i = 0; i < t.device->n_process_samples; i++)
		n += newer(t.device->process_samples[i].stamp, last);
	if (to == NULL)
		n = fewer(n, t.grow);
	if (n == 0)
		return leave(NOT_FOUND);
	if (to == NULL || n > *count) {
		*count = n;
		return leave(INSUFFICIENT_SIZE);
	}
	for (unsigned i = 0; i < t.device->n_process_samples; i++) {
		const struct process_sample *s = &t.device->process_samples[i];

		if (newer(s->stamp, last))
			to[at++] = (nvmlProcessUtilizationSample_t){s->pid, s->stamp, s->sm, s->memory, 0, 0};
	}
	*count = n;
	return leave(SUCCESS);
}

/* give_unsigned serves the member of struct device at offset. */
static nvmlReturn_t give_unsigned(const char *call, nvmlDevice_t handle, unsigned *to, size_t offset)
{
	struct target t;
	nvmlReturn_t ret = enter(call, GPU, handle, &t);

	if (ret != SUCCESS)
		return ret;
	if (to == NULL)
		return leave(INVALID_ARGUMENT);
	*to = *(const unsigned *)((const char *)t.device + offset);
	return leave(SUCCESS);
}

API nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t handle, unsigned *power)
{
	return give_unsigned("nvmlDeviceGetPowerUsage", handle, power, offsetof(struct device, power));
}

API nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t handle, unsigned *limit)
{
	return give_unsigned("nvmlDeviceGetEnforcedPowerLimit", handle, limit, offsetof(struct device, power_limit));
}

API nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t handle, unsigned sensor, unsigned *temperature)
{
	unsigned value;
	nvmlReturn_t ret =
		give_unsigned("nvmlDeviceGetTemperature", handle, &value, offsetof(struct device, temperature));

	if (ret != SUCCESS)
		return ret;
	if (temperature == NULL || sensor >= TEMPERATURE_COUNT)
		return INVALID_ARGUMENT;
	if (sensor != TEMPERATURE_GPU)
		return NOT_SUPPORTED;
	*temperature = value;
	return SUCCESS;
}

API nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t handle, unsigned type, unsigned *clock)
{
	unsigned value;
	nvmlReturn_t ret = give_unsigned("nvmlDeviceGetClockInfo", handle, &value,
					 type == CLOCK_MEM ? offsetof(struct device, memory_clock)
							   : offsetof(struct device, sm_clock));

	if (ret != SUCCESS)
		return ret;
	if (clock == NULL || type >= CLOCK_COUNT)
		return INVALID_ARGUMENT;
	if (type > CLOCK_MEM)
		return NOT_SUPPORTED;
	*clock = value;
	return SUCCESS;
}

static nvmlReturn_t give_reasons(const char *call, nvmlDevice_t handle, u64 *reasons)
{
	struct target t;
	nvmlReturn_t ret = enter(call, GPU, handle, &t);

	if (ret != SUCCESS)
		return ret;
	if (reasons == NULL)
		return leave(INVALID_ARGUMENT);
	*reasons = t.device->clock_reasons;
	return leave(SUCCESS);
}

API nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t handle, u64 *reasons)
{
	return give_reasons("nvmlDeviceGetCurrentClocksEventReasons", handle, reasons);
}

/* The name of the same call before driver 535. */
API nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t handle, u64 *reasons)
{
	return give_reasons("nvmlDeviceGetCurrentClocksThrottleReasons", handle, reasons);
}

static long long now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

API nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t handle, int count, nvmlFieldValue_t *values)
{
	struct target t;
	nvmlReturn_t ret = enter("nvmlDeviceGetFieldValues", GPU_ELSE_INVALID, handle, &t);

	if (ret != SUCCESS)
		return ret;
	if (values == NULL || count <= 0)
		return leave(INVALID_ARGUMENT);
	for (int i = 0; i < count; i++) {
		nvmlFieldValue_t *v = &values[i];

		v->timestamp = now_us();
		v->latencyUsec = 0;
		v->nvmlReturn = NOT_SUPPORTED;
		for (unsigned j = 0; j < t.device->n_fields; j++) {
			if (t.device->fields[j].id != v->fieldId)
				continue;
			v->nvmlReturn = SUCCESS;
			v->valueType = VALUE_TYPE_UNSIGNED_LONG_LONG;
			v->value.ullVal = t.device->fields[j].value;
		}
	}
	return leave(SUCCESS);
}
