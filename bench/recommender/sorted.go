package main

import (
	"math"
	"slices"
)

// sorted keeps numbers in order, in chunks, so that one among 20,000 is added or taken away in a fraction of a microsecond.
type sorted struct {
	chunks [][]float64 // none is empty
	count  int
}

const chunkSize = 256

// chunk is the first one whose last number is not below v, or the last one.
func (s *sorted) chunk(v float64) int {
	i, _ := slices.BinarySearchFunc(s.chunks, v, func(c []float64, v float64) int {
		if c[len(c)-1] < v {
			return -1
		}
		return 1
	})
	return min(i, len(s.chunks)-1)
}

func (s *sorted) add(v float64) {
	s.count++
	if len(s.chunks) == 0 {
		s.chunks = [][]float64{append(make([]float64, 0, 2*chunkSize), v)}
		return
	}
	i := s.chunk(v)
	at, _ := slices.BinarySearch(s.chunks[i], v)
	s.chunks[i] = slices.Insert(s.chunks[i], at, v)
	if c := s.chunks[i]; len(c) == 2*chunkSize {
		upper := append(make([]float64, 0, 2*chunkSize), c[chunkSize:]...)
		s.chunks[i] = c[:chunkSize]
		s.chunks = slices.Insert(s.chunks, i+1, upper)
	}
}

// remove takes away one number that was added.
func (s *sorted) remove(v float64) {
	if s.count == 0 {
		return
	}
	i := s.chunk(v)
	at, found := slices.BinarySearch(s.chunks[i], v)
	if !found {
		return
	}
	s.count--
	s.chunks[i] = slices.Delete(s.chunks[i], at, at+1)
	if len(s.chunks[i]) == 0 {
		s.chunks = slices.Delete(s.chunks, i, i+1)
	}
}

func (s *sorted) nth(n int) float64 {
	for _, c := range s.chunks {
		if n < len(c) {
			return c[n]
		}
		n -= len(c)
	}
	return math.NaN()
}

// quantile interpolates between ranks as Prometheus' quantile_over_time does; NaN where there is nothing.
func (s *sorted) quantile(q float64) float64 {
	if s.count == 0 {
		return math.NaN()
	}
	rank := q * float64(s.count-1)
	lower := int(rank)
	a, b := s.nth(lower), s.nth(min(lower+1, s.count-1))
	return a + (b-a)*(rank-float64(lower))
}
