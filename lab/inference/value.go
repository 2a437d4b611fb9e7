package inference

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// Distribution is a fixed duration (Sigma 0) or a lognormal one with that median and that standard deviation of the
// logarithm. Its mean is Median·exp(Sigma²/2). In YAML: 50ms, or {median: 50ms, sigma: 0.3}.
type Distribution struct {
	Median time.Duration
	Sigma  float64
}

func (d Distribution) sigmaOK() bool { return d.Sigma >= 0 && d.Sigma <= maxSigma }

// draw takes exactly one number from rng whatever the distribution, so that changing one does not shift the others.
func (d Distribution) draw(rng *rand.Rand) time.Duration {
	seconds := d.Median.Seconds() * math.Exp(d.Sigma*rng.NormFloat64())
	return time.Duration(min(seconds, (24*time.Hour).Seconds()) * float64(time.Second))
}

// Duration is a fixed one. In YAML: 3s.
type Duration time.Duration

// MarshalJSON writes what UnmarshalJSON reads.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// UnmarshalJSON reads a string with a unit.
func (d *Duration) UnmarshalJSON(raw []byte) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return errors.New("want a duration with its unit, like 3s")
	}
	parsed, err := time.ParseDuration(text)
	*d = Duration(parsed)
	return err
}

type distributionJSON struct {
	Median string  `json:"median"`
	Sigma  float64 `json:"sigma"`
}

// MarshalJSON writes a fixed duration as a string and a lognormal one as an object.
func (d Distribution) MarshalJSON() ([]byte, error) {
	if d.Sigma == 0 {
		return json.Marshal(d.Median.String())
	}
	return json.Marshal(distributionJSON{Median: d.Median.String(), Sigma: d.Sigma})
}

// UnmarshalJSON reads what MarshalJSON writes, and nothing more.
func (d *Distribution) UnmarshalJSON(raw []byte) error {
	var text string
	if err := json.Unmarshal(raw, &text); err == nil {
		median, err := time.ParseDuration(text)
		*d = Distribution{Median: median}
		return err
	}
	if !bytes.HasPrefix(raw, []byte("{")) {
		return errors.New(`want a duration with its unit, like 50ms, or {median: 50ms, sigma: 0.3}`)
	}
	var wire distributionJSON
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&wire); err != nil {
		return plainTypeError(err)
	}
	median, err := time.ParseDuration(wire.Median)
	*d = Distribution{Median: median, Sigma: wire.Sigma}
	return err
}

// Bytes is an amount of memory. In YAML: a number with one of the units B, K, M, G, T (powers of 1000) or Ki, Mi, Gi, Ti,
// with or without a final B, or a plain number of GiB.
type Bytes int64

// maxBytes is far above the memory of any GPU and far below an overflow.
const maxBytes Bytes = 1 << 50

type unit struct {
	suffix string
	bytes  float64
}

// units returns the units with the longest suffixes first, the binary ones in falling order.
func units() []unit {
	return []unit{
		{"Ti", 1 << 40},
		{"Gi", 1 << 30},
		{"Mi", 1 << 20},
		{"Ki", 1 << 10},
		{"T", 1e12},
		{"G", 1e9},
		{"M", 1e6},
		{"K", 1e3},
		{"k", 1e3},
	}
}

// String writes the largest binary unit that holds the amount exactly, "16Gi"; MarshalJSON uses it.
func (b Bytes) String() string {
	for _, u := range units()[:4] {
		if size := Bytes(u.bytes); b != 0 && b%size == 0 {
			return strconv.FormatInt(int64(b/size), 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10) + "B"
}

// MarshalJSON writes String's form.
func (b Bytes) MarshalJSON() ([]byte, error) { return json.Marshal(b.String()) }

// UnmarshalJSON reads a string with a unit, or a number of GiB.
func (b *Bytes) UnmarshalJSON(raw []byte) error {
	text := string(raw)
	if bytes.HasPrefix(raw, []byte(`"`)) {
		if err := json.Unmarshal(raw, &text); err != nil {
			return err
		}
	}
	parsed, err := parseBytes(text)
	*b = parsed
	return err
}

func parseBytes(text string) (Bytes, error) {
	number, hasB := strings.CutSuffix(text, "B")
	size := float64(1 << 30)
	if hasB {
		size = 1
	}
	for _, u := range units() {
		if cut, ok := strings.CutSuffix(number, u.suffix); ok {
			number, size = cut, u.bytes
			break
		}
	}
	if whole, err := strconv.ParseInt(number, 10, 64); err == nil && size == 1 {
		return Bytes(whole), nil // a float64 would round large amounts
	}
	value, err := strconv.ParseFloat(number, 64)
	if err != nil || math.IsNaN(value) || math.Abs(value*size) > float64(maxBytes)*2 {
		return 0, fmt.Errorf("%q is no amount of memory, like 16Gi, or a number of GiB", text)
	}
	return Bytes(value * size), nil
}
