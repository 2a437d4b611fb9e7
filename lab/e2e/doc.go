// Package e2e tests, in a lab, what users install: the manifests with their RBAC and certificates against a real API
// server, scheduler, Deployment controller and stock HPA. It holds tests alone:
//
//	example_test.go   the example scales up and down, on requests and on GPU use, by the HPA's own word
//	gpu_test.go       GPU use belongs to the pod that makes it; each agent tells of its own node's GPUs
//	objects_test.go   Object and External metrics under the HPA, loading and terminating pods, versions of the API
//	metricrule_test.go MetricRules: how soon they are felt, their status, built-in ones replaced, fallbacks
//	monitors_test.go  PodMonitors and ServiceMonitors, with bearer token and TLS
//	faults_test.go    pods whose /metrics is broken: the others stay fresh, the reason reaches the HPA's condition, recovery
//	hostile_test.go   pods that expose what they should not, pods that hang, rules that would take minutes
//	adapter_test.go   a lab of its own, in which the adapter's replicas are killed, deleted and updated under load
//	source_test.go    the Prometheus-compatible server of that lab, down for a minute
//	servers_test.go   the same rules over the embedded store, Prometheus and VictoriaMetrics
//	scale_test.go     pods replaced at once, and more series than fit
//	api_test.go       refusals, rights and discovery of the adapter's APIs; a client with the rights of one namespace
//	pods_test.go      what a pod spec asks for reaches the processes of our own pods
//	second_test.go    a second lab beside the first: bystanders, a frozen agent, the API server away, a component that dies,
//	                  and what Down leaves
//	command_test.go   the command headroom-lab: crash, clean-up, Ctrl-C, refusals
//
// Run it with `make test-e2e`, or `go test ./lab/e2e/...` with -run and -v as usual. It takes five minutes on two
// cores when the control plane is in the lab's cache, and ten more the first time. Most tests share one lab and
// run in parallel, each in a namespace of its own. Those that hold the adapter to less than a few seconds, load the machine
// or bring labs up and down run alone, before them. When one fails, the ends of its lab's logs are printed.
package e2e
