package sources

import "strings"

// tooMuch says whether a server refused for the size of what was asked, or did not finish it in time: less may succeed. Servers
// say so in words alone (statuses are 400, 422, 500 and 503 for the same thing):
//
//	Prometheus      exceeded maximum resolution of 11,000 points per timeseries
//	                query processing would load too many samples into memory in query execution
//	                query timed out in …, the request examines too many series (Headroom's adapter)
//	Thanos          exceeded series limit / exceeded chunks limit / samples limit … violated
//	Mimir, Cortex   the query exceeded the maximum number of …, the query time range exceeds the limit
//	VictoriaMetrics cannot select more than -search.maxSamplesPerQuery=…, the number of matching timeseries exceeds …,
//	                too many points for the given step, not enough memory for processing …
//	the client      the answer is larger than …, no answer within …
//	proxies         HTTP 413, 504
func tooMuch(err error) bool {
	if contains(err, "too many requests", "rate limit", "http 429") { // that wants patience
		return false
	}
	return contains(err, "maximum resolution", "too many", "too large", "larger than", "exceed", "limit", "timed out", "timeout",
		"no answer within", "cannot select more than", "not enough memory", "deadline", "http 413", "http 504")
}

// permanent says whether the same answer would come again.
func permanent(err error) bool {
	return !tooMuch(err) && contains(err, "bad_data", "parse error", "http 401", "http 403", "http 404", "unauthorized", "forbidden")
}

func contains(err error, texts ...string) bool {
	said := strings.ToLower(err.Error())
	for _, t := range texts {
		if strings.Contains(said, t) {
			return true
		}
	}
	return false
}
