package traffic

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"

	"headroom.dev/headroom/rollout/route"
)

// gateway is an HTTPRoute or a GRPCRoute of Gateway API. Their weights may add up to anything.
func gateway(name string) dialect {
	return dialect{
		kind:  kindOf("gateway.networking.k8s.io", name, "v1", "v1beta1"),
		rules: []string{"spec", "rules"}, refs: "backendRefs", matches: "matches", weight: 1, totals: []int64{100, 10_000}, reports: true,
		is: func(ref map[string]any, b Backend, namespace string) bool {
			return text(ref, "name", "") == b.Name && text(ref, "kind", "Service") == b.kind() && text(ref, "group", "") == b.Group &&
				text(ref, "namespace", namespace) == namespace
		},
		point: func(ref map[string]any, name string) { ref["name"] = name },
		match: gatewayMatches,
	}
}

// virtualService is Istio's. Its validation wants weights of several destinations that add up to 100.
func virtualService() dialect {
	return dialect{
		kind:  kindOf("networking.istio.io", "VirtualService", "v1", "v1beta1"),
		rules: []string{"spec", "http"}, refs: "route", matches: "match", weight: 100, totals: []int64{100},
		is: func(ref map[string]any, b Backend, namespace string) bool {
			destination, _ := ref["destination"].(map[string]any)
			name, domain, _ := strings.Cut(text(destination, "host", ""), ".")
			if name != b.Name || b.kind() != "Service" {
				return false
			}
			ns, domain, _ := strings.Cut(domain, ".")
			return ns == "" || ns == namespace && (domain == "" || domain == "svc" || strings.HasPrefix(domain, "svc."))
		},
		point: func(ref map[string]any, name string) {
			if destination, ok := ref["destination"].(map[string]any); ok {
				_, domain, qualified := strings.Cut(text(destination, "host", ""), ".")
				if qualified {
					name += "." + domain
				}
				destination["host"] = name
			}
		},
		match: istioMatches,
	}
}

// text returns a field that holds a text; otherwise, where it is absent.
func text(object map[string]any, field, otherwise string) string {
	switch value := object[field].(type) {
	case string:
		return value
	case nil:
		return otherwise
	}
	return "\x00" // equal to no name
}

// errMatches is about a rule's own matches.
var errMatches = errors.New("not a list of objects")

// each calls narrow for a copy of each of a rule's matches, and for an empty one where it has none, with each match.
func each(value any, matches []route.Match, narrow func(map[string]any, route.Match) error) ([]any, error) {
	own, ok := value.([]any)
	if value != nil && !ok {
		return nil, errMatches
	}
	if len(own) == 0 {
		own = []any{map[string]any{}}
	}
	var out []any
	for _, one := range own {
		for _, m := range matches {
			copied, ok := runtime.DeepCopyJSONValue(one).(map[string]any)
			if !ok {
				return nil, errMatches
			}
			if err := narrow(copied, m); err != nil {
				return nil, err
			}
			out = append(out, copied)
		}
	}
	return out, nil
}

// cookie is a regular expression for a Cookie header that holds a match's cookie; Envoy and Go's RE2 both know it, and
// both routers want it to fit the whole header.
func cookie(m route.Match) string {
	return `(.*;\s*)?` + regexp.QuoteMeta(m.Cookie) + "=" + regexp.QuoteMeta(m.Value) + `(;.*)?`
}

// gatewayMatches adds a header to each match of an HTTPRoute's or GRPCRoute's rule. Such a match is more specific than the
// one it is made of, and therefore wins wherever the rule stands.
func gatewayMatches(rule map[string]any, matches []route.Match) ([]any, error) {
	return each(rule["matches"], matches, func(match map[string]any, m route.Match) error {
		header := map[string]any{"type": "Exact", "name": m.Header, "value": m.Value}
		if m.Cookie != "" {
			header = map[string]any{"type": "RegularExpression", "name": "Cookie", "value": cookie(m)}
		}
		headers, ok := match["headers"].([]any)
		if match["headers"] != nil && !ok {
			return fmt.Errorf("headers: %w", errMatches)
		}
		for _, value := range headers {
			if h, ok := value.(map[string]any); ok && strings.EqualFold(text(h, "name", ""), text(header, "name", "")) {
				return fmt.Errorf("the rule matches on header %s already", header["name"])
			}
		}
		match["headers"] = append(headers, header)
		return nil
	})
}

// istioMatches does the same for a VirtualService, where the first rule that fits wins.
func istioMatches(rule map[string]any, matches []route.Match) ([]any, error) {
	return each(rule["match"], matches, func(match map[string]any, m route.Match) error {
		name, value := strings.ToLower(m.Header), map[string]any{"exact": m.Value} // Istio wants names in lower case
		if m.Cookie != "" {
			name, value = "cookie", map[string]any{"regex": cookie(m)}
		}
		headers, ok := match["headers"].(map[string]any)
		if match["headers"] != nil && !ok {
			return fmt.Errorf("headers: %w", errMatches)
		}
		if headers == nil {
			headers = map[string]any{}
		}
		if _, taken := headers[name]; taken {
			return fmt.Errorf("the rule matches on header %s already", name)
		}
		headers[name] = value
		match["headers"] = headers
		return nil
	})
}
