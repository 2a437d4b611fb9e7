// Package e2e tests, in a lab, what users install: the manifests with their RBAC and certificates against a real API
// server, scheduler, Deployment controller and stock HPA. It holds tests alone:
//
//	example_test.go   the example scales up and down, on requests and on GPU use, by the HPA's own word
//	gpu_test.go       GPU use belongs to the pod that makes it; each agent tells of its own node's GPUs
//	faults_test.go    pods whose /metrics is broken: the others stay fresh, the reason reaches the HPA's condition, recovery
//	api_test.go       refusals, rights and discovery of custom.metrics.k8s.io; vLLM's metric names
//	pods_test.go      what a pod spec asks for reaches the processes of our own pods
//	second_test.go    a second lab beside the first: bystanders, a frozen agent, the API server away, a component that dies,
//	                  and what Down leaves
//	command_test.go   the command headroom-lab: crash, clean-up, Ctrl-C, refusals
//
// Run it with `make test-e2e`, or `go test ./lab/e2e/...` with -run and -v as usual. It takes under three minutes on two
// cores when the control plane is in the lab's cache, and ten more the first time. Tests that measure time share one lab
// and run in parallel, each in a namespace of its own; those that bring labs up and down run alone, before them. When one
// fails, the ends of its lab's logs are printed.
package e2e
