package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
)

const (
	podsPath   = "/api/v1/pods"
	nodesPath  = "/api/v1/nodes"
	slicesPath = "/apis/resource.k8s.io/v1/resourceslices"

	// within is for what takes milliseconds, on a machine that is busy.
	within, every = 30 * time.Second, 2 * time.Millisecond
)

// apiServer lists, watches and reviews over HTTP, with JSON of the real types. It lives on one address, where it may be away.
type apiServer struct {
	t    *testing.T
	addr string

	mu       sync.Mutex
	server   *http.Server
	objects  map[string]map[string]json.RawMessage // by path and name
	history  []event
	faults   map[string]int // status by path and verb, "/api/v1/pods watch", or by path alone; -1 cuts the connection
	oldest   int            // watches that begin earlier are answered with 410
	noLists  bool           // whether a watch may not begin with all objects, as before 1.34
	changed  chan struct{}  // closed at each change
	cut      chan struct{}  // closed to end the watches
	asked    map[string]int // requests by path and verb
	selected map[string]string

	review func(path string, body map[string]any) (status map[string]any, code int)
}

type event struct {
	version    int
	path, kind string
	object     json.RawMessage
}

func newAPIServer(t *testing.T) *apiServer {
	t.Helper()
	s := &apiServer{
		t: t, objects: map[string]map[string]json.RawMessage{podsPath: {}, nodesPath: {}, slicesPath: {}},
		faults: map[string]int{}, asked: map[string]int{}, selected: map[string]string{},
		changed: make(chan struct{}), cut: make(chan struct{}),
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.addr = l.Addr().String()
	s.serve(l)
	t.Cleanup(s.stop)
	return s
}

func (s *apiServer) serve(l net.Listener) {
	server := &http.Server{Handler: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.server = server
	go func() { _ = server.Serve(l) }()
}

func (s *apiServer) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.server.Close()
}

func (s *apiServer) start() {
	s.t.Helper()
	var l net.Listener
	require.Eventually(s.t, func() (ok bool) {
		var err error
		l, err = new(net.ListenConfig).Listen(context.Background(), "tcp", s.addr)
		return err == nil
	}, within, every)
	s.serve(l)
}

func (s *apiServer) config() *rest.Config { return &rest.Config{Host: "http://" + s.addr} }

// with changes the server, and ends the watches if end is set.
func (s *apiServer) with(end bool, change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	if end {
		close(s.cut)
		s.cut = make(chan struct{})
	}
}

func (s *apiServer) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[what]
}

// put creates or changes an object.
func (s *apiServer) put(path string, obj runtime.Object) { s.change(path, "", obj) }

func (s *apiServer) remove(path string, obj runtime.Object) { s.change(path, "DELETED", obj) }

func (s *apiServer) change(path, kind string, obj runtime.Object) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	version := len(s.history) + 1
	m := obj.(metav1.Object)
	m.SetResourceVersion(strconv.Itoa(version))
	group, name := kindOf(path)
	obj.GetObjectKind().SetGroupVersionKind(schema.FromAPIVersionAndKind(group, name))
	data, err := json.Marshal(obj)
	require.NoError(s.t, err)
	key := m.GetNamespace() + "/" + m.GetName()
	_, existed := s.objects[path][key]
	switch {
	case kind == "DELETED":
		delete(s.objects[path], key)
	case existed:
		kind = "MODIFIED"
	default:
		kind = "ADDED"
	}
	if kind != "DELETED" {
		s.objects[path] = maps.Clone(s.objects[path])
		s.objects[path][key] = data
	}
	s.history = append(s.history, event{version: version, path: path, kind: kind, object: data})
	close(s.changed)
	s.changed = make(chan struct{})
}

func kindOf(path string) (apiVersion, kind string) {
	switch path {
	case podsPath:
		return "v1", "Pod"
	case nodesPath:
		return "v1", "Node"
	}
	return "resource.k8s.io/v1", "ResourceSlice"
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	verb := "list"
	switch {
	case r.Method == http.MethodPost:
		verb = "create"
	case q.Get("watch") != "":
		verb = "watch"
	}
	s.mu.Lock()
	s.asked[r.URL.Path]++
	s.asked[r.URL.Path+" "+verb]++
	s.selected[r.URL.Path] = q.Get("fieldSelector")
	fault, ok := s.faults[r.URL.Path]
	if !ok {
		fault = s.faults[r.URL.Path+" "+verb]
	}
	oldest, noLists := s.oldest, s.noLists
	s.mu.Unlock()
	from, _ := strconv.Atoi(q.Get("resourceVersion"))
	switch {
	case fault == -1:
		panic(http.ErrAbortHandler)
	case fault != 0:
		fail(w, fault)
	case verb == "create":
		s.create(w, r)
	case verb == "list":
		s.list(w, r.URL.Path)
	case q.Get("sendInitialEvents") == "true" && noLists:
		fail(w, http.StatusUnprocessableEntity)
	case q.Get("sendInitialEvents") == "true":
		s.watch(w, r, -1)
	case from < oldest && noLists:
		fail(w, http.StatusGone)
	case from < oldest: // the API server may say it so, too
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410}}`+"\n")
	default:
		s.watch(w, r, from)
	}
}

func fail(w http.ResponseWriter, code int) {
	reason := map[int]metav1.StatusReason{
		http.StatusForbidden: metav1.StatusReasonForbidden, http.StatusNotFound: metav1.StatusReasonNotFound,
		http.StatusGone: metav1.StatusReasonExpired, http.StatusUnprocessableEntity: metav1.StatusReasonInvalid,
		http.StatusServiceUnavailable: metav1.StatusReasonServiceUnavailable, http.StatusTooManyRequests: metav1.StatusReasonTooManyRequests,
	}[code]
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure, Code: int32(code), Reason: reason, Message: "it said " + strconv.Itoa(code),
	})
}

func (s *apiServer) list(w http.ResponseWriter, path string) {
	s.mu.Lock()
	items, version := s.objects[path], len(s.history)
	body := map[string]any{"metadata": map[string]string{"resourceVersion": strconv.Itoa(max(1, version))}}
	apiVersion, kind := kindOf(path)
	list := []json.RawMessage{}
	for _, item := range items {
		list = append(list, item)
	}
	s.mu.Unlock()
	body["apiVersion"], body["kind"], body["items"] = apiVersion, kind+"List", list
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body)
}

// watch sends what comes after from, or everything that there is first where from is negative.
func (s *apiServer) watch(w http.ResponseWriter, r *http.Request, from int) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	send := func(kind string, object any) {
		data, _ := json.Marshal(map[string]any{"type": kind, "object": object})
		_, _ = w.Write(append(data, '\n'))
	}
	s.mu.Lock()
	cut := s.cut
	if from < 0 {
		from = len(s.history)
		for _, o := range s.objects[r.URL.Path] {
			send("ADDED", o)
		}
		apiVersion, kind := kindOf(r.URL.Path)
		send("BOOKMARK", map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{
			"resourceVersion": strconv.Itoa(max(1, from)), "annotations": map[string]string{metav1.InitialEventsAnnotationKey: "true"},
		}})
	}
	s.mu.Unlock()
	for {
		s.mu.Lock()
		for _, e := range s.history[min(from, len(s.history)):] {
			if e.path == r.URL.Path {
				send(e.kind, e.object)
			}
		}
		from = len(s.history)
		changed := s.changed
		s.mu.Unlock()
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-cut:
			return
		case <-changed:
		}
	}
}

func (s *apiServer) create(w http.ResponseWriter, r *http.Request) {
	var body map[string]any
	data, _ := io.ReadAll(r.Body)
	if err := json.Unmarshal(data, &body); err != nil {
		fail(w, http.StatusBadRequest)
		return
	}
	status, code := s.review(r.URL.Path, body)
	if code >= 400 {
		fail(w, code)
		return
	}
	body["status"] = status
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(body)
}

// running is a Node that watches until the test ends.
type running struct {
	*Node
	log  safeBuffer
	stop func()
}

func (s *apiServer) run() *running {
	s.t.Helper()
	r := &running{}
	node, err := New(Options{Config: s.config(), Node: "node-1", Log: slog.New(slog.NewTextHandler(&r.log, nil))})
	require.NoError(s.t, err)
	for _, w := range node.watches {
		w.first, w.longest = 5*time.Millisecond, 20*time.Millisecond
	}
	r.Node = node
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		node.Run(ctx)
	}()
	r.stop = func() {
		cancel()
		select {
		case <-done:
		case <-time.After(within):
			assert.Fail(s.t, "Run does not return")
		}
	}
	s.t.Cleanup(r.stop)
	return r
}

// eventually waits for a condition.
func eventually(t *testing.T, condition func() bool, message ...any) {
	t.Helper()
	require.Eventually(t, condition, within, every, message...)
}

// works waits until all watches work.
func (r *running) works(t *testing.T) {
	t.Helper()
	eventually(t, func() bool { return len(r.Problems()) == 0 }, "%v", fmt.Sprint(r.Problems()))
}

type safeBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) count(text string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.b.String(), text)
}
