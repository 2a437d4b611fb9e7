package scaler

// Limit is what bound a decision.
type Limit uint8

// Step is one consideration of a decision and the replicas after it.
type Step struct {
	Limit    Limit
	Replicas int32
}

type window struct{}

// Message renders the reasons in one line.
func (d Decision) Message() string { return "" }

// String is the limit's name.
func (l Limit) String() string { return "" }

// Decide decides.
func Decide(in Input) Decision { return Decision{Replicas: in.Replicas, Memory: in.Memory} }
