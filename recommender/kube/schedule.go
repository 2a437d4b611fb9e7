package kube

import (
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// schedule queues what is due.
func (c *Controller) schedule(s *survey, now time.Time, sampled bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.scheduleLooks(now, sampled)
	c.scheduleSaves(s, now)
	for i := range s.rrs {
		r := &s.rrs[i]
		if automatic(r) && r.DeletionTimestamp == nil && (!s.auto[r.Namespace] || c.objects[job{kind: jobRecommendation, name: client.ObjectKeyFromObject(r)}].duplicate != "") {
			c.jobs.Add(job{kind: jobDelete, name: client.ObjectKeyFromObject(r)})
		}
	}
}

// scheduleLooks queues the objects that are to be looked at: at every pass those without a recommendation, the others less often.
func (c *Controller) scheduleLooks(now time.Time, sampled bool) {
	valid := map[[2]string]int{{"ResourceRecommendation", "true"}: 0, {"ResourceRecommendation", "false"}: 0}
	for j, o := range c.objects {
		kind := "ResourceRecommendation"
		if j.kind == jobVPA {
			kind = "VerticalPodAutoscaler"
		}
		valid[[2]string{kind, strconv.FormatBool(o.valid)}]++
		every := c.opts.Interval
		if o.valid {
			every *= lookEvery
		}
		if o.looked.IsZero() || sampled && now.Sub(o.looked) >= every-time.Millisecond {
			c.jobs.Add(j)
		}
	}
	for key, n := range valid {
		c.metrics.valid.WithLabelValues(key[0], key[1]).Set(float64(n))
	}
}

// scheduleSaves queues the checkpoints that are due, and the ResourceRecommendations that are to be made.
func (c *Controller) scheduleSaves(s *survey, now time.Time) {
	for id, w := range c.workloads {
		if due := w.keep.due.Load(); now.UnixNano() >= due {
			w.keep.due.Store(now.Add(c.opts.Checkpoints).UnixNano())
			if due != 0 {
				c.jobs.Add(job{kind: jobSave, name: types.NamespacedName{Namespace: id.Namespace, Name: id.Name}, id: id})
			}
		}
		if s.auto[id.Namespace] && s.claims[id] == nil && w.top.uid != "" {
			c.jobs.Add(job{kind: jobCreate, name: types.NamespacedName{Namespace: id.Namespace, Name: nameOf(id)}, id: id})
		}
	}
}
