package scrape

import (
	"math"
	"strconv"

	"github.com/prometheus/prometheus/model/value"
)

// number reads the value that begins b and ends before the next line break, and returns how long it is. It knows what
// exporters write: decimals, NaN and infinities; ok is false for all else, be it wrong or only unusual (hexadecimal, a
// timestamp behind). What it accepts, strconv.ParseFloat accepts with the same result, NaN being Prometheus' normal one.
func number(b []byte) (v float64, size int, ok bool) {
	d, i := scan(b)
	if d.digits == 0 {
		return special(b)
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		e, n := power(b[i+1:])
		if n == 0 {
			return 0, 0, false
		}
		d.exponent += e
		i += 1 + n
	}
	if i == len(b) || b[i] != '\n' {
		return 0, 0, false
	}
	if v, ok = d.float(); ok {
		return v, i, true
	}
	v, err := strconv.ParseFloat(string(b[:i]), 64)
	return v, i, err == nil
}

// decimal is mantissa * 10^exponent.
type decimal struct {
	mantissa uint64 // of no use with more than 19 digits
	exponent int
	digits   int
	negative bool
}

// scan reads a decimal without an exponent, and returns how long it is.
func scan(b []byte) (d decimal, i int) {
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		d.negative = b[0] == '-'
		i++
	}
	first := i
	for ; i < len(b) && isDigit(b[i]); i++ {
		d.mantissa = d.mantissa*10 + uint64(b[i]-'0')
	}
	d.digits = i - first
	if i < len(b) && b[i] == '.' {
		i++
		first = i
		for ; i < len(b) && isDigit(b[i]); i++ {
			d.mantissa = d.mantissa*10 + uint64(b[i]-'0')
		}
		d.exponent = first - i
		d.digits += i - first
	}
	return d, i
}

// float returns the value where one operation on two exact numbers gives it, and so rounds as the standard demands.
func (d *decimal) float() (v float64, ok bool) {
	if d.digits > 19 || d.mantissa > 1<<53 || d.exponent < -maxExact || d.exponent > maxExact {
		return 0, false
	}
	v = float64(d.mantissa)
	if d.exponent < 0 {
		v /= math.Pow10(-d.exponent)
	} else {
		v *= math.Pow10(d.exponent)
	}
	if d.negative {
		v = -v
	}
	return v, true
}

// maxExact is the exponent of the greatest power of ten that is a float64 exactly.
const maxExact = 22

func isDigit(c byte) bool { return c-'0' <= 9 }

// power reads what follows the e; size is 0 if that is no number of at most four digits.
func power(b []byte) (e, size int) {
	i := 0
	if i < len(b) && (b[i] == '-' || b[i] == '+') {
		i++
	}
	first := i
	for ; i < len(b) && isDigit(b[i]); i++ {
		if i-first == 4 {
			return 0, 0
		}
		e = e*10 + int(b[i]-'0')
	}
	if i == first {
		return 0, 0
	}
	if b[0] == '-' {
		e = -e
	}
	return e, i
}

// special reads the values without digits, in the spelling that the formats prescribe.
func special(b []byte) (v float64, size int, ok bool) {
	at := func(s string) bool { return len(b) > len(s) && string(b[:len(s)]) == s && b[len(s)] == '\n' }
	switch {
	case at("NaN"):
		return math.Float64frombits(value.NormalNaN), 3, true
	case at("+Inf"):
		return math.Inf(1), 4, true
	case at("-Inf"):
		return math.Inf(-1), 4, true
	}
	return 0, 0, false
}
