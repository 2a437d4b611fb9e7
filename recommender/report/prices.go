package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode"
)

// Prices are what is paid for what is requested. A resource without a price counts for nothing in money.
type Prices struct {
	Currency string `json:"currency"` // as it is written before a sum: EUR, $
	// CPU is the price of a core for an hour, Memory that of a GiB.
	CPU    *float64 `json:"cpuCoreHour,omitempty"`
	Memory *float64 `json:"memoryGiBHour,omitempty"`
	// GPU is the price of a whole GPU for an hour by its model: a name that the driver says, or words of it (H100), of which the
	// longest that fits counts; * is for all others.
	GPU map[string]float64 `json:"gpuHour,omitempty"`
}

// maxPrice is far above any price for an hour, and far below where sums become inexact.
const maxPrice = 1e9

// ParsePrices reads a price file that is JSON. The error names the field.
func ParsePrices(data []byte) (*Prices, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var p Prices
	if err := decoder.Decode(&p); err != nil {
		if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			field := e.Field
			if field == "" {
				field = "the file"
			}
			return nil, fmt.Errorf("%s: a JSON %s is not what belongs there", field, e.Value)
		}
		if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
			return nil, fmt.Errorf("%s is none of currency, cpuCoreHour, memoryGiBHour and gpuHour", field)
		}
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows after the prices")
	}
	return &p, p.check()
}

func (p *Prices) check() error {
	switch {
	case strings.TrimSpace(p.Currency) == "":
		return errors.New("currency: is missing")
	case len(p.Currency) > 16:
		return errors.New("currency: is longer than 16 bytes")
	case p.CPU == nil && p.Memory == nil && len(p.GPU) == 0:
		return errors.New("cpuCoreHour, memoryGiBHour, gpuHour: one of them must be given")
	}
	fields := map[string]float64{}
	if p.CPU != nil {
		fields["cpuCoreHour"] = *p.CPU
	}
	if p.Memory != nil {
		fields["memoryGiBHour"] = *p.Memory
	}
	for model, price := range p.GPU {
		if model != anyModel && len(words(model)) == 0 {
			return fmt.Errorf("gpuHour[%q]: names no model", model)
		}
		fields[fmt.Sprintf("gpuHour[%q]", model)] = price
	}
	for _, field := range sortedKeys(fields) {
		if v := fields[field]; math.IsNaN(v) || v < 0 || v > maxPrice {
			return fmt.Errorf("%s: %v is no price for an hour (0 to 1e9)", field, v)
		}
	}
	return nil
}

const anyModel = "*"

// ofGPU is the price of a model, and whether there is one.
func (p *Prices) ofGPU(model string) (float64, bool) {
	if price, ok := p.GPU[model]; ok {
		return price, true
	}
	have := words(model)
	best := ""
	for _, key := range sortedKeys(p.GPU) {
		if key == anyModel {
			continue
		}
		fits := true
		for _, word := range words(key) {
			fits = fits && slices.Contains(have, word)
		}
		if fits && len(key) > len(best) {
			best = key
		}
	}
	if best == "" {
		best = anyModel
	}
	price, ok := p.GPU[best]
	return price, ok
}

// words are those of a model's name: "NVIDIA A100-SXM4-80GB" has a100, but not a10.
func words(name string) []string {
	return strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
