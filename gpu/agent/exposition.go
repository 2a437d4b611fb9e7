package agent

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"headroom.dev/headroom/gpu"
)

// The exposition of devices is written as text by hand (Prometheus' text format 0.0.4), not through client_golang: an
// adapter of two replicas scrapes twice a second, and with 8 GPUs of 16 containers each scrape then took 3 ms, ten
// times the pass that measures, in building 33,000 objects to print 1,900 numbers. Labels are written once, when a device or a share
// of it appears; a scrape copies them and formats numbers.

// family is a metric family of devices.
type family struct {
	name   string
	help   string
	kind   string // of the text format: gauge, counter
	render func(w *writer, f *family)
	header []byte
}

// writer renders families over a node. It belongs to one scrape.
type writer struct {
	out    []byte
	node   *node
	agent  *Agent
	now    time.Time
	live   bool // what is known of devices may be served
	opened bool // the family's header is written
}

// expose appends all families that have a series, sorted by name.
func (a *Agent) expose(out []byte, families []family, now time.Time) []byte {
	o := a.reading.Load()
	a.mu.Lock()
	defer a.mu.Unlock()
	w := &writer{out: out, node: &a.node, agent: a, now: now, live: o != nil && a.fresh(o.at, now) && !o.paused()}
	for i := range families {
		w.opened = false
		families[i].render(w, &families[i])
	}
	return w.out
}

// sorted prepares families for expose.
func sorted(families []family) []family {
	slices.SortFunc(families, func(x, y family) int { return cmp.Compare(x.name, y.name) })
	for i := range families {
		f := &families[i]
		help := strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(f.help)
		f.header = []byte("# HELP " + f.name + " " + help + "\n# TYPE " + f.name + " " + f.kind + "\n")
	}
	return families
}

// number appends a series of f if its value is known. labels are in braces, or empty.
func (w *writer) number(f *family, labels string, v gpu.Value) {
	number, ok := v.Get()
	if !ok {
		return
	}
	if !w.opened {
		w.out = append(w.out, f.header...)
		w.opened = true
	}
	w.out = append(w.out, f.name...)
	w.out = append(w.out, labels...)
	w.out = append(w.out, ' ')
	w.out = strconv.AppendFloat(w.out, number, 'g', -1, 64)
	w.out = append(w.out, '\n')
}

// devices calls render for each device that may be served.
func (w *writer) devices(render func(d *device)) {
	if !w.live {
		return
	}
	for _, d := range w.node.devices {
		if w.agent.fresh(d.sample.Time, w.now) {
			render(d)
		}
	}
}

// label is a name with its value.
type label struct{ name, value string }

// braces returns labels as the text format has them, sorted by name.
func braces(labels ...label) string {
	slices.SortFunc(labels, func(x, y label) int { return cmp.Compare(x.name, y.name) })
	var b strings.Builder
	b.WriteByte('{')
	for i, l := range labels {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(l.name)
		b.WriteString(`="`)
		b.WriteString(escaped(strings.ToValidUTF8(l.value, "\uFFFD"))) // a driver's name for a GPU is any bytes
		b.WriteByte('"')
	}
	b.WriteByte('}')
	return b.String()
}

// escaped is a label's value as the text format has it.
func escaped(value string) string {
	if !strings.ContainsAny(value, "\\\n\"") {
		return value
	}
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(value)
}

// labelled is the labels of a device, written once.
type labelled struct {
	of     gpu.Device
	device string   // {gpu,uuid}
	shares []shared // of owners that were seen on the device
}

type shared struct {
	owner  gpu.Owner
	labels string // {container,namespace,pod,uuid}
}

// deviceLabels returns the labels of a device's series.
func (d *device) deviceLabels() string {
	if d.labels.device == "" || d.labels.of != d.sample.Device {
		d.labels = labelled{of: d.sample.Device, device: braces(label{"gpu", index(&d.sample.Device)}, label{"uuid", d.sample.Device.UUID})}
	}
	return d.labels.device
}

// ownerLabels returns the labels of a container's series of the device.
func (d *device) ownerLabels(o gpu.Owner) string {
	d.deviceLabels() // forgets what is of another device
	for i := range d.labels.shares {
		if d.labels.shares[i].owner == o {
			return d.labels.shares[i].labels
		}
	}
	if len(d.labels.shares) >= maxLabelled {
		d.labels.shares = d.labels.shares[:0] // of containers that are long gone
	}
	text := braces(label{"namespace", o.Namespace}, label{"pod", o.Pod}, label{"container", o.Container}, label{"uuid", d.sample.Device.UUID})
	d.labels.shares = append(d.labels.shares, shared{o, text})
	return text
}

// maxLabelled bounds what is kept of owners. A device has some dozens at a time.
const maxLabelled = 256

// with returns the device's labels and more.
func (d *device) with(more ...label) string {
	return braces(append(more, label{"gpu", index(&d.sample.Device)}, label{"uuid", d.sample.Device.UUID})...)
}

// users are the containers that have a share of the device, and then those that were given it and have none.
func (d *device) users() []gpu.Owner {
	out := make([]gpu.Owner, 0, len(d.split.Shares)+len(d.holders.Owners))
	for i := range d.split.Shares {
		out = append(out, d.split.Shares[i].Owner)
	}
	if !d.held {
		return out // the kubelet's last word is too old
	}
	for _, o := range d.holders.Owners {
		if !slices.Contains(out, o) {
			out = append(out, o)
		}
	}
	return out
}
