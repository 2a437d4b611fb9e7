package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/cmd/kubectl-headroom/screen"
	"headroom.dev/headroom/rollout"
	"headroom.dev/headroom/rollout/capacity"
	"headroom.dev/headroom/rollout/evidence"
	"headroom.dev/headroom/rollout/kube"
	"headroom.dev/headroom/rollout/workload"
)

// dryRun is what a plan, or an advice, is made of.
type dryRun struct {
	policy  *v1alpha1.RolloutPolicy // what is planned with; it may exist nowhere
	exists  bool                    // in the cluster
	basis   *kube.Basis
	old     *corev1.PodTemplateSpec // the version that serves, nil where it is not known
	trial   *trial
	assumed []string
}

func (d *dryRun) assume(format string, args ...any) {
	d.assumed = append(d.assumed, fmt.Sprintf(format, args...))
}

// policyName is "" where the policy is not in the cluster.
func (d *dryRun) policyName() string {
	if !d.exists {
		return ""
	}
	return d.policy.Name
}

func (d *dryRun) target() string {
	return d.policy.Spec.TargetRef.Kind + "/" + d.policy.Spec.TargetRef.Name
}

// gather finds policy and workload, takes what the flags say instead, and reads the rest with the user's own rights.
func (c *cluster) gather(ctx context.Context, stdin io.Reader, arg string, w *whatIf) (*dryRun, error) {
	d, err := c.subject(ctx, stdin, arg, w.file)
	if err != nil {
		return nil, err
	}
	if err := w.apply(&d.policy.Spec); err != nil {
		return nil, err
	}
	planner, api, err := c.planner(d)
	if err != nil {
		return nil, err
	}
	seen, err := planner.Workloads.Read(ctx, kube.RefOf(d.policy))
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", d.target(), err)
	}
	if seen.Workload == nil {
		return nil, fmt.Errorf("there is no %s in namespace %s", d.target(), c.namespace)
	}
	if err := c.choose(ctx, api, d, seen); err != nil {
		return nil, err
	}
	if d.basis, err = planner.GatherFor(ctx, d.policy, seen); err != nil {
		return nil, ofPolicy(err)
	}
	if screen.Underway(d.policy) {
		d.reuse()
	}
	return d, w.assume(d.basis)
}

// reuse counts the room of the surge pods that are there: an update that begins anew has it.
func (d *dryRun) reuse() {
	there := 0
	for _, v := range d.basis.Seen.Core() {
		there += v.Replicas
	}
	held := there - d.basis.Seen.Workload.Replicas
	if held <= 0 {
		return
	}
	b := d.basis
	b.Request.Sources = append(b.Request.Sources, rollout.Source{Kind: rollout.Free, Name: "held by surge pods", Replicas: held})
	if b.Report != nil {
		b.Report.Sources, b.Report.Messages = b.Request.Sources, append(b.Report.Messages, "of the update under way")
	}
}

// ofPolicy tells a policy's own fault from the cluster's.
func ofPolicy(err error) error {
	if p, ok := errors.AsType[*kube.Problem](err); ok {
		return fmt.Errorf("the policy makes no sense: %w", p)
	}
	return err
}

// planner reads with the user's rights, and writes nothing: what it would write, the API server tries only.
func (c *cluster) planner(d *dryRun) (*kube.Planner, dynamic.Interface, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, nil, fmt.Errorf("cannot prepare a client: %w", err)
		}
	}
	mapper, err := c.mapper()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot ask the API server for its resources: %w", err)
	}
	api, err := client.New(c.config, client.Options{Scheme: scheme, Mapper: mapper})
	if err != nil {
		return nil, nil, fmt.Errorf("cannot use the kubeconfig: %w", err)
	}
	raw, err := dynamic.NewForConfig(c.config)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot use the kubeconfig: %w", err)
	}
	api = client.NewDryRunClient(api)
	return &kube.Planner{
		Workloads: &workload.Client{Reader: api, Writer: api, Now: c.now},
		Capacity:  &capacity.Client{Client: api, Now: c.now},
		Evidence:  &evidence.Client{Plane: plane{c}, Pods: plane{c}, Reader: lenient{api, d}, Now: c.now},
		Now:       c.now,
	}, raw, nil
}

// lenient reads ScalePolicies: a cluster without them, or a user who may not see them, plans without what they know.
type lenient struct {
	client.Reader

	d *dryRun
}

func (l lenient) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	err := l.Reader.List(ctx, list, options...)
	switch {
	case meta.IsNoMatchError(err):
		l.d.assume("no ScalePolicy: the cluster knows none")
		return nil
	case apierrors.IsForbidden(err):
		l.d.assume("no ScalePolicy: %s", err)
		return nil
	}
	return err
}

// plane answers PromQL by the adapter's API.
type plane struct{ c *cluster }

func (p plane) Query(ctx context.Context, namespace, expr string) ([]evidence.Sample, error) {
	list, err := p.c.instant(ctx, namespace, expr)
	if err != nil {
		return nil, err
	}
	out := make([]evidence.Sample, 0, len(list))
	for i := range list {
		out = append(out, evidence.Sample{Labels: list[i].Metric, Value: list[i].number(), At: p.c.now()})
	}
	return out, nil
}

// Pods implements evidence.PodMetrics.
func (p plane) Pods(ctx context.Context, namespace string, selector labels.Selector, metric string) (map[string]evidence.Sample, error) {
	q := &question{namespace: namespace, resource: pods, metric: metric, podSelector: selector.String()}
	list, err := p.c.customValues(ctx, q, url.Values{})
	if err != nil {
		return nil, err
	}
	out := make(map[string]evidence.Sample, len(list.Items))
	for i := range list.Items {
		item := &list.Items[i]
		out[item.DescribedObject.Name] = evidence.Sample{Value: item.Value.AsApproximateFloat64(), At: item.Timestamp.Time}
	}
	return out, nil
}

// subject finds the policy to plan with: one of the file, of the cluster, or, for KIND/NAME that has none, one of defaults.
func (c *cluster) subject(ctx context.Context, stdin io.Reader, arg, file string) (*dryRun, error) {
	target := &workloadName{name: arg}
	if kind, _, ok := strings.Cut(arg, "/"); ok {
		var err error
		if target, err = c.targetOf([]string{arg}); err != nil {
			return nil, err
		}
		if _, ok := resources()[target.kind]; !ok {
			return nil, fmt.Errorf("%s: only a Deployment, StatefulSet or DaemonSet can be rolled out", kind)
		}
	}
	// The policy is found first: by its name alone it says which workload the file must be about.
	p, err := c.rolloutPolicy(ctx, arg)
	why := ""
	if err != nil {
		_, none := errors.AsType[*noPolicyError](err)
		switch {
		case none, err.Error() == noRolloutPolicies, apierrors.IsForbidden(err):
			why = err.Error()
		default:
			return nil, err
		}
	}
	if p != nil {
		target = &workloadName{p.Spec.TargetRef.Kind, p.Spec.TargetRef.Name}
	}
	t, err := readTrial(file, stdin, target.kind, target.name)
	if err != nil {
		return nil, err
	}
	d := &dryRun{policy: p, exists: p != nil, trial: t}
	switch {
	case t.policy != nil:
		if t.policy.Namespace != "" && t.policy.Namespace != c.namespace {
			return nil, fmt.Errorf("-f: %s: RolloutPolicy %s is of namespace %s, not %s", t.path, t.policy.Name, t.policy.Namespace, c.namespace)
		}
		d.policy = t.policy
		d.assume("the RolloutPolicy of %s", t.path)
	case p == nil && target.kind == "":
		return nil, fmt.Errorf("%s; to plan without a policy, name the workload: deployment/%s", why, arg)
	case p == nil:
		d.policy = &v1alpha1.RolloutPolicy{Spec: v1alpha1.RolloutPolicySpec{
			Strategy:  v1alpha1.StrategyRolling,
			TargetRef: v1alpha1.TargetReference{APIVersion: "apps/v1", Kind: target.kind, Name: target.name},
		}}
		d.policy.Name = target.name
		d.assume("no policy: %s; the defaults of one", why)
	}
	d.policy.Namespace = c.namespace
	return d, nil
}

// choose says which template is planned for: that of the file, or the workload's; and which version it would replace.
func (c *cluster) choose(ctx context.Context, api dynamic.Interface, d *dryRun, seen *workload.Seen) error {
	st := &d.policy.Status
	live := seen.Workload.Template
	d.old = seen.Template
	if st.Stable != nil && st.Stable.ID != live {
		if v, ok := seen.Versions[st.Stable.ID]; ok {
			d.old = v.Template
		}
	}
	switch {
	case d.trial.template != nil:
		template, err := c.completed(ctx, api, d, seen)
		if err != nil {
			return err
		}
		if r := d.trial.replicas; r != nil && int(*r) != seen.Workload.Replicas {
			d.assume("%d replicas, as there are; %s says %d", seen.Workload.Replicas, d.trial.path, *r)
		}
		if equality.Semantic.DeepEqual(template, seen.Template) {
			d.assume("the template of %s is the one that the %s has: nothing would be updated", d.trial.path, seen.Kind)
		}
		if screen.Underway(d.policy) {
			d.assume("an update is under way: it would %s", onNewTemplate(d.policy))
		}
		seen.Template = template
	case screen.Underway(d.policy):
		d.assume("an update is under way: this plans it anew, from its start")
	case st.Stable != nil && st.Stable.ID == live || st.Stable == nil:
		d.assume("no new template waits: planned as if the present one were rolled out anew")
	}
	return nil
}

func onNewTemplate(p *v1alpha1.RolloutPolicy) string {
	if p.Spec.OnNewTemplate == "Queue" {
		return "be finished first (onNewTemplate: Queue)"
	}
	return "be replaced by this one (onNewTemplate: Restart)"
}

// resources are the plurals of the kinds that can be rolled out.
func resources() map[string]string {
	return map[string]string{"Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets"}
}

// completed has the API server complete the file's template with its defaults, as an update would; a user who may not even try an
// update plans with what the file says.
func (c *cluster) completed(ctx context.Context, api dynamic.Interface, d *dryRun, seen *workload.Seen) (*corev1.PodTemplateSpec, error) {
	live, ok := seen.Object.(*unstructured.Unstructured)
	if !ok {
		d.assume("the template of %s without the API server's defaults", d.trial.path)
		return d.trial.template, nil
	}
	object := live.DeepCopy()
	template, err := runtime.DefaultUnstructuredConverter.ToUnstructured(d.trial.template)
	if err == nil {
		err = unstructured.SetNestedField(object.Object, template, "spec", "template")
	}
	if err != nil {
		return nil, fmt.Errorf("-f: cannot use the template of %s: %w", d.trial.path, err)
	}
	updated, err := api.Resource(appsv1.SchemeGroupVersion.WithResource(resources()[string(seen.Kind)])).Namespace(seen.Namespace).
		Update(ctx, object, metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}, FieldManager: "kubectl-headroom"})
	switch {
	case apierrors.IsInvalid(err) || apierrors.IsBadRequest(err):
		return nil, fmt.Errorf("-f: the API server would not take the template of %s: %w", d.trial.path, err)
	case err != nil:
		d.assume("the template of %s without the API server's defaults: %s", d.trial.path, err)
		return d.trial.template, nil
	}
	var out struct {
		Spec struct {
			Template corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(updated.Object, &out); err != nil {
		return nil, fmt.Errorf("cannot read the %s that the API server would make: %w", seen.Kind, err)
	}
	return &out.Spec.Template, nil
}

// planTimeout bounds a dry run: a cluster of 5,000 nodes with 50,000 pods is read whole.
const planTimeout = 2 * time.Minute
