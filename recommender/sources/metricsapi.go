package sources

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	jsoniter "github.com/json-iterator/go"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/client-go/rest"

	"headroom.dev/headroom/recommender"
)

// MetricsAPI reads metrics.k8s.io, which metrics-server serves (or the adapter of a Prometheus): CPU (the mean over the
// server's window, of 15 s with metrics-server's default settings) and memory (working set).
//
// One request lists all pods of the namespace, since servers know no pages here; the answer is decoded as it comes, so that the
// list is never in memory (BenchmarkMetricsAPI).
type MetricsAPI struct {
	api rest.Interface
	counts
}

// NewMetricsAPI makes a source of any REST client of the cluster.
func NewMetricsAPI(api rest.Interface) *MetricsAPI { return &MetricsAPI{api: api} }

// Samples implements Source. The times are those of the measurements.
func (m *MetricsAPI) Samples(ctx context.Context, namespace string) ([]recommender.Sample, error) {
	path := "/apis/metrics.k8s.io/v1beta1/pods"
	if namespace != "" {
		path = "/apis/metrics.k8s.io/v1beta1/namespaces/" + namespace + "/pods"
	}
	body, err := m.api.Get().AbsPath(path).SetHeader("Accept", "application/json").Stream(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot list usage from metrics.k8s.io: %w", err)
	}
	defer body.Close()
	samples, err := decodePodMetrics(body, &m.counts)
	if err != nil {
		return nil, fmt.Errorf("cannot read usage from metrics.k8s.io: %w", err)
	}
	return samples, nil
}

// Past implements Source: there is none.
func (*MetricsAPI) Past(context.Context, recommender.Past, func([]recommender.Sample) error) error {
	return ErrNoHistory
}

// podMetrics decodes a PodMetricsList.
type podMetrics struct {
	*jsoniter.Iterator
	counts  *counts
	samples []recommender.Sample
	texts   map[string]string // one copy of each namespace and container's name

	// of the pod at hand
	pod recommender.ContainerID
	at  time.Time
	bad bool
}

// readBuffer is what of the answer is in memory at a time.
const readBuffer = 64 << 10

// decodePodMetrics reads a list; what is JSON and cannot be understood of one container is counted and left out.
func decodePodMetrics(r io.Reader, c *counts) ([]recommender.Sample, error) {
	d := podMetrics{
		Iterator: jsoniter.Parse(jsoniter.ConfigCompatibleWithStandardLibrary, r, readBuffer), counts: c, texts: map[string]string{},
	}
	if d.WhatIsNext() != jsoniter.ObjectValue {
		return nil, errors.New("not a PodMetricsList: it is no JSON object")
	}
	found := false
	d.fields(func(field string) {
		if field != "items" {
			d.Skip()
			return
		}
		found = true
		d.elements(d.item)
	})
	switch {
	case d.Error != nil && !errors.Is(d.Error, io.EOF):
		return nil, fmt.Errorf("not a PodMetricsList: %w", d.Error)
	case d.Error != nil:
		return nil, fmt.Errorf("not a PodMetricsList: %w", io.ErrUnexpectedEOF)
	case !found:
		return nil, errors.New("not a PodMetricsList: it has no items")
	}
	return d.samples, nil
}

// item reads one PodMetrics. Its fields come in any order: what its containers use is completed when it ends.
func (d *podMetrics) item() {
	d.pod, d.at, d.bad = recommender.ContainerID{}, time.Time{}, false
	first := len(d.samples)
	d.fields(func(field string) {
		switch field {
		case "metadata":
			d.fields(func(field string) {
				switch field {
				case "name":
					d.pod.Pod = d.text()
				case "namespace":
					d.pod.Namespace = d.shared(d.text())
				default:
					d.Skip()
				}
			})
		case "timestamp":
			at, err := time.Parse(time.RFC3339, d.text())
			d.at, d.bad = at, d.bad || err != nil
		case "containers":
			d.elements(d.container)
		default:
			d.Skip()
		}
	})
	if d.bad || d.at.IsZero() || d.pod.Pod == "" || d.pod.Namespace == "" {
		d.counts.unreadable.Add(uint64(len(d.samples) - first))
		d.samples = d.samples[:first]
		return
	}
	for i := first; i < len(d.samples); i++ {
		s := &d.samples[i]
		s.Container.Namespace, s.Container.Pod, s.At = d.pod.Namespace, d.pod.Pod, d.at
	}
}

// container reads one ContainerMetrics.
func (d *podMetrics) container() {
	name, first := "", len(d.samples)
	d.fields(func(field string) {
		switch field {
		case "name":
			name = d.shared(d.text())
		case "usage":
			d.fields(func(field string) {
				switch field {
				case "cpu":
					d.quantity(recommender.CPU)
				case "memory":
					d.quantity(recommender.Memory)
				default:
					d.Skip()
				}
			})
		default:
			d.Skip()
		}
	})
	if name == "" {
		d.counts.unreadable.Add(uint64(len(d.samples) - first))
		d.samples = d.samples[:first]
	}
	for i := first; i < len(d.samples); i++ {
		d.samples[i].Container.Container = name
	}
}

func (d *podMetrics) quantity(r recommender.Resource) {
	v, ok := parseQuantity(d.text())
	if !ok {
		d.counts.unreadable.Add(1)
		return
	}
	if d.counts.usable(v) {
		d.samples = append(d.samples, recommender.Sample{Resource: r, Value: v, Certainty: 1})
	}
}

// text reads a string; of anything else it makes "".
func (d *podMetrics) text() string {
	if d.WhatIsNext() != jsoniter.StringValue {
		d.Skip()
		return ""
	}
	return d.ReadString()
}

// shared returns the one copy of a text that occurs often.
func (d *podMetrics) shared(s string) string {
	if known, ok := d.texts[s]; ok {
		return known
	}
	d.texts[s] = s
	return s
}

// fields calls read for each field of an object; anything else is passed over.
func (d *podMetrics) fields(read func(field string)) {
	if d.WhatIsNext() != jsoniter.ObjectValue {
		d.Skip()
		return
	}
	d.ReadObjectCB(func(_ *jsoniter.Iterator, field string) bool {
		read(field)
		return d.Error == nil
	})
}

// elements calls read for each element of an array; anything else is passed over.
func (d *podMetrics) elements(read func()) {
	if d.WhatIsNext() != jsoniter.ArrayValue {
		d.Skip()
		return
	}
	d.ReadArrayCB(func(*jsoniter.Iterator) bool {
		read()
		return d.Error == nil
	})
}

// parseQuantity reads the forms that servers write ("12345678n", "250m", "123456Ki", "2") without the arithmetic of any
// precision that others need.
func parseQuantity(s string) (float64, bool) {
	var n uint64
	i := 0
	for ; i < len(s) && i < 15 && s[i] >= '0' && s[i] <= '9'; i++ { // 15 digits are exact in a float64
		n = n*10 + uint64(s[i]-'0')
	}
	if i > 0 {
		switch s[i:] {
		case "":
			return float64(n), true
		case "n":
			return float64(n) / 1e9, true
		case "u":
			return float64(n) / 1e6, true
		case "m":
			return float64(n) / 1e3, true
		case "Ki":
			return float64(n) * (1 << 10), true
		case "Mi":
			return float64(n) * (1 << 20), true
		}
	}
	if len(s) > maxQuantity {
		return 0, false
	}
	q, err := resource.ParseQuantity(s)
	if err != nil {
		return 0, false
	}
	return q.AsApproximateFloat64(), true
}

// maxQuantity is longer than any quantity of use; ParseQuantity's time grows with the square of the digits.
const maxQuantity = 64
