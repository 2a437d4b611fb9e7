package app

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	authentication "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/cmd/kubectl-headroom/screen"
	"headroom.dev/headroom/rollout"
)

// steering is what a person may tell the controller.
type steering struct {
	kind    rollout.CommandKind
	use     string
	short   string
	long    string
	example string
	// senseless says why it makes no sense where the policy stands, nil where it does.
	senseless func(p *v1alpha1.RolloutPolicy) error
}

func rolloutCommands() []steering {
	const example = "\n  kubectl headroom rollout %[1]s chat -n demo\n  kubectl headroom rollout %[1]s deployment/chat -n demo"
	list := []steering{
		{
			kind: rollout.Pause, use: "pause", short: "Stop an update where it is", senseless: cannotPause,
			long: "The update stays at the mix of versions that it has; both serve. It is gone back from by itself only where the new version\n" +
				"breaks, or live load needs its GPUs. Resume or promote lets it go on.",
		},
		{
			kind: rollout.Resume, use: "resume", short: "Let a paused update go on", senseless: cannotResume,
			long: "Gates and the judge count as before: a step that waits for them still does.",
		},
		{
			kind: rollout.Promote, use: "promote", short: "Let an update go on past its present step", senseless: cannotPromote,
			long: "The present step is passed, whatever its gates and the judge say; the steps after it are judged again. It makes sense when\n" +
				"the step has reached its mix (phase Settled). Who promoted it stands in the events and in the history.",
		},
		{
			kind: rollout.Abort, use: "abort", short: "Take an update back", senseless: cannotAbort,
			long: "The workload goes back to the stable version, and the version that was aborted is not tried again unless rollout retry says\n" +
				"so. The template in the workload becomes the stable one again: a GitOps tool that wrote the other will write it again.",
		},
		{
			kind: rollout.Undo, use: "undo", short: "Go back to the version before", senseless: cannotUndo,
			long: "In the middle of an update it is abort. At rest it rolls the version before the stable one out again, by plan, step by step\n" +
				"and judged like any other. Older versions are rolled out by applying their templates.",
		},
		{
			kind: rollout.Retry, use: "retry", short: "Try a version again that was gone back from", senseless: cannotRetry,
			long: "A version that failed, or was aborted, is not tried again by itself; one that gave its GPUs up waits a while. Retry begins\n" +
				"with it now.",
		},
	}
	for i := range list {
		list[i].example = examples(fmt.Sprintf(example, list[i].use))
	}
	return list
}

func (o *options) rolloutCommand(s steering) *cobra.Command {
	var force bool
	timeout := requestTimeout
	cmd := &cobra.Command{
		Use:               s.use + " NAME | KIND/NAME",
		Short:             s.short,
		Long:              s.long + "\n\nIt waits until the controller has obeyed, and says where the update then stands.",
		Example:           s.example,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: o.completePolicies,
		RunE: func(cmd *cobra.Command, args []string) error {
			if timeout < 0 {
				return fmt.Errorf("--timeout: %s is negative", timeout)
			}
			c, err := o.connect()
			if err != nil {
				return err
			}
			p, err := c.rolloutPolicy(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.steer(cmd.Context(), o, s, p, timeout, force)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace an earlier command that was not obeyed yet, and write it whatever the phase")
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "how long to wait until the controller has obeyed; 0: do not wait")
	return cmd
}

// steer writes a command, waits until it was obeyed, and says what came of it.
func (c *cluster) steer(ctx context.Context, o *options, s steering, p *v1alpha1.RolloutPolicy, timeout time.Duration, force bool) error {
	command := v1alpha1.RolloutCommand{ID: randomID(), Kind: string(s.kind), By: c.whoAmI(ctx)}
	if err := c.command(ctx, s, p, command, force); err != nil {
		return err
	}
	if timeout == 0 {
		fmt.Fprintf(o.out, "%s: %s was asked for\n", p.Name, s.use)
		return nil
	}
	waiting, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var last *v1alpha1.RolloutPolicy
	obeyed := false
	err := c.follow(waiting, p.Namespace, p.Name, func(p *v1alpha1.RolloutPolicy) bool {
		last, obeyed = p, p.Status.HandledCommand == command.ID
		return obeyed || commandOf(p).ID != command.ID
	})
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted: %s was asked for, and the controller had not obeyed yet", s.use)
	case !obeyed && last != nil && commandOf(last).ID != command.ID:
		return fmt.Errorf("another command took the place of this one before it was obeyed: %s by %s", commandOf(last).Kind, commandOf(last).By)
	case !obeyed:
		return fmt.Errorf("headroom-controller has not obeyed within %s: is it running? It will once it does, unless another command takes its place", timeout)
	}
	fmt.Fprintf(o.out, "%s: %s; %s\n", p.Name, done(s.kind), screen.Line(last))
	return nil
}

func done(kind rollout.CommandKind) string {
	switch kind {
	case rollout.Pause:
		return "paused"
	case rollout.Resume:
		return "resumed"
	case rollout.Promote:
		return "promoted"
	case rollout.Abort:
		return "aborted"
	case rollout.Undo:
		return "undone"
	case rollout.Retry:
		return "retried"
	}
	return string(kind)
}

// command writes the annotation: only onto the object that was looked at, so that no earlier command is lost that was written in
// the meantime, and no decision rests on a phase that is over.
func (c *cluster) command(ctx context.Context, s steering, p *v1alpha1.RolloutPolicy, command v1alpha1.RolloutCommand, force bool) error {
	api, err := c.policyClient(p.Namespace)
	if err != nil {
		return err
	}
	text, err := json.Marshal(command)
	if err != nil {
		return fmt.Errorf("cannot write the command: %w", err)
	}
	const attempts = 5 // the controller writes status all the time while pods come and go
	for attempt := 1; ; attempt++ {
		if !force {
			if err := mayCommand(s, p); err != nil {
				return err
			}
		}
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
			"uid": p.UID, "resourceVersion": p.ResourceVersion, "annotations": map[string]string{v1alpha1.AnnotationRolloutCommand: string(text)},
		}})
		if err != nil {
			return fmt.Errorf("cannot write the command: %w", err)
		}
		_, err = api.Patch(ctx, p.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "kubectl-headroom"})
		switch {
		case err == nil:
			return nil
		case !apierrors.IsConflict(err) || attempt == attempts:
			return fmt.Errorf("cannot ask for %s: %w", s.use, err)
		}
		again, err := c.rolloutPolicy(ctx, p.Name)
		if err != nil {
			return err
		}
		p = again
	}
}

// mayCommand refuses what would be lost or make no sense.
func mayCommand(s steering, p *v1alpha1.RolloutPolicy) error {
	if earlier := commandOf(p); earlier.ID != "" && earlier.ID != p.Status.HandledCommand {
		return fmt.Errorf("%s by %s was not obeyed yet: wait for it, or take its place with --force", earlier.Kind, earlier.By)
	}
	if err := s.senseless(p); err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	return nil
}

// commandOf returns the last command; one that cannot be read stands in nobody's way, since no controller obeys it either.
func commandOf(p *v1alpha1.RolloutPolicy) v1alpha1.RolloutCommand {
	var c v1alpha1.RolloutCommand
	if err := json.Unmarshal([]byte(p.Annotations[v1alpha1.AnnotationRolloutCommand]), &c); err != nil {
		return v1alpha1.RolloutCommand{}
	}
	return c
}

func randomID() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// whoAmI is the user as the API server knows them, else as the shell does.
func (c *cluster) whoAmI(ctx context.Context) string {
	review, err := c.kube.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authentication.SelfSubjectReview{}, metav1.CreateOptions{})
	if err == nil && review.Status.UserInfo.Username != "" {
		return review.Status.UserInfo.Username
	}
	if user := os.Getenv("USER"); user != "" {
		return user
	}
	return "unknown"
}

func phaseOf(p *v1alpha1.RolloutPolicy) rollout.Phase { return rollout.Phase(p.Status.Phase) }

// running says that an update can be stopped or taken back.
func running(p *v1alpha1.RolloutPolicy) error {
	switch phaseOf(p) {
	case rollout.Planning, rollout.Moving, rollout.Settled:
		return nil
	case rollout.GoingBack:
		return errors.New("the update is already going back")
	case rollout.Adopting:
		return errors.New("the controller has not taken the workload over yet")
	case rollout.Gone:
		return errors.New("its workload does not exist")
	case rollout.Resting, rollout.Restoring, rollout.Released:
	}
	return errors.New("no update is under way")
}

func cannotPause(p *v1alpha1.RolloutPolicy) error {
	if err := running(p); err != nil {
		return fmt.Errorf("there is nothing to pause: %w", err)
	}
	if p.Status.Paused {
		return errors.New("the update is paused already")
	}
	return nil
}

func cannotResume(p *v1alpha1.RolloutPolicy) error {
	if !p.Status.Paused {
		return errors.New("there is nothing to resume: the update is not paused")
	}
	return nil
}

func cannotPromote(p *v1alpha1.RolloutPolicy) error {
	switch phaseOf(p) {
	case rollout.Settled:
		return nil
	case rollout.Moving:
		return fmt.Errorf("there is nothing to promote yet: the step %swaits for its pods, not for a person", stepName(p))
	case rollout.Planning:
		return errors.New("there is nothing to promote: the update has not started (rollout status says what it waits for)")
	case rollout.Adopting, rollout.Resting, rollout.GoingBack, rollout.Restoring, rollout.Released, rollout.Gone:
	}
	return fmt.Errorf("there is nothing to promote: %w", running(p))
}

func stepName(p *v1alpha1.RolloutPolicy) string {
	if p.Status.Step == nil {
		return ""
	}
	return p.Status.Step.Name + " "
}

func cannotAbort(p *v1alpha1.RolloutPolicy) error {
	if err := running(p); err != nil {
		return fmt.Errorf("there is nothing to abort: %w", err)
	}
	return nil
}

func cannotUndo(p *v1alpha1.RolloutPolicy) error {
	err := running(p)
	if err == nil {
		return nil
	}
	if phaseOf(p) != rollout.Resting {
		return fmt.Errorf("there is nothing to undo: %w", err)
	}
	if limit := p.Spec.HistoryLimit; limit != nil && *limit == 0 {
		return nil // what there was before is not told: the controller knows
	}
	for i := range p.Status.History {
		if p.Status.History[i].Outcome == "Completed" {
			return nil
		}
	}
	return errors.New("there is nothing to undo: no update has completed since the policy took the workload over")
}

func cannotRetry(p *v1alpha1.RolloutPolicy) error {
	if phaseOf(p) != rollout.Resting {
		if phaseOf(p) == rollout.Planning {
			return errors.New("there is nothing to retry: the update has not started, and is planned again by itself")
		}
		if err := running(p); err != nil && phaseOf(p) != rollout.Restoring {
			return fmt.Errorf("there is nothing to retry: %w", err)
		}
		return errors.New("there is nothing to retry yet: the update is not over")
	}
	for i := range p.Status.Conditions {
		if c := &p.Status.Conditions[i]; c.Type == v1alpha1.ConditionCompleted && c.Status == metav1.ConditionTrue {
			return errors.New("there is nothing to retry: the newest template was not gone back from")
		}
	}
	return nil
}
