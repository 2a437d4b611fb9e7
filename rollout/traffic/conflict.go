package traffic

import (
	"errors"
	"math"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"headroom.dev/headroom/internal/managedfields"
	"headroom.dev/headroom/rollout/route"
)

// conflict says who, by an object's managedFields, wrote a field that does not hold what we wrote. Who takes a key out of a
// map that is not atomic leaves no name behind.
func conflict(u *unstructured.Unstructured, field ...string) error {
	return &route.ConflictError{Object: describe(u), Field: strings.Join(field, "."), Manager: writer(u.GetManagedFields(), field...)}
}

// writer returns the manager other than us that last wrote a field or something below it; empty where none is named.
func writer(entries []metav1.ManagedFieldsEntry, field ...string) string {
	manager, last := "", time.Time{}
	for _, e := range entries {
		if e.Manager == Manager || e.Subresource != "" || e.FieldsV1 == nil || !managedfields.Own(e.FieldsV1.GetRawBytes(), field) {
			continue
		}
		at := time.Time{}
		if e.Time != nil {
			at = e.Time.Time
		}
		if manager == "" || at.After(last) {
			manager, last = e.Manager, at
		}
	}
	return manager
}

// applied makes a route.ConflictError of the API server's refusal of a server-side apply; other errors stay as they are.
func applied(object string, err error) error {
	var status apierrors.APIStatus
	if err == nil || !apierrors.IsConflict(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return err
	}
	for _, cause := range status.Status().Details.Causes {
		if cause.Type == metav1.CauseTypeFieldManagerConflict {
			return &route.ConflictError{Object: object, Field: strings.TrimPrefix(cause.Field, "."), Manager: quoted(cause.Message)}
		}
	}
	return err
}

// quoted returns what stands between the first two quotation marks: `conflict with "kubectl" using v1`.
func quoted(text string) string {
	_, text, _ = strings.Cut(text, `"`)
	text, _, ok := strings.Cut(text, `"`)
	if !ok {
		return ""
	}
	return text
}

// unknown is a split whose share nobody knows.
func unknown(s route.Split) route.Split {
	s.Share, s.Matches = math.NaN(), nil
	return s
}
