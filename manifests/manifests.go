// Package manifests holds Headroom's kustomize bases, as users apply them: `kubectl apply -k manifests` for agent,
// adapter and controller, `kubectl apply -k manifests/example` for an inference service that the HPA scales. Its tests check the YAML
// against the code: flags, ports, probes, metric names, certificates and every right that is granted.
package manifests
