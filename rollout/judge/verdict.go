package judge

import (
	"math"
	"time"
)

// Outcome is what a look says.
type Outcome string

// The outcomes.
const (
	Pass         Outcome = "Pass"
	Fail         Outcome = "Fail"
	Inconclusive Outcome = "Inconclusive"
)

// Reason says why, in one word that conditions and scripts can match.
type Reason string

// The reasons.
const (
	NotWorse       Reason = "NotWorse"       // Pass: new is within the margin, surely
	Worse          Reason = "Worse"          // Fail: new is worse than old, surely, and by more than the margin as far as one can tell
	WithinLimits   Reason = "WithinLimits"   // Pass: a gauge was within its limits for long enough
	BeyondLimits   Reason = "BeyondLimits"   // Fail: a gauge was beyond a limit for long enough
	Gathering      Reason = "Gathering"      // data comes in, the evidence does not suffice yet
	TooFewRequests Reason = "TooFewRequests" // fewer requests or looks than the minimum
	WarmingUp      Reason = "WarmingUp"      // only pods younger than the warm-up
	FirstReading   Reason = "FirstReading"   // counters were seen for the first time: nothing to subtract
	NoData         Reason = "NoData"         // neither version reports the metric
	ArmAbsent      Reason = "ArmAbsent"      // one version reports nothing
	NoRequests     Reason = "NoRequests"     // a version served nothing since the last look
	InvalidData    Reason = "InvalidData"    // NaN, counters that went back, layouts that do not match: see the message
	Ignored        Reason = "Ignored"        // an absent gauge that may be absent
	ScoreTooLow    Reason = "ScoreTooLow"    // Fail: too much of the weight failed
	Expired        Reason = "Expired"        // the longest duration is over without a decision
	TimeWentBack   Reason = "TimeWentBack"   // the look is not after the one before
	AlreadyFailed  Reason = "AlreadyFailed"  // Fail: said at an earlier look
)

// Verdict is the answer of one look.
type Verdict struct {
	Outcome Outcome
	Reason  Reason
	// Message is for a person: one line.
	Message string
	// Pause says that the data do not allow to judge now, so that the rollout should stay where it is; without it an Inconclusive only
	// means "not yet".
	Pause bool
	// Done says that no later look can say anything else.
	Done    bool
	Looks   int
	Metrics []MetricVerdict
}

// MetricVerdict is the answer for one metric.
type MetricVerdict struct {
	Name    string
	Kind    Kind
	Outcome Outcome
	Reason  Reason
	Message string
	New     Figures
	Old     Figures
	Effect  Effect
	// LogWorse and LogWithin are the log e-values against "no worse than old" and against "as bad as the margin, or worse"; PValue is
	// the anytime-valid p-value of the former. FailAt and PassAt are the log e-values that decide.
	LogWorse, LogWithin float64
	FailAt, PassAt      float64
	PValue              float64
	// Dispersion is by how much counts vary more than independent requests would; it divides the evidence.
	Dispersion float64
	// Missing is about how long it takes to pass at the rate so far, were new as it looks now; 0 where unknown or never.
	Missing time.Duration
}

// Figures describes one version since the weights last changed.
type Figures struct {
	Pods     int
	Requests float64
	// Value is the error rate as a share, the judged quantile or the gauge's mean; NaN where unknown.
	Value float64
}

// Effect is how many times old's value new has, over the whole judging, with its time-uniform confidence interval; OK is false where
// nothing is known.
type Effect struct {
	Ratio, Low, High float64
	Confidence       float64
	// Quantile is where a latency differs most surely, 0 for other kinds.
	Quantile float64
	OK       bool
}

func unknownFigures() Figures { return Figures{Value: math.NaN()} }
