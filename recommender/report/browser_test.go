package report

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"headroom.dev/headroom/lab/browser"
	"headroom.dev/headroom/lab/progress"
)

// open starts a browser, or skips where there is none; make test-browser fetches one.
func open(t *testing.T) (context.Context, *browser.Browser) {
	t.Helper()
	program, err := browser.Find()
	if os.Getenv("HEADROOM_TEST_BROWSER") != "" && errors.Is(err, browser.ErrNotFound) {
		program, err = browser.Fetch(t.Context(), progress.New(os.Stderr))
	}
	if errors.Is(err, browser.ErrNotFound) {
		t.Skip(err)
	}
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), browser.Patience)
	t.Cleanup(cancel)
	b, err := browser.Start(ctx, program)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, b.Close()) })
	return ctx, b
}

func written(t *testing.T, r *Report) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "page.html")
	f, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, r.WriteHTML(f))
	require.NoError(t, f.Close())
	return (&url.URL{Scheme: "file", Path: path}).String()
}

// picture keeps a screenshot in the folder that $HEADROOM_SCREENSHOTS names, for those who want to see.
func picture(ctx context.Context, t *testing.T, b *browser.Browser, name string) {
	t.Helper()
	image, err := b.Screenshot(ctx)
	require.NoError(t, err)
	assert.Greater(t, len(image), 10_000, "a page that is not empty")
	if dir := os.Getenv("HEADROOM_SCREENSHOTS"); dir != "" {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name+".png"), image, 0o644))
	}
}

// look is what is measured of a page.
type look struct {
	Scroll, Client int
	Rows, Hidden   int
	Plots          int
	Smallest       float64 // of the plots, in either direction
	Background     string
	Form           bool
	Ran            bool
}

const measure = `(() => {
  const plots = Array.from(document.querySelectorAll("figure svg")).map(s => s.getBoundingClientRect());
  const rows = Array.from(document.querySelectorAll("#table tbody tr"));
  return {
    scroll: document.documentElement.scrollWidth, client: document.documentElement.clientWidth,
    rows: rows.length, hidden: rows.filter(r => r.getBoundingClientRect().height === 0).length,
    plots: plots.length, smallest: plots.reduce((a, r) => Math.min(a, r.width, r.height), 1e9),
    background: getComputedStyle(document.body).backgroundColor, form: !document.getElementById("filter").hidden,
    ran: window.ran === true,
  };
})()`

// TestBrowser loads the page in a real browser: light and dark, wide and narrow, on paper, and without its script.
func TestBrowser(t *testing.T) {
	ctx, b := open(t)
	r := sample(1)
	r.Prices = &Prices{Currency: "EUR", CPU: new(0.03), Memory: new(0.004), GPU: map[string]float64{"H200": 3.5}}
	r.Finish()
	address := written(t, r)
	for _, v := range []browser.View{
		{Width: 1280, Height: 900}, {Width: 1280, Height: 900, Dark: true}, {Width: 400, Height: 800}, {Width: 400, Height: 800, Dark: true},
		{Width: 1280, Height: 900, NoScript: true}, {Width: 1060, Height: 750, Print: true},
	} {
		name := fmt.Sprintf("%dpx-dark=%t-print=%t-noscript=%t", v.Width, v.Dark, v.Print, v.NoScript)
		t.Run(name, func(t *testing.T) {
			require.NoError(t, b.Open(ctx, address, v))
			var seen look
			require.NoError(t, b.Evaluate(ctx, measure, &seen))
			assert.LessOrEqual(t, seen.Scroll, seen.Client, "the page overflows to the side")
			assert.Equal(t, len(r.lines()), seen.Rows)
			assert.Zero(t, seen.Hidden)
			assert.Equal(t, 10, seen.Plots)
			assert.Greater(t, seen.Smallest, 100.0)
			assert.Equal(t, map[bool]string{false: "rgb(255, 255, 255)", true: "rgb(20, 24, 28)"}[v.Dark], seen.Background)
			assert.Equal(t, !v.NoScript, seen.Form, "the filter is of use with the script alone")
			assert.False(t, seen.Ran, "a name became a script")
			assert.Empty(t, b.Complaints())
			assert.Equal(t, []string{address}, b.Requests(), "the page needs nothing else")
			picture(ctx, t, b, name)
		})
	}
}
