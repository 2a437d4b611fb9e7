package app

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"headroom.dev/headroom/api/query"
)

// requestTimeout bounds one request where --request-timeout does not: an adapter that hangs is named, not waited for.
const requestTimeout = 30 * time.Second

// cluster is what the commands ask.
type cluster struct {
	config    *rest.Config
	kube      kubernetes.Interface
	namespace string // the chosen one
	mapper    func() (meta.RESTMapper, error)
	now       func() time.Time
}

func (o *options) connect() (*cluster, error) {
	config, err := o.config.ToRESTConfig()
	if err != nil {
		return nil, fmt.Errorf("cannot read the kubeconfig: %w", err)
	}
	config.QPS, config.Burst = 50, 300 // as kubectl; the API server shapes traffic itself
	if config.Timeout == 0 {
		config.Timeout = requestTimeout
	}
	c := &cluster{config: config, mapper: o.config.ToRESTMapper, now: o.now}
	if c.namespace, _, err = o.config.ToRawKubeConfigLoader().Namespace(); err != nil {
		return nil, fmt.Errorf("cannot read the namespace of the kubeconfig: %w", err)
	}
	if c.kube, err = kubernetes.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("cannot use the kubeconfig: %w", err)
	}
	return c, nil
}

// fetch reads JSON from a path of the API server.
func (c *cluster) fetch(ctx context.Context, path string, values url.Values, into any) error {
	b, err := c.get(ctx, path, values)
	if err != nil {
		return plain(err, path)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("cannot read the answer of %s: %w", path, err)
	}
	return nil
}

func (c *cluster) get(ctx context.Context, path string, values url.Values) ([]byte, error) {
	request := c.kube.Discovery().RESTClient().Get().AbsPath(path).SetHeader("Accept", "application/json")
	for name, list := range values {
		for _, value := range list {
			request = request.Param(name, value)
		}
	}
	result := request.Do(ctx)
	if err := result.Error(); err != nil { // Raw's error would be without the server's message
		return nil, err
	}
	return result.Raw()
}

// scoped is the path of something in a namespace, or of none.
func scoped(group, namespace string, parts ...string) string {
	path := "/apis/" + group
	if namespace != "" {
		path += "/namespaces/" + namespace
	}
	return path + "/" + strings.Join(parts, "/")
}

// plain makes one line of an error that says what to do. The API server's own answer for an API that is not there is a bare
// 404, for one whose server is down a bare 503.
func plain(err error, path string) error {
	group, kind := path, ""
	if inside, ok := strings.CutPrefix(path, "/apis/"); ok {
		if parts := strings.SplitN(inside, "/", 3); len(parts) > 1 {
			group, kind = parts[0], parts[1]+"."+parts[0]
		}
	}
	status, known := err.(apierrors.APIStatus)
	switch {
	case !known:
		return fmt.Errorf("cannot reach the API server: %w", err)
	case apierrors.IsNotFound(err) && unregistered(status):
		server := "Headroom's adapter"
		if group == "metrics.k8s.io" {
			server = "metrics-server"
		}
		return &absentError{fmt.Sprintf("%s is not registered: is %s installed? (APIService %s not found)", group, server, kind)}
	case apierrors.IsServiceUnavailable(err) && bare(status):
		return &absentError{fmt.Sprintf("%s does not answer: see 'kubectl describe apiservice %s'", group, kind)}
	case apierrors.IsForbidden(err) && (group == query.Group || strings.HasSuffix(group, ".metrics.k8s.io")):
		return &forbiddenError{err}
	}
	return err
}

// unregistered tells the API server's 404 for a path from an adapter's for an object.
func unregistered(status apierrors.APIStatus) bool {
	message := status.Status().Message
	return strings.HasPrefix(message, "the server could not find the requested resource") || bare(status)
}

// bare is an answer that no Status came with.
func bare(status apierrors.APIStatus) bool {
	d := status.Status().Details
	if d == nil {
		return false
	}
	for _, cause := range d.Causes {
		if cause.Type == "UnexpectedServerResponse" {
			return true
		}
	}
	return false
}

// absentError is an API that is not there.
type absentError struct{ text string }

func (e *absentError) Error() string { return e.text }

// forbiddenError is for what this user may not read.
type forbiddenError struct{ err error }

func (e *forbiddenError) Error() string {
	return e.err.Error() + ": the ClusterRoles headroom-view (a namespace) and headroom-reader (all) allow it"
}

func (e *forbiddenError) Unwrap() error { return e.err }

// explanation asks the adapter. The resource is "" for an external metric.
func (c *cluster) explanation(ctx context.Context, namespace, metric string, values url.Values) (*query.Explanation, error) {
	var x query.Explanation
	err := c.fetch(ctx, scoped(query.APIVersion, namespace, "explanations", metric), values, &x)
	if err != nil {
		return nil, err
	}
	return &x, nil
}

func (c *cluster) ruleList(ctx context.Context) (*query.RuleList, error) {
	var list query.RuleList
	err := c.fetch(ctx, scoped(query.APIVersion, "", "rules"), nil, &list)
	if err != nil {
		return nil, err
	}
	return &list, nil
}
