package app

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/cmd/kubectl-headroom/screen"
)

func (o *options) rolloutWatch() *cobra.Command {
	var untilDone bool
	cmd := &cobra.Command{
		Use:   "watch NAME | KIND/NAME",
		Short: "Follow an update on the terminal",
		Long: "Shows what rollout status shows, and redraws it in place when the policy changes; where the output is no terminal, it writes a\n" +
			"line for each change. It ends with Ctrl-C, or with --until-done when the update is over; the exit code then is that of\n" +
			"rollout status --watch.",
		Example: examples(`
  kubectl headroom rollout watch chat -n demo
  kubectl headroom rollout watch deployment/chat -n demo --until-done | tee update.log`),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: o.completePolicies,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.connect()
			if err != nil {
				return err
			}
			p, err := c.rolloutPolicy(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.watchRollout(cmd.Context(), o.out, p, untilDone)
		},
	}
	cmd.Flags().BoolVar(&untilDone, "until-done", false, "end when the update is over; exit code 1 if it went back or was refused")
	return cmd
}

// redrawEvery is how often a screen is redrawn for the ages on it; nothing is asked for that.
const redrawEvery = time.Second

func (c *cluster) watchRollout(ctx context.Context, w io.Writer, p *v1alpha1.RolloutPolicy, untilDone bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes, ended := make(chan *v1alpha1.RolloutPolicy), make(chan error, 1)
	var generation int64
	if untilDone {
		generation = c.generation(ctx, p)
	}
	go func() {
		ended <- c.follow(ctx, p.Namespace, p.Name, func(p *v1alpha1.RolloutPolicy) bool {
			select {
			case changes <- p:
				return untilDone && screen.EndOf(p, generation).Over
			case <-ctx.Done():
				return true
			}
		})
	}()
	view := c.viewOf(w)
	tick := time.NewTicker(redrawEvery)
	defer tick.Stop()
	for {
		select {
		case p = <-changes:
			view.show(p)
		case <-tick.C:
			view.tick(p)
		case err := <-ended:
			if err != nil || !untilDone {
				return err
			}
			switch end := screen.EndOf(p, generation); {
			case !end.Over:
				return &updateError{"interrupted before the update of " + p.Name + " was over"}
			case !end.Good:
				return &updateError{p.Name + ": " + end.Why}
			}
			return nil
		}
	}
}

// view is where changes are shown.
type view interface {
	show(p *v1alpha1.RolloutPolicy)
	tick(p *v1alpha1.RolloutPolicy) // time has passed
}

func (c *cluster) viewOf(w io.Writer) view {
	if _, _, ok := terminalOf(w); ok {
		return &redrawn{w: w, now: c.now}
	}
	return &lines{w: w, now: c.now}
}

// redrawn is a screen that is written over.
type redrawn struct {
	w     io.Writer
	now   func() time.Time
	lines int
	shown bool
}

func (r *redrawn) show(p *v1alpha1.RolloutPolicy) {
	r.shown = true
	width, height, _ := terminalOf(r.w)
	var text string
	text, r.lines = screen.Redraw(r.lines, screen.Status(p, r.now(), width), width, height)
	_, _ = io.WriteString(r.w, text) // a terminal that is gone ends the command by a signal
}

func (r *redrawn) tick(p *v1alpha1.RolloutPolicy) {
	if r.shown {
		r.show(p)
	}
}

// lines are what has changed.
type lines struct {
	w    io.Writer
	now  func() time.Time
	last string
}

func (l *lines) show(p *v1alpha1.RolloutPolicy) {
	if line := screen.Line(p); line != l.last {
		_, _ = fmt.Fprintf(l.w, "%s  %s\n", l.now().UTC().Format(time.RFC3339), line) // a pipe that is closed ends the command by a signal
		l.last = line
	}
}

func (*lines) tick(*v1alpha1.RolloutPolicy) {}
