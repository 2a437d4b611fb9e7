package update

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"headroom.dev/headroom/lab/kubelet"
	"headroom.dev/headroom/lab/kubelet/devices"
)

// The service: each replica has 4 slots of 300 ms, so 13 requests/s at most and Capacity within the SLO for 99 % of them (M/G/4).
const (
	Namespace = "headroom-update"
	Name      = "chat"
	Capacity  = 10.0        // requests/s that a replica serves in time
	LateAfter = time.Second // the SLO

	slots        = 4
	serviceTime  = 300 * time.Millisecond
	sigma        = 0.2
	queue        = 24
	versionLabel = "version"
	port         = 8000

	// Compression is by how much times of loading and draining are shortened.
	Compression = 20
	// StartUp and Drain are what 180 s and 30 s become.
	StartUp = 9 * time.Second
	Drain   = 1500 * time.Millisecond

	preStop = 1 // s; what is in flight then ends, which takes the rest of Drain
	grace   = 5 // s
)

// Engine is how fast a replica serves.
type Engine struct {
	Slots  int
	Median time.Duration // of a request, log-normal
	Sigma  float64
}

func steady() Engine { return Engine{slots, serviceTime, sigma} }

// Version is a pod template of the service.
type Version struct {
	Name       string
	StartUp    time.Duration
	Engine     Engine
	SlowerBy   float64 // times; 0 = 1
	ErrorRate  float64
	CrashAfter time.Duration // 0 = never
	NeverReady bool
}

// behaviour is what the lab's kubelet plays.
func (v Version) behaviour() string {
	slower := v.SlowerBy
	if slower == 0 {
		slower = 1
	}
	e := v.Engine
	text := fmt.Sprintf("{version: %s, startup: %s, slots: %d, serviceTime: {median: %s, sigma: %g}, queue: %d, errorRate: %g, faultHealth: %t",
		v.Name, v.StartUp, e.Slots, time.Duration(float64(e.Median)*slower), e.Sigma, queue, v.ErrorRate, v.NeverReady)
	if v.CrashAfter > 0 {
		text += fmt.Sprintf(", crashAfter: %s", v.CrashAfter)
	}
	return text + "}"
}

func (v Version) template() corev1.PodTemplateSpec {
	health := corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/health", Port: intstr.FromString("http")}}
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{
			Labels:      map[string]string{"app": Name, versionLabel: v.Name},
			Annotations: map[string]string{kubelet.SimulateAnnotation: v.behaviour(), "prometheus.io/scrape": "true", "prometheus.io/port": "8000"},
		},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: new(int64(grace)),
			Containers: []corev1.Container{{
				Name: "vllm", Image: "vllm/vllm-openai:" + v.Name, Args: []string{"--model=Qwen/Qwen2.5-7B-Instruct"},
				Ports:          []corev1.ContainerPort{{Name: "http", ContainerPort: port}},
				StartupProbe:   &corev1.Probe{ProbeHandler: health, PeriodSeconds: 1, FailureThreshold: 600},
				ReadinessProbe: &corev1.Probe{ProbeHandler: health, PeriodSeconds: 1},
				Lifecycle:      &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: preStop}}},
				Resources:      corev1.ResourceRequirements{Limits: corev1.ResourceList{devices.Resource: resource.MustParse("1")}},
			}},
		},
	}
}

func deployment(replicas int, v Version, strategy appsv1.DeploymentStrategy, deadline time.Duration) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: Name, Namespace: Namespace},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(replicas)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": Name}}, Template: v.template(),
			Strategy: strategy, ProgressDeadlineSeconds: new(int32(deadline.Seconds())),
		},
	}
}

func service() *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: Name, Namespace: Namespace},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": Name}, Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("http")}},
		},
	}
}

// Rolling is Kubernetes' RollingUpdate with both numbers as a manifest writes them.
func Rolling(surge, unavailable intstr.IntOrString) appsv1.DeploymentStrategy {
	return appsv1.DeploymentStrategy{
		Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &unavailable},
	}
}

// Default is what Kubernetes takes where a manifest says nothing.
func Default() appsv1.DeploymentStrategy {
	return Rolling(intstr.FromString("25%"), intstr.FromString("25%"))
}

// tenants hold the GPUs that a case is not to have. Nobody simulates them: KWOK does.
func tenants(replicas int) *appsv1.Deployment {
	labels := map[string]string{"app": "tenant"}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "tenants", Namespace: Namespace + "-tenants"},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(replicas)), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{
				Name: "batch", Image: "registry.example/batch:1",
				Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{devices.Resource: resource.MustParse("1")}},
			}}}},
		},
	}
}
