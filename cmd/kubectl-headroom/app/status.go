package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/cmd/kubectl-headroom/explain"
)

// statusReport is the answer of kubectl headroom status.
type statusReport struct {
	At    time.Time      `json:"at"`
	Items []policyStatus `json:"items"`

	namespaces bool // in a column
	decisions  bool // below the table
	errOut     io.Writer
}

// policyStatus is one ScalePolicy: what it wants and why. Numbers that are not known are not there.
type policyStatus struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Target    string `json:"target"` // Kind/name
	Mode      string `json:"mode"`
	Ready     string `json:"ready"` // True, False or Unknown
	Reason    string `json:"reason"`
	Message   string `json:"message"`

	Current   *int32           `json:"currentReplicas,omitempty"`
	Desired   *int32           `json:"desiredReplicas,omitempty"`
	Reactive  *int32           `json:"reactiveReplicas,omitempty"` // that present demand alone would ask for
	Limit     string           `json:"limit,omitempty"`
	Demand    *float64         `json:"demand,omitempty"`
	Predicted *float64         `json:"predictedDemand,omitempty"`
	For       *metav1.Time     `json:"predictedFor,omitempty"`
	Skill     *policySkill     `json:"skill,omitempty"`
	Capacity  []policyCapacity `json:"capacity,omitempty"`
	StartUp   *policyStartUp   `json:"startup,omitempty"`
	Account   *policyAccount   `json:"account,omitempty"`
	Decisions []policyDecision `json:"decisions,omitempty"`
}

// policySkill is that of the forecast at the longest horizon.
type policySkill struct {
	Method  string  `json:"method"`
	Horizon float64 `json:"horizonSeconds"`
	Score   *int32  `json:"scorePercent,omitempty"`
	InUse   bool    `json:"inUse"`
}

type policyCapacity struct {
	Version    string  `json:"version,omitempty"`
	GPU        string  `json:"gpu,omitempty"`
	PerReplica float64 `json:"perReplica"`
	Source     string  `json:"source"`
}

type policyStartUp struct {
	P50 float64 `json:"p50Seconds"`
	P90 float64 `json:"p90Seconds"`
}

// policyAccount is in replica-hours.
type policyAccount struct {
	Since       time.Time `json:"since"`
	Used        float64   `json:"usedReplicaHours"`
	Policy      float64   `json:"policyReplicaHours"`
	Short       float64   `json:"shortReplicaHours"`
	PolicyShort float64   `json:"policyShortReplicaHours"`
}

type policyDecision struct {
	At      time.Time `json:"at"`
	From    int32     `json:"from"`
	To      int32     `json:"to"`
	Limit   string    `json:"limit"`
	Message string    `json:"message"`
}

func (o *options) status() *cobra.Command {
	var f format
	var allNamespaces bool
	cmd := &cobra.Command{
		Use:   "status [NAME]",
		Short: "Show what ScalePolicies want, and why",
		Long: "Shows each ScalePolicy: the replicas that its target has, those that it decided on, those that present demand alone\n" +
			"would ask for (REACTIVE), what bound the decision, demand now and as forecast for when a replica ordered now would\n" +
			"serve, and by how much the forecast is better than \"as now\" (SKILL). With a name it lists the last decisions, too.",
		Example: examples(`
  # What does the scaler want?
  kubectl headroom status -A

  # Why, and what did it decide before?
  kubectl headroom status chat -n demo -o wide`),
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if len(args) == 1 && allNamespaces {
				return errors.New("a name and --all-namespaces exclude each other")
			}
			c, err := o.connect()
			if err != nil {
				return err
			}
			if allNamespaces {
				c.namespace = ""
			}
			report, err := c.policyReport(cmd.Context(), args)
			if err != nil {
				return err
			}
			report.namespaces, report.errOut = allNamespaces, o.errOut
			return f.write(o.out, report, report.write)
		},
	}
	f.addTo(cmd)
	cmd.Flags().BoolVarP(&allNamespaces, "all-namespaces", "A", false, "policies of all namespaces")
	return cmd
}

func (c *cluster) policyReport(ctx context.Context, names []string) (*statusReport, error) {
	var list v1alpha1.ScalePolicyList
	group := v1alpha1.GroupVersion().String()
	err := c.fetch(ctx, scoped(group, c.namespace, v1alpha1.ResourceScalePolicies), nil, &list)
	if _, absent := errors.AsType[*absentError](err); absent {
		return nil, errors.New("the cluster knows no ScalePolicies: is Headroom installed? (CustomResourceDefinition scalepolicies.headroom.dev not found)")
	}
	if err != nil {
		return nil, err
	}
	report := &statusReport{At: c.now().UTC(), Items: []policyStatus{}, decisions: len(names) > 0}
	for i := range list.Items {
		if len(names) == 0 || slices.Contains(names, list.Items[i].Name) {
			report.Items = append(report.Items, statusOf(&list.Items[i]))
		}
	}
	if len(names) > 0 && len(report.Items) == 0 {
		return nil, fmt.Errorf("there is no ScalePolicy %q in namespace %s", names[0], c.namespace)
	}
	return report, nil
}

func statusOf(p *v1alpha1.ScalePolicy) policyStatus {
	st := &p.Status
	out := policyStatus{
		Namespace: p.Namespace, Name: p.Name, Target: p.Spec.TargetRef.Kind + "/" + p.Spec.TargetRef.Name, Mode: string(p.Spec.Mode),
		Ready: "Unknown", Reason: v1alpha1.ReasonPending, Message: "headroom-controller has not looked at it yet",
		Current: st.CurrentReplicas, Desired: st.DesiredReplicas, Reactive: st.ReactiveReplicas, Limit: st.Limit,
	}
	if c := meta.FindStatusCondition(st.Conditions, v1alpha1.ConditionReady); c != nil {
		out.Ready, out.Reason, out.Message = string(c.Status), c.Reason, c.Message
	}
	if d := st.Demand; d != nil {
		out.Demand, out.Predicted, out.For = floatOf(d.Current), floatOf(d.Predicted), d.PredictedFor
	}
	for _, f := range st.Forecasts {
		if out.Skill == nil || f.Horizon.Seconds() > out.Skill.Horizon {
			out.Skill = &policySkill{Method: f.Method, Horizon: f.Horizon.Seconds(), Score: f.ScorePercent, InUse: f.InUse}
		}
	}
	for i := range st.Capacity {
		c := &st.Capacity[i]
		out.Capacity = append(out.Capacity, policyCapacity{c.Version, c.GPU, c.PerReplica.AsApproximateFloat64(), c.Source})
	}
	if s := st.Startup; s != nil && s.P50 != nil && s.P90 != nil {
		out.StartUp = &policyStartUp{s.P50.Seconds(), s.P90.Seconds()}
	}
	if a := st.Account; a != nil {
		out.Account = &policyAccount{
			a.Since.UTC(), a.UsedReplicaHours.AsApproximateFloat64(), a.PolicyReplicaHours.AsApproximateFloat64(),
			a.ShortReplicaHours.AsApproximateFloat64(), a.PolicyShortReplicaHours.AsApproximateFloat64(),
		}
	}
	for _, d := range st.Decisions {
		out.Decisions = append(out.Decisions, policyDecision{d.Time.UTC(), d.From, d.To, d.Limit, d.Message})
	}
	return out
}

func floatOf(q *resource.Quantity) *float64 {
	if q == nil {
		return nil
	}
	return new(q.AsApproximateFloat64())
}

func (r *statusReport) write(w io.Writer, wide bool) error {
	if len(r.Items) == 0 {
		fmt.Fprintln(r.errOut, "No ScalePolicies found.")
		return nil
	}
	header := []string{"NAME", "TARGET", "MODE", "CURRENT", "DESIRED", "REACTIVE", "LIMIT", "DEMAND", "PREDICTED", "SKILL"}
	if r.namespaces {
		header = append([]string{"NAMESPACE"}, header...)
	}
	if wide {
		header = append(header, "CAPACITY", "START-UP P90", "USED H", "POLICY H", "SHORT H", "POLICY SHORT H")
	}
	rows := [][]string{append(header, "STATUS", "MESSAGE")}
	for i := range r.Items {
		p := &r.Items[i]
		row := []string{
			p.Name, p.Target, p.Mode, whole(p.Current), whole(p.Desired), whole(p.Reactive), dash(p.Limit), some(p.Demand), some(p.Predicted),
			p.Skill.cell(),
		}
		if r.namespaces {
			row = append([]string{p.Namespace}, row...)
		}
		if wide {
			row = append(row, p.wide()...)
		}
		rows = append(rows, append(row, p.Reason, p.Message))
	}
	if err := explain.Table(w, "", rows); err != nil || !r.decisions {
		return err
	}
	return r.writeDecisions(w)
}

func (r *statusReport) writeDecisions(w io.Writer) error {
	rows := [][]string{{"DECIDED", "FROM", "TO", "LIMIT", "BECAUSE"}}
	for i := range r.Items {
		for _, d := range r.Items[i].Decisions {
			ago := duration.HumanDuration(r.At.Sub(d.At)) + " ago"
			rows = append(rows, []string{ago, strconv.Itoa(int(d.From)), strconv.Itoa(int(d.To)), d.Limit, d.Message})
		}
	}
	if len(rows) == 1 {
		return nil
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return explain.Table(w, "", rows)
}

// wide are the cells of -o wide. Of several capacities all are shown: none stands for the others.
func (p *policyStatus) wide() []string {
	var capacity []string
	for _, c := range p.Capacity {
		text := explain.Short(c.PerReplica)
		if c.Source == "AtLeast" {
			text = "≥" + text
		}
		capacity = append(capacity, text)
	}
	startUp := "-"
	if p.StartUp != nil {
		startUp = duration.HumanDuration(time.Duration(p.StartUp.P90 * float64(time.Second)))
	}
	cells := []string{dash(strings.Join(capacity, ",")), startUp}
	if a := p.Account; a != nil {
		return append(cells, explain.Short(a.Used), explain.Short(a.Policy), explain.Short(a.Short), explain.Short(a.PolicyShort))
	}
	return append(cells, "-", "-", "-", "-")
}

func (s *policySkill) cell() string {
	if s == nil || s.Score == nil {
		return "-"
	}
	text := fmt.Sprintf("%d%%", *s.Score)
	if !s.InUse {
		text += " (unused)"
	}
	return text
}

func whole(n *int32) string {
	if n == nil {
		return "-"
	}
	return strconv.Itoa(int(*n))
}

func some(v *float64) string {
	if v == nil {
		return "-"
	}
	return explain.Short(*v)
}
