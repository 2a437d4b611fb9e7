package scrape

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// scrapeTarget scrapes once with the target's settings.
func scrapeTarget(t *testing.T, target Target) (Status, *sink) {
	t.Helper()
	s := newSink(t)
	m := NewManager(s, Options{Interval: time.Hour, Timeout: 5 * time.Second})
	t.Cleanup(m.Close)
	m.Add(target)
	return finished(t, m, target), s
}

func TestAuthorization(t *testing.T) {
	var got atomic.Value
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got.Store(r.Header.Get("Authorization")) }))
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte("from-file\n"), 0o600))
	f := func(auth Auth, want string) {
		t.Helper()
		target := targetOf("a", srv.URL)
		target.Auth = auth
		status, _ := scrapeTarget(t, target)
		assert.Empty(t, status.Reason())
		assert.Equal(t, want, got.Load())
	}
	f(Auth{}, "")
	f(Auth{Username: "u", Password: "p:w"}, "Basic dTpwOnc=")
	f(Auth{Credentials: " tok "}, "Bearer tok")
	f(Auth{Scheme: "Token", Credentials: "tok"}, "Token tok")
	f(Auth{CredentialsFile: file}, "Bearer from-file")
}

func TestSettingsThatCannotWork(t *testing.T) {
	_, key := clientCert(t)
	f := func(want string, change func(*Target)) {
		t.Helper()
		target := targetOf("a", "http://127.0.0.1:1/metrics")
		change(&target)
		status, _ := scrapeTarget(t, target)
		assert.Contains(t, status.LastError, want)
		assert.NotContains(t, status.LastError, "secret")
	}
	f("more than one kind of credentials", func(t *Target) { t.Auth = Auth{Username: "secret", Credentials: "secret"} })
	f("a character that no header can hold", func(t *Target) { t.Auth = Auth{Credentials: "secret\nX-Evil: 1"} })
	f("a user name with a colon", func(t *Target) { t.Auth = Auth{Username: "secret:x"} })
	f("cannot read the credentials: open /nowhere", func(t *Target) { t.Auth = Auth{CredentialsFile: "/nowhere"} })
	f("the CA has no certificate in PEM", func(t *Target) { t.TLS.CA = "secret" })
	f("cannot use the client certificate", func(t *Target) { t.TLS.Cert, t.TLS.Key = "secret", key })
	f("metric relabelling 0: ", func(t *Target) { t.Relabel = []*relabel.Config{{}} })
	f("not one of http or https", func(t *Target) { t.URL = "ftp://127.0.0.1/" })
	f("the URL is malformed", func(t *Target) { t.URL = "http://user:secret@%zz/" })
}

// TestTokenFileIsReadAgain: after 10 s, and at once after a refusal.
func TestTokenFileIsReadAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	write := func(s string) { require.NoError(t, os.WriteFile(file, []byte(s), 0o600)) }
	write("one")
	z, err := newAuthorizer(Auth{CredentialsFile: file})
	require.NoError(t, err)
	f := func(at int64, want string) {
		t.Helper()
		got, err := z.header(time.Unix(at, 0))
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	f(100, "Bearer one")
	write("two")
	f(109, "Bearer one")
	f(110, "Bearer two")
	write("three")
	z.refused()
	f(111, "Bearer three")
	write(" ")
	_, err = z.header(time.Unix(200, 0))
	require.EqualError(t, err, "the credentials are empty ("+file+")")
}

func TestRefusedTokenIsReadAgainAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte("old"), 0o600))
	var want atomic.Value
	want.Store("Bearer old")
	synctest.Test(t, func(t *testing.T) {
		s := newSink(t)
		m := virtual(s, Options{}, func(r *http.Request) *http.Response {
			resp := ok(r)
			if r.Header.Get("Authorization") != want.Load() {
				resp.StatusCode = http.StatusUnauthorized
			}
			return resp
		})
		defer m.Close()
		target := targetOf("a", "http://a/metrics")
		target.Auth.CredentialsFile = file
		m.Add(target)
		synctest.Wait()
		want.Store("Bearer new")
		require.NoError(t, os.WriteFile(file, []byte("new"), 0o600))
		time.Sleep(1500 * time.Millisecond)
		status, _ := m.Status(target.Pod)
		assert.Equal(t, "HTTP 401 Unauthorized", status.LastError)
		time.Sleep(time.Second)
		status, _ = m.Status(target.Pod)
		assert.Empty(t, status.LastError)
	})
}

func clientCert(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "headroom"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	bytes, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: bytes}))
}

func TestTLS(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "http_requests_total{clients=\"%d\"} 1\n", len(r.TLS.PeerCertificates))
	}))
	srv.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	srv.StartTLS()
	defer srv.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}))
	cert, key := clientCert(t)
	f := func(settings TLS, wantError string, wantClients int) {
		t.Helper()
		target := targetOf("a", srv.URL)
		target.TLS = settings
		status, s := scrapeTarget(t, target)
		if wantError != "" {
			assert.Contains(t, status.LastError, wantError)
			return
		}
		require.Empty(t, status.LastError)
		assert.Contains(t, s.take()[0].samples, fmt.Sprintf("clients=\"%d\"", wantClients))
	}
	f(TLS{}, "certificate signed by unknown authority", 0)
	f(TLS{InsecureSkipVerify: true}, "", 0)
	f(TLS{CA: ca}, "", 0)
	f(TLS{CA: ca, ServerName: "example.com"}, "", 0) // which httptest's certificate names
	f(TLS{CA: ca, ServerName: "elsewhere.org"}, "not elsewhere.org", 0)
	f(TLS{CA: cert}, "certificate signed by unknown authority", 0)
	f(TLS{CA: ca, Cert: cert, Key: key}, "", 1)
}

// TestCredentialsStayAtHome: another port of the host may be another pod's, on the host's network.
func TestCredentialsStayAtHome(t *testing.T) {
	var asked atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = io.WriteString(w, "http_requests_total 1\n")
	}))
	defer other.Close()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, other.URL+"/metrics", http.StatusFound)
		case "/home":
			http.Redirect(w, r, "/metrics?a=b", http.StatusPermanentRedirect)
		default:
			_, _ = fmt.Fprintf(w, "http_requests_total{auth=%q,query=%q} 1\n", r.Header.Get("Authorization"), r.URL.RawQuery)
		}
	}))
	defer srv.Close()
	cert, key := clientCert(t)
	f := func(path string, change func(*Target)) (Status, *sink) {
		t.Helper()
		target := targetOf("a", srv.URL+path)
		change(&target)
		return scrapeTarget(t, target)
	}
	for _, change := range []func(*Target){
		func(t *Target) { t.Auth.Credentials = "secret" },
		func(t *Target) { t.Auth.Username = "secret" },
		func(t *Target) { t.TLS.Cert, t.TLS.Key = cert, key },
	} {
		status, _ := f("/away", change)
		assert.Equal(t, "redirects to "+other.URL+", where its credentials are not sent", status.LastError)
	}
	assert.Zero(t, asked.Load())
	status, _ := f("/away", func(*Target) {})
	assert.Empty(t, status.LastError, "without credentials the host will do")
	assert.Equal(t, int64(1), asked.Load())

	status, s := f("/home", func(t *Target) { t.Auth.Credentials = "secret" })
	assert.Empty(t, status.LastError)
	assert.Contains(t, s.take()[0].samples, `auth="Bearer secret", namespace="demo", pod="a", query="a=b"`)
	status, _ = f("/home", func(t *Target) { t.RefuseRedirects = true })
	assert.Equal(t, "HTTP 308 Permanent Redirect", status.LastError)
}

func TestParametersOfTheURL(t *testing.T) {
	status, s := scrapeOnceAt(t, "/metrics?collect[]=a&collect[]=b", func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "http_requests_total{got=%q} 1\n", strings.Join(r.URL.Query()["collect[]"], "+"))
	})
	assert.Empty(t, status.LastError)
	assert.Contains(t, s.take()[0].samples, `got="a+b"`)
}

func scrapeOnceAt(t *testing.T, path string, h http.HandlerFunc) (Status, *sink) {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return scrapeTarget(t, targetOf("a", srv.URL+path))
}

// TestTheStricterLimitHolds with ours at 5 s, 100 bytes and 3 samples.
func TestTheStricterLimitHolds(t *testing.T) {
	o := Options{Timeout: 5 * time.Second, BodyLimit: 100, SampleLimit: 3}
	f := func(t0 Target, timeout time.Duration, body int64, samples int) {
		t.Helper()
		got := t0.within(o)
		assert.Equal(t, timeout, got.Timeout)
		assert.Equal(t, body, got.BodyLimit)
		assert.Equal(t, samples, got.SampleLimit)
	}
	f(Target{}, 5*time.Second, 100, 3)
	f(Target{Timeout: time.Second, BodyLimit: 10, SampleLimit: 1}, time.Second, 10, 1)
	f(Target{Timeout: time.Minute, BodyLimit: 1000, SampleLimit: 30}, 5*time.Second, 100, 3)

	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			assert.Equal(t, "0.05", r.Header.Get("X-Prometheus-Scrape-Timeout-Seconds"))
			<-r.Context().Done()
		}
		_, _ = io.WriteString(w, strings.Repeat("http_requests_total 1\n", 3))
	}))
	defer srv.Close()
	limited := targetOf("a", srv.URL)
	limited.BodyLimit = 65
	status, _ := scrapeTarget(t, limited)
	assert.Equal(t, "the answer is larger than the limit of 65 bytes", status.LastError)
	limited.BodyLimit = 66
	status, _ = scrapeTarget(t, limited)
	assert.Empty(t, status.LastError)
	limited.SampleLimit = 2
	status, _ = scrapeTarget(t, limited)
	assert.Equal(t, "the answer has more than the limit of 2 samples", status.LastError)
	limited.URL, limited.Timeout = srv.URL+"/hang", 50*time.Millisecond
	status, _ = scrapeTarget(t, limited)
	assert.Equal(t, "no full answer within 50ms", status.LastError)
}

// TestRevisedTargetKeepsItsSeries changes settings of a running target one after the other.
func TestRevisedTargetKeepsItsSeries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink(t)
		m := virtual(s, Options{}, func(r *http.Request) *http.Response {
			return reply(fmt.Sprintf("http_requests_total{auth=%q} 1\n", r.Header.Get("Authorization")))
		})
		defer m.Close()
		target := targetOf("a", "http://a/metrics")
		step := func(want string) {
			t.Helper()
			m.Add(target)
			time.Sleep(2 * time.Second)
			list := s.take()
			assert.Equal(t, want+" 1\n", list[len(list)-1].samples)
			assert.Empty(t, s.forgot)
		}
		step(`{__name__="http_requests_total", namespace="demo", pod="a"}`)
		target.Auth.Credentials = "one"
		step(`{__name__="http_requests_total", auth="Bearer one", namespace="demo", pod="a"}`)
		target.Auth.Credentials = "two"
		step(`{__name__="http_requests_total", auth="Bearer two", namespace="demo", pod="a"}`)
		target.Labels = labels.FromStrings("namespace", "demo", "pod", "a", "node", "n1")
		step(`{__name__="http_requests_total", auth="Bearer two", namespace="demo", node="n1", pod="a"}`)
		drop := relabel.DefaultRelabelConfig
		drop.Action, drop.Regex = relabel.LabelDrop, relabel.MustNewRegexp("auth")
		target.Relabel = []*relabel.Config{&drop}
		step(`{__name__="http_requests_total", namespace="demo", node="n1", pod="a"}`)

		status, _ := m.Status(target.Pod)
		assert.NotContains(t, fmt.Sprintf("%+v", status), "two", "a status has no secrets")
		target.URL = "http://b/metrics"
		m.Add(target)
		assert.Equal(t, map[string]int{target.ID: 1}, s.forgot, "another address, another process")
	})
}

func TestSeveralTargetsOfAPod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := virtual(newSink(t), Options{}, func(r *http.Request) *http.Response {
			if r.Host == "bad" {
				return nil
			}
			return ok(r)
		})
		defer m.Close()
		first, second, third := targetOf("a", "http://good/1"), targetOf("a", "http://bad/"), targetOf("a", "http://good/2")
		second.ID, third.ID = "demo/a/2", "demo/a/3"
		for _, target := range []Target{third, second, first} {
			m.Add(target)
		}
		synctest.Wait()
		status, _ := m.Status(first.Pod)
		assert.Equal(t, "http://bad/: the connection was closed without an answer", status.Reason(), "the ill one speaks")
		m.Remove(second.ID)
		status, _ = m.Status(first.Pod)
		assert.Equal(t, "http://good/1", status.Target.URL)
		list := m.Targets()
		require.Len(t, list, 2)
		assert.Equal(t, third.ID, list[1].Target.ID)
		m.Remove(first.ID)
		m.Remove(third.ID)
		_, found := m.Status(first.Pod)
		assert.False(t, found)
	})
}
