package recommender

// A rule says, from the hours before, what the coming hour may need. By itself none is safe: each has a margin, the smallest with
// which it would have kept the risk in the hours kept.
type rule uint8

const (
	lastHour     rule = iota // the last hour's
	lastHours                // the most of the last three
	steady                   // always the same: the margin is all
	yesterday                // the same hour's, a day ago
	aboutThen                // the most of the three hours around it, a day ago
	recentOrThen             // the most of the last two hours and the same hour a day ago
	changeOfDay              // the last hour's, changed as it did a day ago
	weekAgo                  // the most of the three hours around it, a week ago
	recentOrWeek             // the most of the last two hours and the same hour a week ago
)

const numberOfRules = int(recentOrWeek) + 1

// steadyLevel is any: the margin makes it up.
const steadyLevel = 100

func (r rule) reason() Reason {
	switch r {
	case lastHour, lastHours:
		return ReasonRecent
	case yesterday, aboutThen, recentOrThen, changeOfDay:
		return ReasonDaily
	case weekAgo, recentOrWeek:
		return ReasonWeekly
	case steady:
	}
	return ReasonSteady
}

func (r rule) String() string {
	switch r {
	case lastHour:
		return "what the last hour needed"
	case lastHours:
		return "the most that the last three hours needed"
	case steady:
		return "the same at all hours"
	case yesterday:
		return "what the same hour needed a day ago"
	case aboutThen:
		return "the most around the same hour a day ago"
	case recentOrThen:
		return "the most of the last two hours and the same hour a day ago"
	case changeOfDay:
		return "what the last hour needed, changed as it did a day ago"
	case weekAgo:
		return "the most around the same hour a week ago"
	case recentOrWeek:
		return "the most of the last two hours and the same hour a week ago"
	}
	return "no rule"
}

// says is the rule for what the hours from k on will need, hold of them. p has at each hour the most that as many hours from it on
// needed, 0 where nothing is known. What says reads has ended before k. ok is false where the hours that it needs are not known.
func (r rule) says(p *[2*week + 1]uint8, k, hold int) (level int, ok bool) {
	now := k - hold
	last := int(p[now])
	if last == 0 {
		last = int(p[now-1])
	}
	recent := max(last, int(p[now-1]))
	then := k - (hold+day-1)/day*day // the same hour of the newest day that will have told all
	switch r {
	case lastHour:
		level = last
	case lastHours:
		level = max(recent, int(p[now-2]))
	case steady:
		return steadyLevel, true
	case yesterday:
		level = int(p[then])
	case aboutThen:
		level = int(max(p[then-1], p[then], p[min(then+1, now)]))
	case recentOrThen:
		return max(recent, int(p[then])), last != 0 && p[then] != 0
	case changeOfDay:
		return last + int(p[then]) - int(p[then-hold]), last != 0 && p[then] != 0 && p[then-hold] != 0
	case weekAgo:
		level = int(max(p[k-week-1], p[k-week], p[min(k-week+1, now)]))
	case recentOrWeek:
		return max(recent, int(p[k-week])), last != 0 && p[k-week] != 0
	}
	return level, level != 0
}
