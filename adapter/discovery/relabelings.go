package discovery

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/util/strutil"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// podRelabelings returns the relabelings that the operator adds to a PodMonitor's, less those that select pods, and the
// port that they ask for, in words.
func podRelabelings(m *monitoringv1.PodMonitor, ep *monitoringv1.PodMetricsEndpoint) (rules []monitoringv1.RelabelConfig, port string) {
	rules = []monitoringv1.RelabelConfig{copyLabel(model.JobLabel, "__tmp_prometheus_job_name")}
	var endpoint string
	target := ep.TargetPort //nolint:staticcheck // deprecated, and still in manifests that we are given
	switch {
	case ep.Port != nil && *ep.Port != "":
		rules, port, endpoint = append(rules, keep(meta+"pod_container_port_name", *ep.Port)), named(*ep.Port), *ep.Port
	case ep.PortNumber != nil && *ep.PortNumber != 0:
		number := strconv.Itoa(int(*ep.PortNumber))
		rules, port = append(rules, keep(meta+"pod_container_port_number", number)), number
	case target != nil:
		rules, port = containerPortRule(rules, *target)
	}
	if endpoint == "" && target != nil {
		endpoint = target.String() // beside portNumber, too
	}
	rules = append(rules,
		copyLabel(meta+"namespace", "namespace"),
		copyLabel(meta+"pod_container_name", "container"),
		copyLabel(meta+"pod_name", "pod"),
	)
	for _, l := range m.Spec.PodTargetLabels {
		rules = append(rules, copyPresent(meta+"pod_label_"+strutil.SanitizeLabelName(l), strutil.SanitizeLabelName(l)))
	}
	rules = append(rules, setLabel(model.JobLabel, m.Namespace+"/"+m.Name))
	if m.Spec.JobLabel != "" {
		rules = append(rules, copyPresent(meta+"pod_label_"+strutil.SanitizeLabelName(m.Spec.JobLabel), model.JobLabel))
	}
	if endpoint != "" {
		rules = append(rules, setLabel("endpoint", endpoint))
	}
	return rules, port
}

// serviceRelabelings is podRelabelings for a ServiceMonitor.
func serviceRelabelings(m *monitoringv1.ServiceMonitor, ep *monitoringv1.Endpoint) (rules []monitoringv1.RelabelConfig, port string) {
	rules = []monitoringv1.RelabelConfig{copyLabel(model.JobLabel, "__tmp_prometheus_job_name")}
	endpoint := ep.Port
	switch {
	case ep.Port != "":
		rules, port = append(rules, keep(meta+"endpointslice_port_name", ep.Port)), named(ep.Port)
	case ep.TargetPort != nil:
		rules, port = containerPortRule(rules, *ep.TargetPort)
		endpoint = ep.TargetPort.String()
	}
	rules = append(rules,
		copyLabel(meta+"namespace", "namespace"),
		copyLabel(meta+"service_name", "service"),
		copyLabel(meta+"pod_name", "pod"),
		copyLabel(meta+"pod_container_name", "container"),
	)
	for _, l := range m.Spec.TargetLabels {
		rules = append(rules, copyPresent(meta+"service_label_"+strutil.SanitizeLabelName(l), strutil.SanitizeLabelName(l)))
	}
	for _, l := range m.Spec.PodTargetLabels {
		rules = append(rules, copyPresent(meta+"pod_label_"+strutil.SanitizeLabelName(l), strutil.SanitizeLabelName(l)))
	}
	rules = append(rules, copyLabel(meta+"service_name", model.JobLabel))
	if m.Spec.JobLabel != "" {
		rules = append(rules, copyPresent(meta+"service_label_"+strutil.SanitizeLabelName(m.Spec.JobLabel), model.JobLabel))
	}
	if endpoint != "" {
		rules = append(rules, setLabel("endpoint", endpoint))
	}
	return rules, port
}

// containerPortRule adds the choice of a container's port by name or number.
func containerPortRule(rules []monitoringv1.RelabelConfig, port intstr.IntOrString) (_ []monitoringv1.RelabelConfig, words string) {
	switch {
	case port.StrVal != "":
		return append(rules, keep(meta+"pod_container_port_name", port.StrVal)), named(port.StrVal)
	case port.IntVal != 0:
		return append(rules, keep(meta+"pod_container_port_number", port.String())), port.String()
	}
	return rules, ""
}

func named(port string) string { return fmt.Sprintf("named %q", port) }

func keep(source, regex string) monitoringv1.RelabelConfig {
	return monitoringv1.RelabelConfig{Action: string(relabel.Keep), SourceLabels: []monitoringv1.LabelName{monitoringv1.LabelName(source)}, Regex: regex}
}

func copyLabel(source, target string) monitoringv1.RelabelConfig {
	return monitoringv1.RelabelConfig{SourceLabels: []monitoringv1.LabelName{monitoringv1.LabelName(source)}, TargetLabel: target}
}

// copyPresent leaves the target as it is where there is no source.
func copyPresent(source, target string) monitoringv1.RelabelConfig {
	c := copyLabel(source, target)
	c.Regex = "(.+)"
	return c
}

func setLabel(target, value string) monitoringv1.RelabelConfig {
	return monitoringv1.RelabelConfig{TargetLabel: target, Replacement: &value}
}

// relabelConfig compiles what it has checked: relabelling then cannot fail.
func relabelConfig(c *monitoringv1.RelabelConfig) (*relabel.Config, error) {
	config := relabel.DefaultRelabelConfig
	for _, source := range c.SourceLabels {
		if unknownMeta(string(source)) {
			return nil, fmt.Errorf("%s is not read here", source)
		}
		config.SourceLabels = append(config.SourceLabels, model.LabelName(source))
	}
	if c.Separator != nil {
		config.Separator = *c.Separator
	}
	if c.Regex != "" {
		regex, err := relabel.NewRegexp(c.Regex)
		if err != nil {
			return nil, err
		}
		config.Regex = regex
	}
	if c.Modulus > 0 {
		config.Modulus = uint64(c.Modulus)
	}
	config.TargetLabel = c.TargetLabel
	if c.Replacement != nil {
		config.Replacement = *c.Replacement
	}
	if c.Action != "" {
		config.Action = relabel.Action(strings.ToLower(c.Action))
	}
	if !slices.Contains([]relabel.Action{
		relabel.Replace, relabel.Keep, relabel.Drop, relabel.KeepEqual, relabel.DropEqual, relabel.HashMod,
		relabel.LabelMap, relabel.LabelDrop, relabel.LabelKeep, relabel.Lowercase, relabel.Uppercase,
	}, config.Action) {
		return nil, fmt.Errorf("action %.40q is not known", c.Action)
	}
	if err := config.Validate(model.UTF8Validation); err != nil {
		return nil, err
	}
	return &config, nil
}
