// Package app is the command line of headroom-lab: flags to options, options to package lab.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"headroom.dev/headroom/lab"
	"headroom.dev/headroom/lab/binaries"
	"headroom.dev/headroom/lab/process"
	"headroom.dev/headroom/lab/progress"
)

// New returns the root command.
func New() *cobra.Command {
	root := &cobra.Command{
		Use:   "headroom-lab",
		Short: "A real Kubernetes cluster on one machine, with simulated GPUs and inference pods",
		Long: "headroom-lab runs a real control plane (etcd, kube-apiserver, kube-controller-manager, kube-scheduler) as plain\n" +
			"processes, with simulated GPU nodes, simulated inference pods that answer real HTTP, and Headroom's own pods.\n" +
			"It needs no container engine, no root and no GPU. The first run builds the control plane (about ten minutes on two cores).",
		SilenceUsage: true, SilenceErrors: true,
	}
	root.AddCommand(prepareCommand(), upCommand(), hostCommand(), downCommand(), statusCommand(), demoCommand(), loadCommand())
	return root
}

// clusterFlags binds the options that say what cluster to make.
func clusterFlags(f *pflag.FlagSet, o *lab.Options) {
	stateFlag(f, &o.Dir)
	f.IntVar(&o.Nodes, "nodes", o.Nodes, "number of GPU nodes")
	f.IntVar(&o.GPUs, "gpus", o.GPUs, "GPUs on each node")
	f.StringVar(&o.Product, "product", o.Product, "GPU model, as NVIDIA's GPU feature discovery writes it")
	f.DurationVar(&o.HPASyncPeriod, "hpa-sync-period", o.HPASyncPeriod, "how often the HPA controller decides (Kubernetes' default is 15s)")
	f.StringVar(&o.Source, "source", o.Source, "a folder inside a checkout of the project (default: the working directory)")
	f.BoolVar(&o.Rightsizing, "rightsizing", o.Rightsizing, "run metrics-server and the Vertical Pod Autoscaler's updater and admission controller, too")
	f.BoolVar(&o.Debug, "debug", o.Debug, "log every step of the lab's kubelet and network")
}

func stateFlag(f *pflag.FlagSet, dir *string) {
	f.StringVar(dir, "state-dir", lab.DefaultDir(), "where the lab keeps its files; each lab has its own")
}

func downCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use: "down", Short: "Take a lab down, or clean up after one that crashed", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			err := lab.DownAt(dir, progress.New(c.ErrOrStderr()))
			if errors.Is(err, lab.ErrNoLab) {
				fmt.Fprintln(c.OutOrStdout(), err)
				return nil
			}
			return err
		},
	}
	stateFlag(c.Flags(), &dir)
	return c
}

func statusCommand() *cobra.Command {
	var dir, output string
	c := &cobra.Command{
		Use: "status", Short: "Show a lab's processes and how to reach it", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			state, processes, err := lab.ReadState(dir)
			if err != nil {
				return err
			}
			report := statusReport{State: state, Status: status(state), Processes: processes}
			if output == "json" {
				return writeJSON(c.OutOrStdout(), report)
			}
			return report.print(c.OutOrStdout())
		},
	}
	stateFlag(c.Flags(), &dir)
	outputFlag(c.Flags(), &output)
	return c
}

type statusReport struct {
	lab.State
	Status    string          `json:"status"`
	Processes []process.Entry `json:"processes"`
}

func status(s lab.State) string {
	switch {
	case !process.Alive(s.Host):
		return "crashed; headroom-lab down cleans up"
	case !s.Ready:
		return "starting"
	default:
		return "running"
	}
}

func (r statusReport) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "status\t%s\n", r.Status)
	if r.Ready {
		fmt.Fprintf(t, "since\t%s (%s)\n", r.Started.Format(time.DateTime), time.Since(r.Started).Round(time.Second))
		fmt.Fprintf(t, "cluster\t%d nodes with %d × %s; %s\n", r.Nodes, r.GPUs, r.Product, r.Versions)
		fmt.Fprintf(t, "server\t%s\npod addresses\t%s\nHPA decides every\t%s\n", r.Server, r.Pods, r.HPASync)
	}
	fmt.Fprintln(t, "\nPID\tPROCESS")
	fmt.Fprintf(t, "%d\t%s\n", r.Host.PID, r.Host.Name)
	for _, p := range r.Processes {
		fmt.Fprintf(t, "%d\t%s\n", p.PID, p.Name)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if r.Ready {
		fmt.Fprintf(w, "\n%s\n", reach(r.Kubeconfig, r.Kubectl))
	}
	return nil
}

// reach is what a shell needs to talk to the lab; kubectl of the same version is at hand for those who have none.
func reach(kubeconfig, kubectl string) string {
	return fmt.Sprintf("export KUBECONFIG=%s\nalias kubectl=%s   # if you have none", kubeconfig, kubectl)
}

// cluster reads which lab runs in dir.
func cluster(dir, source string) (lab.Cluster, error) {
	state, _, err := lab.ReadState(dir)
	if err != nil {
		return lab.Cluster{}, err
	}
	if !process.Alive(state.Host) || !state.Ready {
		return lab.Cluster{}, fmt.Errorf("the lab in %s is %s", dir, status(state))
	}
	if source, err = lab.FindSource(source); err != nil {
		return lab.Cluster{}, err
	}
	return lab.Cluster{Kubeconfig: state.Kubeconfig, Kubectl: state.Kubectl, Source: source}, nil
}

// hold keeps the lab until ctx ends or a part of it does, and takes it down.
func hold(ctx context.Context, l *lab.Lab) error {
	select {
	case <-ctx.Done():
		return l.Down()
	case err := <-l.Failed():
		return l.Abandon(err)
	}
}

func outputFlag(f *pflag.FlagSet, output *string) {
	f.StringVarP(output, "output", "o", "table", "table or json")
}

func prepareCommand() *cobra.Command {
	var source string
	var rightsizing bool
	c := &cobra.Command{
		Use: "prepare", Short: "Build the control plane into the cache, as up and demo do when it is missing", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			root, err := lab.FindSource(source)
			if err != nil {
				return err
			}
			components, err := binaries.Ensure(c.Context(), root, progress.New(os.Stderr))
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: in %s\n", components.Versions, filepath.Dir(components.Kubectl))
			if !rightsizing {
				return nil
			}
			more, err := binaries.EnsureRightsizing(c.Context(), root, progress.New(os.Stderr))
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: in %s\n", more.Versions, filepath.Dir(more.MetricsServer))
			return nil
		},
	}
	c.Flags().BoolVar(&rightsizing, "rightsizing", false, "build what up --rightsizing runs, too (four minutes on two cores)")
	c.Flags().StringVar(&source, "source", "", "a folder inside a checkout of the project (default: the working directory)")
	return c
}

func upCommand() *cobra.Command {
	o, detach := lab.DefaultOptions(), false
	c := &cobra.Command{
		Use: "up", Short: "Bring a lab up and hold it until Ctrl-C", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if detach {
				host, err := startHost(c.Context(), o)
				if err != nil {
					return err
				}
				fmt.Fprintf(c.OutOrStdout(), "The lab is up; headroom-lab down ends it.\n%s\n", reach(host.state.Kubeconfig, host.state.Kubectl))
				return host.keep()
			}
			o.Output = os.Stderr
			l, err := lab.Up(c.Context(), o)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "The lab is up; Ctrl-C ends it.\n%s\n", reach(l.Kubeconfig, l.Kubectl))
			return hold(c.Context(), l)
		},
	}
	clusterFlags(c.Flags(), &o)
	c.Flags().BoolVarP(&detach, "detach", "d", false, "return when it is up and leave it running")
	return c
}
