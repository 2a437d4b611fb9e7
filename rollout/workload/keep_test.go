package workload

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"headroom.dev/headroom/rollout"
)

// A template that nothing but the Deployment has can be written again after another one took its place, and only it.
func TestKeep(t *testing.T) {
	ctx := t.Context()
	template := func(image string) corev1.PodTemplateSpec {
		return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "chat"}}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}}}
	}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "chat", UID: "1"}, Spec: appsv1.DeploymentSpec{
		Paused: true, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "chat"}}, Template: template("v3"),
	}}
	api := fake.NewClientBuilder().WithObjects(d).Build()
	c := &Client{Reader: api, Writer: api, Now: time.Now}
	ref := Ref{NamespacedName: types.NamespacedName{Namespace: "ns", Name: "chat"}, Kind: rollout.Deployment}
	seen, err := c.Read(ctx, ref)
	require.NoError(t, err)
	id := seen.Workload.Template
	require.True(t, seen.Fleeting(id))
	require.NoError(t, c.Keep(ctx, seen))
	require.NoError(t, c.Keep(ctx, seen), "again")

	require.NoError(t, api.Get(ctx, client.ObjectKeyFromObject(d), d))
	d.Spec.Template = template("v2")
	require.NoError(t, api.Update(ctx, d))
	seen, err = c.Read(ctx, ref)
	require.NoError(t, err)
	require.False(t, seen.Keeps(id))
	require.NoError(t, c.Recall(ctx, seen, "0123456789"), "what was not kept")
	require.False(t, seen.Keeps("0123456789"))
	require.NoError(t, c.Recall(ctx, seen, id))
	require.True(t, seen.Keeps(id))
	require.NoError(t, c.Write(ctx, seen, rollout.Patch{Fields: seen.Workload.Fields, Template: id}))
	require.NoError(t, api.Get(ctx, client.ObjectKeyFromObject(d), d))
	require.Equal(t, template("v3"), d.Spec.Template)

	// One that somebody changed is not what its name says.
	var r appsv1.ControllerRevision
	require.NoError(t, api.Get(ctx, types.NamespacedName{Namespace: "ns", Name: keptName(ref, id)}, &r))
	r.Data.Raw = []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"evil"}]}}}}`)
	require.NoError(t, api.Update(ctx, &r))
	seen.Versions = map[string]Version{}
	require.NoError(t, c.Recall(ctx, seen, id))
	require.False(t, seen.Keeps(id))
	require.NoError(t, c.Forget(ctx, ref, id))
	require.NoError(t, c.Forget(ctx, ref, id), "again")
}
