package certs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/kubernetes"
	aggregator "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"
)

// keyCAs is where the bundle is in the Secret, as cert-manager names it; the pair bears the names of kubernetes.io/tls.
const keyCAs = "ca.crt"

// Options of a Keeper; all are required.
type Options struct {
	Client      kubernetes.Interface
	Aggregator  aggregator.Interface
	Namespace   string
	Secret      string
	Names       []string // see Names
	APIServices []string // "v1beta2.custom.metrics.k8s.io"
	Logger      *slog.Logger
}

// Keeper holds the pair to serve and renews it. It is a dynamiccertificates.CertKeyContentProvider.
type Keeper struct {
	opts Options

	mu        sync.RWMutex
	pair      Pair
	listeners []dynamiccertificates.Listener

	complained string // the last complaint of Run, not to be repeated
}

var _ dynamiccertificates.CertKeyContentProvider = (*Keeper)(nil)

// NewKeeper returns a Keeper without a pair; Sync gets one.
func NewKeeper(opts Options) *Keeper { return &Keeper{opts: opts} }

// Name implements dynamiccertificates.CertKeyContentProvider.
func (k *Keeper) Name() string { return "secret " + k.opts.Namespace + "/" + k.opts.Secret }

// CurrentCertKeyContent implements dynamiccertificates.CertKeyContentProvider.
func (k *Keeper) CurrentCertKeyContent() (cert, key []byte) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.pair.Cert, k.pair.Key
}

// AddListener implements dynamiccertificates.Notifier.
func (k *Keeper) AddListener(l dynamiccertificates.Listener) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.listeners = append(k.listeners, l)
}

// Sync brings Secret, APIServices and the served pair to agree. There is a pair when it returns nil, and when the error is
// a *TrustError, too: the former one where an APIService could not be told of the new one, the new one where there is no
// former, or where the only fault is that an APIService does not exist.
func (k *Keeper) Sync(ctx context.Context, now time.Time) error {
	pair, err := k.ensureSecret(ctx, now)
	if err != nil {
		return err
	}
	missing, failed := k.ensureTrust(ctx, pair.CAs)
	k.serve(pair, failed == nil)
	if trust := errors.Join(missing, failed); trust != nil {
		return &TrustError{trust}
	}
	return nil
}

// TrustError is why an APIService does not trust the newest pair yet.
type TrustError struct{ err error }

func (e *TrustError) Error() string { return e.err.Error() }
func (e *TrustError) Unwrap() error { return e.err }

// Run syncs until the context ends: after interval, or after retry when something is amiss, such as an APIService that
// nobody has created yet. It logs a complaint when it changes.
func (k *Keeper) Run(ctx context.Context, interval, retry time.Duration) {
	for {
		err := k.Sync(ctx, time.Now())
		k.complain(err)
		wait := interval
		if err != nil {
			wait = retry
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

func (k *Keeper) complain(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != k.complained && text != "" && !errors.Is(err, context.Canceled) {
		k.opts.Logger.Warn("cannot keep the serving certificate", "err", text)
	}
	k.complained = text
}

// serve swaps the pair in; an untrusted one only where there is none better.
func (k *Keeper) serve(pair Pair, trusted bool) {
	k.mu.Lock()
	same := bytes.Equal(k.pair.Cert, pair.Cert)
	if same || (!trusted && k.pair.Cert != nil) {
		k.mu.Unlock()
		return
	}
	k.pair = pair
	listeners := k.listeners
	k.mu.Unlock()
	for _, l := range listeners {
		l.Enqueue()
	}
}

// ensureSecret returns the pair in the Secret, made or renewed where need be. A replica that loses a race takes the winner's.
func (k *Keeper) ensureSecret(ctx context.Context, now time.Time) (Pair, error) {
	secrets := k.opts.Client.CoreV1().Secrets(k.opts.Namespace)
	const tries = 5
	for range tries {
		secret, err := secrets.Get(ctx, k.opts.Secret, metav1.GetOptions{})
		missing := apierrors.IsNotFound(err)
		if err != nil && !missing {
			return Pair{}, fmt.Errorf("cannot get the secret %s/%s: %w", k.opts.Namespace, k.opts.Secret, err)
		}
		var old Pair
		if !missing {
			old = Pair{Cert: secret.Data[corev1.TLSCertKey], Key: secret.Data[corev1.TLSPrivateKeyKey], CAs: secret.Data[keyCAs]}
		}
		why := old.check(k.opts.Names, now)
		if why == nil {
			return old, nil
		}
		pair, err := newPair(k.opts.Names, old.CAs, now)
		if err != nil {
			return Pair{}, err
		}
		if missing {
			_, err = secrets.Create(ctx, k.secret(pair), metav1.CreateOptions{})
		} else {
			if secret.Data == nil {
				secret.Data = map[string][]byte{}
			}
			maps.Copy(secret.Data, k.secret(pair).Data)
			_, err = secrets.Update(ctx, secret, metav1.UpdateOptions{})
		}
		switch {
		case err == nil:
			k.opts.Logger.Info("made a serving certificate", "secret", k.opts.Namespace+"/"+k.opts.Secret, "because", why.Error())
			return pair, nil
		case !apierrors.IsAlreadyExists(err) && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err):
			return Pair{}, fmt.Errorf("cannot write the secret %s/%s: %w", k.opts.Namespace, k.opts.Secret, err)
		}
	}
	return Pair{}, fmt.Errorf("cannot write the secret %s/%s: others wrote it %d times in between", k.opts.Namespace, k.opts.Secret, tries)
}

func (k *Keeper) secret(p Pair) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: k.opts.Namespace, Name: k.opts.Secret},
		Type:       corev1.SecretTypeTLS,
		Data:       map[string][]byte{corev1.TLSCertKey: p.Cert, corev1.TLSPrivateKeyKey: p.Key, keyCAs: p.CAs},
	}
}

// ensureTrust puts the bundle into all APIServices; a fault with one does not keep the others from it. What does not
// exist is told apart, as nobody calls the adapter through it.
func (k *Keeper) ensureTrust(ctx context.Context, cas []byte) (missing, failed error) {
	var absent, errs []error
	for _, name := range k.opts.APIServices {
		err := k.trust(ctx, name, cas)
		if apierrors.IsNotFound(err) {
			absent = append(absent, err)
		} else if err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(absent...), errors.Join(errs...)
}

func (k *Keeper) trust(ctx context.Context, name string, cas []byte) error {
	services := k.opts.Aggregator.ApiregistrationV1().APIServices()
	service, err := services.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("cannot get the APIService %s: %w", name, err)
	}
	if bytes.Equal(service.Spec.CABundle, cas) && !service.Spec.InsecureSkipTLSVerify {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"caBundle": cas, "insecureSkipTLSVerify": false}})
	if err != nil {
		return fmt.Errorf("cannot encode the CA bundle: %w", err)
	}
	if _, err := services.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "headroom-adapter"}); err != nil {
		return fmt.Errorf("cannot put the CA into the APIService %s: %w", name, err)
	}
	k.opts.Logger.Info("put the CA into the APIService", "name", name)
	return nil
}
