package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"
)

// TestScenarios shows reports that are given in their own JSON form.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		r := &Report{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var b bytes.Buffer
			var err error
			switch d.Cmd {
			case "report": // in JSON; "sample" for the one of fixture_test.go
				r = &Report{}
				if strings.TrimSpace(d.Input) == "sample" {
					r = sample(1)
					for i := range r.Workloads {
						for j := range r.Workloads[i].Containers {
							withoutUsage(&r.Workloads[i].Containers[j])
						}
					}
				} else {
					decoder := json.NewDecoder(strings.NewReader(d.Input))
					decoder.DisallowUnknownFields()
					err = decoder.Decode(r)
				}
				r.Finish()
			case "prices":
				if r.Prices, err = ParsePrices([]byte(d.Input)); err == nil {
					r.Finish()
				}
			case "table":
				err = r.WriteTable(&b, d.HasArg("wide"), d.HasArg("namespaces"))
			case "json":
				err = r.WriteJSON(&b)
			case "csv":
				err = r.WriteCSV(&b)
			case "markdown":
				err = r.WriteMarkdown(&b)
			case "patch":
				for i := range r.Workloads {
					patch, ok := r.Workloads[i].Patch(Order{InitContainers: []string{"first", "migrate", "proxy"}})
					if !ok {
						continue
					}
					for _, comment := range patch.Comments {
						b.WriteString("# " + comment + "\n")
					}
					text, _ := json.Marshal(patch.Object)
					b.WriteString(string(text) + "\n")
				}
			default:
				d.Fatalf(t, "there is no command %s", d.Cmd)
			}
			if err != nil {
				return "error: " + err.Error() + "\n"
			}
			return trimmed(strings.ReplaceAll(b.String(), "\r\n", "\n"))
		})
	})
}

func withoutUsage(c *Container) {
	for i := range c.Resources {
		c.Resources[i].Usage = nil
	}
	if c.GPU != nil {
		c.GPU.Usage = nil
	}
}

// trimmed leaves out blanks at the ends of lines, which editors eat.
func trimmed(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return b.String()
}

// TestJSONRoundTrip: what is read back is what was written, usage and its gaps included.
func TestJSONRoundTrip(t *testing.T) {
	for seed := range uint64(5) {
		r := sample(seed)
		r.Prices = &Prices{Currency: "$", CPU: new(0.03)}
		r.Finish()
		var b bytes.Buffer
		require.NoError(t, r.WriteJSON(&b))
		var back Report
		decoder := json.NewDecoder(bytes.NewReader(b.Bytes()))
		decoder.DisallowUnknownFields()
		require.NoError(t, decoder.Decode(&back))
		var again bytes.Buffer
		require.NoError(t, back.WriteJSON(&again))
		assert.Equal(t, b.String(), again.String(), "seed %d", seed)
		back.Finish()
		again.Reset()
		require.NoError(t, back.WriteJSON(&again))
		assert.Equal(t, b.String(), again.String(), "to finish again changes nothing; seed %d", seed)
	}
}

// TestCSV: encoding/csv reads as many fields in each record, lines end as RFC 4180 says, and a text is no formula.
func TestCSV(t *testing.T) {
	r := sample(1)
	r.Finish()
	var b bytes.Buffer
	require.NoError(t, r.WriteCSV(&b))
	rows, err := csv.NewReader(bytes.NewReader(b.Bytes())).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 1+len(r.lines()))
	assert.Equal(t, strings.Count(b.String(), "\n"), strings.Count(b.String(), "\r\n"))
	assert.Len(t, rows, strings.Count(b.String(), "\r\n"), "no cell has a line break")
	at := map[string]int{}
	for i, name := range rows[0] {
		at[name] = i
	}
	for i, l := range r.lines() {
		row := rows[i+1]
		for j, cell := range row {
			if _, err := strconv.ParseFloat(cell, 64); err != nil && cell != "" {
				assert.NotContains(t, "=+-@\t\r", cell[:1], rows[0][j])
			}
		}
		if l.advice == nil {
			continue
		}
		recommended, err := strconv.ParseFloat(row[at["recommended"]], 64)
		require.NoError(t, err)
		assert.Equal(t, *l.advice.Recommended, recommended, "every digit is there")
	}
}

// TestMarkdownEscapes: whatever is in a cell, each row has as many of them as the head.
func TestMarkdownEscapes(t *testing.T) {
	r := sample(1)
	r.Finish()
	var b bytes.Buffer
	require.NoError(t, r.WriteMarkdown(&b))
	bars := -1
	for line := range strings.Lines(b.String()) {
		if !strings.HasPrefix(line, "|") {
			continue
		}
		n := strings.Count(strings.ReplaceAll(strings.ReplaceAll(line, `\\`, ""), `\|`, ""), "|")
		if bars < 0 {
			bars = n
		}
		assert.Equal(t, bars, n, line)
		assert.NotContains(t, line, "<")
	}
	assert.Equal(t, 13, bars)
	assert.Contains(t, b.String(), "\\`x\\` \\*y\\*")
}

// TestSavings holds savings and money to a sum over each pod of each workload, counted one by one.
func TestSavings(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		report := &Report{Prices: &Prices{Currency: "EUR", CPU: new(r.Float64()), Memory: new(r.Float64()), GPU: map[string]float64{"H100": r.Float64() * 5, "*": 1}}}
		var cores, memory, gpus, money, freed float64
		for range 1 + r.IntN(8) {
			w := Workload{Replicas: new(int32(r.IntN(5)))}
			before, after := map[string]float64{}, map[string]float64{}
			for range r.IntN(4) {
				c := Container{Name: strconv.Itoa(r.IntN(1e9)), Type: []string{TypeContainer, TypeSidecar}[r.IntN(2)]}
				for _, name := range []string{CPU, Memory} {
					scale := map[string]float64{CPU: 4, Memory: 8 * gib}[name]
					a := Advice{Resource: name}
					now := 0.0
					if r.IntN(4) > 0 {
						now = scale * r.Float64()
						a.Request = &now
					}
					then := now
					if r.IntN(4) > 0 {
						then = scale * r.Float64()
						a.Recommended = new(then)
					}
					before[name] += now
					after[name] += then
					c.Resources = append(c.Resources, a)
				}
				if r.IntN(3) == 0 {
					c.GPU = &GPU{Model: []string{"NVIDIA H100 PCIe", "Other"}[r.IntN(2)], Now: &GPURequest{Share: 1, Count: 1}, Recommended: &GPURequest{Share: r.Float64(), Count: 1}}
				}
				w.Containers = append(w.Containers, c)
			}
			report.Workloads = append(report.Workloads, w)
			for range *w.Replicas {
				if !w.recommended() {
					continue
				}
				cores += before[CPU] - after[CPU]
				freed += math.Max(0, before[CPU]-after[CPU])
				memory += before[Memory] - after[Memory]
				money += 730 * (*report.Prices.CPU*(before[CPU]-after[CPU]) + *report.Prices.Memory*(before[Memory]-after[Memory])/1024/1024/1024)
				for _, c := range w.Containers {
					if c.GPU == nil {
						continue
					}
					saved := c.GPU.Now.Share - c.GPU.Recommended.Share
					gpus += saved
					price := 1.0
					if strings.Contains(c.GPU.Model, "H100") {
						price = report.Prices.GPU["H100"]
					}
					money += 730 * saved * price
				}
			}
		}
		report.Finish()
		s := report.Total.Saving
		assert.InDelta(t, cores, s.Cores, 1e-9, "seed %d", seed)
		assert.InDelta(t, memory, s.Memory, 1, "seed %d", seed)
		assert.InDelta(t, gpus, s.GPUs, 1e-9, "seed %d", seed)
		assert.InDelta(t, 730*gpus, s.GPUHours, 1e-6, "seed %d", seed)
		assert.InDelta(t, money, *s.Money, 1e-6, "seed %d", seed)
		assert.InDelta(t, freed, report.Total.Freed.Cores, 1e-9, "seed %d", seed)
		assert.InDelta(t, *s.Money, *report.Total.Freed.Money+*report.Total.Added.Money, 1e-6, "seed %d", seed)
	}
}

// TestPodRequest: init containers count where they need more than what runs later, sidecars count on top of both.
func TestPodRequest(t *testing.T) {
	c := func(kind string, request float64) Container {
		return Container{Name: kind + strconv.FormatFloat(request, 'g', -1, 64), Type: kind, Resources: []Advice{{Resource: CPU, Request: &request}}}
	}
	assert.Equal(t, 3.0, podRequest([]Container{c(TypeContainer, 1), c(TypeContainer, 2)}, CPU, false))
	assert.Equal(t, 3.5, podRequest([]Container{c(TypeSidecar, 0.5), c(TypeContainer, 3), c(TypeInit, 1)}, CPU, false))
	assert.Equal(t, 8.0, podRequest([]Container{c(TypeInit, 8), c(TypeSidecar, 0.5), c(TypeContainer, 3)}, CPU, false))
	assert.Equal(t, 8.5, podRequest([]Container{c(TypeSidecar, 0.5), c(TypeInit, 8), c(TypeContainer, 3)}, CPU, false))
	assert.Equal(t, 0.0, podRequest(nil, CPU, false))
	one, two := c(TypeContainer, 1), c(TypeContainer, 4)
	one.NodeClass, two.NodeClass, two.Name = "a", "b", one.Name
	assert.Equal(t, 4.0, podRequest([]Container{one, two}, CPU, false), "classes share a template")
}

func TestGPUPrices(t *testing.T) {
	p := &Prices{GPU: map[string]float64{"A100": 1, "NVIDIA A100-SXM4-80GB": 2, "a10": 3, "H100 MIG": 4}}
	for model, want := range map[string]float64{"NVIDIA A100-PCIE-40GB": 1, "NVIDIA A100-SXM4-80GB": 2, "NVIDIA A10": 3, "NVIDIA H100 MIG 1g.10gb": 4} {
		got, ok := p.ofGPU(model)
		assert.True(t, ok, model)
		assert.Equal(t, want, got, model)
	}
	_, ok := p.ofGPU("NVIDIA H100")
	assert.False(t, ok, "unpriced is not free")
	p.GPU[anyModel] = 9
	got, ok := p.ofGPU("NVIDIA H100")
	assert.True(t, ok)
	assert.Equal(t, 9.0, got)
}

// FuzzParsePrices: whatever the file, there is an error or prices that pass the check.
func FuzzParsePrices(f *testing.F) {
	f.Add([]byte(`{"currency":"EUR","cpuCoreHour":0.03,"gpuHour":{"H100":3}}`))
	f.Add([]byte(`{"currency":1}`))
	f.Add([]byte(`{"currency":"x","cpuCoreHour":-1e400}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParsePrices(data)
		if err == nil {
			require.NoError(t, p.check())
			_ = p.money(new(1.0))
		}
	})
}

// TestPage: the page is well formed, needs nothing from elsewhere, and a name stays a name.
func TestPage(t *testing.T) {
	r := sample(1)
	r.Finish()
	var b bytes.Buffer
	require.NoError(t, r.WriteHTML(&b))
	inspect(t, b.Bytes())
	text := b.String()
	for _, want := range []string{"prefers-color-scheme: dark", "@media print", "<caption>", "containers at risk", "25.1", "set gpu_memory_utilization of vLLM to 0.88", "2026-11-24 07:00"} {
		assert.Contains(t, text, want)
	}
	assert.Contains(t, text, "Content-Security-Policy\" content=\"default-src &#39;none&#39;; style-src &#39;sha256-")
	for _, never := range []string{"<script>alert", "ZgotmplZ", "NaN", "Inf", "\x1b"} {
		assert.NotContains(t, text, never)
	}
	assert.Equal(t, 1, strings.Count(text, "<script"))
	assert.Equal(t, 10, strings.Count(text, "<svg"))
}

// TestPageOfLittle: what is missing leaves its place out and fails nothing.
func TestPageOfLittle(t *testing.T) {
	nothing := Number(math.NaN())
	unknown := &Usage{Start: noon, Step: 3600, P50: []Number{nothing}, P90: []Number{nothing}, Max: []Number{nothing}}
	for i, r := range []*Report{
		{},
		{Workloads: []Workload{{}}},
		{Workloads: []Workload{{Containers: []Container{{GPU: &GPU{Usage: unknown}}, {Resources: []Advice{{Usage: unknown}, {Resource: CPU, Usage: &Usage{}}}}}}}},
		{Workloads: []Workload{{Replicas: new(int32(1)), Containers: []Container{{Resources: []Advice{{Resource: CPU, Recommended: new(0.0), Usage: unknown}}}}}}},
	} {
		if i == 2 {
			require.ErrorContains(t, r.WriteHTML(&bytes.Buffer{}), "step is 0 s")
			r.Workloads[0].Containers[1].Resources[1].Usage = nil
		}
		r.Finish()
		var b bytes.Buffer
		require.NoError(t, r.WriteHTML(&b))
		inspect(t, b.Bytes())
		assert.NotContains(t, b.String(), "NaN")
		assert.NotContains(t, b.String(), "Inf")
		require.NoError(t, r.WriteCSV(&b))
		require.NoError(t, r.WriteMarkdown(&b))
		require.NoError(t, r.WriteTable(&b, true, true))
		require.NoError(t, r.WriteJSON(&b))
	}
}

// TestLargePage: 2,000 containers make a page that a browser takes in its stride, and that says what it leaves out.
func TestLargePage(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, many(2000).WriteHTML(&b))
	assert.Less(t, b.Len(), 5<<20)
	assert.Equal(t, plotsShown, strings.Count(b.String(), "<svg"))
	assert.Contains(t, b.String(), "Plots of 60 of 4000: those that save the most, and those that lack the most.")
	assert.Equal(t, 4000, strings.Count(b.String(), "<tr data-verdict"))
}

// inspect parses a page strictly: each element that is opened is closed in order, and nothing points outside.
func inspect(t *testing.T, page []byte) {
	t.Helper()
	void := map[string]bool{"meta": true, "input": true}
	var stack []string
	z := html.NewTokenizer(bytes.NewReader(page))
	for {
		switch z.Next() {
		case html.ErrorToken:
			require.Empty(t, stack, "elements left open")
			require.ErrorContains(t, z.Err(), "EOF")
			return
		case html.StartTagToken, html.SelfClosingTagToken:
			token := z.Token()
			assert.NotContains(t, []string{"link", "img", "image", "iframe", "object", "embed", "use", "base"}, token.Data)
			for _, a := range token.Attr {
				assert.NotContains(t, []string{"src", "href", "xlink:href", "srcset", "action", "style"}, a.Key)
				assert.False(t, strings.HasPrefix(a.Key, "on"), a.Key)
			}
			if token.Type == html.StartTagToken && !void[token.Data] {
				stack = append(stack, token.Data)
			}
		case html.EndTagToken:
			name := z.Token().Data
			require.NotEmpty(t, stack, "</%s> closes nothing", name)
			require.Equal(t, stack[len(stack)-1], name)
			stack = stack[:len(stack)-1]
		default: // text, comments and the doctype
			if len(stack) > 0 && stack[len(stack)-1] == "style" {
				assert.NotContains(t, string(z.Raw()), "url(")
				assert.NotContains(t, string(z.Raw()), "@import")
			}
		}
	}
}
