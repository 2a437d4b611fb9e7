package explain

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// exact writes a number to the thousandth, which is what the API carries.
func exact(v float64) string {
	text := strconv.FormatFloat(v, 'f', 3, 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	if text == "-0" {
		return "0"
	}
	return text
}

// number writes a ratio, to five digits.
func number(v float64) string { return strconv.FormatFloat(v, 'g', 5, 64) }

// factor writes a ratio as such.
func factor(v float64) string { return "×" + number(v) }

// WithUnit writes a number with the unit of its rule.
func WithUnit(v float64, unit string) string {
	switch unit {
	case "1/s":
		return exact(v) + "/s"
	case "ms":
		return exact(v) + "ms"
	case "percent":
		return exact(v) + "%"
	case "bytes":
		return Bytes(v)
	}
	return exact(v)
}

// Bytes writes a size as quantities are written, to three digits.
func Bytes(v float64) string {
	const kibi = 1024
	suffixes := []string{"", "Ki", "Mi", "Gi", "Ti", "Pi"}
	i := 0
	for ; (v >= kibi || v <= -kibi) && i < len(suffixes)-1; i++ {
		v /= kibi
	}
	return Short(v) + suffixes[i]
}

// Short writes a number to three digits, and the whole of a larger one.
func Short(v float64) string {
	size := v
	if size < 0 {
		size = -size
	}
	decimals := 0
	switch {
	case size == 0:
	case size < 1:
		decimals = 3
	case size < 9.995:
		decimals = 2
	case size < 99.95:
		decimals = 1
	}
	text := strconv.FormatFloat(v, 'f', decimals, 64)
	if decimals > 0 {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}

// Age writes seconds: to the tenth below 10 s, where tenths matter, and as kubectl writes ages above.
func Age(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if d < 10*time.Second {
		return exact(d.Round(100*time.Millisecond).Seconds()) + "s"
	}
	return short(d)
}

func short(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Second && d > 0:
		return d.Round(time.Microsecond * 10).String()
	case d < 10*time.Minute:
		return strconv.FormatFloat(d.Round(time.Second).Seconds(), 'f', 0, 64) + "s"
	case d < 3*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/day)
}

// count writes "1 pod", "2 pods".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if what == "series" {
		return fmt.Sprintf("%d series", n)
	}
	return fmt.Sprintf("%d %ss", n, what)
}
