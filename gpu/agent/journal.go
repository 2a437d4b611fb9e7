package agent

import "log/slog"

// journal logs what changes. Each loop has its own.
type journal struct {
	log  *slog.Logger
	last map[subject]string // problem, for subjects that have or had one
}

// subject is what a problem is about: a quantity of a device, or something of the agent's with an empty device.
type subject struct{ device, what string }

func (s subject) String() string {
	if s.device == "" {
		return s.what
	}
	return s.device + " " + s.what
}

func newJournal(log *slog.Logger) journal { return journal{log: log, last: map[subject]string{}} }

// note logs the problem of a subject if it is another one than last time. An empty problem is none.
func (j journal) note(what, problem string) { j.noteOf(subject{what: what}, problem) }

func (j journal) noteOf(s subject, problem string) {
	last, had := j.last[s]
	switch {
	case problem == last && (had || problem == ""):
	case problem == "":
		j.log.Info("known again", "what", s.String())
	default:
		j.log.Warn("unknown", "what", s.String(), "reason", problem)
	}
	if had || problem != "" {
		j.last[s] = problem
	}
}
