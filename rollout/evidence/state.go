package evidence

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/judge"
)

const (
	stateVersion = 1
	// maxState is what a ConfigMap holds beside other things: 1 MiB, of base64.
	maxState = 700 << 10
	// maxPlain is far above what mostPods of sixteen histograms need, and bounds what a forged state can unpack to.
	maxPlain = 32 << 20
)

// record is what is kept between looks.
type record struct {
	Version int    `json:"version"`
	Key     string `json:"key"`  // of the last look
	Policy  string `json:"plan"` // fingerprint of the analysis
	// LeftOut are optional metrics that no version had, Sources where the others are read, by metric.
	LeftOut []string          `json:"leftOut,omitempty"`
	Sources map[string]string `json:"sources,omitempty"`
	// Requests are what the counters stood at when the judge last looked, by metric and pod.
	Requests map[string]map[string]float64 `json:"requests,omitempty"`
	Judged   time.Time                     `json:"judged"` // when it last looked
	Next     time.Time                     `json:"next"`
	Here     int                           `json:"here"` // looks at this key that had the data
	Verdict  rollout.Verdict               `json:"verdict"`
	Status   v1alpha1.RolloutVerdict       `json:"status"`
	Judge    json.RawMessage               `json:"judge,omitempty"`

	judge *judge.Judge // of Judge; nil before the first look
}

// about is the rollout that a key is of.
func about(key string) string {
	to, _, _ := strings.Cut(key, "/")
	return to
}

// encode packs a record. What does not fit is an error: without it no look could build on the one before.
func (r *record) encode() ([]byte, error) {
	r.Version = stateVersion
	if r.judge != nil {
		raw, err := r.judge.MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("cannot write the judge's state: %w", err)
		}
		r.Judge = raw
	}
	plain, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("cannot write the judge's state: %w", err)
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err = w.Write(plain); err == nil {
		err = w.Close()
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot pack the judge's state: %w", err)
	case b.Len() > maxState || len(plain) > maxPlain:
		return nil, fmt.Errorf("the judge's state has %d bytes, at most %d can be stored: judge fewer metrics", b.Len(), maxState)
	}
	return b.Bytes(), nil
}

// decode unpacks a record; of no bytes it is an empty one.
func decode(raw []byte) (*record, error) {
	if len(raw) == 0 {
		return &record{}, nil
	}
	zipped, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("cannot unpack the judge's state: %w", err)
	}
	plain, err := io.ReadAll(io.LimitReader(zipped, maxPlain+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot unpack the judge's state: %w", err)
	case len(plain) > maxPlain:
		return nil, fmt.Errorf("cannot unpack the judge's state: it has more than %d bytes", maxPlain)
	}
	r := &record{}
	if err := json.Unmarshal(plain, r); err != nil {
		return nil, fmt.Errorf("cannot read the judge's state: %w", err)
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("cannot read the judge's state: %w", err)
	}
	if len(r.Judge) > 0 {
		if r.judge, err = judge.Restore(r.Judge); err != nil {
			return nil, err
		}
	}
	r.Judge = nil
	return r, nil
}

// check refuses what encode cannot have written.
func (r *record) check() error {
	results := []rollout.Result{rollout.NoResult, rollout.Pass, rollout.Fail, rollout.Inconclusive}
	switch {
	case r.Version != stateVersion:
		return fmt.Errorf("version %d, this program knows %d", r.Version, stateVersion)
	case r.Key == "" || r.Verdict.Key != r.Key:
		return fmt.Errorf("a verdict about %q at %q", r.Verdict.Key, r.Key)
	case !slices.Contains(results, r.Verdict.Result):
		return fmt.Errorf("the result %q", r.Verdict.Result)
	case r.Here < 0:
		return errors.New("a negative number of looks")
	case r.Verdict.Result == rollout.Pass && (r.Here < minLooks || len(r.Judge) == 0):
		return errors.New("a pass without looks")
	}
	for _, of := range r.Requests {
		for pod, n := range of {
			if !(n >= 0) || math.IsInf(n, 0) {
				return fmt.Errorf("%s has served %v requests", pod, n)
			}
		}
	}
	return nil
}
