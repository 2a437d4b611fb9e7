package manifests

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"headroom.dev/headroom/adapter/metric"
	"headroom.dev/headroom/adapter/profiles"
	"headroom.dev/headroom/api/query"
	"headroom.dev/headroom/api/v1alpha1"
	adapter "headroom.dev/headroom/cmd/headroom-adapter/app"
	agent "headroom.dev/headroom/cmd/headroom-agent/app"
	controller "headroom.dev/headroom/cmd/headroom-controller/app"
	"headroom.dev/headroom/lab"
	"headroom.dev/headroom/lab/inference"
	"headroom.dev/headroom/lab/kubelet"
)

// objects decodes every manifest strictly: an unknown or misspelt field fails.
func objects(t *testing.T) []runtime.Object {
	t.Helper()
	known := runtime.NewScheme()
	require.NoError(t, scheme.AddToScheme(known))
	require.NoError(t, apiregistrationv1.AddToScheme(known))
	require.NoError(t, apiextensionsv1.AddToScheme(known))
	require.NoError(t, v1alpha1.AddToScheme(known))
	decoder := serializer.NewCodecFactory(known, serializer.EnableStrict).UniversalDeserializer()
	var all []runtime.Object
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".yaml" || d.Name() == "kustomization.yaml" {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		documents := utilyaml.NewDocumentDecoder(f)
		for {
			buffer := make([]byte, 1<<20)
			n, err := documents.Read(buffer)
			if errors.Is(err, io.EOF) {
				return nil
			}
			require.NoError(t, err, path)
			object, _, err := decoder.Decode(buffer[:n], nil, nil)
			require.NoError(t, err, path)
			all = append(all, object)
		}
	}))
	return all
}

func all[T any](objects []runtime.Object) []T {
	var out []T
	for _, o := range objects {
		if x, ok := o.(T); ok {
			out = append(out, x)
		}
	}
	return out
}

func podTemplates(objects []runtime.Object) map[string]corev1.PodTemplateSpec {
	out := map[string]corev1.PodTemplateSpec{}
	for _, d := range all[*appsv1.Deployment](objects) {
		out[d.Name] = d.Spec.Template
	}
	for _, d := range all[*appsv1.DaemonSet](objects) {
		out[d.Name] = d.Spec.Template
	}
	return out
}

func TestFlagsAreTheBinaries(t *testing.T) {
	flags := map[string]*pflag.FlagSet{
		"headroom-adapter": adapter.NewCommand().Flags(), "headroom-agent": agent.Command(io.Discard).Flags(),
		"headroom-controller": controller.NewCommand().Flags(),
	}
	seen := 0
	for name, template := range podTemplates(objects(t)) {
		for _, c := range template.Spec.Containers {
			repository, _, _ := strings.Cut(c.Image, ":")
			command, ours := strings.CutPrefix(repository, lab.Registry+"/")
			if !ours {
				continue
			}
			seen++
			require.Contains(t, flags, command, "image of %s", name)
			require.DirExists(t, filepath.Join("..", "cmd", command))
			var args []string
			for _, arg := range c.Args {
				args = append(args, strings.NewReplacer("$(POD_IP)", "127.1.0.2").Replace(arg))
			}
			require.NoError(t, flags[command].Parse(args), "%s %v", name, args)
		}
	}
	require.Equal(t, 3, seen)
}

// What components add to the agent's arguments are flags that it has.
func TestFlagsOfComponents(t *testing.T) {
	files, err := filepath.Glob("agent/*/kustomization.yaml")
	require.NoError(t, err)
	seen := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, flag := range regexp.MustCompile(`value: (--[^}\s]+)`).FindAllStringSubmatch(string(text), -1) {
			seen++
			require.NoError(t, agent.Command(io.Discard).Flags().Parse(flag[1:]), file)
		}
	}
	require.Equal(t, 3, seen)
}

func TestPortsAndProbesMeet(t *testing.T) {
	for name, template := range podTemplates(objects(t)) {
		for _, c := range template.Spec.Containers {
			ports := map[string]int32{}
			for _, p := range c.Ports {
				ports[p.Name] = p.ContainerPort
			}
			require.NotNil(t, c.ReadinessProbe, "%s has no readiness probe", name)
			for _, probe := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
				if probe != nil {
					require.Contains(t, ports, probe.HTTPGet.Port.StrVal, name)
				}
			}
			if annotated, ok := template.Annotations["prometheus.io/port"]; ok {
				port, err := strconv.ParseInt(annotated, 10, 32)
				require.NoError(t, err)
				require.Contains(t, ports, c.Ports[0].Name)
				require.EqualValues(t, c.Ports[0].ContainerPort, port, name)
			}
			for _, arg := range c.Args {
				for _, flag := range []string{"--secure-port=", "--listen=[$(POD_IP)]:", "--metrics-listen=[$(POD_IP)]:"} {
					if value, ok := strings.CutPrefix(arg, flag); ok {
						require.Equal(t, strconv.Itoa(int(c.Ports[0].ContainerPort)), value, name)
					}
				}
			}
		}
	}
}

func TestAPIServicesLeadToTheAdapter(t *testing.T) {
	o := objects(t)
	services := all[*corev1.Service](o)
	i := slices.IndexFunc(services, func(s *corev1.Service) bool { return s.Name == "headroom-adapter" })
	require.GreaterOrEqual(t, i, 0)
	service := services[i]
	template := podTemplates(o)["headroom-adapter"]
	require.Subset(t, template.Labels, service.Spec.Selector)
	require.Equal(t, template.Spec.Containers[0].Ports[0].Name, service.Spec.Ports[0].TargetPort.StrVal)
	require.Contains(t, template.Spec.Containers[0].Args, "--service-name="+service.Name, "the certificate is made out to the Service")

	apis := all[*apiregistrationv1.APIService](o)
	var names []string
	for _, a := range apis {
		names = append(names, a.Name)
		require.Equal(t, a.Spec.Version+"."+a.Spec.Group, a.Name)
		require.Equal(t, service.Name, a.Spec.Service.Name)
		require.Equal(t, service.Namespace, a.Spec.Service.Namespace)
		require.Equal(t, service.Spec.Ports[0].Port, *a.Spec.Service.Port)
		require.False(t, a.Spec.InsecureSkipTLSVerify)
	}
	require.ElementsMatch(t, []string{
		"v1beta1.custom.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io", "v1beta1.external.metrics.k8s.io", query.Version + "." + query.Group,
	}, names)
	for _, role := range all[*rbacv1.ClusterRole](o) {
		for _, r := range role.Rules {
			if slices.Contains(r.Resources, "apiservices") {
				require.ElementsMatch(t, names, r.ResourceNames, "the adapter must be able to put its CA into each")
			}
		}
	}
}

// TestNodesCanBeDrained checks that each of our Deployments outlives a node.
func TestNodesCanBeDrained(t *testing.T) {
	o := objects(t)
	budgets := map[string]*policyv1.PodDisruptionBudget{}
	for _, b := range all[*policyv1.PodDisruptionBudget](o) {
		require.Equal(t, 1, b.Spec.MinAvailable.IntValue())
		budgets[b.Name] = b
	}
	require.Len(t, budgets, 2)
	for _, d := range all[*appsv1.Deployment](o) {
		if b := budgets[d.Name]; b != nil {
			require.Equal(t, d.Spec.Selector.MatchLabels, b.Spec.Selector.MatchLabels)
			require.Greater(t, int(*d.Spec.Replicas), b.Spec.MinAvailable.IntValue())
			delete(budgets, d.Name)
		}
	}
	require.Empty(t, budgets, "budgets for nothing")
}

// TestTheControllerMayReadDemand checks that who decides may read what the adapter serves.
func TestTheControllerMayReadDemand(t *testing.T) {
	bound := false
	for _, b := range all[*rbacv1.ClusterRoleBinding](objects(t)) {
		for _, s := range b.Subjects {
			bound = bound || b.RoleRef.Name == "headroom-reader" && s.Name == "headroom-controller"
		}
	}
	require.True(t, bound)
}

func TestTheExampleAsksForWhatTheRulesDefine(t *testing.T) {
	o := objects(t)
	var defined []string
	list, err := profiles.Rules(profiles.Names()...)
	require.NoError(t, err)
	for _, r := range list {
		if r.Target.Resource == metric.Pods {
			defined = append(defined, r.Metric)
		}
	}
	hpas := all[*autoscalingv2.HorizontalPodAutoscaler](o)
	require.Len(t, hpas, 1)
	require.Equal(t, lab.ExampleName, hpas[0].Spec.ScaleTargetRef.Name)
	var used []string
	for _, m := range hpas[0].Spec.Metrics {
		require.Contains(t, defined, m.Pods.Metric.Name)
		used = append(used, m.Pods.Metric.Name)
	}
	require.ElementsMatch(t, []string{"requests_per_second", "gpu_utilization_percent"}, used)
	_, err = inference.ParseSpec(podTemplates(o)[lab.ExampleName].Annotations[kubelet.SimulateAnnotation])
	require.NoError(t, err)
}

// TestRights lists every right that the manifests grant, so that a new one is a change that somebody reads.
func TestRights(t *testing.T) {
	datadriven.RunTest(t, "testdata/rights", func(_ *testing.T, _ *datadriven.TestData) string {
		o := objects(t)
		var lines []string
		grant := func(scope string, list []rbacv1.PolicyRule) {
			for _, r := range list {
				line := fmt.Sprintf("%s: %s %s/%s", scope, strings.Join(r.Verbs, ","), strings.Join(r.APIGroups, ","), strings.Join(r.Resources, ","))
				if len(r.NonResourceURLs) > 0 {
					line = fmt.Sprintf("%s: %s %s", scope, strings.Join(r.Verbs, ","), strings.Join(r.NonResourceURLs, ","))
				}
				if len(r.ResourceNames) > 0 {
					line += " named " + strings.Join(r.ResourceNames, ",")
				}
				lines = append(lines, line)
			}
		}
		bind := func(scope string, ref rbacv1.RoleRef, subjects []rbacv1.Subject) {
			for _, s := range subjects {
				lines = append(lines, fmt.Sprintf("%s: %s %s to %s/%s", scope, ref.Kind, ref.Name, s.Namespace, s.Name))
			}
		}
		for _, r := range all[*rbacv1.ClusterRole](o) {
			grant("ClusterRole "+r.Name, r.Rules)
		}
		for _, r := range all[*rbacv1.Role](o) {
			grant("Role "+r.Namespace+"/"+r.Name, r.Rules)
		}
		for _, b := range all[*rbacv1.ClusterRoleBinding](o) {
			bind("cluster", b.RoleRef, b.Subjects)
		}
		for _, b := range all[*rbacv1.RoleBinding](o) {
			bind(b.Namespace, b.RoleRef, b.Subjects)
		}
		for name, template := range podTemplates(o) {
			token := template.Spec.AutomountServiceAccountToken == nil || *template.Spec.AutomountServiceAccountToken
			lines = append(lines, fmt.Sprintf("pods of %s: service account token %t", name, token))
		}
		slices.Sort(lines)
		return strings.Join(lines, "\n") + "\n"
	})
}
