package report

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	"headroom.dev/headroom/internal/svgplot"
)

const none = svgplot.None

// amount writes a value of a resource for people, as quantities are written.
func amount(resource string, v *float64) string {
	if v == nil {
		return none
	}
	if resource == CPU {
		return cores(*v)
	}
	return size(*v)
}

// cores writes 250m, 1.25, 16.
func cores(v float64) string {
	if milli := math.Round(math.Abs(v) * 1000); milli < 1000 {
		if milli == 0 {
			return "0"
		}
		return strconv.FormatFloat(math.Copysign(milli, v), 'f', -1, 64) + "m"
	}
	return digits(v)
}

// size writes 512Mi, 1.5Gi: to three digits.
func size(v float64) string {
	suffixes := []string{"", "Ki", "Mi", "Gi", "Ti", "Pi"}
	i := 0
	for math.Abs(v) >= 1023.5 && i < len(suffixes)-1 {
		v /= 1024
		i++
	}
	return digits(v) + suffixes[i]
}

// digits writes a number to three digits, and the whole of a larger one, with separators.
func digits(v float64) string {
	decimals := 0
	switch a := math.Abs(v); {
	case a < 9.995:
		decimals = 2
	case a < 99.95:
		decimals = 1
	}
	text := svgplot.Thousands(v)
	if decimals > 0 {
		text = strconv.FormatFloat(v, 'f', decimals, 64)
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	if text == "-0" {
		return "0"
	}
	return text
}

// money writes a sum for a month: whole above a hundred, else with cents. The sign stands before the currency.
func (p *Prices) money(v *float64) string {
	if p == nil || v == nil {
		return none
	}
	text := svgplot.Thousands(math.Abs(*v))
	if math.Abs(*v) < 99.995 {
		text = strconv.FormatFloat(math.Abs(*v), 'f', 2, 64)
	}
	sign := ""
	if *v < 0 && strings.Trim(text, "0.") != "" {
		sign = "-"
	}
	currency := clean(p.Currency)
	if last := []rune(currency); len(last) > 0 && unicode.IsLetter(last[len(last)-1]) {
		currency += " "
	}
	return sign + currency + text
}

// percent writes a percentage so that little is not nothing: <0.01%.
func percent(v float64) string {
	switch {
	case v > 0 && v < 0.01:
		return "<0.01%"
	case v < 100 && v > 99.99:
		return ">99.99%"
	case v < 1:
		return strconv.FormatFloat(math.Round(v*100)/100, 'f', -1, 64) + "%"
	}
	return digits(v) + "%"
}

func when(t *time.Time) string {
	if t == nil {
		return none
	}
	return t.UTC().Format("2006-01-02 15:04")
}

// clean keeps what a terminal would act upon from reaching it, and a cell on one line.
func clean(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return '\uFFFD'
		}
		return r
	}, text)
}

func count(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return svgplot.Thousands(float64(n)) + " " + more
}

func dash(text string) string {
	if text == "" {
		return none
	}
	return text
}
