// Package browser looks at our HTML pages as people's browsers do: it starts a headless Chromium and speaks the DevTools protocol
// with it over a pipe, so that no port is open. Tests load a page, run JavaScript in it and take pictures; what the page logs as an
// error, throws or asks the network for is kept.
package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"headroom.dev/headroom/lab/binaries"
	"headroom.dev/headroom/lab/progress"
)

// Package is Debian's, whose 58 MB are a browser without a window.
const Package = "chromium-headless-shell"

// ErrNotFound is for a machine without a browser; the message says how to get one.
var ErrNotFound = fmt.Errorf("no Chromium was found: install one (Debian: apt-get install %s), or let make test-browser fetch it into the cache", Package)

// Program is a browser, and what its environment must have beyond ours.
type Program struct {
	Path        string
	Environment []string
}

// Find returns the browser of this machine: the one that $CHROMIUM names, one in $PATH, or one that Fetch has fetched before.
func Find() (Program, error) {
	if path := os.Getenv("CHROMIUM"); path != "" {
		return Program{Path: path}, nil
	}
	for _, name := range []string{Package, "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return Program{Path: path}, nil
		}
	}
	dir, err := binaries.Cache("debian", Package)
	if err != nil {
		return Program{}, err
	}
	if _, err := os.Stat(filepath.Join(dir, "root", program)); err == nil {
		return Fetch(context.Background(), progress.New(os.Stderr)) // it is there
	}
	return Program{}, ErrNotFound
}

const program = "usr/lib/chromium/chromium-headless-shell"

// Fetch gets Debian's package with the libraries that this machine lacks into the user's cache; nothing is installed.
func Fetch(ctx context.Context, p *progress.Printer) (Program, error) {
	path, environment, err := binaries.DebianWithLibraries(ctx, Package, program, p)
	return Program{Path: path, Environment: environment}, err
}

// Browser is a Chromium that runs. It is not safe for concurrent use.
type Browser struct {
	cmd     *exec.Cmd
	in      *os.File
	answers <-chan message
	folder  string
	next    int
	session string
	events  []message
}

// message is one of the protocol's: an answer has an ID, an event a method.
type message struct {
	ID      int             `json:"id"`
	Method  string          `json:"method"`
	Session string          `json:"sessionId"`
	Params  json.RawMessage `json:"params"`
	Result  json.RawMessage `json:"result"`
	Error   *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// Start starts a browser with a profile of its own, and opens a tab. Close ends it.
func Start(ctx context.Context, program Program) (*Browser, error) {
	folder, err := os.MkdirTemp("", "headroom-browser-")
	if err != nil {
		return nil, fmt.Errorf("cannot start a browser: %w", err)
	}
	b := &Browser{folder: folder}
	if err := b.start(ctx, program); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start %s: %w", program.Path, err), b.Close())
	}
	return b, nil
}

func (b *Browser) start(ctx context.Context, program Program) error {
	theirs, ours, err := os.Pipe() // what we write
	if err != nil {
		return err
	}
	defer func() { _ = theirs.Close() }() // the child has its own
	b.in = ours
	out, answers, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = answers.Close() }()
	// --no-sandbox, because in containers and as root there is none to be had; the pages are our own.
	b.cmd = exec.CommandContext(ctx, program.Path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
		"--no-first-run", "--disable-background-networking", "--remote-debugging-pipe", "--user-data-dir="+b.folder, "about:blank")
	b.cmd.Env = append(os.Environ(), program.Environment...)
	b.cmd.ExtraFiles = []*os.File{theirs, answers} // 3 and 4, by the protocol
	if err := b.cmd.Start(); err != nil {
		b.cmd = nil
		return errors.Join(err, out.Close())
	}
	b.answers = receive(out)
	var tab struct {
		ID string `json:"targetId"`
	}
	if err := b.call(ctx, "Target.createTarget", map[string]any{"url": "about:blank"}, &tab); err != nil {
		return err
	}
	var attached struct {
		ID string `json:"sessionId"`
	}
	if err := b.call(ctx, "Target.attachToTarget", map[string]any{"targetId": tab.ID, "flatten": true}, &attached); err != nil {
		return err
	}
	b.session = attached.ID
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		if err := b.call(ctx, domain+".enable", nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// receive reads messages, which end in a zero byte, until the browser ends.
func receive(out *os.File) <-chan message {
	list := make(chan message, 64)
	go func() {
		defer close(list)
		defer func() { _ = out.Close() }()
		var rest []byte
		buffer := make([]byte, 1<<16)
		for {
			n, err := out.Read(buffer)
			rest = append(rest, buffer[:n]...)
			for {
				end := slices.Index(rest, 0)
				if end < 0 {
					break
				}
				var m message
				if json.Unmarshal(rest[:end], &m) == nil {
					list <- m
				}
				rest = append([]byte(nil), rest[end+1:]...)
			}
			if err != nil {
				return
			}
		}
	}()
	return list
}

// Close ends the browser and removes its profile.
func (b *Browser) Close() error {
	if b.cmd != nil {
		_ = b.cmd.Process.Kill() // it has nothing to lose
		for range b.answers {
			continue // its end closes them
		}
		_ = b.cmd.Wait()
	}
	if b.in != nil {
		_ = b.in.Close()
	}
	return os.RemoveAll(b.folder)
}

func (b *Browser) call(ctx context.Context, method string, params, into any) error {
	b.next++
	id := b.next
	if params == nil {
		params = struct{}{}
	}
	request := map[string]any{"id": id, "method": method, "params": params}
	if b.session != "" {
		request["sessionId"] = b.session
	}
	text, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if _, err := b.in.Write(append(text, 0)); err != nil {
		return fmt.Errorf("cannot ask the browser for %s: %w", method, err)
	}
	for {
		m, err := b.receive(ctx)
		if err != nil {
			return fmt.Errorf("cannot get the browser's answer to %s: %w", method, err)
		}
		switch {
		case m.ID != id:
			b.events = append(b.events, m)
		case m.Error != nil:
			return fmt.Errorf("the browser refuses %s: %s", method, m.Error.Message)
		case into == nil:
			return nil
		default:
			return json.Unmarshal(m.Result, into)
		}
	}
}

func (b *Browser) receive(ctx context.Context) (message, error) {
	select {
	case m, ok := <-b.answers:
		if !ok {
			return m, errors.New("the browser has ended")
		}
		return m, nil
	case <-ctx.Done():
		return message{}, ctx.Err()
	}
}

// View is how a page is looked at.
type View struct {
	Width, Height int
	Dark, Print   bool
	NoScript      bool
}

// Open loads a page and waits for it. What it did wrong before is forgotten.
func (b *Browser) Open(ctx context.Context, url string, v View) error {
	scheme, media := "light", "screen"
	if v.Dark {
		scheme = "dark"
	}
	if v.Print {
		media = "print"
	}
	for _, one := range []struct {
		method string
		params map[string]any
	}{
		{"Emulation.setDeviceMetricsOverride", map[string]any{"width": v.Width, "height": v.Height, "deviceScaleFactor": 1, "mobile": false}},
		{"Emulation.setEmulatedMedia", map[string]any{"media": media, "features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}},
		{"Emulation.setScriptExecutionDisabled", map[string]any{"value": v.NoScript}},
	} {
		if err := b.call(ctx, one.method, one.params, nil); err != nil {
			return err
		}
	}
	b.events = nil
	var answer struct {
		Error string `json:"errorText"`
	}
	if err := b.call(ctx, "Page.navigate", map[string]any{"url": url}, &answer); err != nil {
		return err
	}
	if answer.Error != "" {
		return fmt.Errorf("cannot open %s: %s", url, answer.Error)
	}
	for !slices.ContainsFunc(b.events, func(m message) bool { return m.Method == "Page.loadEventFired" }) {
		m, err := b.receive(ctx)
		if err != nil {
			return fmt.Errorf("cannot open %s: %w", url, err)
		}
		b.events = append(b.events, m)
	}
	return nil
}

// Evaluate runs JavaScript in the page and reads its value.
func (b *Browser) Evaluate(ctx context.Context, script string, into any) error {
	var answer struct {
		Result struct {
			Value json.RawMessage `json:"value"`
		} `json:"result"`
		Exception *struct {
			Text      string `json:"text"`
			Exception struct {
				Description string `json:"description"`
			} `json:"exception"`
		} `json:"exceptionDetails"`
	}
	if err := b.call(ctx, "Runtime.evaluate", map[string]any{"expression": script, "returnByValue": true, "awaitPromise": true}, &answer); err != nil {
		return err
	}
	if e := answer.Exception; e != nil {
		return fmt.Errorf("the script failed: %s %s", e.Text, e.Exception.Description)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer.Result.Value, into)
}

// Screenshot is a picture of the page, PNG; of all of it, however long.
func (b *Browser) Screenshot(ctx context.Context) ([]byte, error) {
	var answer struct {
		Data []byte `json:"data"` // base64, as encoding/json reads bytes
	}
	err := b.call(ctx, "Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &answer)
	return answer.Data, err
}

// Complaints is what the page did wrong since Open: exceptions, errors and warnings that were logged, refused by its own policy among them.
func (b *Browser) Complaints() []string {
	var list []string
	for _, m := range b.events {
		switch m.Method {
		case "Runtime.exceptionThrown":
			list = append(list, "exception: "+string(m.Params))
		case "Log.entryAdded", "Runtime.consoleAPICalled":
			if text := string(m.Params); strings.Contains(text, `"level":"error"`) || strings.Contains(text, `"level":"warning"`) || strings.Contains(text, `"type":"error"`) || strings.Contains(text, `"type":"warning"`) {
				list = append(list, text)
			}
		}
	}
	return list
}

// Requests are the addresses that the page asked for since Open, its own among them.
func (b *Browser) Requests() []string {
	var list []string
	for _, m := range b.events {
		var p struct {
			Request struct {
				URL string `json:"url"`
			} `json:"request"`
		}
		if m.Method == "Network.requestWillBeSent" && json.Unmarshal(m.Params, &p) == nil {
			list = append(list, p.Request.URL)
		}
	}
	return list
}

// Patience bounds what a test waits for the browser.
const Patience = time.Minute
