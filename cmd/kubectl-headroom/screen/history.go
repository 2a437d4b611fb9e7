package screen

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headroom.dev/headroom/api/v1alpha1"
)

// Entry is a version that was rolled out, is being, or serves.
type Entry struct {
	v1alpha1.RolloutRecord

	// Serves says that it is the stable version, Underway that its update has not ended.
	Serves   bool `json:"serves,omitempty"`
	Underway bool `json:"underway,omitempty"`
}

// History are the updates of a policy and its present versions, the oldest first, as kubectl rollout history lists them.
func History(p *v1alpha1.RolloutPolicy) []Entry {
	st := &p.Status
	var list []Entry
	serves := false
	for i := range st.History { // newest first
		e := Entry{RolloutRecord: st.History[i]}
		if !serves && st.Stable != nil && e.ID == st.Stable.ID && e.Outcome == "Completed" {
			e.Serves, serves = true, true
		}
		list = append(list, e)
	}
	slices.Reverse(list)
	if st.Stable != nil && !serves {
		list = slices.Insert(list, 0, Entry{RolloutRecord: recordOf(st.Stable), Serves: true})
	}
	if st.Update != nil && Underway(p) {
		e := Entry{RolloutRecord: recordOf(st.Update), Underway: true}
		e.StartedAt, e.Strategy, e.Message = st.StartedAt, strategyOf(p), reason(p)
		if st.Stable != nil {
			e.From = st.Stable.ID
		}
		e.Outcome = st.Phase
		list = append(list, e)
	}
	return list
}

func recordOf(v *v1alpha1.RolloutVersion) v1alpha1.RolloutRecord {
	return v1alpha1.RolloutRecord{Revision: v.Revision, ID: v.ID, Hash: v.Hash, Images: v.Images, Model: v.Model, Reason: v.Reason}
}

// outcome is in words.
func (e *Entry) outcome() string {
	switch {
	case e.Underway:
		return "under way (" + e.Outcome + ")"
	case e.Serves && e.Outcome == "":
		return "serves"
	case e.Serves:
		return e.Outcome + ", serves"
	}
	return e.Outcome
}

func (e *Entry) lasted(now time.Time) string {
	switch {
	case e.StartedAt.IsZero():
		return ""
	case e.Underway:
		return span(max(0, now.Sub(e.StartedAt.Time)))
	case e.EndedAt.IsZero():
		return ""
	}
	return span(e.EndedAt.Sub(e.StartedAt.Time))
}

// HistoryTable lists entries.
func HistoryTable(list []Entry, now time.Time, width int) string {
	out := &page{width: width}
	images := make([]map[string]string, 0, len(list))
	for i := range list {
		images = append(images, list[i].Images)
	}
	write := brief(images...)
	rows := [][]string{{"REVISION", "HASH", "IMAGE", "MODEL", "OUTCOME", "STARTED", "DURATION", "REASON"}}
	for i := range list {
		e := &list[i]
		rows = append(rows, []string{
			revision(e.Revision), dash(e.Hash), dash(write(e.Images)), dash(e.Model), e.outcome(), dash(ago(e.StartedAt, now)),
			dash(e.lasted(now)), dash(e.Reason),
		})
	}
	out.table(rows)
	return out.String()
}

// HistoryDetails tell all of some entries; all is where the versions before them are looked up.
func HistoryDetails(list, all []Entry, now time.Time, width int) string {
	out := &page{width: width}
	for i := range list {
		e := &list[i]
		out.space()
		out.fields(
			one("Revision", revision(e.Revision)), one("Hash", e.Hash), one("Template", e.ID),
			one("Images", imagesOf(e.Images)), one("Model", e.Model), one("Reason", e.Reason),
			one("Strategy", e.Strategy), one("Outcome", e.outcome()), one("Message", e.Message),
			one("Started", moment(e.StartedAt, now)), one("Ended", moment(&e.EndedAt, now)), one("Duration", e.lasted(now)),
			one("Before", before(all, e)),
		)
	}
	return out.String()
}

// before is the version that an update led from: by its template, since revisions are counted anew after an undo.
func before(list []Entry, e *Entry) string {
	for i := range list {
		if o := &list[i]; o.ID == e.From && o.Revision > 0 {
			return "revision " + strconv.FormatInt(o.Revision, 10) + " (template " + o.ID + ")"
		}
	}
	if e.From != "" {
		return "template " + e.From
	}
	return ""
}

func imagesOf(images map[string]string) string {
	var list []string
	for _, container := range slices.Sorted(maps.Keys(images)) {
		list = append(list, container+"="+images[container])
	}
	return strings.Join(list, ", ")
}

func moment(t *metav1.Time, now time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return fmt.Sprintf("%s (%s)", t.UTC().Format(time.RFC3339), ago(t, now))
}
