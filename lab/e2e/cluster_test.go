package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	"k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	externalv1beta1 "k8s.io/metrics/pkg/apis/external_metrics/v1beta1"

	"headroom.dev/headroom/lab"
	"headroom.dev/headroom/lab/kubelet"
	"headroom.dev/headroom/lab/kubelet/devices"
	"headroom.dev/headroom/lab/load"
	"headroom.dev/headroom/lab/network"
)

const (
	rps = "requests_per_second"
	p95 = "request_latency_p95_ms"
	gpu = "gpu_utilization_percent"

	custom1 = "/apis/custom.metrics.k8s.io/v1beta1"
	custom2 = "/apis/custom.metrics.k8s.io/v1beta2"

	external   = "/apis/external.metrics.k8s.io/v1beta1"
	queryGroup = "/apis/query.headroom.dev/v1alpha1"

	port = 8000 // of simulated pods
	tick = 100 * time.Millisecond
)

// cluster is a lab with what the tests ask of it.
type cluster struct {
	*lab.Lab

	http     *http.Client // with admin rights
	straight *http.Client // the same, to the adapter's replicas themselves, whatever their certificate
}

func newCluster(l *lab.Lab) (*cluster, error) {
	client, err := rest.HTTPClientFor(l.Config)
	if err != nil {
		return nil, err
	}
	config := rest.CopyConfig(l.Config)
	config.CAData, config.CAFile, config.Insecure = nil, "", true
	straight, err := rest.HTTPClientFor(config)
	return &cluster{l, client, straight}, err
}

// namespace makes a namespace of the test's own. It goes with the test, and nobody waits for that.
func (c *cluster) namespace(t *testing.T) string {
	t.Helper()
	name := strings.Trim(regexp.MustCompile("[^a-z0-9]+").ReplaceAllString(strings.ToLower(t.Name()), "-"), "-")
	api := c.Client.CoreV1().Namespaces()
	created, err := api.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: name + "-"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = api.Delete(context.WithoutCancel(t.Context()), created.Name, metav1.DeleteOptions{}) // or the whole lab is gone already
	})
	return created.Name
}

// inference is a Deployment of one simulated pod with an HTTP port, annotated for scraping, whose pods bear the labels
// app: service and name: NAME. spec is what the annotation headroom.dev/simulate holds.
func inference(name, spec string, gpus int64) *appsv1.Deployment {
	container := corev1.Container{
		Name: "server", Image: "vllm/vllm-openai:v0.11.0", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: port}},
		ReadinessProbe: &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{
			HTTPGet: &corev1.HTTPGetAction{Path: "/health", Port: intstr.FromString("http")},
		}},
	}
	if gpus > 0 {
		container.Resources.Limits = corev1.ResourceList{devices.Resource: *resource.NewQuantity(gpus, resource.DecimalSI)}
	}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"name": name}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{
					Labels: map[string]string{"app": "service", "name": name},
					Annotations: map[string]string{
						"prometheus.io/scrape": "true", "prometheus.io/port": strconv.Itoa(port), kubelet.SimulateAnnotation: spec,
					},
				},
				Spec: corev1.PodSpec{TerminationGracePeriodSeconds: new(int64(2)), Containers: []corev1.Container{container}},
			},
		},
	}
}

func (c *cluster) deploy(t *testing.T, namespace string, deployments ...*appsv1.Deployment) {
	t.Helper()
	for _, d := range deployments {
		_, err := c.Client.AppsV1().Deployments(namespace).Create(t.Context(), d, metav1.CreateOptions{})
		require.NoError(t, err)
	}
}

// ready waits until n pods of a selector are Ready, and no other is, and returns them.
func (c *cluster) ready(t *testing.T, namespace, selector string, n int) []corev1.Pod {
	t.Helper()
	ctx := t.Context()
	var out []corev1.Pod
	eventually(t, time.Minute, func(t require.TestingT) {
		pods, err := c.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
		require.NoError(t, err)
		out = nil
		var names []string // a failure that printed the pods would fill screens
		for i := range pods.Items {
			if network.Ready(&pods.Items[i]) {
				out = append(out, pods.Items[i])
				names = append(names, pods.Items[i].Name)
			}
		}
		require.Len(t, names, n, "Ready pods of %s in %s", selector, namespace)
	})
	return out
}

// eventually polls until the check passes, and fails with its last complaint otherwise.
func eventually(t *testing.T, within time.Duration, check func(require.TestingT)) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) { check(c) }, within, tick)
}

// autoscale makes an HPA on one Pods metric, for one replica to three.
func (c *cluster) autoscale(t *testing.T, namespace, deployment, metric, target string) {
	t.Helper()
	c.autoscaleOn(t, namespace, deployment, autoscalingv2.MetricSpec{
		Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{
			Metric: autoscalingv2.MetricIdentifier{Name: metric},
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: new(resource.MustParse(target))},
		},
	})
}

// autoscaleOn makes an HPA on any metric, for one replica to three.
func (c *cluster) autoscaleOn(t *testing.T, namespace, deployment string, metric autoscalingv2.MetricSpec) {
	t.Helper()
	_, err := c.Client.AutoscalingV2().HorizontalPodAutoscalers(namespace).Create(t.Context(), &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: deployment},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: deployment},
			MinReplicas:    new(int32(1)), MaxReplicas: 3, Metrics: []autoscalingv2.MetricSpec{metric},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
}

// scalingActive returns the condition of an HPA; its zero value where there is none yet.
func (c *cluster) scalingActive(ctx context.Context, t require.TestingT, namespace, name string) autoscalingv2.HorizontalPodAutoscalerCondition {
	hpa, err := c.Client.AutoscalingV2().HorizontalPodAutoscalers(namespace).Get(ctx, name, metav1.GetOptions{})
	require.NoError(t, err)
	for _, condition := range hpa.Status.Conditions {
		if condition.Type == autoscalingv2.ScalingActive {
			return condition
		}
	}
	return autoscalingv2.HorizontalPodAutoscalerCondition{}
}

// answer is one of the API server.
type answer struct {
	began time.Time // before the request was sent, and so before its values were judged young enough
	code  int
	body  string
}

func (c *cluster) get(ctx context.Context, t require.TestingT, path string) answer {
	a, err := fetch(ctx, c.http, c.Config.Host+path)
	require.NoError(t, err)
	return a
}

func fetch(ctx context.Context, client *http.Client, address string) (answer, error) {
	return fetchAs(ctx, client, address, "")
}

// insecure returns a client that believes every certificate and keeps no connection.
func insecure() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
}

// fetchAs presents a bearer token, unless it is empty.
func fetchAs(ctx context.Context, client *http.Client, address, token string) (answer, error) {
	a := answer{began: time.Now()}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return a, err
	}
	request.Header.Set("Accept", "application/json")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	if err != nil {
		return a, err
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	a.code, a.body = response.StatusCode, string(raw)
	return a, err
}

// ofPods is the path of a metric for the pods of a selector; ofPod is that of one pod.
func ofPods(version, namespace, metric, selector string) string {
	return version + "/namespaces/" + namespace + "/pods/*/" + metric + "?labelSelector=" + url.QueryEscape(selector)
}

func ofPod(version, namespace, pod, metric string) string {
	return version + "/namespaces/" + namespace + "/pods/" + pod + "/" + metric
}

// values returns a list's values by pod; none where the answer is a 404.
func (a answer) values() (map[string]v1beta2.MetricValue, error) {
	out := map[string]v1beta2.MetricValue{}
	if a.code == http.StatusNotFound {
		return out, nil
	}
	var list v1beta2.MetricValueList
	if err := json.Unmarshal([]byte(a.body), &list); err != nil || a.code != http.StatusOK {
		return nil, fmt.Errorf("HTTP %d, %w: %s", a.code, err, a.body)
	}
	for _, item := range list.Items {
		out[item.DescribedObject.Name] = item
	}
	return out, nil
}

// values asks for a metric of the pods with app: service, by pod.
func (c *cluster) values(ctx context.Context, t require.TestingT, namespace, metric string) map[string]v1beta2.MetricValue {
	values, err := c.get(ctx, t, ofPods(custom2, namespace, metric, "app=service")).values()
	require.NoError(t, err)
	return values
}

// externalValues are the items of an answer of external.metrics.k8s.io.
func externalValues(t require.TestingT, a answer) []externalv1beta1.ExternalMetricValue {
	require.Equal(t, http.StatusOK, a.code, a.body)
	var list externalv1beta1.ExternalMetricValueList
	require.NoError(t, json.Unmarshal([]byte(a.body), &list), a.body)
	return list.Items
}

func number(v v1beta2.MetricValue) float64 { return v.Value.AsApproximateFloat64() }

// refusal returns the message of a Kubernetes Status with that code.
func (a answer) refusal(t require.TestingT, code int) string {
	var status metav1.Status
	require.NoError(t, json.Unmarshal([]byte(a.body), &status), a.body)
	require.Equal(t, code, a.code, a.body)
	require.Equal(t, "Status", status.Kind, a.body)
	require.Equal(t, int32(code), status.Code, a.body)
	require.NotEmpty(t, status.Message, a.body)
	return status.Message
}

// send puts open-loop load on the targets until stop is called or the test ends.
func send(t *testing.T, targets func() []string, rate float64, tokens int) (stop func()) {
	t.Helper()
	pattern, err := load.Constant(rate, time.Hour)
	require.NoError(t, err)
	generator, err := load.New(load.Options{
		Pattern: pattern, Seed: 1, Targets: targets, Tokens: func(int, load.Arrival) load.Tokens { return load.Tokens{Output: tokens} },
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := generator.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("the load has ended: %v", err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

func addressOf(pod corev1.Pod) string { return net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(port)) }

// kubectl runs kubectl as a user does; the error is what it said.
func (c *cluster) kubectl(t *testing.T, args ...string) (string, error) {
	t.Helper()
	return c.Cluster().Run(t.Context(), args...)
}
