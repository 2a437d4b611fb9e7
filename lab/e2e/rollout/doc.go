// Package rollout runs the controller of RolloutPolicies against the lab's real API server, controller-manager and scheduler, in this
// process, so that a test can end it anywhere.
package rollout
