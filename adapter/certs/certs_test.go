package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	fakeaggregator "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset/fake"
)

var (
	start    = time.Now()
	services = []string{"v1beta1.custom.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io"}
)

type cluster struct {
	*fake.Clientset
	aggregator *fakeaggregator.Clientset
}

func newCluster(apiServices ...string) *cluster {
	c := &cluster{fake.NewClientset(), fakeaggregator.NewSimpleClientset()}
	for _, name := range apiServices {
		c.addService(name)
	}
	return c
}

func (c *cluster) addService(name string) {
	_ = c.aggregator.Tracker().Add(&apiregistration.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       apiregistration.APIServiceSpec{InsecureSkipTLSVerify: true, VersionPriority: 7},
	})
}

func (c *cluster) keeper() *Keeper {
	return NewKeeper(Options{
		Client: c.Clientset, Aggregator: c.aggregator, Namespace: "headroom", Secret: "tls",
		Names: Names("adapter", "headroom"), APIServices: services, Logger: slog.New(slog.DiscardHandler),
	})
}

func (c *cluster) bundle(t *testing.T, name string) []byte {
	t.Helper()
	s, err := c.aggregator.ApiregistrationV1().APIServices().Get(t.Context(), name, metav1.GetOptions{})
	require.NoError(t, err)
	assert.False(t, s.Spec.InsecureSkipTLSVerify)
	assert.Equal(t, int32(7), s.Spec.VersionPriority, "the rest is left alone")
	return s.Spec.CABundle
}

func (c *cluster) secret(t *testing.T) *corev1.Secret {
	t.Helper()
	s, err := c.CoreV1().Secrets("headroom").Get(t.Context(), "tls", metav1.GetOptions{})
	require.NoError(t, err)
	return s
}

func writes(c *fake.Clientset, verb string) int {
	n := 0
	for _, a := range c.Actions() {
		if a.GetVerb() == verb {
			n++
		}
	}
	return n
}

func TestFreshStart(t *testing.T) {
	c := newCluster(services...)
	k := c.keeper()
	require.NoError(t, k.Sync(t.Context(), start))
	cert, key := k.CurrentCertKeyContent()
	secret := c.secret(t)
	assert.Equal(t, corev1.SecretTypeTLS, secret.Type)
	assert.Equal(t, cert, secret.Data["tls.crt"])
	assert.Equal(t, key, secret.Data["tls.key"])
	assert.Equal(t, secret.Data["ca.crt"], c.bundle(t, services[0]))
	assert.Equal(t, secret.Data["ca.crt"], c.bundle(t, services[1]))

	// What the API server's proxy does with it.
	pair, err := tls.X509KeyPair(cert, key)
	require.NoError(t, err)
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	srv.StartTLS()
	defer srv.Close()
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(c.bundle(t, services[0])))
	for _, name := range []string{"adapter.headroom.svc", "adapter.headroom.svc.cluster.local", "adapter.headroom", "localhost"} {
		conn, err := (&tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: name}}).DialContext(t.Context(), "tcp", srv.Listener.Addr().String())
		require.NoError(t, err, name)
		require.NoError(t, conn.Close())
	}
	_, err = (&tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: "other.headroom.svc"}}).DialContext(t.Context(), "tcp", srv.Listener.Addr().String())
	require.Error(t, err)
}

func TestRestartReuses(t *testing.T) {
	c := newCluster(services...)
	first := c.keeper()
	require.NoError(t, first.Sync(t.Context(), start))
	second := c.keeper()
	require.NoError(t, second.Sync(t.Context(), start.Add(300*24*time.Hour)))
	require.NoError(t, second.Sync(t.Context(), start.Add(301*24*time.Hour)))
	a, _ := first.CurrentCertKeyContent()
	b, _ := second.CurrentCertKeyContent()
	assert.Equal(t, a, b)
	assert.Equal(t, 1, writes(c.Clientset, "create"))
	assert.Zero(t, writes(c.Clientset, "update"))
	patches := slices.DeleteFunc(c.aggregator.Actions(), func(a clienttesting.Action) bool { return a.GetVerb() != "patch" })
	assert.Len(t, patches, 2, "patched once each")
}

type bell struct{ rung atomic.Int64 }

func (b *bell) Enqueue() { b.rung.Add(1) }

func TestRenewal(t *testing.T) {
	c := newCluster(services...)
	old, late := c.keeper(), c.keeper()
	require.NoError(t, old.Sync(t.Context(), start))
	require.NoError(t, late.Sync(t.Context(), start))
	var b bell
	old.AddListener(&b)
	renewal := start.Add(Lifetime - RenewBefore + time.Minute)
	before, _ := old.CurrentCertKeyContent()
	require.NoError(t, old.Sync(t.Context(), renewal))
	after, _ := old.CurrentCertKeyContent()
	assert.NotEqual(t, before, after)
	assert.Equal(t, int64(1), b.rung.Load())

	// Both the renewed replica and the one that has not looked yet are trusted.
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(c.bundle(t, services[0])))
	for _, k := range []*Keeper{old, late} {
		certPEM, _ := k.CurrentCertKeyContent()
		block, _ := pem.Decode(certPEM)
		leaf, err := x509.ParseCertificate(block.Bytes)
		require.NoError(t, err)
		_, err = leaf.Verify(x509.VerifyOptions{DNSName: "adapter.headroom.svc", Roots: roots, CurrentTime: renewal})
		require.NoError(t, err)
	}
	require.NoError(t, late.Sync(t.Context(), renewal))
	got, _ := late.CurrentCertKeyContent()
	assert.Equal(t, after, got)
	assert.Equal(t, 1, writes(c.Clientset, "update"))

	// The former CA leaves the bundle when it has expired.
	require.NoError(t, late.Sync(t.Context(), start.Add(2*Lifetime)))
	rest := c.bundle(t, services[1])
	n := 0
	for block, more := pem.Decode(rest); block != nil; block, more = pem.Decode(more) {
		n++
	}
	assert.Equal(t, 1, n)
}

func TestBadSecretIsReplaced(t *testing.T) {
	f := func(name string, spoil func(*corev1.Secret)) {
		t.Helper()
		c := newCluster(services...)
		require.NoError(t, c.keeper().Sync(t.Context(), start))
		s := c.secret(t)
		spoil(s)
		s.Labels = map[string]string{"kept": "yes"}
		_, err := c.CoreV1().Secrets("headroom").Update(t.Context(), s, metav1.UpdateOptions{})
		require.NoError(t, err)
		k := c.keeper()
		require.NoError(t, k.Sync(t.Context(), start), name)
		after := c.secret(t)
		assert.Equal(t, "yes", after.Labels["kept"])
		require.NoError(t, Pair{after.Data["tls.crt"], after.Data["tls.key"], after.Data["ca.crt"]}.check(Names("adapter", "headroom"), start), name)
	}
	f("empty", func(s *corev1.Secret) { s.Data = nil })
	f("garbage", func(s *corev1.Secret) { s.Data["tls.crt"] = []byte("x") })
	f("foreign key", func(s *corev1.Secret) {
		other, err := newPair(Names("x", "y"), nil, start)
		require.NoError(t, err)
		s.Data["tls.key"] = other.Key
	})
	f("other names", func(s *corev1.Secret) {
		other, err := newPair(Names("x", "y"), nil, start)
		require.NoError(t, err)
		s.Data = map[string][]byte{"tls.crt": other.Cert, "tls.key": other.Key, "ca.crt": other.CAs}
	})
	f("other CA", func(s *corev1.Secret) {
		other, err := newPair(Names("x", "y"), nil, start)
		require.NoError(t, err)
		s.Data["ca.crt"] = other.CAs
	})
}

func TestReplicasThatStartAtOnceAgree(t *testing.T) {
	c := newCluster(services...)
	keepers := make([]*Keeper, 8)
	var wg sync.WaitGroup
	for i := range keepers {
		keepers[i] = c.keeper()
		wg.Go(func() { assert.NoError(t, keepers[i].Sync(t.Context(), start)) })
	}
	wg.Wait()
	want, _ := keepers[0].CurrentCertKeyContent()
	for _, k := range keepers {
		got, _ := k.CurrentCertKeyContent()
		assert.Equal(t, want, got)
	}
}

func TestConflictTakesTheWinners(t *testing.T) {
	c := newCluster(services...)
	k := c.keeper()
	require.NoError(t, k.Sync(t.Context(), start))
	renewal := start.Add(Lifetime)
	winner, err := newPair(Names("adapter", "headroom"), nil, renewal)
	require.NoError(t, err)
	lost := false
	c.PrependReactor("update", "secrets", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if lost {
			return false, nil, nil
		}
		lost = true
		s := a.(clienttesting.UpdateAction).GetObject().(*corev1.Secret).DeepCopy()
		s.Data = map[string][]byte{"tls.crt": winner.Cert, "tls.key": winner.Key, "ca.crt": winner.CAs}
		_ = c.Tracker().Update(corev1.SchemeGroupVersion.WithResource("secrets"), s, "headroom")
		return true, nil, apierrors.NewConflict(corev1.Resource("secrets"), "tls", errors.New("changed"))
	})
	require.NoError(t, k.Sync(t.Context(), renewal))
	got, _ := k.CurrentCertKeyContent()
	assert.Equal(t, winner.Cert, got)
}

func TestAPIServiceThatComesLater(t *testing.T) {
	c := newCluster(services[0])
	k := c.keeper()
	var trust *TrustError
	require.ErrorAs(t, k.Sync(t.Context(), start), &trust)
	assert.Contains(t, trust.Error(), services[1])
	cert, _ := k.CurrentCertKeyContent()
	assert.NotEmpty(t, cert, "there is something to serve")
	assert.NotEmpty(t, c.bundle(t, services[0]), "the one that exists is done")
	// A renewal does not wait for it.
	require.ErrorAs(t, k.Sync(t.Context(), start.Add(Lifetime)), &trust)
	renewed, _ := k.CurrentCertKeyContent()
	assert.NotEqual(t, cert, renewed)
	c.addService(services[1])
	require.NoError(t, k.Sync(t.Context(), start.Add(Lifetime)))
	assert.Equal(t, c.bundle(t, services[0]), c.bundle(t, services[1]))
}

func TestRenewalWaitsForTrust(t *testing.T) {
	c := newCluster(services...)
	k := c.keeper()
	require.NoError(t, k.Sync(t.Context(), start))
	cert, _ := k.CurrentCertKeyContent()
	refuse := true
	c.aggregator.PrependReactor("patch", "apiservices", func(clienttesting.Action) (bool, runtime.Object, error) {
		return refuse, nil, apierrors.NewInternalError(errors.New("etcd is away"))
	})
	renewal := start.Add(Lifetime - RenewBefore + time.Minute)
	var trust *TrustError
	require.ErrorAs(t, k.Sync(t.Context(), renewal), &trust)
	still, _ := k.CurrentCertKeyContent()
	assert.Equal(t, cert, still)
	refuse = false
	require.NoError(t, k.Sync(t.Context(), renewal))
	renewed, _ := k.CurrentCertKeyContent()
	assert.NotEqual(t, cert, renewed)
}

func TestRun(t *testing.T) {
	c := newCluster()
	k := c.keeper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { k.Run(ctx, time.Hour, time.Millisecond) })
	require.Eventually(t, func() bool { cert, _ := k.CurrentCertKeyContent(); return cert != nil }, 10*time.Second, time.Millisecond)
	for _, name := range services {
		c.addService(name)
	}
	require.Eventually(t, func() bool {
		s, err := c.aggregator.ApiregistrationV1().APIServices().Get(t.Context(), services[1], metav1.GetOptions{})
		return err == nil && len(s.Spec.CABundle) > 0
	}, 10*time.Second, time.Millisecond)
	cancel()
	wg.Wait()
}

func TestForbiddenIsAnError(t *testing.T) {
	c := newCluster(services...)
	c.PrependReactor("create", "secrets", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(corev1.Resource("secrets"), "tls", errors.New("no"))
	})
	err := c.keeper().Sync(t.Context(), start)
	require.ErrorContains(t, err, "cannot write the secret headroom/tls")
	var trust *TrustError
	assert.NotErrorAs(t, err, &trust)
}
