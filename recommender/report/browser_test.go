package report

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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
	how := os.Getenv("HEADROOM_TEST_BROWSER") // fetch: if it can be had; require
	if how != "" && errors.Is(err, browser.ErrNotFound) {
		if program, err = browser.Fetch(t.Context(), progress.New(os.Stderr)); err != nil && how != "require" {
			t.Skipf("no Chromium, and it could not be fetched: %v", err)
		}
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
		{Width: 1280, Height: 900},
		{Width: 1280, Height: 900, Dark: true},
		{Width: 400, Height: 800},
		{Width: 400, Height: 800, Dark: true},
		{Width: 1280, Height: 900, NoScript: true},
		{Width: 1060, Height: 750, Print: true},
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

// cellsOf reads a column of the table as it stands.
func cellsOf(ctx context.Context, t *testing.T, b *browser.Browser, head string) (cells []string, sorted string) {
	t.Helper()
	var seen struct {
		Cells  []string
		Sorted string
	}
	require.NoError(t, b.Evaluate(ctx, fmt.Sprintf(`(() => {
  const heads = Array.from(document.querySelectorAll("#table thead th"));
  const i = heads.findIndex(h => h.textContent === %q);
  return {
    cells: Array.from(document.querySelectorAll("#table tbody tr")).filter(r => !r.hidden).map(r => r.cells[i].dataset.v ?? r.cells[i].textContent),
    sorted: heads[i].getAttribute("aria-sort") ?? "",
  };
})()`, head), &seen))
	return seen.Cells, seen.Sorted
}

func click(ctx context.Context, t *testing.T, b *browser.Browser, head string) {
	t.Helper()
	require.NoError(t, b.Evaluate(ctx, fmt.Sprintf(
		`Array.from(document.querySelectorAll("#table thead th button")).find(h => h.textContent === %q).click()`, head), nil))
}

// TestBrowserSorts clicks on headings: numbers sort by value, most first, what is not known comes last in either direction.
func TestBrowserSorts(t *testing.T) {
	ctx, b := open(t)
	r := sample(1)
	r.Finish()
	require.NoError(t, b.Open(ctx, written(t, r), browser.View{Width: 1280, Height: 900}))
	before, sorted := cellsOf(ctx, t, b, "Now")
	assert.Empty(t, sorted)
	numbers := func(cells []string) (list []float64, unknown int) {
		for _, cell := range cells {
			v, err := strconv.ParseFloat(cell, 64)
			if err != nil {
				unknown++
				continue
			}
			assert.Zero(t, unknown, "what is not known comes last: %v", cells)
			list = append(list, v)
		}
		return list, unknown
	}
	for _, down := range []bool{true, false, true} {
		click(ctx, t, b, "Now")
		after, sorted := cellsOf(ctx, t, b, "Now")
		assert.ElementsMatch(t, before, after, "no row is lost")
		assert.Equal(t, map[bool]string{true: "descending", false: "ascending"}[down], sorted)
		list, unknown := numbers(after)
		assert.Equal(t, 2, unknown)
		if down {
			slices.Reverse(list)
		}
		assert.True(t, slices.IsSorted(list), "%v", after)
	}
	click(ctx, t, b, "Workload")
	names, sorted := cellsOf(ctx, t, b, "Workload")
	assert.Equal(t, "ascending", sorted)
	assert.Equal(t, "cronjob/report", names[0])
	_, sorted = cellsOf(ctx, t, b, "Now")
	assert.Empty(t, sorted, "one column says that it is sorted")

	require.NoError(t, b.Evaluate(ctx, `(() => {
  const find = document.getElementById("find");
  find.value = "DB memory";
  find.dispatchEvent(new Event("input", { bubbles: true }));
})()`, nil))
	names, _ = cellsOf(ctx, t, b, "Workload")
	assert.Equal(t, []string{"statefulset/store"}, names)
	var shown string
	require.NoError(t, b.Evaluate(ctx, `(() => {
  const find = document.getElementById("find"), verdict = document.getElementById("verdict");
  find.value = ""; verdict.value = "risk";
  verdict.dispatchEvent(new Event("input", { bubbles: true }));
  return document.getElementById("shown").textContent;
})()`, &shown))
	assert.Equal(t, "4 of 12 rows", shown)
	assert.Empty(t, b.Complaints())
}

// TestBrowserLarge: with 2,000 containers the page loads, sorts and filters within what a person waits for.
func TestBrowserLarge(t *testing.T) {
	ctx, b := open(t)
	require.NoError(t, b.Open(ctx, written(t, many(2000)), browser.View{Width: 1280, Height: 900}))
	var took struct{ Sort, Filter float64 }
	require.NoError(t, b.Evaluate(ctx, `(() => {
  const time = work => { const from = performance.now(); work(); document.body.offsetHeight; return performance.now() - from; };
  return {
    sort: time(() => document.querySelector("#table thead th:nth-child(5) button").click()),
    filter: time(() => { const f = document.getElementById("find"); f.value = "service-0017"; f.dispatchEvent(new Event("input", { bubbles: true })); }),
  };
})()`, &took))
	t.Logf("4,000 rows: sorted in %.0f ms, filtered in %.0f ms, laid out included", took.Sort, took.Filter)
	assert.Less(t, took.Sort, 10_000.0)
	assert.Less(t, took.Filter, 10_000.0)
	cells, _ := cellsOf(ctx, t, b, "Workload")
	assert.Equal(t, []string{"deployment/service-0017", "deployment/service-0017"}, cells)
	assert.Empty(t, b.Complaints())
}
