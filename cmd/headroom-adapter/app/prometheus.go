package app

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"headroom.dev/headroom/cmd/internal/promflags"
)

// prometheusOptions are the flags about a Prometheus-compatible server.
type prometheusOptions struct {
	promflags.Options

	Interval time.Duration
}

func defaultPrometheusOptions() prometheusOptions {
	// Servers scrape every 15 to 60 s; a third of the shorter adds little age and a query every 5 s is little load.
	return prometheusOptions{Options: promflags.Default(), Interval: 5 * time.Second}
}

func (o *prometheusOptions) addFlags(fs *pflag.FlagSet) {
	o.AddFlags(fs, "for rules with source: Prometheus")
	fs.DurationVar(&o.Interval, "prometheus-interval", o.Interval, "Time between two queries of each such rule, 1s to 5m.")
}

func (o *prometheusOptions) validate() []error {
	errs := o.Errors()
	if o.URL != "" && (o.Interval < time.Second || o.Interval > 5*time.Minute) {
		errs = append(errs, fmt.Errorf("--prometheus-interval %s is not between 1s and 5m", o.Interval))
	}
	return errs
}
