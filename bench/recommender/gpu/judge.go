package gpu

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"time"

	"headroom.dev/headroom/bench/result"
	"headroom.dev/headroom/recommender"
	"headroom.dev/headroom/recommender/accelerator"
)

const model = "NVIDIA H200"

// ladder are the profiles, smallest first; of those with equal memory the one that takes less of a GPU.
func ladder() []string { return []string{"1g.18gb", "1g.35gb", "3g.71gb", "7g.141gb"} }

// nominal is a profile's size in bytes by its name.
func nominal(profile string) float64 {
	var compute, gb int
	if _, err := fmt.Sscanf(profile, "%dg.%dgb", &compute, &gb); err != nil {
		return math.NaN()
	}
	return float64(gb) * 1e9
}

// smallest is the smallest profile that holds so much; the largest if none does.
func smallest(bytes float64) string {
	for _, profile := range ladder() {
		if bytes <= nominal(profile) {
			return profile
		}
	}
	return ladder()[len(ladder())-1]
}

// half is a container as it is chosen for, and as it turned out.
type half struct {
	before Series
	start  time.Time // of the trace
	cut    time.Time
	later  float64 // the peak
	hold   time.Duration
}

// way chooses a profile.
type way struct {
	name   string
	choose func(half) string
}

// judge chooses from what is before the cut and judges by the rest.
func judge(series []Series, fit time.Duration) Result {
	var start, end time.Time
	for _, s := range series {
		if first := s.Times[0]; start.IsZero() || first.Before(start) {
			start = first
		}
		if last := s.Times[len(s.Times)-1]; last.After(end) {
			end = last
		}
	}
	cut := start.Add(fit)
	r := Result{Fit: fit, Judge: end.Sub(cut)}
	var halves []half
	for _, s := range series {
		n := sort.Search(len(s.Times), func(i int) bool { return !s.Times[i].Before(cut) })
		later := peak(s.Values[n:])
		if n == 0 || n == len(s.Times) || later < 1e9 {
			r.Skipped++
			continue
		}
		halves = append(halves, half{before: Series{s.Name, s.Times[:n], s.Values[:n]}, start: start, cut: cut, later: later, hold: r.Judge})
	}
	r.Containers = len(halves)
	r.Oracle = run(way{"oracle (knows the later peak)", func(h half) string { return smallest(h.later) }}, halves, nil)
	for _, w := range ways() {
		r.Rows = append(r.Rows, run(w, halves, &r.Oracle))
	}
	exceeded := 0
	for _, h := range halves {
		if advice := h.advice(0.01); h.later > advice.Need {
			exceeded++
		}
	}
	r.Exceeded = float64(exceeded) / float64(len(halves))
	r.bound(halves)
	return r
}

func run(w way, halves []half, oracle *Row) Row {
	row := Row{Name: w.name, Uses: map[string]int{}, Ratio: 1}
	for _, h := range halves {
		profile := w.choose(h)
		row.Uses[profile]++
		row.GB += nominal(profile) / 1e9
		if h.later > nominal(profile) {
			row.Overflow++
		}
		if nominal(profile) > nominal(smallest(h.later)) {
			row.Oversize++
		}
	}
	if oracle != nil {
		row.Ratio = row.GB / oracle.GB
	}
	return row
}

// ways are those compared: ours with risks, and the rules that tools use.
func ways() []way {
	ours := func(risk float64) way {
		return way{fmt.Sprintf("headroom, risk %g%%", 100*risk), func(h half) string { return h.advice(risk).Recommended.Size.Profile }}
	}
	rule := func(name string, need func(h half) float64) way {
		return way{name, func(h half) string { return smallest(need(h)) }}
	}
	return []way{
		ours(0.01), ours(0.05), ours(0.2), ours(0.45),
		rule("max x 1.15 (KRR)", func(h half) float64 { return 1.15 * peak(h.before.Values) }),
		rule("max", func(h half) float64 { return peak(h.before.Values) }),
		rule("p99.9", func(h half) float64 { return result.Quantile(h.before.Values, 0.999) }),
		rule("p98 of 15-min maxima (after Kruize, performance)", func(h half) float64 { return interpolated(h.maxima(15*time.Minute), 0.98) }),
		rule("p60 of 15-min maxima (after Kruize, cost)", func(h half) float64 { return interpolated(h.maxima(15*time.Minute), 0.60) }),
		rule("VPA's memory path (adapted to GPU bytes)", half.vpa),
	}
}

// advice is what is recommended, with the sizes at their nominal memory.
func (h half) advice(risk float64) accelerator.Advice {
	policy := accelerator.DefaultPolicy()
	policy.Risk, policy.Hold, policy.Sharing = risk, h.hold, []accelerator.Sharing{accelerator.MIG}
	usable := map[string]int64{}
	for _, profile := range append(ladder(), "2g.35gb", "4g.71gb") {
		usable[profile] = int64(nominal(profile))
	}
	return accelerator.Recommend(accelerator.Input{
		Now: h.cut, Workload: h.before.Name, Model: model, Usable: usable, Policy: policy,
		Memory: accelerator.History{Hours: h.hours(), Certainty: 1},
	})
}

// hours are the hours of the trace up to the cut.
func (h half) hours() []recommender.Hour {
	var hours []recommender.Hour
	for at := h.start; at.Before(h.cut); at = at.Add(time.Hour) {
		values := h.before.between(at, at.Add(time.Hour))
		hours = append(hours, recommender.Hour{
			Start: at, Known: len(values) > 0, P50: result.Quantile(values, 0.5), P90: result.Quantile(values, 0.9), Max: result.Quantile(values, 1),
		})
	}
	return hours
}

// maxima of equal intervals of which something is known.
func (h half) maxima(step time.Duration) []float64 {
	var all []float64
	for at := h.start; at.Before(h.cut); at = at.Add(step) {
		if values := h.before.between(at, at.Add(step)); len(values) > 0 {
			all = append(all, peak(values))
		}
	}
	return all
}

// vpa is the target of the VerticalPodAutoscaler for memory: one peak for each 24 hours in a histogram of buckets that grow by 5 %,
// of which p90 is the upper edge of the bucket, plus 15 %. Twelve hours are one window, so one peak. Buckets begin at 1e7 bytes.
func (h half) vpa() float64 {
	const first, ratio = 1e7, 1.05
	bucket := math.Floor(math.Log(peak(h.before.Values)*(ratio-1)/first+1) / math.Log(ratio))
	return 1.15 * first * (math.Pow(ratio, bucket+1) - 1) / (ratio - 1)
}

func (s Series) between(from, to time.Time) []float64 {
	search := func(t time.Time) int {
		return sort.Search(len(s.Times), func(i int) bool { return !s.Times[i].Before(t) })
	}
	return s.Values[search(from):search(to)]
}

// interpolated is the quantile as Prometheus' quantile_over_time has it.
func interpolated(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	rank := q * float64(len(sorted)-1)
	low := int(rank)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (rank-float64(low))*(sorted[high]-sorted[low])
}

func peak(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	return slices.Max(values)
}

// bound looks with hindsight for the best of all simple rules.
func (r *Result) bound(halves []half) {
	r.Bound, r.Needed = math.NaN(), -1
	recent := make([][]float64, len(halves)) // the highest use of the last 1, 2, … hours
	for i, h := range halves {
		highest := 0.0
		for back := time.Hour; back <= r.Fit; back += time.Hour {
			highest = max(highest, peak(h.before.between(h.cut.Add(-back), h.cut)))
			recent[i] = append(recent[i], highest)
		}
	}
	for back := range recent[0] {
		for percent := 100; percent < 200; percent++ {
			i := -1
			row := run(way{choose: func(half) string { i++; return smallest(recent[i][back] * float64(percent) / 100) }}, halves, &r.Oracle)
			if row.Overflow == 0 && !(row.Ratio >= r.Bound) {
				r.Bound, r.Rule = row.Ratio, fmt.Sprintf("%.2f x %d h", float64(percent)/100, back+1)
			}
			if row.Ratio <= Goal && (r.Needed < 0 || row.Overflow < r.Needed) {
				r.Needed = row.Overflow
			}
		}
	}
}
