package discovery

import (
	"errors"
	"log/slog"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// loggedLimit bounds the memory of what was logged; past it everything is said once more.
const loggedLimit = 1000

// logMistakes says what of a monitor is not followed, each thing once.
func (c *cluster) logMistakes(m *monitor) {
	notes := m.mistakes()
	if !c.trusted[m.namespace] && (m.any || slices.ContainsFunc(m.namespaces, func(n string) bool { return n != m.namespace })) {
		notes = append(notes, m.foreign())
	}
	honors := slices.ContainsFunc(m.endpoints, func(e *endpoint) bool { return e.honorLabels })
	if honors && !m.any && !slices.ContainsFunc(m.namespaces, func(n string) bool { return c.trusted[n] }) {
		notes = append(notes, m.wrong("honorLabels", "exposed labels are honoured in trusted namespaces alone"))
	}
	for _, note := range notes {
		if !errors.Is(note, errPending) {
			c.logOnce(note.Error(), "a monitor is not followed", slog.Any("err", note))
		}
	}
}

// logAnnotation says what is wrong with a pod's annotations, once for all pods of one owner.
func (c *cluster) logAnnotation(pod *corev1.Pod, reasons []error) {
	for _, reason := range reasons {
		mistake, ok := reason.(*AnnotationError) //nolint:errorlint // annotatedURL wraps nothing
		if !ok {
			continue
		}
		owner := pod.Name
		if o := metav1.GetControllerOfNoCopy(pod); o != nil {
			owner = o.Name
		}
		c.logOnce(pod.Namespace+"/"+owner+" "+mistake.Error(), "a pod is not scraped",
			slog.String("pod", pod.Namespace+"/"+pod.Name), slog.Any("err", mistake))
	}
}

func (c *cluster) logOnce(key, message string, attrs ...any) {
	if c.logged[key] {
		return
	}
	if len(c.logged) >= loggedLimit {
		clear(c.logged)
	}
	c.logged[key] = true
	c.logger.Warn(message, attrs...)
}

// because joins at most three reasons.
func because(reasons []error) string {
	const most = 3
	var texts []string
	for _, reason := range reasons {
		if t := reason.Error(); !slices.Contains(texts, t) && len(texts) < most {
			texts = append(texts, t)
		}
	}
	return strings.Join(texts, "; ")
}
