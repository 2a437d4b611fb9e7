package rulewatch

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

// As kube-controller-manager's defaults: another replica writes at most 17 s after the one that did has died.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

// lead runs work again and again, each time for as long as this replica holds the Lease, until the context ends.
func (w *Watcher) lead(ctx context.Context, o ReportOptions, work func(context.Context)) error {
	config := leaderelection.LeaderElectionConfig{
		Name: o.Lease,
		Lock: &lock{
			Interface: &resourcelock.LeaseLock{
				LeaseMeta:  metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Lease},
				Client:     w.o.Client.CoordinationV1(),
				LockConfig: resourcelock.ResourceLockConfig{Identity: o.Identity},
			},
			faults: complaints{logger: w.o.Logger},
		},
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
		ReleaseOnCancel: true,
	}
	for ctx.Err() == nil {
		if err := term(klog.NewContext(ctx, logr.Discard()), config, work); err != nil { // it would log every try; lock logs what fails
			return fmt.Errorf("cannot elect who writes the status of MetricRules: %w", err)
		}
	}
	return nil
}

// term waits for the Lease and runs work for as long as it is held. It returns when work has, too.
func term(ctx context.Context, config leaderelection.LeaderElectionConfig, work func(context.Context)) error {
	var (
		working sync.Mutex // the elector starts work and does not wait for it
		over    bool
	)
	config.Callbacks = leaderelection.LeaderCallbacks{
		OnStartedLeading: func(ctx context.Context) {
			working.Lock()
			defer working.Unlock()
			if !over {
				work(ctx)
			}
		},
		OnStoppedLeading: func() {},
	}
	elector, err := leaderelection.NewLeaderElector(config)
	if err != nil {
		return err
	}
	elector.Run(ctx)
	working.Lock()
	defer working.Unlock()
	over = true
	return nil
}

// lock says what keeps the replica from the Lease.
type lock struct {
	resourcelock.Interface
	faults complaints
}

func (l *lock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := l.Interface.Get(ctx)
	l.complain(err)
	return record, raw, err
}

func (l *lock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	err := l.Interface.Create(ctx, record)
	l.complain(err)
	return err
}

func (l *lock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	err := l.Interface.Update(ctx, record)
	l.complain(err)
	return err
}

// complain logs what is not part of the game: that there is no Lease yet, or that another replica was faster.
func (l *lock) complain(err error) {
	if !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
		l.faults.warn("cannot use the Lease for writing the status of MetricRules", err)
	}
}
