package promapi

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/config"
	"golang.org/x/net/http/httpguts"
)

// Defaults of ClientOptions.
const (
	DefaultClientTimeout = 5 * time.Second
	// DefaultMaxResponse is some 300,000 results of 200 bytes.
	DefaultMaxResponse = 64 << 20
)

// ClientOptions say which server a Client asks and how. All files are read again when they change.
type ClientOptions struct {
	// URL is where the server's paths /api/v1/… begin: "http://prometheus.monitoring:9090", "https://mimir/prometheus",
	// "http://vmselect:8481/select/0/prometheus".
	URL string

	BearerTokenFile        string
	Username, PasswordFile string // basic authentication, instead of BearerTokenFile

	CAFile             string // the authorities to trust; "" stands for the system's
	CertFile, KeyFile  string // the client's own certificate
	ServerName         string // in the server's certificate, where it is not the URL's host
	InsecureSkipVerify bool

	// Headers are sent with every request: {"X-Scope-OrgID": "team-a"}.
	Headers map[string]string
	// Params are sent with every request beside the client's own. VictoriaMetrics wants latency_offset=1ms, or it hides the
	// last 30 s, and nocache=1; with deny_partial_response=1 it says itself why it refuses, as Thanos does with
	// partial_response=false.
	Params url.Values

	Timeout     time.Duration // of one request, which the server is told; default DefaultClientTimeout
	MaxResponse int64         // bytes; default DefaultMaxResponse
	// Lookback is how far back instant selectors look; 0 leaves it to the server (5 minutes in Prometheus). It is sent as
	// lookback_delta, which Prometheus, Thanos and Mimir know; for VictoriaMetrics set max_lookback in Params.
	Lookback time.Duration

	// AllowPartial takes answers that may lack series. Otherwise they are errors: those that VictoriaMetrics marks
	// (isPartial), and those with a warning that is not PromQL's own ("PromQL warning: …"), which is how Thanos and
	// Prometheus' remote read say that a store did not answer, and how every server says that it cut the answer.
	AllowPartial bool
	// Notice is told of the warnings and infos of each answer that has some; it may be nil. It is called by the goroutine
	// that asked.
	Notice func(expr string, warnings, infos []string)
}

// Validate says which fields are wrong; the error joins one for each. It opens no file.
func (o *ClientOptions) Validate() error {
	var errs []error
	wrong := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %w", field, fmt.Errorf(format, args...)))
	}
	if _, err := o.base(); err != nil {
		errs = append(errs, err)
	}
	if o.BearerTokenFile != "" && (o.Username != "" || o.PasswordFile != "") {
		wrong("BearerTokenFile", "cannot be used together with Username and PasswordFile")
	}
	if o.PasswordFile != "" && o.Username == "" {
		wrong("PasswordFile", "needs Username")
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		wrong("CertFile", "CertFile and KeyFile need each other")
	}
	for name, value := range o.Headers {
		if err := checkHeader(name, value); err != nil {
			wrong("Headers", "%w", err)
		}
	}
	for name := range o.Params {
		if slices.Contains(ownParams(), name) {
			wrong("Params", "%s is not for the user to set", name)
		}
	}
	for field, v := range map[string]int64{
		"Timeout": int64(o.Timeout), "MaxResponse": o.MaxResponse, "Lookback": int64(o.Lookback),
	} {
		if v < 0 {
			wrong(field, "must not be negative")
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// checkHeader says why a header cannot be sent; its errors do not repeat the value.
func checkHeader(name, value string) error {
	canonical := http.CanonicalHeaderKey(name)
	switch _, reserved := config.ReservedHeaders[canonical]; {
	case reserved:
		return fmt.Errorf("%s is not for the user to set", canonical)
	case !httpguts.ValidHeaderFieldName(name):
		return fmt.Errorf("%q cannot be the name of a header", name)
	case !httpguts.ValidHeaderFieldValue(value):
		return fmt.Errorf("the value of %s cannot stand in a header", name)
	}
	return nil
}

// ownParams lists what the client says itself. A limit would make a part look like the whole.
func ownParams() []string {
	return []string{"query", "time", "start", "end", "step", "match[]", "timeout", "lookback_delta", "limit", "stats"}
}

// base returns the URL, parsed. Its errors never repeat it: it may hold a password that does not belong there.
func (o *ClientOptions) base() (*url.URL, error) {
	u, err := url.Parse(o.URL)
	switch {
	case err != nil:
		return nil, errors.New("URL: cannot be parsed")
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, errors.New("URL: must be http://HOST… or https://HOST…")
	case u.User != nil:
		return nil, errors.New("URL: must not hold credentials; use Username and PasswordFile")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("URL: must not hold parameters; use Params")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	return u, nil
}

// http returns how Prometheus' own library configures what the options say.
func (o *ClientOptions) http() config.HTTPClientConfig {
	cfg := config.HTTPClientConfig{
		TLSConfig: config.TLSConfig{
			CAFile: o.CAFile, CertFile: o.CertFile, KeyFile: o.KeyFile,
			ServerName: o.ServerName, InsecureSkipVerify: o.InsecureSkipVerify,
		},
		// A redirected POST becomes a GET without its expression.
		FollowRedirects: false,
		EnableHTTP2:     true,
		ProxyConfig:     config.ProxyConfig{ProxyFromEnvironment: true},
	}
	if o.BearerTokenFile != "" {
		cfg.Authorization = &config.Authorization{Type: "Bearer", CredentialsFile: o.BearerTokenFile}
	}
	if o.Username != "" {
		cfg.BasicAuth = &config.BasicAuth{Username: o.Username, PasswordFile: o.PasswordFile}
	}
	if len(o.Headers) > 0 {
		cfg.HTTPHeaders = &config.Headers{Headers: map[string]config.Header{}}
		for name, value := range o.Headers {
			cfg.HTTPHeaders.Headers[name] = config.Header{Secrets: []config.Secret{config.Secret(value)}}
		}
	}
	return cfg
}
