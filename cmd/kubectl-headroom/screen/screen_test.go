package screen

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"headroom.dev/headroom/api/v1alpha1"
)

var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// TestScreens writes policies as a person sees them. A policy is set by "policy", in YAML, and written by the commands after it.
func TestScreens(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var p v1alpha1.RolloutPolicy
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			width := 0
			d.MaybeScanArgs(t, "width", &width)
			var out string
			switch d.Cmd {
			case "policy": // replaces the policy
				p = v1alpha1.RolloutPolicy{}
				read(t, d.Input, &p)
				return ""
			case "change": // of some of its fields
				read(t, d.Input, &p)
				return ""
			case "status":
				out = Status(&p, noon, width)
			case "line":
				out = Line(&p) + "\n"
			case "list": // of the policy
				out = List([]v1alpha1.RolloutPolicy{p}, noon, width, d.HasArg("namespaces"), d.HasArg("wide"))
			case "history":
				out = HistoryTable(History(&p), noon, width)
			case "details":
				out = HistoryDetails(History(&p), History(&p), noon, width)
			case "end": // of the update; generation is the workload's
				generation := int64(0)
				d.MaybeScanArgs(t, "generation", &generation)
				return fmt.Sprintf("%+v\n", EndOf(&p, generation))
			case "planned":
				var a Planned
				read(t, d.Input, &a)
				out = a.Text(width)
			case "advice":
				var a Advice
				read(t, d.Input, &a)
				out = a.Text(width)
			default:
				t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
			}
			for line := range strings.Lines(out) {
				assert.Equal(t, strings.TrimRight(line, " \n")+"\n", line, "no blanks at the end")
				if width > 0 && d.Cmd != "list" { // which has all its columns on any terminal
					assert.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), width, "%s: %s", d.Pos, line)
				}
			}
			return out
		})
	})
}

// read is strict: a field that is not there would test nothing.
func read(t *testing.T, text string, into any) {
	t.Helper()
	require.NoError(t, yaml.UnmarshalStrict([]byte(text), into))
	_, err := json.Marshal(into)
	require.NoError(t, err)
}

// terminal plays one of a size: what is written to it stands in lines, and a line that is too long is broken, as terminals do.
type terminal struct {
	width, height int
	lines         []string // the newest height are seen
	row, column   int
}

func (s *terminal) write(t *testing.T, text string) {
	t.Helper()
	for text != "" {
		r, n := utf8.DecodeRuneInString(text)
		switch {
		case strings.HasPrefix(text, "\x1b["):
			end := strings.IndexAny(text, "AKJ")
			require.Positive(t, end)
			s.escape(t, text[2:end], text[end])
			n = end + 1
		case r == '\r':
			s.column = 0
		case r == '\n':
			s.down()
		default:
			if s.column == s.width {
				s.down()
				s.column = 0
			}
			s.put(r)
		}
		text = text[n:]
	}
}

func (s *terminal) down() {
	if s.row++; s.row >= len(s.lines) {
		s.lines = append(s.lines, "")
	}
}

func (s *terminal) put(r rune) {
	line := []rune(s.lines[s.row])
	for len(line) <= s.column {
		line = append(line, ' ')
	}
	line[s.column] = r
	s.lines[s.row] = string(line)
	s.column++
}

func (s *terminal) escape(t *testing.T, number string, what byte) {
	t.Helper()
	switch what {
	case 'A':
		n := 0
		_, err := fmt.Sscanf(number, "%d", &n)
		require.NoError(t, err)
		top := max(0, len(s.lines)-s.height) // nothing above the screen can be reached
		s.row = max(top, s.row-n)
	case 'K':
		s.lines[s.row] = string([]rune(s.lines[s.row])[:min(s.column, utf8.RuneCountInString(s.lines[s.row]))])
	case 'J':
		s.lines = s.lines[:s.row+1]
		s.lines[s.row] = string([]rune(s.lines[s.row])[:min(s.column, utf8.RuneCountInString(s.lines[s.row]))])
	}
}

func TestRedraw(t *testing.T) {
	t.Parallel()
	s := &terminal{width: 20, height: 6, lines: []string{"$ watch"}}
	s.down() // what was there before stays
	shown := 0
	show := func(text string, want ...string) {
		t.Helper()
		var out string
		out, shown = Redraw(shown, text, s.width, s.height)
		s.write(t, out)
		assert.Equal(t, append([]string{"$ watch"}, append(want, "")...), s.lines)
	}
	show("one\ntwo\n", "one", "two")
	show("eins\nzwei\ndrei\n", "eins", "zwei", "drei")
	show("ab\n", "ab")
	show("", "")
	show("a line that is wider than the terminal\nb\n", "a line that is wide…", "b")
	show("äöü äöü äöü äöü äöü äöü\n", "äöü äöü äöü äöü äöü…")
	show("1\n2\n3\n4\n5\n6\n7\n", "1", "2", "3", "4", "… 3 more lines")
	show("1\n2\n", "1", "2")
	_, lines := Redraw(0, strings.Repeat("x\n", 100), 0, 0)
	assert.Equal(t, 23, lines, "a terminal that does not tell its size has 24 lines")
}

func TestWrap(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []string{"a bb", "ccc d"}, wrap("a bb ccc d", 5))
	assert.Equal(t, []string{"averylongword", "b"}, wrap(" averylongword  b ", 5))
	assert.Equal(t, []string{""}, wrap("", 5))
	p := &page{width: 30}
	p.table([][]string{{"A", "B", "C"}, {"1", "-", "a\x1b[2Jb\nc"}})
	assert.Equal(t, "A  C\n1  a [2Jb c\n", p.String(), "empty columns are left out, and nobody's message moves the cursor")
}
