package targets

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Command is what Serve is told, a JSON object a line; it answers each with a Report.
type Command struct {
	// Step adds Amount requests at once to vllm:request_success_total of pod Pod.
	Pod    int `json:"pod"`
	Amount int `json:"amount"` // 0: only report
}

// Report is one line of what Serve says.
type Report struct {
	At      time.Time `json:"at"`      // when the step could first be seen
	Scrapes uint64    `json:"scrapes"` // answers given so far
	Bytes   uint64    `json:"bytes"`   // of all bodies
	Error   string    `json:"error,omitempty"`
}

// target answers on one address.
type target struct {
	exposition *exposition
	rate       float64
	steps      atomic.Int64
}

type server struct {
	began          time.Time
	targets        []*target // pods, then agents
	scrapes, bytes atomic.Uint64
	buffers        sync.Pool
}

// Serve answers for all targets of the plan until in ends. Its first Report says that they listen.
func Serve(ctx context.Context, plan Plan, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := newServer(plan)
	reports := json.NewEncoder(out)
	if err := s.listen(ctx, plan); err != nil {
		return errors.Join(err, reports.Encode(Report{Error: err.Error()}))
	}
	if err := reports.Encode(s.report(Command{})); err != nil {
		return fmt.Errorf("cannot report: %w", err)
	}
	for commands := json.NewDecoder(in); ; {
		var c Command
		err := commands.Decode(&c)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot read a command: %w", err)
		}
		if err := reports.Encode(s.report(c)); err != nil {
			return fmt.Errorf("cannot report: %w", err)
		}
	}
}

func newServer(plan Plan) *server {
	s := &server{began: time.Now(), buffers: sync.Pool{New: func() any { return new([]byte) }}}
	var pods []*exposition // one template for all pods of a speed
	for _, latency := range speeds() {
		pods = append(pods, vllm(latency))
	}
	for i := range plan.Pods {
		s.targets = append(s.targets, &target{exposition: pods[i%len(pods)], rate: Rate(i)})
	}
	for j := range Agents(plan.Pods) {
		var owners [devicesPerAgent]string
		var used [devicesPerAgent]float64
		for g := range devicesPerAgent {
			if i := j*podsPerAgent + g; i < plan.Pods {
				owners[g] = Pod(i)
				used[g], _ = Utilization(i)
			}
		}
		_, node := Agent(j)
		s.targets = append(s.targets, &target{exposition: agent(node, Namespace, owners, used), rate: 1})
	}
	return s
}

func (s *server) listen(ctx context.Context, plan Plan) error {
	var config net.ListenConfig
	for i, t := range s.targets {
		address := netip.AddrPortFrom(after(plan.First, i), uint16(plan.Port))
		l, err := config.Listen(ctx, "tcp4", address.String())
		if err != nil {
			return fmt.Errorf("cannot serve target %d: %w", i, err)
		}
		context.AfterFunc(ctx, func() { _ = l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return // closed at the end
				}
				go s.answer(ctx, conn, t)
			}
		}()
	}
	return nil
}

// answer serves one connection: every request is for the metrics, and none is pipelined.
func (s *server) answer(ctx context.Context, conn net.Conn, t *target) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(256 << 10) // the whole answer leaves in one call; without it, it merely takes more
	}
	request := make([]byte, 4096)
	for read := 0; read < len(request); {
		n, err := conn.Read(request[read:])
		if err != nil {
			return
		}
		if read += n; !bytes.HasSuffix(request[:read], []byte("\r\n\r\n")) {
			continue
		}
		read = 0
		if !s.write(conn, t) {
			return
		}
	}
}

func (s *server) write(to io.Writer, t *target) bool {
	buffer, _ := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buffer)
	n := t.rate * time.Since(s.began).Seconds()
	*buffer = t.exposition.render((*buffer)[:0], n, float64(t.steps.Load()))
	if _, err := to.Write(*buffer); err != nil {
		return false
	}
	s.scrapes.Add(1)
	s.bytes.Add(uint64(len(*buffer) - t.exposition.body))
	return true
}

// report carries the command out.
func (s *server) report(c Command) Report {
	r := Report{Scrapes: s.scrapes.Load(), Bytes: s.bytes.Load()}
	if c.Pod < 0 || c.Pod >= len(s.targets) {
		r.Error = "no such pod: " + strconv.Itoa(c.Pod)
		return r
	}
	s.targets[c.Pod].steps.Add(int64(c.Amount))
	r.At = time.Now()
	return r
}
