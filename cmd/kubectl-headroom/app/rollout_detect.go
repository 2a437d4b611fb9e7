package app

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/duration"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/cmd/kubectl-headroom/explain"
	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/judge"
	"headroom.dev/headroom/rollout/workload"
)

const (
	// The effects that a judge should see: as bad versions in the field are, and as the defaults of the judge are made for.
	moreErrors   = 0.03
	slowerBy     = 1.3
	slowQuantile = 0.95
	// tailPower is how steeply the tail of latencies falls at the 95th percentile: ln 20 for an exponential one. Real ones of
	// inference fall more steeply near their limits; then a slower version is seen sooner.
	tailPower = 3.0
	// fewErrors is taken for the share of failed requests where fewer are, or none is told.
	fewErrors = 0.001
	// enough is the chance with which an effect must be seen for it to count as seen.
	enough = 0.8
	// detectWithin is how far the judge is looked at.
	detectWithin = time.Hour
)

// sight is what the judge would see of a first canary.
type sight struct {
	after time.Duration // what matters is seen; 0 where it is not within an hour
	blind string        // why not
	text  string        // all of it
}

// detection asks what the judge would see at the traffic of a first canary.
func detection(t traffic, c canary, a *v1alpha1.Analysis) sight {
	if math.IsNaN(t.perSecond) {
		const blind = "the requests per second are not known"
		return sight{blind: blind, text: blind + ": " + t.missing}
	}
	interval := 15 * time.Second
	if a.Interval != nil && a.Interval.Duration > 0 {
		interval = a.Interval.Duration
	}
	q := judge.Question{
		PerLook: t.perSecond * interval.Seconds(), Split: min(c.share, 1-1e-6), Looks: max(1, min(240, int(detectWithin/interval))),
		Alpha: orQuantity(a.Alpha, 0.01) / 2, Beta: orQuantity(a.Beta, 0.05), Seed: 1,
	}
	minimum := 100.0
	if a.MinRequests != nil {
		minimum = float64(*a.MinRequests)
	}
	failed, from := t.failed, ""
	if !(failed >= fewErrors) {
		failed = fewErrors
		from = ", taken for what fails now"
	}
	errors, latency := q, q
	errors.Rate, errors.Effect = failed, (failed+moreErrors)/failed
	errors.Margin = max(1.5, (failed+0.01)/failed)
	latency.Rate, latency.Effect, latency.Margin = 1-slowQuantile, math.Pow(slowerBy, tailPower), math.Pow(1.1, tailPower)
	seesErrors, seesLatency := seen(errors, minimum, interval), seen(latency, minimum, interval)
	say := func(d time.Duration) string {
		if d == 0 {
			return "are not seen within " + duration.HumanDuration(detectWithin)
		}
		return "are seen after " + duration.HumanDuration(d)
	}
	text := fmt.Sprintf("at %s requests/s, a canary of %d of %d replicas gets %s/s: 3%% more errors (%s%% fail%s) %s, latencies of 1.3 times %s",
		explain.Short(t.perSecond), c.replicas, c.of, explain.Short(t.perSecond*c.share), explain.Short(failed*100), from, say(seesErrors), say(seesLatency))
	if seesErrors == 0 || seesLatency == 0 {
		return sight{blind: explain.Short(t.perSecond*c.share) + "/s are too few requests", text: text}
	}
	return sight{after: max(seesErrors, seesLatency), text: text}
}

// seen is the median time after which an effect is seen, 0 where its chance is below 80 %.
func seen(q judge.Question, minimum float64, interval time.Duration) time.Duration {
	p, err := judge.PowerOf(q)
	if err != nil || !(p.Fail >= enough) {
		return 0 // a question that makes no sense is one of no traffic
	}
	looks := max(p.FailLooks, 2, math.Ceil(minimum/(q.PerLook*q.Split)))
	return time.Duration(looks * float64(interval))
}

func orQuantity(q *resource.Quantity, otherwise float64) float64 {
	if q == nil {
		return otherwise
	}
	return q.AsApproximateFloat64()
}

// changeOf tells how much a template changes, and from what that is known. What clients notice of it nobody can tell from it.
func changeOf(old, template *corev1.PodTemplateSpec) (change, from string) {
	if old == nil || template == nil {
		return string(rollout.ImageOnly), "assumed: the versions cannot be compared"
	}
	a, b := (&workload.Version{Template: old}).Describe(), (&workload.Version{Template: template}).Describe()
	if a.Model != b.Model {
		return string(rollout.ModelChange), fmt.Sprintf("since the model changes from %s to %s", orNone(a.Model), orNone(b.Model))
	}
	var images []string
	for container, image := range b.Images {
		if a.Images[container] != image {
			images = append(images, container)
		}
	}
	slices.Sort(images)
	switch {
	case len(images) > 0:
		return string(rollout.ImageOnly), "since the image changes and the model does not (" + strings.Join(images, ", ") + ")"
	case equality.Semantic.DeepEqual(old, template):
		return string(rollout.ImageOnly), "assumed: no new template is known"
	}
	return string(rollout.ImageOnly), "since neither image nor model changes; say --change Model where other arguments give other answers"
}

func orNone(text string) string {
	if text == "" {
		return "none that is known"
	}
	return text
}
