// Package exact holds the tests that drive scaler/kpa beside Knative's own autoscaler, in a module of its own because that
// needs knative.dev/serving. `make test-kpa-exact` runs them.
//
// What is Knative's: metrics.MetricCollector with its 1 s ticker and a scraper that reads the simulated service;
// scaling.MultiScaler with its 2 s ticker and the autoscaler of scaling.New; MakeDecider and MakeMetric, which read the
// same configuration from annotations; the reconciler's scale and computeActiveCondition with the real conditions of a
// PodAutoscaler and a ServerlessService. Those two are not exported, and are reached by go:linkname. All of it runs in
// virtual time (testing/synctest).
package exact
