package rightsizing

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	yamlwriter "sigs.k8s.io/yaml"

	"headroom.dev/headroom/lab/controlplane"
)

// flags are what each Deployment's program is given in place of what the manifests say of the same flag. $(KUBECONFIG) is the
// lab kubelet's stand-in for the in-cluster configuration.
func flags(deployment string, webhookPort int) []string {
	switch deployment {
	case "metrics-server":
		return []string{
			"--kubeconfig=$(KUBECONFIG)", "--authentication-kubeconfig=$(KUBECONFIG)", "--authorization-kubeconfig=$(KUBECONFIG)",
			"--bind-address=$(POD_IP)",
			// The least that metrics-server takes; the time to answer must be less than nine tenths of it.
			"--metric-resolution=10s", "--kubelet-request-timeout=5s",
			"--kubelet-certificate-authority=/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
		}
	case "vpa-updater":
		return []string{
			"--kubeconfig=$(KUBECONFIG)", "--address=$(POD_IP):8943",
			"--updater-interval=5s", // a minute by default
			"--min-replicas=1",      // two by default; one pod is enough to watch
			// Pods within the recommended range are replaced after 12 h by default, those outside of it at once.
			"--in-recommendation-bounds-eviction-lifetime-threshold=1m",
		}
	case "vpa-admission-controller":
		return []string{
			"--kubeconfig=$(KUBECONFIG)", "--address=$(POD_IP):8944",
			// It listens on all addresses: a fixed port would keep a second lab from this machine.
			"--port=" + strconv.Itoa(webhookPort),
			// Its defaults, as flags: the lab's kubelet puts the real paths of mounts into flags alone.
			"--client-ca-file=/etc/tls-certs/caCert.pem", "--tls-cert-file=/etc/tls-certs/serverCert.pem", "--tls-private-key=/etc/tls-certs/serverKey.pem",
		}
	}
	return nil
}

// fit changes rendered manifests for the lab: flags, the webhook's port, quicker probes; the autoscaler's recommender is
// dropped.
func fit(rendered string, webhookPort int) ([]byte, error) {
	var out []byte
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(rendered), 4096)
	for {
		var object map[string]any
		if err := decoder.Decode(&object); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, fmt.Errorf("cannot read a manifest: %w", err)
		}
		if object == nil {
			continue
		}
		u := unstructured.Unstructured{Object: object}
		kind := u.GetKind() + "/" + u.GetName()
		var err error
		switch {
		case kind == "Deployment/vpa-recommender":
			continue
		case u.GetKind() == "Deployment":
			object, err = fitDeployment(u, webhookPort)
		case kind == "Service/vpa-webhook":
			err = unstructured.SetNestedSlice(object, []any{map[string]any{"port": int64(443), "targetPort": int64(webhookPort)}}, "spec", "ports")
		}
		if err != nil {
			return nil, fmt.Errorf("cannot fit %s to the lab: %w", kind, err)
		}
		raw, err := document(object)
		if err != nil {
			return nil, fmt.Errorf("cannot fit %s to the lab: %w", kind, err)
		}
		out = append(out, raw...)
	}
}

func fitDeployment(u unstructured.Unstructured, webhookPort int) (map[string]any, error) {
	var d appsv1.Deployment
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &d); err != nil {
		return nil, err
	}
	ours := flags(d.Name, webhookPort)
	if len(ours) == 0 || len(d.Spec.Template.Spec.Containers) != 1 {
		return nil, errors.New("it is none of the Deployments that are known, or has not one container")
	}
	c := &d.Spec.Template.Spec.Containers[0]
	c.Args = merge(c.Args, ours)
	// Before all, as flags refer to it.
	c.Env = append([]corev1.EnvVar{{Name: "POD_IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}}}, c.Env...)
	// metrics-server is not Ready before it has the usage of at least one pod. So much was seen of it.
	metav1.SetMetaDataAnnotation(&d.Spec.Template.ObjectMeta, controlplane.UsageCPUAnnotation, "5m")
	metav1.SetMetaDataAnnotation(&d.Spec.Template.ObjectMeta, controlplane.UsageMemoryAnnotation, "50Mi")
	if c.ReadinessProbe != nil {
		c.ReadinessProbe.InitialDelaySeconds, c.ReadinessProbe.PeriodSeconds = 0, 1
	}
	if c.LivenessProbe != nil {
		c.LivenessProbe.InitialDelaySeconds = 30 // two busy cores start slower than a node
	}
	return runtime.DefaultUnstructuredConverter.ToUnstructured(&d)
}

// merge returns the arguments with ours in place of those of the same flag.
func merge(args, ours []string) []string {
	flag := func(arg string) string { name, _, _ := strings.Cut(arg, "="); return name }
	kept := slices.DeleteFunc(slices.Clone(args), func(arg string) bool {
		return slices.ContainsFunc(ours, func(one string) bool { return flag(one) == flag(arg) })
	})
	return append(kept, ours...)
}

func document(object map[string]any) ([]byte, error) {
	raw, err := yamlwriter.Marshal(object)
	if err != nil {
		return nil, err
	}
	return bytes.Join([][]byte{[]byte("---\n"), raw}, nil), nil
}

// freePort asks the kernel for a TCP port that is free on all addresses.
func freePort() (int, error) {
	l, err := net.ListenTCP("tcp", nil)
	if err != nil {
		return 0, fmt.Errorf("cannot find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
