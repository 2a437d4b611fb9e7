package app

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/api/gpus"
)

// fleet is a cluster of node agents.
type fleet struct {
	pods      []corev1.Pod
	answers   map[string]string
	forbidden bool // to list the pods of all namespaces
}

// TestTopGPUs runs the files in testdata. The commands:
//
//	agent POD [node=] [phase=] [port=] [tls] [age=minutes] [leaving]    a pod; its answer as YAML, HTML or "CODE message",
//	                        "old" for an agent that knows no /gpus, or nothing for one that may not be asked
//	forget                  there are no pods
//	forbid                  the pods of all namespaces may not be listed
//	top                     the output of top gpus with the flags of the input, then what is not for the output
func TestTopGPUs(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		f := &fleet{answers: map[string]string{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "agent":
				f.add(t, d)
			case "forget":
				f = &fleet{answers: map[string]string{}}
			case "forbid":
				f.forbidden = true
			case "top":
				out, errOut, err := f.cube(t).run(t, append([]string{"top", "gpus"}, strings.Fields(d.Input)...)...)
				if errOut != "" {
					out += "stderr: " + strings.ReplaceAll(strings.TrimSpace(errOut), "\n", "\nstderr: ") + "\n"
				}
				if err != nil {
					out += "error: " + err.Error() + "\n"
				}
				return out
			default:
				t.Fatalf("no command %q", d.Cmd)
			}
			return ""
		})
	})
}

func (f *fleet) add(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	name, node, phase, port, age := d.CmdArgs[0].Key, "", "Running", "metrics", 0
	d.MaybeScanArgs(t, "node", &node)
	d.MaybeScanArgs(t, "phase", &phase)
	d.MaybeScanArgs(t, "port", &port)
	d.MaybeScanArgs(t, "age", &age)
	created := noon.Add(-time.Duration(age) * time.Minute)
	pod := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "headroom-system", Name: name, CreationTimestamp: metav1.NewTime(created)},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{
			{Name: "sidecar", Ports: []corev1.ContainerPort{{Name: "admin", ContainerPort: 1}}},
			{Name: "agent", Ports: []corev1.ContainerPort{{Name: port, ContainerPort: 9400}}, Args: []string{"--listen=:9400"}},
		}},
		Status: corev1.PodStatus{Phase: corev1.PodPhase(phase)},
	}
	scheme := "http"
	if d.HasArg("tls") {
		scheme = "https"
		pod.Spec.Containers[1].Args = append(pod.Spec.Containers[1].Args, "--tls-cert-file=/tls/tls.crt")
	}
	if d.HasArg("leaving") {
		pod.DeletionTimestamp = new(metav1.NewTime(noon))
	}
	f.pods = append(f.pods, pod)
	if d.Input != "old" {
		f.answers[fmt.Sprintf("/api/v1/namespaces/headroom-system/pods/%s:%s:9400/proxy/gpus", scheme, name)] = d.Input
	}
}

func (f *fleet) cube(t *testing.T) *cube {
	t.Helper()
	list := func(node string) string {
		all := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}}
		for i := range f.pods {
			if node == "" || f.pods[i].Spec.NodeName == node {
				all.Items = append(all.Items, f.pods[i])
			}
		}
		text, err := yaml.Marshal(all)
		require.NoError(t, err)
		return string(text)
	}
	answers := maps.Clone(f.answers)
	for _, node := range []string{"", "n1", "n2", "n9"} {
		query := url.Values{"labelSelector": {"app.kubernetes.io/name=headroom-agent"}}
		if node != "" {
			query.Set("fieldSelector", "spec.nodeName="+node)
		}
		everywhere := list(node)
		if f.forbidden {
			everywhere = `403 pods is forbidden: User "jo" cannot list resource "pods" in API group "" at the cluster scope`
		}
		answers["/api/v1/pods?"+query.Encode()] = everywhere
		answers["/api/v1/namespaces/headroom-system/pods?"+query.Encode()] = list(node)
		answers["/api/v1/namespaces/elsewhere/pods?"+query.Encode()] = `403 pods is forbidden: User "jo" cannot list resource "pods" in API group "" in the namespace "elsewhere"`
	}
	return newCube(t, answers)
}

// TestTopGPUsAsData: what is written as JSON or YAML is what the agents said, and can be read as what it was.
func TestTopGPUsAsData(t *testing.T) {
	f := &fleet{answers: map[string]string{}}
	said := gpus.List{
		Node: "n1", Driver: "570.124.06", Time: noon, Window: 10, Problems: []string{"processes: no"},
		Devices: []gpus.Device{{
			UUID: "GPU-a", Model: "NVIDIA H100 80GB HBM3", BusID: "00000000:10:00.0",
			Findings: []gpus.Finding{{Code: "lost", Text: "gone", Unfit: true, Since: noon}},
			Figures:  map[string]float64{"utilization_ratio": 0.5}, Missing: map[string]string{"power_watts": "not read"},
			Containers: []gpus.Container{{
				Namespace: "shop", Pod: "chat-0", Container: "server", Method: "exclusive", Samples: 3, Processes: 1,
				Usage: gpus.Usage{Utilization: new(0.5)}, Peak: new(600.0),
			}},
			Attribution: "some", Unattributed: gpus.Usage{Memory: new(0.0)},
		}},
	}
	text, err := json.Marshal(said)
	require.NoError(t, err)
	add := func(name string, answer string) {
		f.add(t, &datadriven.TestData{Input: answer, CmdArgs: []datadriven.CmdArg{{Key: "agent-" + name}, {Key: "node", Vals: []string{name}}}})
	}
	add("n1", string(text))
	add("n2", "500 too bad")
	want := GPUs{At: noon, Items: []gpus.List{said}, Unread: []Unread{{Node: "n2", Pod: "headroom-system/agent-n2", Reason: "too bad"}}}
	for _, format := range []string{"json", "yaml"} {
		out, errOut, err := f.cube(t).run(t, "top", "gpus", "-o", format)
		require.NoError(t, err)
		assert.Equal(t, "Cannot read the GPUs of node n2: too bad\n", errOut)
		var got GPUs
		require.NoError(t, yaml.UnmarshalStrict([]byte(out), &got))
		assert.Equal(t, want, got)
	}
}

// TestAgentRefuses: an answer of the agent's own is not taken for the API server's.
func TestAgentRefuses(t *testing.T) {
	a := &agent{node: "n1", namespace: "headroom-system", pod: "agent-a"}
	for _, code := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		err := a.refusal(apierrors.NewGenericServerResponse(code, "get", schema.GroupResource{}, "", "no", 0, true))
		assert.EqualError(t, err, fmt.Sprintf("pod headroom-system/agent-a does not answer those who come through the API server: its status is %d", code))
	}
}

// TestTopGPUsHanging: an agent that hangs is named, and costs the others nothing; a user who goes is not kept.
func TestTopGPUsHanging(t *testing.T) {
	f := &fleet{answers: map[string]string{}}
	for _, node := range []string{"n1", "n2"} {
		f.add(t, &datadriven.TestData{Input: "{devices: []}", CmdArgs: []datadriven.CmdArg{{Key: "agent-" + node}, {Key: "node", Vals: []string{node}}}})
	}
	c := f.cube(t)
	serve := c.Config.Handler
	asked := make(chan struct{}, 2)
	c.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "agent-n2") {
			asked <- struct{}{}
			<-r.Context().Done()
			return
		}
		serve.ServeHTTP(w, r)
	})
	_, errOut, err := c.run(t, "top", "gpus", "--request-timeout", "1s")
	require.NoError(t, err)
	assert.Contains(t, errOut, "Cannot read the GPUs of node n2: cannot ask pod headroom-system/agent-n2: ")
	assert.Contains(t, errOut, "No GPUs found.\n")
	<-asked

	ctx, leave := context.WithCancel(t.Context())
	go func() { <-asked; leave() }()
	cmd := NewCommand(&strings.Builder{}, &strings.Builder{})
	cmd.SetArgs([]string{"top", "gpus", "--server", c.URL, "--cache-dir", t.TempDir()})
	require.ErrorIs(t, cmd.ExecuteContext(ctx), context.Canceled)
}
