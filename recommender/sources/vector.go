package sources

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	jsoniter "github.com/json-iterator/go"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
)

// decodeVector reads the answer to an instant query, {"status":"success","data":{"resultType":"vector","result":[…]}}, of at most
// limit bytes.
func decodeVector(r io.Reader, limit int64) (promql.Vector, error) {
	var buf bytes.Buffer
	if n, err := buf.ReadFrom(io.LimitReader(r, limit+1)); err != nil {
		return nil, err
	} else if n > limit {
		return nil, fmt.Errorf("it is larger than %d bytes", limit)
	}
	var answer struct {
		Status string `json:"status"`
		Error  string `json:"error"`
		Data   struct {
			Type   string `json:"resultType"`
			Result []struct {
				Metric map[string]string `json:"metric"`
				Value  value             `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := jsoniter.ConfigCompatibleWithStandardLibrary.Unmarshal(buf.Bytes(), &answer); err != nil {
		return nil, err
	}
	switch {
	case answer.Status != "success":
		return nil, fmt.Errorf("the query failed: %s", answer.Error)
	case answer.Data.Type != "vector":
		return nil, fmt.Errorf("the result is of type %q, not an instant vector", answer.Data.Type)
	}
	out := make(promql.Vector, len(answer.Data.Result))
	for i, s := range answer.Data.Result {
		if !s.Value.read {
			return nil, errors.New("a result has no value")
		}
		out[i] = promql.Sample{Metric: labels.FromMap(s.Metric), T: s.Value.t, F: s.Value.f}
	}
	return out, nil
}

// value is [1435781451.781, "1"].
type value struct {
	t    int64
	f    float64
	read bool
}

// UnmarshalJSON implements json.Unmarshaler.
func (v *value) UnmarshalJSON(b []byte) error {
	var pair []any
	if err := jsoniter.ConfigCompatibleWithStandardLibrary.Unmarshal(b, &pair); err != nil {
		return err
	}
	if len(pair) != 2 {
		return fmt.Errorf("cannot read the sample %s", b)
	}
	at, isNumber := pair[0].(float64)
	text, isText := pair[1].(string)
	f, err := strconv.ParseFloat(text, 64)
	if !isNumber || !isText || math.Abs(at) > maxSeconds || err != nil && !math.IsInf(f, 0) {
		return fmt.Errorf("cannot read the sample %s", b)
	}
	v.t, v.f, v.read = int64(math.Round(at*1000)), f, true
	return nil
}

// maxSeconds bounds times, in seconds from 1970 both ways: their milliseconds fit in an int64.
const maxSeconds = 1 << 41

func fromMillis(t int64) time.Time { return time.UnixMilli(t).UTC() }
