package apiserver

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/metrics"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericapiserver "k8s.io/apiserver/pkg/server"

	"headroom.dev/headroom/api/query"
)

// The resources of query.headroom.dev. A request of Prometheus' API, …/prometheus/api/v1/query, is to Kubernetes one for
// the subresource "v1" of the object "api" of the resource "prometheus"; that is how roles must name it.
const (
	rulesResource        = "rules"
	explanationsResource = "explanations"
	prometheusResource   = "prometheus"
	prometheusObject     = "api"
	prometheusSub        = "v1"
	prometheusRoot       = "/" + prometheusObject + "/" + prometheusSub + "/"
)

// queryResources lists the group for discovery.
func queryResources() []metav1.APIResource {
	return []metav1.APIResource{
		{Name: explanationsResource, SingularName: "explanation", Kind: "Explanation", Namespaced: true, Verbs: metav1.Verbs{"get"}},
		{Name: prometheusResource + "/" + prometheusSub, Kind: "Prometheus", Namespaced: true, Verbs: metav1.Verbs{"create", "get"}},
		{Name: rulesResource, SingularName: "rule", Kind: "Rule", Verbs: metav1.Verbs{"list"}},
	}
}

// serveQueries mounts query.headroom.dev, and Prometheus' API for direct clients.
func (p *Provider) serveQueries(s *genericapiserver.GenericAPIServer) {
	instrument := func(resource, sub string, h http.HandlerFunc) http.HandlerFunc {
		return metrics.InstrumentHandlerFunc(http.MethodGet, query.Group, query.Version, resource, sub, "resource", serverName, false, "", h)
	}
	handlers := map[string]http.HandlerFunc{
		rulesResource:        instrument(rulesResource, "", p.serveRules),
		explanationsResource: instrument(explanationsResource, "", p.serveExplanation),
		prometheusResource:   instrument(prometheusResource, prometheusSub, p.servePrometheus),
	}
	mux := s.Handler.NonGoRestfulMux
	mux.HandlePrefix(genericapiserver.APIGroupPrefix+"/"+query.APIVersion+"/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// What the request info says is what has been authorized, so nothing here reads the path itself.
		info, ok := request.RequestInfoFrom(r.Context())
		if !ok || handlers[info.Resource] == nil {
			writeError(w, r, noSuchPath(r))
			return
		}
		handlers[info.Resource](w, r)
	}))
	mux.HandlePrefix(prometheusRoot, p.opts.Prometheus(""))
}

func (p *Provider) serveRules(w http.ResponseWriter, r *http.Request) {
	info, _ := request.RequestInfoFrom(r.Context())
	now := p.opts.Now()
	switch {
	case info.Namespace != "" || len(info.Parts) != 1:
		writeError(w, r, noSuchPath(r))
	case info.Verb != "list":
		writeError(w, r, apierrors.NewMethodNotSupported(schema.GroupResource{Group: query.Group, Resource: rulesResource}, info.Verb))
	case info.LabelSelector != "" || info.FieldSelector != "":
		// Someone may be allowed to list what a selector means, and only that.
		writeError(w, r, apierrors.NewBadRequest("rules cannot be selected: labelSelector and fieldSelector must not be set"))
	default:
		writeJSON(w, r, http.StatusOK, &query.RuleList{APIVersion: query.APIVersion, Kind: "RuleList", At: now.UTC(), Items: p.opts.Rules(now)})
	}
}

func (p *Provider) servePrometheus(w http.ResponseWriter, r *http.Request) {
	info, _ := request.RequestInfoFrom(r.Context())
	switch {
	case len(info.Parts) < 4 || info.Name != prometheusObject || info.Subresource != prometheusSub:
		writeError(w, r, noSuchPath(r))
	case info.Verb != "get" && info.Verb != "create":
		writeError(w, r, apierrors.NewMethodNotSupported(schema.GroupResource{Group: query.Group, Resource: prometheusResource}, info.Verb))
	default:
		inner := r.Clone(r.Context())
		inner.URL.Path, inner.URL.RawPath = "/"+strings.Join(info.Parts[1:], "/"), ""
		p.opts.Prometheus(info.Namespace).ServeHTTP(w, inner)
	}
}

func noSuchPath(r *http.Request) error { return notFound("there is nothing at %s", r.URL.Path) }

// writeJSON is the one form of query.headroom.dev.
func writeJSON(w http.ResponseWriter, r *http.Request, code int, object any) {
	encode := json.Marshal
	if pretty, err := strconv.ParseBool(r.URL.Query().Get("pretty")); err == nil && pretty {
		encode = func(v any) ([]byte, error) { return json.MarshalIndent(v, "", "  ") }
	}
	body, err := encode(object)
	if err != nil {
		code = http.StatusInternalServerError
		body, _ = json.Marshal(responsewriters.ErrorToAPIStatus(err)) // a Status has nothing that JSON cannot say
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(body, '\n')) // the client is gone
}

func writeError(w http.ResponseWriter, r *http.Request, err error) {
	status := responsewriters.ErrorToAPIStatus(err)
	writeJSON(w, r, int(status.Code), status)
}
