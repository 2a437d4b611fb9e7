package kube

import (
	"context"
	"time"

	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/evidence"
)

// askInterval is between two requests to one webhook.
const askInterval = 10 * time.Second

// answer is what a webhook said last.
type answer struct {
	at      time.Time
	verdict rollout.Verdict
}

// ask asks the webhooks of a settled step, each at most every askInterval until it has passed or failed the step.
func (l *look) ask(ctx context.Context, step *rollout.Step) map[string]rollout.Verdict {
	key, out := l.before.Key(), map[string]rollout.Verdict{}
	hooks := webhooks(&l.p.Spec)
	for _, g := range step.Gates {
		if !g.Webhook {
			continue
		}
		last, known := l.e.asked[g.Name]
		if !known || last.verdict.Key != key {
			last = answer{verdict: rollout.Verdict{Key: key}}
		}
		decided := last.verdict.Result == rollout.Pass || last.verdict.Result == rollout.Fail
		if hook, ok := hooks[g.Name]; ok && !decided && l.now.Sub(last.at) >= askInterval {
			last = answer{l.now, l.c.opts.Planner.Evidence.Ask(ctx, hook, l.question(g.Name, step, key))}
			last.verdict.Key = key
		}
		if m := last.verdict.Message; m != "" && last.verdict.Result != rollout.Pass {
			l.messages = append(l.messages, "gate "+g.Name+": "+m)
		}
		l.e.asked[g.Name] = last
		out[g.Name] = last.verdict
	}
	return out
}

func (l *look) question(gate string, step *rollout.Step, key string) evidence.Question {
	return evidence.Question{
		Namespace: l.p.Namespace, Policy: l.p.Name, Kind: string(l.seen.Kind), Name: l.seen.Name, Gate: gate, Step: step.Name, Key: key,
		Old: l.told(l.before.From), New: l.told(l.before.To),
	}
}

func (l *look) told(template string) evidence.ToldVersion {
	v := l.seen.Versions[template]
	d := v.Describe()
	return evidence.ToldVersion{Hash: v.Hash, Revision: v.Revision, Images: d.Images, Model: d.Model, Replicas: v.Counts.Replicas}
}
