package simulate_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/simulate"
)

func span(seconds int) rollout.Span {
	d := time.Duration(seconds) * time.Second
	return rollout.Span{P50: d, P90: d}
}

// ordeal is a rollout under a schedule of faults, with what must never happen.
type ordeal struct {
	*simulate.Driver
	name     string
	random   *rand.Rand
	log      *[]string
	passed   map[string]bool // version/step that the judge or a person passed
	clean    bool            // nothing has happened yet that no plan promises anything under
	keep     int             // replicas that demand needs
	pods     int             // the most GPUs that a plan of this rollout asked for
	least    map[string]int  // replicas that the plans of a version promised
	broken   string
	stable   string
	original rollout.Fields
	allowed  map[string]bool      // versions that were promoted by right
	settled  map[string]time.Time // by key
	webhook  map[string]rollout.Result
}

func (o *ordeal) note(format string, args ...any) {
	*o.log = append(*o.log, fmt.Sprintf("%s %s ", o.World.Now().Format("15:04:05"), o.name)+fmt.Sprintf(format, args...))
}

// drawPolicy draws what an owner may ask for.
func drawPolicy(random *rand.Rand, kind rollout.Kind) rollout.Policy {
	strategies := map[rollout.Kind][]rollout.Strategy{
		rollout.Deployment:  {rollout.Rolling, rollout.Canary, rollout.Canary, rollout.BlueGreen},
		rollout.StatefulSet: {rollout.Rolling, rollout.Canary, rollout.Canary},
		rollout.DaemonSet:   {rollout.Rolling},
	}[kind]
	p := rollout.Policy{Strategy: strategies[random.IntN(len(strategies))], Reserve: random.IntN(2), KeepOld: time.Minute, Hold: time.Minute}
	if kind != rollout.DaemonSet && random.IntN(12) == 0 {
		p.Strategy, p.Downtime = rollout.Recreate, true
	}
	if random.IntN(3) == 0 {
		p.OnNewTemplate = rollout.Queue
	}
	if random.IntN(4) == 0 {
		p.OnForeign = rollout.Stop
	}
	if p.Strategy == rollout.BlueGreen {
		p.Gates = drawGates(random)
	}
	if p.Strategy == rollout.Canary && random.IntN(2) == 0 {
		p.Steps = []rollout.CanaryStep{{Percent: 5, Gates: drawGates(random)}, {Percent: 25}, {Percent: 75, Gates: drawGates(random), Unjudged: random.IntN(4) == 0}}
	}
	return p
}

func drawGates(random *rand.Rand) []rollout.Gate {
	all := []rollout.Gate{
		{Pause: 40 * time.Second},
		{Name: "smoke", Webhook: true},
		{Windows: []rollout.Window{{From: 10 * time.Minute, To: 20 * time.Minute}, {Days: []time.Weekday{time.Monday}, From: 40 * time.Minute, To: 2 * time.Hour}}},
	}
	var out []rollout.Gate
	for _, g := range all {
		if random.IntN(4) == 0 {
			out = append(out, g)
		}
	}
	return out
}

// drawSetup draws a workload.
func drawSetup(random *rand.Rand) simulate.Setup {
	s := simulate.Setup{
		Kind: rollout.Deployment, Replicas: 4 + random.IntN(9), GPUs: 1,
		Drain: 1 + random.IntN(20), Default: simulate.Behavior{Load: 5 + random.IntN(60)},
	}
	switch random.IntN(6) {
	case 0, 1:
		s.Kind, s.Serial = rollout.StatefulSet, random.IntN(2) == 0
	case 2:
		s.Kind = rollout.DaemonSet
	}
	if random.IntN(3) == 0 {
		s.MinReady = 5 + random.IntN(30)
	}
	return s
}

func newOrdeal(seed uint64) *ordeal {
	random := rand.New(rand.NewPCG(seed, 7))
	setup := drawSetup(random)
	p := drawPolicy(random, setup.Kind)
	n, free := setup.Replicas, random.IntN(4)
	if p.Strategy == rollout.BlueGreen && random.IntN(2) == 0 {
		free = n
	}
	c := simulate.NewCluster((n+free)/2, n+free-(n+free)/2)
	if setup.Kind == rollout.DaemonSet {
		nodes := make([]int, n)
		for i := range nodes {
			nodes[i] = 1 + random.IntN(2)
		}
		c = simulate.NewCluster(nodes...)
	}
	return addOrdeal(c, setup, p, random, &[]string{})
}

func addOrdeal(c *simulate.Cluster, setup simulate.Setup, p rollout.Policy, random *rand.Rand, log *[]string) *ordeal {
	w := c.Add(setup)
	keep := 1 + random.IntN(w.Replicas)
	o := &ordeal{
		random: random, passed: map[string]bool{}, allowed: map[string]bool{"v1": true}, least: map[string]int{}, clean: true, settled: map[string]time.Time{},
		keep: keep, stable: "v1", original: w.Fields, log: log, webhook: map[string]rollout.Result{"v2": rollout.Pass},
	}
	if random.IntN(4) == 0 {
		o.webhook["v2"] = rollout.Fail
	}
	o.Driver = &simulate.Driver{
		World: w, Policy: p, Period: 2 + random.IntN(5), Demand: rollout.Constant(float64(10 * keep)),
		Service: rollout.Service{
			GPUs: 1, Capacity: 10, Router: p.Strategy == rollout.BlueGreen || random.IntN(2) == 0,
			StartUp: span(setup.Default.Load), Drain: span(setup.Drain),
		},
	}
	o.Judge, o.Look, o.Gates = o.judge, o.look, o.gate
	o.Crash = func(actions int) (int, bool) {
		if random.IntN(8) > 0 {
			return -1, true
		}
		return random.IntN(actions + 1), random.IntN(2) == 0
	}
	o.Lost = func() bool { return random.IntN(20) == 0 }
	return o
}

// gate is what a webhook says: nothing at first.
func (o *ordeal) gate(key, _ string) rollout.Result {
	version, _, _ := strings.Cut(key, "/")
	if o.World.Now().Sub(o.settled[key]) < 15*time.Second {
		return rollout.NoResult
	}
	if r, ok := o.webhook[version]; ok {
		return r
	}
	return rollout.Pass
}

// judge draws a verdict for each settling; bad versions fail.
func (o *ordeal) judge(key string, since time.Duration) rollout.Verdict {
	version, _, _ := strings.Cut(key, "/")
	switch {
	case since < 20*time.Second:
		return rollout.Verdict{}
	case strings.HasSuffix(version, "bad"):
		return rollout.Verdict{Result: rollout.Fail, Message: "errors"}
	case since < 40*time.Second && len(key)%2 == 0:
		return rollout.Verdict{Result: rollout.Inconclusive, Message: "no data"}
	}
	return rollout.Verdict{Result: rollout.Pass}
}

// look sees what is decided.
func (o *ordeal) look(before, after rollout.State, seen rollout.Observation, actions []rollout.Action) {
	if len(actions) > 0 {
		o.note("%s %s [%s]", after.Phase, strings.ReplaceAll(simulate.Text(actions), "\n", "; "), counts(seen))
	}
	if after.Schedule != nil {
		o.pods = max(o.pods, after.Schedule.Peak)
		if least, ok := o.least[after.To]; !ok || after.Schedule.Least.Replicas < least {
			o.least[after.To] = after.Schedule.Least.Replicas
		}
	}
	o.lookAtStep(before, after, seen)
	if after.From != before.From && before.From != "" && before.Phase != rollout.Adopting {
		if before.Schedule != nil {
			for _, s := range before.Schedule.Steps {
				if s.Judged && !o.passed[after.From+"/"+s.Name] {
					o.fail("%s was made stable without step %s", after.From, s.Name)
				}
			}
		}
		o.allowed[after.From], o.stable = true, after.From
	}
	if after.Phase == rollout.Settled && (before.Phase != rollout.Settled || after.Attempt != before.Attempt) {
		o.settled[after.Key()] = o.World.Now()
	}
}

// lookAtStep checks that a step is left only by right: the judge and its gates, or a person, passed it.
func (o *ordeal) lookAtStep(before, after rollout.State, seen rollout.Observation) {
	if before.Phase != rollout.Settled || before.Schedule == nil || before.To == "" {
		return
	}
	step := before.Schedule.Steps[before.Step]
	name := before.To + "/" + step.Name
	byPerson := before.Passed || seen.Command.Kind == rollout.Promote && seen.Command.ID != before.Handled
	if seen.Verdict.Result == rollout.Pass && seen.Verdict.Key == before.Key() || !step.Judged || byPerson {
		o.passed[name] = true
	}
	if before.Step >= after.Step || after.To != before.To {
		return
	}
	if step.Judged && !o.passed[name] {
		o.fail("step %s of %s went on unjudged", step.Name, before.To)
	}
	if why := shut(step.Gates, before.Key(), seen, o.World.Now(), o.World.Now().Sub(o.settled[before.Key()])); why != "" && !byPerson {
		o.fail("step %s of %s went on through its gate: %s", step.Name, before.To, why)
	}
}

// shut says which gate of a step is not open.
func shut(gates []rollout.Gate, key string, seen rollout.Observation, now time.Time, since time.Duration) string {
	for _, g := range gates {
		switch v := seen.Gates[g.Name]; {
		case g.Webhook && (v.Result != rollout.Pass || v.Key != key):
			return "webhook"
		case g.Pause > since:
			return "pause"
		case len(g.Windows) > 0 && (now.Hour() == 0 && (now.Minute() < 10 || now.Minute() >= 20) && now.Minute() < 40 || now.Hour() >= 2):
			return "window"
		}
	}
	return ""
}

func counts(o rollout.Observation) string {
	if o.Workload == nil {
		return "gone"
	}
	out := fmt.Sprintf("N=%d %s", o.Workload.Replicas, o.Workload.Template)
	for _, v := range []string{"v1", "v2", "v3", "v2bad"} {
		if c := o.Versions[v]; c.Replicas > 0 {
			out += fmt.Sprintf(" %s=%d/%d", v, c.Ready, c.Replicas)
		}
	}
	return out
}

func (o *ordeal) fail(format string, args ...any) {
	if o.broken == "" {
		o.broken = fmt.Sprintf(format, args...)
		o.note("BROKEN %s", o.broken)
	}
}

// check looks at what must hold in every second.
func (o *ordeal) check(t *testing.T) {
	t.Helper()
	w := o.World
	s, err := o.State()
	require.NoError(t, err)
	if w.Deleted || w.Replicas == 0 {
		return
	}
	if o.Policy.Strategy == rollout.Recreate {
		return // by consent
	}
	ready := w.Ready("")
	if o.clean && ready == 0 {
		o.fail("no version serves")
	}
	if o.clean && s.Schedule != nil {
		want := min(o.keep, s.Schedule.Replicas)
		if ready < want {
			o.fail("%d replicas serve, %d are needed", ready, want)
		}
		// A decider that died plans anew over what it finds; the first promise is the one that counts, as for GPUs.
		if s.Phase == rollout.Moving && ready < o.least[s.To] && o.Policy.Strategy != rollout.BlueGreen {
			o.fail("%d replicas serve, the plan says at least %d", ready, o.least[s.To])
		}
		// A decider that died plans anew over pods that it finds: what it may use is what it planned first.
		used := w.Used()
		if o.Most > 0 {
			used = w.Held() // a budget leaves GPUs free that pods can have while others end
		}
		if used > o.pods && (s.Phase == rollout.Moving || s.Phase == rollout.Settled) {
			o.fail("%d GPUs are used, the plan says %d", used, o.pods)
		}
	}
}

// disturb does something that a cluster and its people do, one of so many kinds.
func (o *ordeal) disturb(kind int) {
	w, r := o.World, o.random
	manifest := o.original
	dirty := func(format string, args ...any) { o.clean = false; o.note(format, args...) }
	switch kind {
	case 0, 1:
		n := max(1, w.Replicas+r.IntN(5)-2)
		if w.Kind != rollout.DaemonSet {
			dirty("scale to %d", n)
			w.Scale(n)
		}
	case 2:
		n := r.IntN(w.Replicas + 1)
		if w.Kind != rollout.DaemonSet {
			dirty("deep scale to %d", n)
			w.Scale(n)
		}
	case 3:
		dirty("manifest applied again")
		manifest.Paused, manifest.OnDelete = w.Fields.Paused, w.Fields.OnDelete
		if r.IntN(2) == 0 {
			manifest.MinReadySeconds, manifest.Partition = w.Fields.MinReadySeconds, w.Fields.Partition
		}
		if manifest.MinReadySeconds > 60 {
			manifest.ProgressDeadline = w.Fields.ProgressDeadline
		}
		w.Write("kubectl-client-side-apply", manifest, "")
	case 4:
		dirty("manifest applied again, unpaused, with its template")
		manifest.MinReadySeconds, manifest.ProgressDeadline = w.Fields.MinReadySeconds, w.Fields.ProgressDeadline
		w.Write("argocd", manifest, []string{"v1", "v2"}[r.IntN(2)])
	case 5:
		v := []string{"v3", "v2", "v2bad"}[r.IntN(3)]
		dirty("template %s", v)
		w.Write("user", w.Fields, v)
	case 6:
		dirty("undo")
		w.Write("kubectl-rollout-undo", w.Fields, o.stable)
	case 7:
		dirty("others take GPUs")
		w.Take(0, 1+r.IntN(2))
	case 8:
		dirty("others give GPUs back")
		w.Take(0, -2)
	case 9:
		dirty("a node loses a GPU")
		w.Lose(1, 1)
	case 10:
		kinds := []rollout.CommandKind{rollout.Pause, rollout.Resume, rollout.Abort, rollout.Retry, rollout.Undo, rollout.Promote, rollout.Undo}
		o.Command = rollout.Command{ID: strconv.Itoa(r.Int()), Kind: kinds[r.IntN(len(kinds))], By: "ann"}
		o.note("command %s", o.Command.Kind)
	case 11:
		o.note("the Deployment controller restarts")
		w.Asleep = o.seconds() + 5 + r.IntN(30)
	case 12:
		if r.IntN(6) == 0 {
			o.note("the policy is removed")
			o.Release = true
		}
	case 13:
		results := []rollout.Result{rollout.Pass, rollout.Fail, rollout.Inconclusive}
		o.webhook["v2"] = results[r.IntN(len(results))]
		o.note("the webhook says %s", o.webhook["v2"])
	case 14:
		if r.IntN(10) == 0 {
			dirty("deleted")
			w.Deleted = true
		}
	}
}

func (o *ordeal) seconds() int {
	return int(o.World.Now().Sub(time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)).Seconds())
}

func (o *ordeal) run(t *testing.T, faults bool) {
	t.Helper()
	version := []string{"v2", "v2", "v2bad"}[o.random.IntN(3)]
	switch o.random.IntN(6) {
	case 0:
		o.World.Behavior["v2"] = simulate.Behavior{Crash: true}
	case 1:
		o.World.Behavior["v2"] = simulate.Behavior{NeverReady: true}
	}
	start := 20 + o.random.IntN(60)
	for i := range 8000 {
		if i == start {
			o.note("template %s; %+v", version, o.Policy)
			o.World.Write("user", o.World.Fields, version)
		}
		if faults && i > start && i < 2500 && o.random.IntN(150) == 0 {
			o.disturb(o.random.IntN(15))
		}
		if i == 2600 {
			o.Command = rollout.Command{ID: "calm", Kind: rollout.Resume, By: "ann"}
			if o.World.Replicas == 0 {
				o.World.Scale(4)
			}
			if o.webhook["v2"] == rollout.Inconclusive {
				o.webhook["v2"] = rollout.Pass
			}
			// Queued versions and retries would go on for ever.
			o.Crash, o.Lost = nil, nil
		}
		require.NoError(t, o.Tick())
		o.check(t)
		if o.broken != "" {
			return
		}
		if i > 2700 && i%50 == 0 && o.calm(t, i) {
			break
		}
	}
	o.end(t)
}

// calm says whether nothing more is going to happen.
func (o *ordeal) calm(t *testing.T, second int) bool {
	t.Helper()
	s, err := o.State()
	require.NoError(t, err)
	switch s.Phase {
	case rollout.Resting:
		return s.Queued == "" && o.World.Ready("") == min(o.World.Replicas, o.World.Used()) || second > 7000
	case rollout.Released, rollout.Gone:
		return true
	case rollout.Planning:
		return second > 4500
	case rollout.Adopting, rollout.Moving, rollout.Settled, rollout.GoingBack, rollout.Restoring:
	}
	return false
}

// end looks at what must hold once everything has come to rest.
func (o *ordeal) end(t *testing.T) {
	t.Helper()
	s, err := o.State()
	require.NoError(t, err)
	w := o.World
	if w.Deleted {
		if s.Phase != rollout.Gone && s.Phase != rollout.Released || w.Stable != "" {
			o.fail("deleted, and left in %q with stable %q", s.Phase, w.Stable)
		}
		return
	}
	switch s.Phase {
	case rollout.Resting, rollout.Released:
		f := w.Fields
		want := o.original
		if s.Phase == rollout.Resting {
			switch w.Kind {
			case rollout.StatefulSet:
				want.Partition = 2147483647
			case rollout.DaemonSet:
				want.OnDelete = true
			case rollout.Deployment:
				want.Paused = true
			}
		}
		if f != want {
			o.fail("the fields at the end are %+v, not %+v", f, want)
		}
		if w.Weight != 0 {
			o.fail("weight %v at rest", w.Weight)
		}
		for _, v := range []string{"v1", "v2", "v3", "v2bad"} {
			if s.Phase == rollout.Released {
				break // Kubernetes' own updates since
			}
			if w.Spec(v) > 0 && v != s.From {
				o.fail("%d replicas of %s at rest, where %s is stable", w.Spec(v), v, s.From)
			}
			if w.Spec(v) > 0 && !o.allowed[v] {
				o.fail("%s serves and was never passed", v)
			}
		}
	case rollout.Planning:
		// Refused: the old version serves on.
	case rollout.Settled, rollout.Moving, rollout.GoingBack, rollout.Restoring, rollout.Adopting, rollout.Gone:
		o.fail("still in %q: %s", s.Phase, s.Message)
	}
}

// Schedules of faults, with the decider dying after any action and writes getting lost: the same hundred each time, and with
// HEADROOM_FAULTS=all (make test-rollout-faults) 500 others. HEADROOM_SEED repeats one.
func TestFaults(t *testing.T) {
	base, count := uint64(1), 100
	if os.Getenv("HEADROOM_FAULTS") == "all" {
		base, count = rand.Uint64()%1_000_000_000, 500
	}
	if text := os.Getenv("HEADROOM_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
		base, count = seed, 1
	}
	ends := map[string]int{}
	for i := range count {
		seed := base + uint64(i)
		o := newOrdeal(seed)
		o.run(t, i%5 != 0 || count == 1)
		s, err := o.State()
		require.NoError(t, err)
		ends[string(s.Phase)+" "+s.Reason]++
		if o.broken != "" {
			t.Fatalf("HEADROOM_SEED=%d: %s\n%s", seed, o.broken, strings.Join(*o.log, "\n"))
		}
	}
	t.Logf("seeds from %d: %v", base, ends)
}
