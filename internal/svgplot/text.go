package svgplot

import (
	"math"
	"strconv"
	"strings"
)

// None stands for what is not known.
const None = "-"

// Thousands writes a whole number with separators.
func Thousands(v float64) string {
	text := strconv.FormatFloat(math.Round(v), 'f', 0, 64)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// Duration writes seconds as people say them: to two units.
func Duration(seconds float64) string {
	if math.IsNaN(seconds) || math.IsInf(seconds, 0) {
		return None
	}
	if seconds < 60 {
		return strconv.FormatFloat(seconds, 'g', 4, 64) + "s"
	}
	units := []struct {
		name string
		size int
	}{{"d", 86400}, {"h", 3600}, {"m", 60}, {"s", 1}}
	left := int(math.Round(seconds))
	var parts []string
	for _, u := range units {
		n := left / u.size
		left %= u.size
		if n > 0 {
			parts = append(parts, strconv.Itoa(n)+u.name)
		}
		if len(parts) > 0 && (len(parts) == 2 || n == 0) {
			break
		}
	}
	return strings.Join(parts, " ")
}
