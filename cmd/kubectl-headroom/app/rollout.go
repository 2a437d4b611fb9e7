package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"headroom.dev/headroom/api/v1alpha1"
)

func (o *options) rollout() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rollout",
		Short: "See, plan and steer the updates of workloads that a RolloutPolicy holds",
		Long: "A RolloutPolicy has a workload updated by plan: a new template waits until there is capacity for it, goes out step by step,\n" +
			"is judged against the version before, and goes back where it is worse. These commands show where an update stands, plan\n" +
			"one without doing it, and tell the controller what a person wants. What its fields mean is in docs/rollout.md.",
		Example: examples(`
  # How would this update go, and would it fit?
  kubectl headroom rollout plan chat -f chat.yaml -n demo

  # Where does it stand, and why?
  kubectl headroom rollout status chat -n demo
  kubectl headroom rollout watch chat -n demo

  # Let it go on past its gate, or take it back
  kubectl headroom rollout promote chat -n demo
  kubectl headroom rollout abort chat -n demo`),
	}
	cmd.AddCommand(o.rolloutStatus(), o.rolloutWatch(), o.rolloutHistory(), o.rolloutPlan(), o.rolloutAdvise())
	for _, c := range rolloutCommands() {
		cmd.AddCommand(o.rolloutCommand(c))
	}
	return cmd
}

const noRolloutPolicies = "the cluster knows no RolloutPolicies: is Headroom installed? (CustomResourceDefinition rolloutpolicies.headroom.dev not found)"

func rolloutPath(namespace string, name ...string) string {
	return scoped(v1alpha1.GroupVersion().String(), namespace, append([]string{v1alpha1.ResourceRolloutPolicies}, name...)...)
}

// rolloutPolicies lists those of the chosen namespace, of all where none is.
func (c *cluster) rolloutPolicies(ctx context.Context) (*v1alpha1.RolloutPolicyList, error) {
	var list v1alpha1.RolloutPolicyList
	err := c.fetch(ctx, rolloutPath(c.namespace), nil, &list)
	if _, absent := errors.AsType[*absentError](err); absent {
		return nil, errors.New(noRolloutPolicies)
	}
	if err != nil {
		return nil, err
	}
	list.Kind, list.APIVersion = v1alpha1.KindRolloutPolicy+"List", v1alpha1.GroupVersion().String()
	for i := range list.Items {
		list.Items[i].Kind, list.Items[i].APIVersion = v1alpha1.KindRolloutPolicy, v1alpha1.GroupVersion().String()
	}
	return &list, nil
}

// rolloutPolicy finds a policy by its name, or by KIND/NAME of its target.
func (c *cluster) rolloutPolicy(ctx context.Context, arg string) (*v1alpha1.RolloutPolicy, error) {
	var target *workloadName
	if strings.Contains(arg, "/") {
		var err error
		if target, err = c.targetOf([]string{arg}); err != nil {
			return nil, err
		}
	}
	list, err := c.rolloutPolicies(ctx)
	if err != nil {
		return nil, err
	}
	return pickPolicy(list.Items, c.namespace, arg, target)
}

// pickPolicy takes a policy by name or by target. The errors name what there is instead.
func pickPolicy(list []v1alpha1.RolloutPolicy, namespace, arg string, target *workloadName) (*v1alpha1.RolloutPolicy, error) {
	var found []*v1alpha1.RolloutPolicy
	var like []string
	for i := range list {
		p := &list[i]
		ref := p.Spec.TargetRef
		switch {
		case target == nil && p.Name == arg, target != nil && ref.Kind == target.kind && ref.Name == target.name:
			found = append(found, p)
		case target == nil && ref.Name == arg:
			like = append(like, fmt.Sprintf("RolloutPolicy %q updates %s/%s", p.Name, strings.ToLower(ref.Kind), ref.Name))
		}
	}
	what := fmt.Sprintf("RolloutPolicy %q", arg)
	if target != nil {
		what = "RolloutPolicy for " + target.String()
	}
	switch {
	case len(found) > 1:
		names := make([]string, 0, len(found))
		for _, p := range found {
			names = append(names, p.Name)
		}
		return nil, fmt.Errorf("there are several RolloutPolicies for %s: %s; name the one you mean", target, strings.Join(names, ", "))
	case len(found) == 1:
		return found[0], nil
	case len(like) > 0:
		return nil, &noPolicyError{fmt.Sprintf("there is no %s in namespace %s; but %s", what, namespace, strings.Join(like, ", "))}
	}
	return nil, &noPolicyError{fmt.Sprintf("there is no %s in namespace %s", what, namespace)}
}

// noPolicyError is for a policy that does not exist.
type noPolicyError struct{ text string }

func (e *noPolicyError) Error() string { return e.text }

// policyClient writes and watches policies.
func (c *cluster) policyClient(namespace string) (dynamic.ResourceInterface, error) {
	config := rest.CopyConfig(c.config)
	config.Timeout = 0 // a watch lasts as long as it lasts; requests have a deadline of their own
	d, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("cannot use the kubeconfig: %w", err)
	}
	return d.Resource(v1alpha1.GroupVersion().WithResource(v1alpha1.ResourceRolloutPolicies)).Namespace(namespace), nil
}

func policyOf(u *unstructured.Unstructured) (*v1alpha1.RolloutPolicy, error) {
	var p v1alpha1.RolloutPolicy
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &p); err != nil {
		return nil, fmt.Errorf("cannot read RolloutPolicy %q: %w", u.GetName(), err)
	}
	return &p, nil
}

// watchAgain is the time between two watches where the API server ends them at once.
const watchAgain = time.Second

// follow calls see with a policy as it is, and after each change, until see wants no more, the policy is deleted or the context
// ends. It asks once and then is told; a watch that ends is taken up again.
func (c *cluster) follow(ctx context.Context, namespace, name string, see func(*v1alpha1.RolloutPolicy) (done bool)) error {
	api, err := c.policyClient(namespace)
	if err != nil {
		return err
	}
	one := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()}
	for {
		began := c.now()
		done, err := c.followOnce(ctx, api, name, one, see)
		if err != nil || done || ctx.Err() != nil {
			return err
		}
		if c.now().Sub(began) < watchAgain {
			select {
			case <-ctx.Done():
			case <-time.After(watchAgain):
			}
		}
	}
}

func (c *cluster) followOnce(
	ctx context.Context, api dynamic.ResourceInterface, name string, one metav1.ListOptions, see func(*v1alpha1.RolloutPolicy) bool,
) (done bool, err error) {
	asking, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	list, err := api.List(asking, one)
	switch {
	case ctx.Err() != nil:
		return true, nil
	case apierrors.IsNotFound(err):
		return true, errors.New(noRolloutPolicies)
	case err != nil:
		return true, plain(err, rolloutPath(c.namespace))
	case len(list.Items) == 0:
		return true, deleted(name)
	}
	p, err := policyOf(&list.Items[0])
	if err != nil || see(p) {
		return true, err
	}
	one.ResourceVersion = list.GetResourceVersion()
	w, err := api.Watch(ctx, one)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return true, nil
	default:
		return true, plain(err, rolloutPath(c.namespace))
	}
	defer w.Stop()
	return follow(ctx, w, name, see)
}

// follow shows what a watch tells, until it ends (done is false then), see has seen enough, or the policy is deleted.
func follow(ctx context.Context, w watch.Interface, name string, see func(*v1alpha1.RolloutPolicy) bool) (done bool, err error) {
	for {
		select {
		case <-ctx.Done():
			return true, nil
		case event, ok := <-w.ResultChan():
			if !ok || event.Type == watch.Error {
				return false, nil
			}
			if event.Type == watch.Deleted {
				return true, deleted(name)
			}
			u, ok := event.Object.(*unstructured.Unstructured)
			if !ok || event.Type == watch.Bookmark {
				continue
			}
			if p, err := policyOf(u); err != nil || see(p) {
				return true, err
			}
		}
	}
}

func deleted(name string) error { return fmt.Errorf("RolloutPolicy %q was deleted", name) }

// terminalOf returns the terminal's width and height; false where w is none.
func terminalOf(w io.Writer) (width, height int, ok bool) {
	f, is := w.(*os.File)
	if !is || !term.IsTerminal(int(f.Fd())) {
		return 0, 0, false
	}
	width, height, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 80, 24, true
	}
	return width, height, true
}

// widthOf is that of a terminal, 0 for what goes elsewhere, which is not wrapped.
func widthOf(w io.Writer) int {
	width, _, _ := terminalOf(w)
	return width
}

// completePolicies offers the names of policies to a shell.
func (o *options) completePolicies(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	c, err := o.connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	list, err := c.rolloutPolicies(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	names := make([]string, 0, len(list.Items))
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
	}
	slices.Sort(names)
	return names, cobra.ShellCompDirectiveNoFileComp
}
