package update

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/lab/load"
)

// Case is an update to be played.
type Case struct {
	Name     string
	Replicas int
	GPUs     int     // that the service may have, its own included
	Demand   float64 // requests/s
	Strategy appsv1.DeploymentStrategy
	Policy   *v1alpha1.RolloutPolicySpec // nil for Kubernetes alone; the target is filled in
	Limit    time.Duration               // after which it is over, done or not
}

// End is how an update ended.
type End string

// The ends.
const (
	Done    End = "done"    // every replica is Ready with the new version, and nothing of the old one is left
	Stuck   End = "stuck"   // the Deployment's progress deadline passed
	Refused End = "refused" // the RolloutPolicy says why it does not begin
	Late    End = "limit"   // not done within the limit
)

// Outcome is what was seen of one.
type Outcome struct {
	Case     string  `json:"case"`
	Replicas int     `json:"replicas"`
	GPUs     int     `json:"gpus"`
	Demand   float64 `json:"demand"`
	End      End     `json:"end"`
	// Why is the reason of an end other than done, Plan what the policy planned.
	Why  string `json:"why,omitempty"`
	Plan string `json:"plan,omitempty"`

	Seconds  float64 `json:"seconds"`        // from the patch to the end
	Least    int     `json:"leastReplicas"`  // Ready and selected by the Service
	Held     int     `json:"gpusHeld"`       // at the most
	Requests int     `json:"requests"`       // due in that time
	Failed   int     `json:"failed"`         // refused, cut off, answered by an error, or nobody there to ask
	Late     int     `json:"late"`           // answered after LateAfter
	P99      float64 `json:"p99Seconds"`     // of the answers
	SendP99  float64 `json:"sendP99Seconds"` // how late the generator itself was
	// Samples are the counts, At from the patch.
	Samples []Point `json:"samples"`
}

// Point is a count so many seconds after the patch.
type Point struct {
	Seconds float64 `json:"seconds"`
	Count
}

// versions of the bench: the first loads in a second, since nobody waits for it.
func first() Version  { return Version{Name: "v1", StartUp: time.Second, Engine: steady()} }
func second() Version { return Version{Name: "v2", StartUp: StartUp, Engine: steady()} }

const (
	// warmUp is the load before the update; a policy needs more, for rates over 10 s to see it.
	warmUp      = 3 * time.Second
	ratesWarmUp = 15 * time.Second
	// refusedFor is how long a refusal must stand: the first one may rest on a cache that has not seen the last pod go.
	refusedFor = 5 * time.Second
	// after is for requests that were due at the very end.
	after = time.Second
)

// Play plays one update and clears the stage after it.
func (s *Stage) Play(ctx context.Context, c Case, say func(string)) (o Outcome, err error) {
	var policy *v1alpha1.RolloutPolicy
	defer func() {
		if ctx.Err() == nil { // else the lab goes as well
			err = errors.Join(err, s.clear(ctx, policy))
		}
	}()
	say("preparing")
	if err := s.leave(ctx, c.GPUs); err != nil {
		return o, err
	}
	warm := warmUp
	if c.Policy != nil {
		warm = ratesWarmUp
		policy = &v1alpha1.RolloutPolicy{ObjectMeta: metav1.ObjectMeta{Name: Name, Namespace: Namespace}, Spec: *c.Policy}
		policy.Spec.TargetRef = v1alpha1.TargetReference{APIVersion: "apps/v1", Kind: "Deployment", Name: Name}
	}
	// Kubernetes' default of 600 s, compressed.
	if err := s.install(ctx, deployment(c.Replicas, first(), c.Strategy, 10*time.Minute/Compression), policy); err != nil {
		return o, err
	}
	t, err := s.send(ctx, c.Demand, warm+c.Limit+after+time.Minute)
	if err != nil {
		return o, err
	}
	defer t.cancel()
	say("load before the update")
	if err := pause(ctx, warm); err != nil {
		return o, err
	}
	began := time.Now()
	if err := s.patch(ctx, second()); err != nil {
		return o, err
	}
	o = Outcome{Case: c.Name, Replicas: c.Replicas, GPUs: c.GPUs, Demand: c.Demand}
	if err := s.follow(ctx, c, began, &o, say); err != nil {
		return o, err
	}
	ended := time.Now()
	if err := pause(ctx, after); err != nil {
		return o, err
	}
	o.count(s.watcher.between(began, ended), began, ended)
	o.judge(t.stop(), began.Sub(t.began), ended.Sub(t.began))
	return o, nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// follow waits for the end.
func (s *Stage) follow(ctx context.Context, c Case, began time.Time, o *Outcome, say func(string)) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var refusedSince time.Time
	for o.End == "" {
		now, changed := s.watcher.now()
		passed := time.Since(began)
		say(fmt.Sprintf("%2.0f s: %d old and %d new serve, %d load, %d pend, %d leave, %d GPUs", passed.Seconds(),
			now.Ready["v1"], now.Ready["v2"], now.Loading, now.Pending, now.Leaving, now.GPUs))
		switch {
		case now.Pods["v1"] == 0 && now.Ready["v2"] == c.Replicas && now.Pods["v2"] == c.Replicas:
			o.End = Done
			continue
		case passed > c.Limit:
			o.End, o.Why = Late, fmt.Sprintf("%d of %d replicas are new after %s", now.Ready["v2"], c.Replicas, c.Limit)
			continue
		}
		select {
		case <-changed:
			continue
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if c.Policy == nil {
			if err := s.stuck(ctx, o); err != nil {
				return err
			}
			continue
		}
		why, err := s.policy(ctx, o)
		switch {
		case err != nil:
			return err
		case why == "":
			refusedSince = time.Time{}
		case refusedSince.IsZero():
			refusedSince = time.Now()
		case time.Since(refusedSince) > refusedFor:
			o.End, o.Why = Refused, why
		}
	}
	return nil
}

// stuck looks whether the Deployment has given up.
func (s *Stage) stuck(ctx context.Context, o *Outcome) error {
	d := &appsv1.Deployment{}
	if err := s.client.Get(ctx, client.ObjectKey{Namespace: Namespace, Name: Name}, d); err != nil {
		return fmt.Errorf("cannot read the Deployment: %w", err)
	}
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse && d.Status.ObservedGeneration == d.Generation {
			o.End, o.Why = Stuck, fmt.Sprintf("%s: %s", c.Reason, c.Message)
		}
	}
	return nil
}

// policy notes what the RolloutPolicy plans, and returns why it refuses.
func (s *Stage) policy(ctx context.Context, o *Outcome) (refused string, err error) {
	p := &v1alpha1.RolloutPolicy{}
	if err := s.client.Get(ctx, client.ObjectKey{Namespace: Namespace, Name: Name}, p); err != nil {
		return "", fmt.Errorf("cannot read the RolloutPolicy: %w", err)
	}
	if plan := p.Status.Plan; plan != nil {
		o.Plan = ""
		for i, step := range plan.Steps {
			if i > 0 {
				o.Plan += ", "
			}
			o.Plan += fmt.Sprintf("%s %d/%d", step.Name, step.MaxSurge, step.MaxUnavailable)
		}
		o.Plan += fmt.Sprintf(" in %s, at least %d serve", plan.Makespan.Duration.Round(100*time.Millisecond), plan.LeastReplicas)
	}
	return refusal(p), nil
}

// count sums up the pods.
func (o *Outcome) count(samples []Sample, began, ended time.Time) {
	o.Seconds, o.Least = ended.Sub(began).Seconds(), math.MaxInt
	for _, s := range samples {
		o.Least, o.Held = min(o.Least, s.Serving), max(o.Held, s.GPUs)
		o.Samples = append(o.Samples, Point{s.At.Sub(began).Seconds(), s.Count})
	}
}

// judge sums up the requests that were due from a moment of the load to another.
func (o *Outcome) judge(results []load.Result, from, to time.Duration) {
	var due []load.Result
	for _, r := range results {
		if r.Scheduled < from || r.Scheduled > to || r.Class == load.ClassCanceled {
			continue
		}
		due = append(due, r)
		o.Requests++
		switch {
		case !r.OK():
			o.Failed++
		case r.Latency > LateAfter:
			o.Late++
		}
	}
	latencies, waits := load.Percentiles(due)
	if latencies != nil {
		o.P99 = latencies.P99 / 1000
	}
	if waits != nil {
		o.SendP99 = waits.P99 / 1000
	}
}
