package scrape

import (
	"bufio"
	"bytes"
	"fmt"
	"hash/maphash"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
)

// modelServer is an answer of the size of vLLM's: 300 samples and 50 KB, 33 of them wanted; Python spells the numbers.
func modelServer(n int) []byte {
	var b bytes.Buffer
	for family := range 15 {
		name := fmt.Sprintf("python_something_seconds_%d", family)
		if family < 2 {
			name = fmt.Sprintf("vllm:time_to_first_token_%d_seconds", family)
		}
		fmt.Fprintf(&b, "# HELP %s Histogram of something in seconds.\n# TYPE %s histogram\n", name, name)
		for i := range 18 {
			fmt.Fprintf(&b, "%s_bucket{engine=\"0\",le=\"%g\",model_name=\"meta-llama/Llama-3.1-8B-Instruct\",instance_of=\"%s\"} %d.0\n",
				name, 0.001*float64(i+1), strings.Repeat("x", 40), n*i*7)
		}
		fmt.Fprintf(&b, "%s_count{engine=\"0\",model_name=\"meta-llama/Llama-3.1-8B-Instruct\"} %d.0\n", name, n*17*7)
		fmt.Fprintf(&b, "%s_sum{engine=\"0\",model_name=\"meta-llama/Llama-3.1-8B-Instruct\"} %s\n", name, strconv.FormatFloat(float64(n)*1.2345678901, 'g', -1, 64))
	}
	return b.Bytes()
}

func BenchmarkParse(b *testing.B) {
	body := modelServer(12345)
	merge := newMerger(targetLabels, false, nil)
	seed := maphash.MakeSeed()
	b.Run("parser", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		var out samples
		for b.Loop() {
			e := exposition{body: body, names: nameFilter{wants: wantRequests}, merge: merge, limit: 1000, trace: &tracer{unfit: true}}
			e.out = samples{out.labels[:0], out.values[:0]}
			if err := e.parse(text); err != nil {
				b.Fatal(err)
			}
			out = e.out
		}
	})
	b.Run("layout", func(b *testing.B) {
		_, l, _, err := traced(body, text, merge, seed)
		require.NoError(b, err)
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		var values []float64
		for b.Loop() {
			var ok bool
			if values, ok = l.match(seed, body, values[:0]); !ok {
				b.Fatal("the layout does not match")
			}
		}
		require.Len(b, values, 40)
	})
	// What any reader must do: see all bytes once.
	b.Run("limit", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		lines := 0
		for b.Loop() {
			for rest := body; len(rest) > 0; lines++ {
				rest = rest[bytes.IndexByte(rest, '\n')+1:]
			}
		}
	})
}

const (
	benchTargets = 1000
	serveEnv     = "HEADROOM_SCRAPE_BENCH_SERVE"
)

func TestMain(m *testing.M) {
	if how := os.Getenv(serveEnv); how != "" {
		serveBench(how)
		return
	}
	m.Run()
}

// serveBench answers on one port, in a process of its own, so that its CPU is not counted. Sockets: with as little as can
// be; else with Go's own server.
func serveBench(how string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = listener.Close() // the benchmark is over
	}()
	body := modelServer(12345)
	if how == "chunked" {
		_ = http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", text)
			_, _ = w.Write(body)
		}))
		return
	}
	answer := []byte(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: %s\r\nDate: Mon, 23 Nov 2026 08:00:00 GMT\r\nContent-Length: %d\r\n\r\n%s", text, len(body), body))
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			r := bufio.NewReaderSize(conn, 1024)
			for {
				line, err := r.ReadSlice('\n')
				if err != nil {
					return
				}
				if len(line) == 2 {
					_, _ = conn.Write(answer)
				}
			}
		}()
	}
}

// nullSink takes everything by ref.
type nullSink struct{}

func (*nullSink) WantsVersion() uint64   { return 0 }
func (*nullSink) Wants(name string) bool { return wantRequests(name) }
func (*nullSink) Forget(string)          {}
func (*nullSink) Append(_ string, _ time.Time, refs []uint64, _ []float64, labelsOf func(int) labels.Labels) error {
	for i, ref := range refs {
		if ref == 0 {
			_ = labelsOf(i)
			refs[i] = 1
		}
	}
	return nil
}

// BenchmarkScrape scrapes 1,000 targets in another process by real HTTP and reports the CPU of this process for one scrape.
func BenchmarkScrape(b *testing.B) {
	for _, how := range []string{"plain", "chunked"} {
		b.Run(how, func(b *testing.B) { scrapeAll(b, how) })
	}
}

func scrapeAll(b *testing.B, how string) {
	b.Helper()
	address := startServer(b, how)
	m := NewManager(&nullSink{}, Options{Interval: time.Hour, Timeout: time.Minute})
	defer m.Close()
	loops := make([]*loop, benchTargets)
	for i := range loops {
		loops[i] = newLoop(m, targetOf(fmt.Sprint("pod-", i), address))
		loops[i].scrape(time.Now())
		require.Empty(b, loops[i].status.Reason())
	}
	b.ReportAllocs()
	before := cpu(b)
	n := 0
	for b.Loop() {
		loops[n%benchTargets].scrape(time.Now())
		n++
	}
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(n), "cpu-µs/scrape")
	for _, l := range loops {
		require.Empty(b, l.status.Reason())
	}
}

// BenchmarkSecond is one second of 1,000 targets at the pace of a second, for this process' CPU and memory.
func BenchmarkSecond(b *testing.B) {
	address := startServer(b, "plain")
	m := NewManager(&nullSink{}, Options{})
	defer m.Close()
	for i := range benchTargets {
		m.Add(targetOf(fmt.Sprint("pod-", i), address))
	}
	time.Sleep(2 * time.Second)
	before := cpu(b)
	n := 0
	for b.Loop() {
		time.Sleep(time.Second)
		n++
	}
	b.ReportMetric(float64((cpu(b)-before).Milliseconds())/float64(n), "cpu-ms/s")
	var mem runtime.MemStats
	runtime.GC()
	runtime.GC() // the first one leaves what the pools hold
	runtime.ReadMemStats(&mem)
	b.ReportMetric(float64(mem.HeapInuse+mem.StackInuse)/(1<<20), "MiB-in-use")
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	b.ReportMetric(float64(u.Maxrss)/1024, "MiB-peak-rss")
	for _, s := range m.Targets() {
		require.Empty(b, s.Reason())
	}
}

// startServer returns the URL to scrape.
func startServer(b *testing.B, how string) string {
	b.Helper()
	server := exec.CommandContext(b.Context(), os.Args[0])
	server.Env = append(os.Environ(), serveEnv+"="+how)
	_, err := server.StdinPipe()
	require.NoError(b, err)
	out, err := server.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, server.Start())
	b.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	address, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(b, err)
	return "http://" + strings.TrimSpace(address) + "/metrics"
}

// cpu is what this process has used.
func cpu(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	require.NoError(tb, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
