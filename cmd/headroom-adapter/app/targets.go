package app

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"headroom.dev/headroom/adapter/discovery"
	"headroom.dev/headroom/adapter/scrape"
	"headroom.dev/headroom/adapter/store"
)

// targets makes the scraper a discovery.Sink.
type targets struct{ *scrape.Manager }

// Add implements discovery.Sink.
func (t targets) Add(found discovery.Target) {
	s := found.Settings
	t.Manager.Add(scrape.Target{
		ID: found.ID, Incarnation: found.Incarnation, URL: found.URL, Pod: found.Pod,
		Labels: found.Labels, HonorLabels: found.HonorLabels, Relabel: s.Relabel,
		Auth: scrape.Auth{
			Username: s.Auth.Username, Password: string(s.Auth.Password),
			Scheme: s.Auth.Scheme, Credentials: string(s.Auth.Credentials),
		},
		TLS: scrape.TLS{
			CA: s.TLS.CA, Cert: s.TLS.Cert, Key: string(s.TLS.Key),
			ServerName: s.TLS.ServerName, InsecureSkipVerify: s.TLS.InsecureSkipVerify,
		},
		RefuseRedirects: s.RefuseRedirects,
		Timeout:         s.Timeout, BodyLimit: s.BodyLimit, SampleLimit: s.SampleLimit,
	})
}

// sink makes the store a scrape.Sink.
type sink struct{ *store.Store }

// Append implements scrape.Sink.
func (s sink) Append(id string, at time.Time, refs []uint64, values []float64, labelsOf func(i int) labels.Labels) error {
	switch r := s.AppendRefs(id, at, refs, values, labelsOf); {
	case r.Late:
		return errors.New("the scrape was refused: it is not later than the one before")
	case r.OverLimit > 0:
		return fmt.Errorf("the store has no room for %d of %d samples (--max-series)", r.OverLimit, len(values))
	}
	return nil
}
