package scrape

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"sync"
)

// scratch is what one scrape needs and no longer than it runs. 1,000 targets share a handful.
type scratch struct {
	pool    *pool
	reader  *bufio.Reader // of the connection; nil until there is something to read
	body    *buffer       // the answer, decompressed; nil until there is one
	samples samples
	trace   tracer
}

// buffer is a slice with an address, which a sync.Pool holds without an allocation.
type buffer struct{ b []byte }

// Bodies come in classes that quadruple, so that one target's 4 MiB do not stay in the memory of 1,000 with 50 KB.
const (
	leastBody = 16 << 10
	classes   = 6
)

// readerSize takes in most answers with one system call, and chunks of 4 KiB (Go's servers) not one by one.
const readerSize = 64 << 10

type pool struct {
	scratches sync.Pool
	readers   sync.Pool
	bodies    [classes]sync.Pool
	unzips    sync.Pool
}

func newPool() *pool {
	return &pool{
		scratches: sync.Pool{New: func() any { return new(scratch) }},
		readers:   sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readerSize) }},
		unzips:    sync.Pool{New: func() any { return new(gzip.Reader) }},
	}
}

// get returns a scratch without memory for the answer: that comes with its first byte, so that targets which hang hold none.
func (p *pool) get() *scratch {
	s := p.scratches.Get().(*scratch) //nolint:forcetypeassert // New makes no other
	s.pool = p
	return s
}

// from returns the reader, set to r.
func (s *scratch) from(r io.Reader) *bufio.Reader {
	if s.reader == nil {
		s.reader = s.pool.readers.Get().(*bufio.Reader) //nolint:forcetypeassert // New makes no other
	}
	s.reader.Reset(r)
	return s.reader
}

func (p *pool) put(s *scratch) {
	if s.body != nil {
		p.putBody(s.body)
	}
	clear(s.samples.labels) // to let go of their strings
	s.body, s.samples = nil, samples{s.samples.labels[:0], s.samples.values[:0]}
	if s.reader != nil {
		s.reader.Reset(nil)
		p.readers.Put(s.reader)
		s.reader = nil
	}
	p.scratches.Put(s)
}

// size is the bytes of the answer.
func (s *scratch) size() int {
	if s.body == nil {
		return 0
	}
	return len(s.body.b)
}

// bodyOf returns an empty buffer with room for size bytes at least.
func (p *pool) bodyOf(size int) *buffer {
	class, room := 0, leastBody
	for room < size && class < classes-1 {
		class, room = class+1, room*4
	}
	if b, ok := p.bodies[class].Get().(*buffer); ok && cap(b.b) >= size {
		return b
	}
	return &buffer{make([]byte, 0, max(size, room))}
}

func (p *pool) putBody(b *buffer) {
	class, room := 0, leastBody
	for class < classes-1 && cap(b.b) >= room*4 {
		class, room = class+1, room*4
	}
	b.b = b.b[:0]
	p.bodies[class].Put(b)
}

// read fills the body from r, to limit bytes at most; it will probably be so many as expected.
func (s *scratch) read(r io.Reader, expected, limit int64) error {
	s.body = s.pool.bodyOf(int(min(max(expected, 0), limit)) + 1)
	for {
		b := s.body.b
		if int64(len(b)) > limit {
			return tooLarge(limit)
		}
		if len(b) == cap(b) {
			bigger := s.pool.bodyOf(len(b) + 1)
			bigger.b = append(bigger.b, b...)
			s.pool.putBody(s.body)
			s.body, b = bigger, bigger.b
		}
		n, err := r.Read(b[len(b):min(int64(cap(b)), limit+1)])
		s.body.b = b[:len(b)+n]
		if errors.Is(err, io.EOF) {
			if int64(len(s.body.b)) > limit {
				return tooLarge(limit)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot read the answer: %w", err)
		}
	}
}

// unzip fills the body with what the gzip stream in r unpacks to.
func (s *scratch) unzip(r io.Reader, expected, limit int64) error {
	z := s.pool.unzips.Get().(*gzip.Reader) //nolint:forcetypeassert // New makes no other
	defer s.pool.unzips.Put(z)
	if err := z.Reset(r); err != nil {
		return fmt.Errorf("cannot unpack the answer: %w", err)
	}
	return s.read(z, expected, limit)
}

func tooLarge(limit int64) error {
	return &scrapeError{outcomeTooLarge, fmt.Sprintf("the answer is larger than the limit of %d bytes", limit)}
}
