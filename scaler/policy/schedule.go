package policy

import (
	"fmt"
	"time"
	_ "time/tzdata" // zones are the policies' own affair, images may have none

	"github.com/robfig/cron/v3"

	"headroom.dev/headroom/api/v1alpha1"
	"headroom.dev/headroom/scaler"
)

// Schedule is the floors of a policy.
type Schedule []floor

type floor struct {
	name     string
	start    cron.Schedule
	zone     *time.Location
	duration time.Duration
	replicas int32
}

// parse reads cron expressions of five fields, as crontab(5) has them, in the time zone of each.
func parse(spec []v1alpha1.ScheduledFloor, most int32) (Schedule, error) {
	parser := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)
	var s Schedule
	for i := range spec {
		f := &spec[i]
		field := func(name string) string { return fmt.Sprintf("spec.schedule[%d].%s", i, name) }
		// "Local" is the controller's zone, which is nobody's business.
		if f.TimeZone == "Local" {
			return nil, Invalid(field("timeZone"), "%q is no IANA time zone", f.TimeZone)
		}
		zone, err := time.LoadLocation(f.TimeZone)
		if err != nil {
			return nil, Invalid(field("timeZone"), "%w", err)
		}
		start, err := parser.Parse(f.Start)
		if err != nil {
			return nil, Invalid(field("start"), "%q is no cron expression: %w", f.Start, err)
		}
		if spec, ok := start.(*cron.SpecSchedule); ok && spec.Location != time.Local { //nolint:gosmopolitan // the parser's default
			return nil, Invalid(field("start"), "%q names a time zone, which is for timeZone to say", f.Start)
		}
		if f.Duration.Duration <= 0 {
			return nil, Invalid(field("duration"), "%s is not positive", f.Duration.Duration)
		}
		if f.MinReplicas > most {
			return nil, Invalid(field("minReplicas"), "%d is above maxReplicas, %d", f.MinReplicas, most)
		}
		s = append(s, floor{f.Name, start, zone, f.Duration.Duration, f.MinReplicas})
	}
	return s, nil
}

// Floors returns those that stand at some time from now until then. One floor's times may overlap; the longest that has
// begun counts.
func (s Schedule) Floors(now, until time.Time) []scaler.Floor {
	var list []scaler.Floor
	for i := range s {
		f := &s[i]
		var found *scaler.Floor
		// Next is strictly later than its argument.
		for at := f.start.Next(now.Add(-f.duration).In(f.zone)); !at.IsZero() && !at.After(until); at = f.start.Next(at) {
			end := at.Add(f.duration)
			if found != nil && !at.After(found.End) { // one follows on the other
				found.End = end
				if found.End.After(until) {
					break
				}
				continue
			}
			if found != nil {
				list = append(list, *found)
			}
			found = &scaler.Floor{Name: f.name, Start: at, End: end, Replicas: f.replicas}
		}
		if found != nil {
			list = append(list, *found)
		}
	}
	return list
}
