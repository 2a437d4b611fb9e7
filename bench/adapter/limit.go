package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"headroom.dev/headroom/bench/adapter/targets"
)

// limit is the least that scraping every target once takes, in seconds of CPU.
type limit struct {
	Read  float64 `json:"read"`  // asking, reading the answer into memory, finding its lines (memchr)
	Parse float64 `json:"parse"` // Prometheus' parser over the same bytes: names, labels and values found, nothing kept
	Bytes float64 `json:"bytes"` // of all bodies
}

// limitLength is how long each of the two is measured.
const limitLength = 3 * time.Second

// measureLimit measures in a process of its own, whose CPU is nobody else's.
func measureLimit(ctx context.Context, program string, plan targets.Plan, pods int) (limit, error) {
	raw, err := json.Marshal(plan)
	if err != nil {
		return limit{}, fmt.Errorf("cannot measure the limit: %w", err)
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, program, "limit", string(raw), strconv.Itoa(pods))
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return limit{}, fmt.Errorf("cannot measure the limit: %w\n%s", err, stderr.String())
	}
	var l limit
	if err := json.Unmarshal(out, &l); err != nil {
		return limit{}, fmt.Errorf("cannot measure the limit: %w", err)
	}
	return l, nil
}

// scraper is one kept connection to a target.
type scraper struct {
	conn   net.Conn
	reader *bufio.Reader
}

// dialAll connects to the first pods and to their agents.
func dialAll(ctx context.Context, plan targets.Plan, pods int) ([]*scraper, error) {
	var addresses []netip.Addr
	for i := range pods {
		addresses = append(addresses, plan.PodAddress(i))
	}
	for j := range targets.Agents(pods) {
		addresses = append(addresses, plan.AgentAddress(j))
	}
	var all []*scraper
	dialer := net.Dialer{Timeout: 10 * time.Second}
	for _, a := range addresses {
		conn, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(a, uint16(plan.Port)).String())
		if err != nil {
			return nil, fmt.Errorf("cannot reach a target: %w", err)
		}
		all = append(all, &scraper{conn: conn, reader: bufio.NewReaderSize(conn, 64<<10)})
	}
	return all, nil
}

// runLimit is the measuring process.
func runLimit(ctx context.Context, plan targets.Plan, pods int, out io.Writer) error {
	all, err := dialAll(ctx, plan, pods)
	if err != nil {
		return err
	}
	var l limit
	bodies := make([][]byte, len(all))
	body := make([]byte, 0, 256<<10)
	round := func(keep bool) error {
		for i, s := range all {
			b, err := s.read(body)
			if err != nil {
				return err
			}
			if keep {
				bodies[i] = bytes.Clone(b)
				l.Bytes += float64(len(b))
			}
		}
		return nil
	}
	if err := round(true); err != nil {
		return err
	}
	if l.Read, err = perRound(func() error { return round(false) }); err != nil {
		return err
	}
	symbols := labels.NewSymbolTable()
	l.Parse, err = perRound(func() error {
		for _, b := range bodies {
			if err := parse(b, symbols); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(l)
}

// perRound repeats until limitLength is over, at least twice, and returns the seconds of CPU of one round.
func perRound(round func() error) (float64, error) {
	before, err := ownCPU()
	if err != nil {
		return 0, err
	}
	n := 0
	for began := time.Now(); n < 2 || time.Since(began) < limitLength; n++ {
		if err := round(); err != nil {
			return 0, err
		}
	}
	after, err := ownCPU()
	return (after - before).Seconds() / float64(n), err
}

func ownCPU() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("cannot read our own CPU time: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// read asks once and returns the body, in memory of the caller's, with its lines counted.
func (s *scraper) read(into []byte) ([]byte, error) {
	if _, err := io.WriteString(s.conn, "GET /metrics HTTP/1.1\r\nHost: pod\r\n\r\n"); err != nil {
		return nil, fmt.Errorf("cannot ask a target: %w", err)
	}
	length := -1
	for {
		line, err := s.reader.ReadSlice('\n')
		if err != nil {
			return nil, fmt.Errorf("cannot read a target's answer: %w", err)
		}
		if len(line) <= 2 {
			break
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return nil, fmt.Errorf("cannot read a target's answer: %w", err)
			}
		}
	}
	if length < 0 || length > cap(into) {
		return nil, fmt.Errorf("a target's answer has %d bytes", length)
	}
	into = into[:length]
	if _, err := io.ReadFull(s.reader, into); err != nil {
		return nil, fmt.Errorf("cannot read a target's answer: %w", err)
	}
	if bytes.Count(into, []byte{'\n'}) == 0 {
		return nil, errors.New("a target's answer has no lines")
	}
	return into, nil
}

func parse(body []byte, symbols *labels.SymbolTable) error {
	p := textparse.NewPromParser(body, symbols, false)
	for {
		entry, err := p.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("cannot parse a target's answer: %w", err)
		case entry == textparse.EntrySeries:
			p.Series()
		}
	}
}
