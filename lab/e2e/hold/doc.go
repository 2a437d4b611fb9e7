// Package hold settles, against the real Deployment controller, scheduler and HPA, how far a rolling update can be held at an exact
// mix of two versions by its own fields (minReadySeconds above everything), and what breaks the hold. Scenarios are the files in
// testdata: each directive does something through the API, waits until the controllers have nothing left to do, and says what stands
// then, which pods died on the way and how few were Ready meanwhile. `make test-hold` runs them in a lab of their own and writes
// what it saw into docs/rollout-hold.md; -rewrite takes what is seen for right.
//
// A cluster in these files is three nodes of three GPUs. The lab has several such groups of nodes, so that files run side by side.
//
// Directives (directive.go):
//
//	deploy [replicas=8] [min-ready=0] [gpus=1]     a new Deployment by kubectl apply, all pods Ready and available
//	canary surge=S unavailable=U [rest] [version=v2]  deploy, pause, template and hold in one
//	hold surge=S unavailable=U [template=v2]       one server-side apply by the rollout's field manager: unpaused, minReadySeconds a day
//	rest                                           the same fields, paused
//	template v3 | pause | resume | scale 3 8       one field, by a person
//	undo                                           kubectl rollout undo
//	abort [unavailable=0] | promote                one patch: old template and/or the user's minReadySeconds
//	remember, promote if-remembered                the same on the condition that the object has not changed since
//	release [applied] [patched]                    gives the fields up by applying none
//	fields                                         the held fields and the owner of minReadySeconds
//	patch                                          the input as a merge patch
//	apply [version=v2] [server-side] [force]       the user's manifest, with the input's fields in its spec, by kubectl
//	kubectl …                                      what kubectl says
//	delete-pod v1, scale-replicaset v2 2           one pod; a ReplicaSet's own scale
//	stop NAME, start NAME                          a component of the control plane
//	status | endpoints | disruptions | evict v2    what is reported of the Deployment, its Service and its PodDisruptionBudget
//	gates N                                        opens the readiness gate of N more pods
//	autoscale metric=80, metric 60, await-replicas an HPA on an external metric, and what it makes of it
//	statefulset, daemonset                         the other workloads
//
// A line that says "v1 6/6 v2 3/3, 6 available" stands for six pods of version v1, all Ready, three of v2, all Ready, and six
// available in the Deployment's status. "died" names the pods that were deleted since the directive began. "at least N Ready" is a
// bound: more is as good. A directive that is marked racing has an outcome for which two controllers race; of it only what holds
// whoever wins is compared, and the log has the rest.
package hold
