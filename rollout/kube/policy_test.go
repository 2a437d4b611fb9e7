package kube

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/route"
)

func specOf(t *testing.T, text string) *v1alpha1.RolloutPolicySpec {
	t.Helper()
	var spec v1alpha1.RolloutPolicySpec
	require.NoError(t, yaml.UnmarshalStrict([]byte(text), &spec))
	return &spec
}

func TestPolicyOfNamesTheFieldThatMakesNoSense(t *testing.T) {
	f := func(spec, field, says string) {
		t.Helper()
		_, err := PolicyOf(specOf(t, spec), time.Unix(0, 0))
		problem := (*Problem)(nil)
		require.ErrorAs(t, err, &problem)
		require.Equal(t, v1alpha1.ReasonInvalid, problem.Reason)
		require.Equal(t, field, problem.Field, "%v", err)
		require.Contains(t, problem.Err.Error(), says)
	}
	f(`{strategy: Canary, canary: {steps: [{replicas: 2}, {replicas: 1}]}}`, "spec.canary.steps[1]", "is not above the step before it")
	f(`{strategy: Canary, canary: {steps: [{percent: 10}, {percent: 10}]}}`, "spec.canary.steps[1]", "is not above")
	f(`{strategy: Canary, canary: {steps: [{}]}}`, "spec.canary.steps[0]", "exactly one of percent and replicas")
	f(`{strategy: Canary, traffic: {service: a, httpRoute: {name: a}}, canary: {steps: [{replicas: 1, weightPercent: 30}, {replicas: 2, weightPercent: 20}]}}`, "spec.canary.steps[1].weightPercent", "is below that of the step before it")
	f(`{strategy: Canary, canary: {steps: [{replicas: 1, weightPercent: 30}]}}`, "spec.canary.steps[0]", "spec.traffic is absent")
	f(`{strategy: Canary, canary: {steps: [{replicas: 1, gates: [{manual: true}, {}]}]}}`, "spec.canary.steps[0].gates[1]", "must have exactly one of")
	f(`{strategy: Canary, traffic: {service: a, switch: true}, canary: {steps: [{replicas: 1}]}}`, "spec.traffic.switch", "BlueGreen")
	f(`{traffic: {service: a, switch: true}}`, "spec.traffic.switch", "not to Rolling")
	f(`{strategy: Canary, traffic: {service: a, ingress: {name: a}}, canary: {steps: [{replicas: 1, match: {header: "a b", value: c}}]}}`, "spec.canary.steps[0].match", "no header or cookie has")
	f(`{strategy: Rolling, canary: {steps: [{replicas: 1}]}}`, "spec.canary", "belongs to the strategy Canary")
	f(`{strategy: Rolling, blueGreen: {}}`, "spec.blueGreen", "belongs to the strategy BlueGreen")
	f(`{strategy: BlueGreen, blueGreen: {gates: [{pause: 1m, manual: true}]}}`, "spec.blueGreen.gates[0]", "not 2")
	f(`{strategy: Recreate}`, "spec.acceptDowntime", "must be true")
	f(`{strategy: Sideways}`, "spec.strategy", "does not exist")
	f(`{maxSurge: 0, maxUnavailable: 0}`, "spec.maxSurge", "both 0")
	f(`{reserve: -1}`, "spec.reserve", "negative")
	f(`{onForeignWrite: Cry}`, "spec.onForeignWrite", "Reassert or Stop")
	f(`{onNewTemplate: Cry}`, "spec.onNewTemplate", "Restart or Queue")
	f(`{deadlines: {noGPU: -1s}}`, "spec.deadlines", "negative")
	f(`{strategy: BlueGreen, blueGreen: {gates: [{windows: [{from: "09:00", to: "17:00", timeZone: Mars/Olympus}]}]}}`, "spec.blueGreen.gates[0].windows[0].timeZone", "Mars/Olympus")
	f(`{strategy: BlueGreen, blueGreen: {gates: [{windows: [{from: "09:00", to: "25:00"}]}]}}`, "spec.blueGreen.gates[0].windows[0].to", "25:00")
	f(`{strategy: BlueGreen, blueGreen: {gates: [{windows: [{from: "09:00", to: "17:00", days: [Son]}]}]}}`, "spec.blueGreen.gates[0].windows[0].days", "Son")
}

func TestPolicyOfTakesZonesAsTheyAreNow(t *testing.T) {
	spec := specOf(t, `{strategy: BlueGreen, blueGreen: {gates: [{windows: [{days: [Mon], from: "22:30", to: "04:00", timeZone: Europe/Berlin}]}]}}`)
	for month, offset := range map[time.Month]time.Duration{time.January: time.Hour, time.July: 2 * time.Hour} {
		p, err := PolicyOf(spec, time.Date(2026, month, 15, 12, 0, 0, 0, time.UTC))
		require.NoError(t, err)
		require.Equal(t, []rollout.Window{{Days: []time.Weekday{time.Monday}, From: 22*time.Hour + 30*time.Minute, To: 4 * time.Hour, Offset: offset}}, p.Gates[0].Windows)
	}
}

func TestWebhooksHaveNamesOfTheirOwn(t *testing.T) {
	spec := specOf(t, `
strategy: Canary
canary:
  steps:
  - {replicas: 1, gates: [{webhook: {url: "http://a"}}, {webhook: {url: "http://b"}}, {name: webhook-2, webhook: {url: "http://c"}}]}
  - {replicas: 2, gates: [{manual: true}, {webhook: {url: "http://d"}}, {name: load, webhook: {url: "http://e"}}]}
  - {replicas: 3, gates: [{name: load, webhook: {url: "http://f"}}]}
`)
	p, err := PolicyOf(spec, time.Unix(0, 0))
	require.NoError(t, err)
	hooks := webhooks(spec)
	seen := map[string]bool{}
	var urls []string
	for _, s := range p.Steps {
		for _, g := range s.Gates {
			require.False(t, seen[g.Name], "%s twice", g.Name)
			seen[g.Name] = true
			if g.Webhook {
				urls = append(urls, hooks[g.Name].URL)
			}
		}
	}
	require.Equal(t, []string{"http://a", "http://b", "http://c", "http://d", "http://e", "http://f"}, urls)
}

func FuzzMatchIsReadBack(f *testing.F) {
	f.Add(true, "x-canary", "yes: no")
	f.Add(false, "user", "a=b")
	f.Fuzz(func(t *testing.T, header bool, name, value string) {
		m := route.Match{Cookie: name, Value: value}
		if header {
			m = route.Match{Header: name, Value: value}
		}
		if (route.Split{Stable: "a", Canary: "b", Matches: []route.Match{m}}).Validate() != nil {
			t.Skip()
		}
		got, err := matchOf(m.String())
		require.NoError(t, err)
		require.Equal(t, []route.Match{m}, got)
	})
}
