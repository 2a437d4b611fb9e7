/* Power, temperature, clocks, and what NVML has as fields. */
#include "nvmltest.h"

#include <string.h>

enum { CLOCK_SM = 1, CLOCK_MEM = 2, VALUE_UNSIGNED_LONG_LONG = 3 };

typedef struct {
	unsigned fieldId, scopeId;
	long long timestamp, latencyUsec;
	int valueType;
	nvmlReturn_t nvmlReturn;
	u64 value;
} nvmlFieldValue_t;

#define SCALAR(name, type, expression)                                                                        \
	nvmlReturn_t name(nvmlDevice_t handle, type *value)                                                   \
	{                                                                                                     \
		struct unit *u;                                                                               \
		nvmlReturn_t ret = ENTER_GPU(&u, handle);                                                     \
                                                                                                              \
		if (ret != SUCCESS)                                                                           \
			return ret;                                                                           \
		if (value == NULL)                                                                            \
			return nvmltest_leave(INVALID_ARGUMENT);                                              \
		*value = expression;                                                                          \
		return nvmltest_leave(SUCCESS);                                                               \
	}

SCALAR(nvmlDeviceGetPowerUsage, unsigned, u->power)
SCALAR(nvmlDeviceGetEnforcedPowerLimit, unsigned, u->power_limit)
SCALAR(nvmlDeviceGetCurrentClocksEventReasons, u64, u->reasons)
SCALAR(nvmlDeviceGetCurrentClocksThrottleReasons, u64, u->reasons)

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t handle, int sensor, unsigned *celsius)
{
	struct unit *u;
	nvmlReturn_t ret = ENTER_GPU(&u, handle);

	if (ret != SUCCESS)
		return ret;
	if (celsius == NULL || sensor != 0)
		return nvmltest_leave(INVALID_ARGUMENT);
	*celsius = u->temperature;
	return nvmltest_leave(SUCCESS);
}

nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t handle, int clock, unsigned *mhz)
{
	struct unit *u;
	nvmlReturn_t ret = ENTER_GPU(&u, handle);

	if (ret != SUCCESS)
		return ret;
	if (mhz == NULL || (clock != CLOCK_SM && clock != CLOCK_MEM))
		return nvmltest_leave(INVALID_ARGUMENT);
	*mhz = clock == CLOCK_SM ? u->sm_clock : u->memory_clock;
	return nvmltest_leave(SUCCESS);
}

nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t handle, int count, nvmlFieldValue_t *values)
{
	struct unit *u;
	nvmlReturn_t ret = ENTER_GPU(&u, handle);

	if (ret != SUCCESS)
		return ret;
	if (count <= 0 || values == NULL)
		return nvmltest_leave(INVALID_ARGUMENT);
	for (int i = 0; i < count; i++) {
		values[i].nvmlReturn = NOT_SUPPORTED;
		for (int j = 0; j < u->n_fields; j++) {
			if (u->fields[j].id != values[i].fieldId)
				continue;
			values[i].nvmlReturn = SUCCESS;
			values[i].valueType = VALUE_UNSIGNED_LONG_LONG;
			values[i].value = u->fields[j].value;
		}
	}
	return nvmltest_leave(SUCCESS);
}
