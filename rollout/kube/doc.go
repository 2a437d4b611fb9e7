// Package kube is the controller of RolloutPolicies: it sees a new template, plans, admits, steps, judges, and completes or goes back.
package kube
