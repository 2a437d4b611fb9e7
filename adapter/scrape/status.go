package scrape

import "time"

// Status says how the scrapes of one target go.
type Status struct {
	Target      Target
	LastAttempt time.Time // start of the last finished scrape; zero before the first
	LastSuccess time.Time // start of the last good one; zero before the first
	LastError   string    // of the last scrape, without the URL; empty when it succeeded
	Note        string    // what the sink could not keep of the last good scrape; empty when it kept all
	Failures    int       // in a row
	Duration    time.Duration
	Bytes       int // of the last answer, decompressed
	Samples     int // wanted ones of the last answer
}

// Reason says in one line why values of the target may be missing, or "" if its last scrape was good and kept whole.
func (s Status) Reason() string {
	switch {
	case s.LastAttempt.IsZero():
		return "the first scrape of " + s.Target.URL + " has not finished yet"
	case s.LastError != "":
		return s.Target.URL + ": " + s.LastError
	default:
		return s.Note
	}
}
