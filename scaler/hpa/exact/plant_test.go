package exact

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"headroom.dev/headroom/scaler/hpa"
	"headroom.dev/headroom/scaler/hpa/kube"
)

const (
	namespace = "demo"
	selector  = "app=chat"
)

// plant is the cluster: a scale, its pods, and what the metrics APIs say. It advances when the controller looks.
type plant struct {
	r       *rand.Rand
	s       *scenario
	indexer cache.Indexer // the pod informer's
	pods    []*instance   // in the order of creation
	spec    int32
	status  int32
	begun   time.Time
	next    int // number of the next pod
	level   float64
	calm    time.Time // until when the level stays at zero

	vanished time.Time // until when there is no pod, and none can be made

	// Of the present look:
	scaleErr  error
	updateErr error
	selector  string
	ambiguous bool
	metrics   []metricsv1beta1.PodMetrics
	resource  error
	custom    map[string]map[string]int64 // Pods metric → pod → milli
	values    map[string][]int64          // Object and External metrics
	failing   map[string]error
	ailing    map[string]time.Time // until when a metric fails
}

// instance is a pod and its fate.
type instance struct {
	obj                      *corev1.Pod
	starts, ready, gone, ill time.Time
	measured                 time.Time // from when it has values
	lost                     time.Time // until when it has none
	weight                   float64
}

func (p *plant) chance(x float64) bool { return p.r.Float64() < x }

// span is a whole number of quarters of a minute, so that edges are met exactly, or anything at all.
func (p *plant) span(most time.Duration) time.Duration {
	if p.chance(0.7) {
		return time.Duration(p.r.Int64N(int64(most/(15*time.Second))+1)) * 15 * time.Second
	}
	return time.Duration(p.r.Int64N(int64(most)))
}

func (p *plant) advance(now time.Time, spec *autoscalingv2.HorizontalPodAutoscalerSpec) {
	c := p.s.chaos
	if p.chance(p.s.byHand) {
		p.spec = p.r.Int32N(spec.MaxReplicas + 4)
		if p.chance(0.3) {
			p.spec = 0
		}
	}
	if p.chance(p.s.vanish) {
		p.vanished = now.Add(p.span(5 * time.Minute))
	}
	p.live(now, c)
	p.replace(now)
	p.scaleErr, p.updateErr, p.selector = nil, nil, selector
	if p.chance(p.s.scaleErr) {
		p.scaleErr = errors.New("no scale today")
	}
	if p.chance(p.s.updateErr) {
		p.updateErr = errors.New("no update today")
	}
	if p.chance(p.s.selectorErr) {
		p.selector = []string{"", "=&!"}[p.r.IntN(2)]
	}
	p.demand(now)
	p.measure(now, spec)
}

// live moves the pods on.
func (p *plant) live(now time.Time, c float64) {
	for _, i := range p.pods {
		old := i.obj
		set := func(change func(o *corev1.Pod)) {
			if i.obj == old {
				i.obj = old.DeepCopy()
			}
			change(i.obj)
		}
		phase := i.obj.Status.Phase
		switch {
		case phase == corev1.PodPending && !i.starts.After(now):
			set(func(o *corev1.Pod) {
				o.Status.Phase = corev1.PodRunning
				if !p.chance(c * 0.2) {
					o.Status.StartTime = &metav1.Time{Time: now}
				}
				if !p.chance(c * 0.2) {
					setReady(o, corev1.ConditionFalse, now)
				}
			})
			i.measured = now.Add(p.span(90 * time.Second))
		case phase == corev1.PodRunning && !i.ready.After(now) && !ready(i.obj):
			set(func(o *corev1.Pod) {
				if o.Status.StartTime == nil {
					o.Status.StartTime = &metav1.Time{Time: now}
				}
				setReady(o, corev1.ConditionTrue, now)
			})
		case phase == corev1.PodRunning && p.chance(c*0.01):
			status := []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionFalse, corev1.ConditionUnknown}[p.r.IntN(3)]
			set(func(o *corev1.Pod) { setReady(o, status, now) })
			i.ready = now.Add(p.span(8 * time.Minute))
		case phase == corev1.PodRunning && p.chance(c*0.002):
			set(func(o *corev1.Pod) {
				o.Status.Phase = []corev1.PodPhase{corev1.PodFailed, corev1.PodFailed, corev1.PodSucceeded, corev1.PodUnknown}[p.r.IntN(4)]
			})
			i.ill = now.Add(p.span(20 * time.Minute))
		case !i.ill.IsZero() && !i.ill.After(now) && o(i).DeletionTimestamp == nil:
			p.remove(i, now)
			continue
		}
		if p.chance(c * 0.01) {
			i.lost = now.Add(p.span(10 * time.Minute))
		}
		if i.obj != old {
			_ = p.indexer.Update(i.obj)
		}
	}
}

func o(i *instance) *corev1.Pod { return i.obj }

func ready(o *corev1.Pod) bool {
	for _, c := range o.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func setReady(o *corev1.Pod, status corev1.ConditionStatus, now time.Time) {
	o.Status.Conditions = []corev1.PodCondition{
		{Type: corev1.PodInitialized, Status: corev1.ConditionTrue},
		{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.Time{Time: now}},
	}
}

// remove begins to delete a pod.
func (p *plant) remove(i *instance, now time.Time) {
	i.obj = i.obj.DeepCopy()
	i.obj.DeletionTimestamp = &metav1.Time{Time: now}
	i.gone = now.Add(p.span(2 * time.Minute))
	_ = p.indexer.Update(i.obj)
}

// replace is the Deployment's controller: as many pods as the scale says, the newest go first.
func (p *plant) replace(now time.Time) {
	p.pods = slices.DeleteFunc(p.pods, func(i *instance) bool {
		over := i.obj.DeletionTimestamp != nil && !i.gone.After(now)
		if over {
			_ = p.indexer.Delete(i.obj)
		}
		return over
	})
	var created int32
	for _, i := range p.pods {
		if i.obj.DeletionTimestamp == nil && i.obj.Status.Phase != corev1.PodFailed {
			created++
		}
	}
	for k := len(p.pods) - 1; k >= 0 && created > p.spec; k-- {
		if i := p.pods[k]; i.obj.DeletionTimestamp == nil && i.obj.Status.Phase != corev1.PodFailed {
			p.remove(i, now)
			created--
		}
	}
	if now.Before(p.vanished) {
		for _, i := range p.pods {
			_ = p.indexer.Delete(i.obj)
		}
		p.pods, created = nil, p.spec
	}
	for ; created < p.spec; created++ {
		p.create(now)
	}
	if !p.chance(p.s.chaos * 0.3) { // else the status is from before
		p.status = created
	}
}

func (p *plant) create(now time.Time) {
	p.next++
	o := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("chat-%d", p.next), Namespace: namespace, Labels: map[string]string{"app": "chat"}},
		Status:     corev1.PodStatus{Phase: corev1.PodPending},
	}
	request := func(cpu, memory string) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
		}}
	}
	o.Spec.Containers = []corev1.Container{{Name: "server", Resources: request("800m", "2Gi")}, {Name: "sidecar", Resources: request("200m", "100Mi")}}
	always := corev1.ContainerRestartPolicyAlways
	o.Spec.InitContainers = []corev1.Container{{Name: "fetch"}, {Name: "proxy", RestartPolicy: &always, Resources: request("100m", "50Mi")}}
	switch {
	case p.chance(p.s.noRequest):
		o.Spec.Containers[p.r.IntN(2)].Resources = corev1.ResourceRequirements{}
	case p.s.podLevel && p.chance(0.5):
		q := request("1500m", "3Gi")
		o.Spec.Resources = &q
		o.Spec.Overhead = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("33m")}
	}
	i := &instance{obj: o, starts: now.Add(p.span(p.s.start + 1)), weight: 0.7 + 0.6*p.r.Float64()}
	i.ready = i.starts.Add(p.span(p.s.load + 1))
	p.pods = append(p.pods, i)
	_ = p.indexer.Add(o)
}

// demand is in replicas: a day with noise, bursts and calms; now and then exactly where a tolerance ends.
func (p *plant) demand(now time.Time) {
	s := p.s
	day := now.Sub(p.begun).Hours() / 24
	wave := s.most * (0.5 - 0.5*math.Cos(2*math.Pi*day*s.pace))
	p.level = wave * (1 + s.noise*p.r.NormFloat64())
	if now.Before(p.calm) {
		p.level = 0
	} else if p.chance(s.calm) {
		p.calm = now.Add(p.span(2 * time.Hour))
	}
	if p.chance(s.bursts) {
		p.level *= 1 + 3*p.r.Float64()
	}
	if p.chance(s.edges) {
		p.level = float64(p.spec) * []float64{0.9, 0.95, 1, 1.05, 1.1, 1.2}[p.r.IntN(6)]
	}
	if !s.negative {
		p.level = max(0, p.level)
	}
}

func (p *plant) measure(now time.Time, spec *autoscalingv2.HorizontalPodAutoscalerSpec) {
	p.metrics, p.resource, p.custom, p.values = nil, nil, map[string]map[string]int64{}, map[string][]int64{}
	p.failing = map[string]error{}
	for i := range spec.Metrics {
		m := kube.Metric(&spec.Metrics[i])
		if now.Before(p.ailing[m.Name]) {
			p.failing[m.Name] = errors.New("no value today")
		} else if p.chance(p.s.fail) {
			p.ailing[m.Name] = now.Add(p.span(20 * time.Minute))
		}
		target := float64(m.Target)
		if m.Kind == "" {
			target = 1000
		}
		switch m.Source {
		case hpa.Object, hpa.External:
			p.values[m.Name] = p.whole(m, target)
		case hpa.Pods:
			p.custom[m.Name] = p.each(now, target)
		case hpa.Resource, hpa.ContainerResource:
			p.resource = p.failing[m.Name]
			p.metrics = p.usage(now, m, target)
		}
	}
}

// whole is the sum of a few series.
func (p *plant) whole(m hpa.Metric, target float64) []int64 {
	sum := p.level * target
	if m.Kind == hpa.Value {
		n := max(float64(p.spec), 1)
		if p.spec == 0 {
			n = 1
		}
		sum /= n
	}
	if p.chance(p.s.huge) {
		sum = []float64{math.MaxInt64, 3e13 * target, 1e17}[p.r.IntN(3)]
	}
	if m.Source == hpa.Object {
		return []int64{clamp(sum)}
	}
	values := make([]int64, 1+p.r.IntN(3))
	for i := range values[1:] {
		values[i+1] = clamp(sum * 0.3 * p.r.Float64())
	}
	values[0] = clamp(sum) - values[len(values)-1]
	if p.chance(p.s.huge) && len(values) > 1 {
		values[0] = math.MaxInt64 - 5
	}
	return values
}

func clamp(v float64) int64 {
	if v >= math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(math.Round(v))
}

// counted has the pods with a value: the lost have none, of the deleted some stay a while.
func (p *plant) counted(now time.Time) []*instance {
	var list []*instance
	for _, i := range p.pods {
		if i.measured.IsZero() || i.measured.After(now) || now.Before(i.lost) && !i.lost.IsZero() {
			continue
		}
		list = append(list, i)
	}
	return list
}

func (p *plant) each(now time.Time, target float64) map[string]int64 {
	values := map[string]int64{}
	list := p.counted(now)
	for _, i := range list {
		values[i.obj.Name] = p.share(i, len(list), target)
	}
	if p.chance(p.s.strangers) {
		values["stranger"] = p.share(&instance{weight: 1}, max(len(list), 1), target)
	}
	return values
}

func (p *plant) share(i *instance, n int, target float64) int64 {
	weight := i.weight
	if p.s.even {
		weight = 1
	}
	if p.chance(p.s.huge) {
		return math.MaxInt64 / 8
	}
	return clamp(p.level * target * weight / float64(n))
}

// usage is the resource metrics of the pods, scaled so that their whole is the level's.
func (p *plant) usage(now time.Time, m hpa.Metric, target float64) []metricsv1beta1.PodMetrics {
	list := p.counted(now)
	var all []metricsv1beta1.PodMetrics
	add := func(name string, milli int64) {
		at := now.Add(-p.span(time.Minute))
		usage := func(part int64) corev1.ResourceList {
			return corev1.ResourceList{
				corev1.ResourceCPU:    *resource.NewMilliQuantity(part, resource.DecimalSI),
				corev1.ResourceMemory: *resource.NewMilliQuantity(part, resource.BinarySI),
			}
		}
		pm := metricsv1beta1.PodMetrics{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}, Timestamp: metav1.Time{Time: at},
			Window:     metav1.Duration{Duration: []time.Duration{15, 30, 60}[p.r.IntN(3)] * time.Second},
			Containers: []metricsv1beta1.ContainerMetrics{{Name: "server", Usage: usage(milli)}},
		}
		switch {
		case p.chance(p.s.chaos * 0.02):
			pm.Containers = nil
		case p.chance(p.s.chaos * 0.02):
			pm.Containers[0].Usage = corev1.ResourceList{}
		case p.chance(0.5):
			pm.Containers = append(pm.Containers, metricsv1beta1.ContainerMetrics{Name: "sidecar", Usage: usage(0)})
		}
		all = append(all, pm)
	}
	for _, i := range list {
		each := target
		if m.Kind == hpa.Utilization {
			request := 1_100.0
			if strings.HasPrefix(m.Name, "mem") {
				request = (2150 << 20) * 1000
			}
			each = request * target / 100
		}
		add(i.obj.Name, p.share(i, len(list), each))
	}
	if p.chance(p.s.strangers) {
		add("stranger", p.share(&instance{weight: 1}, max(len(list), 1), target))
	}
	return all
}
