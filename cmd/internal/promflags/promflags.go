// Package promflags is the command-line flags about a Prometheus-compatible server, alike in all of our commands.
package promflags

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/pflag"

	"headroom.dev/headroom/adapter/promapi"
)

// Options are the flags --prometheus-….
type Options struct {
	promapi.ClientOptions

	params []string // name=value; a parameter may be given more than once
}

// Default returns the defaults: no server.
func Default() Options {
	return Options{ClientOptions: promapi.ClientOptions{Timeout: promapi.DefaultClientTimeout}}
}

// AddFlags registers the flags; about says in --prometheus-url's help what the server is for.
func (o *Options) AddFlags(fs *pflag.FlagSet, about string) {
	const prefix = "prometheus-"
	fs.StringVar(&o.URL, prefix+"url", o.URL, "Prometheus-compatible server "+about+", with the path before /api/v1 if it has one.")
	fs.DurationVar(&o.Timeout, prefix+"timeout", o.Timeout, "Time limit of one query.")
	fs.StringVar(&o.BearerTokenFile, prefix+"bearer-token-file", o.BearerTokenFile, "File with the token to send; read again when it changes.")
	fs.StringVar(&o.Username, prefix+"username", o.Username, "User for basic authentication.")
	fs.StringVar(&o.PasswordFile, prefix+"password-file", o.PasswordFile, "File with that user's password.")
	fs.StringVar(&o.CAFile, prefix+"ca-file", o.CAFile, "Authorities that sign the server's certificate; without it the system's.")
	fs.StringVar(&o.CertFile, prefix+"cert-file", o.CertFile, "Certificate to show to the server.")
	fs.StringVar(&o.KeyFile, prefix+"key-file", o.KeyFile, "Key of that certificate.")
	fs.StringVar(&o.ServerName, prefix+"server-name", o.ServerName, "Name in the server's certificate, where it is not the URL's.")
	fs.BoolVar(&o.InsecureSkipVerify, prefix+"insecure-skip-verify", o.InsecureSkipVerify, "Take any certificate of the server.")
	fs.StringToStringVar(&o.Headers, prefix+"header", o.Headers, "Header to send with each query, as X-Scope-OrgID=team-a.")
	fs.StringArrayVar(&o.params, prefix+"param", o.params, "Parameter to send with each query, as latency_offset=1ms for VictoriaMetrics.")
	fs.BoolVar(&o.AllowPartial, prefix+"allow-partial", o.AllowPartial, "Take answers that the server marks as incomplete.")
}

// Complete reads the parameters; Validate says what is wrong with them.
func (o *Options) Complete() {
	o.Params = url.Values{}
	for _, p := range o.params {
		name, value, _ := strings.Cut(p, "=")
		o.Params.Add(name, value)
	}
}

// Errors names every flag that is wrong; none where no server is named.
func (o *Options) Errors() []error {
	if o.URL == "" {
		return nil
	}
	var errs []error
	for _, p := range o.params {
		if name, _, ok := strings.Cut(p, "="); !ok || name == "" {
			errs = append(errs, fmt.Errorf("--prometheus-param %q is not NAME=VALUE", p))
		}
	}
	if o.Timeout <= 0 {
		errs = append(errs, errors.New("--prometheus-timeout is not positive"))
	}
	if err := o.ClientOptions.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("--prometheus-…: %w", err))
	}
	return errs
}
