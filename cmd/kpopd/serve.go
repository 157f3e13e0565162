package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/kpopd/kpopd/cmd/assemble"
	"github.com/kpopd/kpopd/cmd/config"
	"github.com/kpopd/kpopd/cmd/confine"
	"github.com/kpopd/kpopd/cmd/logs"
	"github.com/kpopd/kpopd/cmd/metrics"
	"github.com/kpopd/kpopd/cmd/sockets"
	"github.com/kpopd/kpopd/kpop"
	"github.com/kpopd/kpopd/krb5conf"
)

// A daemon is an assembled one that runs. What a reload changes is current.
type daemon struct {
	*assemble.Daemon // the first: its server, store and log are everybody's

	file    string // of the configuration
	started time.Time
	logs    *logs.Logs
	metrics *metrics.Metrics
	traces  logs.Traces

	current   atomic.Pointer[assemble.Daemon]
	reloading chan reloadRequest
	unwatch   context.CancelFunc // of the current keytab
	draining  atomic.Bool
}

// serve runs until ctx ends by SIGTERM, then drains.
func serve(ctx context.Context, file string, c *config.Config) (err error) {
	l := logs.Open(c.Log, os.Stderr)
	defer l.Close() //nolint:errcheck // every record is written already
	inherited, err := sockets.Inherited()
	if err != nil {
		return err
	}
	m := metrics.New(version)
	listeners, err := sockets.Open(c.Listen, inherited, l.Log, m.Panicked)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closedAlready(sockets.Close(listeners))) }()
	if err := giveUpRoot(c, l); err != nil {
		return err
	}
	if err := l.OpenAudit(); err != nil {
		return err
	}
	d, err := build(file, c, l, m)
	if err != nil {
		return err
	}
	cache, err := d.OpenJournal()
	if err != nil {
		return err
	}
	defer cache.Close() //nolint:errcheck // every entry is written already
	return d.run(ctx, listeners)
}

// closedAlready passes over listeners that the server has closed.
func closedAlready(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

var errRoot = errors.New("running as root; set user = \"cyrus\" (the spool's owner), which is changed to once the ports are bound, or user = \"root\" if you mean it")

// giveUpRoot comes when the ports are bound and before any of kpopd's files is
// opened, so that whatever can be opened now can be opened by a reload.
func giveUpRoot(c *config.Config, l *logs.Logs) error {
	if err := confine.NoCore(); err != nil {
		l.Log.Warn("core files are not switched off", "error", err)
	}
	switch {
	case os.Getuid() != 0:
	case c.User == "":
		return errRoot
	case c.User == "root":
		l.Log.Warn("running as root because the configuration says so")
	default:
		if err := confine.MakeDir(c.StateDir, c.User); err != nil {
			return err
		}
		if err := confine.Drop(c.User); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		return fmt.Errorf("state_dir: %w", err)
	}
	return nil
}

func build(file string, c *config.Config, l *logs.Logs, m *metrics.Metrics) (*daemon, error) {
	built, err := assemble.BuildObserved(c, l.Log, assemble.Hooks{KDC: m.KDC, LDAP: m.LDAP, LockWait: m.LockWait, Panicked: m.Panicked})
	if err != nil {
		return nil, err
	}
	d := &daemon{Daemon: built, file: file, started: time.Now(), logs: l, metrics: m, reloading: make(chan reloadRequest)}
	d.current.Store(built)
	d.observe()
	d.Server.Trace = func(user string, remote net.Addr) bool { return d.traces.Wants(user, remote, time.Now()) }
	m.Watch(metrics.State{
		Keys:        func() []krb5conf.Key { return d.current.Load().Keytab.Keys() },
		Replay:      d.replayEntries,
		Certificate: func() time.Time { return d.current.Load().CertificateExpires() },
	})
	return d, nil
}

// observe has the server's events counted, and refusals charged to who caused
// them.
func (d *daemon) observe() {
	d.Server.Observer = d.metrics.Observer()
	count := d.Server.Observer.Refused
	d.Server.Observer.Refused = func(s kpop.SessionInfo, code string, cause error) {
		count(s, code, cause)
		d.current.Load().ChargeRefusal(s, code, cause)
	}
	d.Server.Refuse = func(remote net.Addr) (time.Duration, error) { return d.current.Load().Hold(remote) }
}

func (d *daemon) replayEntries() int {
	if r, ok := d.Acceptor.Replay.(interface{ Len() int }); ok {
		return r.Len()
	}
	return 0
}

func (d *daemon) run(ctx context.Context, listeners map[string][]net.Listener) error {
	working, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := d.watchKeytab(working); err != nil {
		return err
	}
	failed := make(chan error, 64)
	stopLMTP, err := d.startLMTP(failed)
	if err != nil {
		return err
	}
	waitOperator, err := d.serveOperator(working)
	if err != nil {
		return err
	}
	defer waitOperator()
	defer cancel()
	if err := d.confine(); err != nil {
		return err
	}
	for name, list := range listeners {
		for _, l := range list {
			go func() { failed <- d.Server.Serve(working, l, d.Ports[name]) }()
		}
	}
	d.Log.Info("serving", "version", version, "hostname", d.Config.Hostname)
	notifyReady()
	go d.watchdog(working)
	go tendMemory(working)
	if err := d.attend(ctx, working, failed); err != nil {
		return err
	}
	return d.drain(stopLMTP)
}

// attend reloads when it is told to, until ctx ends or a listener fails.
func (d *daemon) attend(ctx, working context.Context, failed <-chan error) error {
	hup, stop := hangups()
	defer stop()
	for {
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
			return nil
		case <-hup:
			_ = d.reload(working) // it is in the log
		case r := <-d.reloading:
			r.done <- d.reload(working)
		}
	}
}

// drain lets the sessions end. The listeners stay open until then, so that who
// connects is told to come later.
func (d *daemon) drain(stopLMTP func(context.Context) error) error {
	limit := d.current.Load().Config.Limits.DrainTimeout
	d.draining.Store(true)
	notifyStopping()
	d.Log.Info("draining", "deadline", limit)
	deadline, stop := context.WithTimeout(context.Background(), limit)
	defer stop()
	stopped := make(chan error, 1)
	go func() { stopped <- stopLMTP(deadline) }()
	err := d.Server.Shutdown(deadline)
	if err := <-stopped; err != nil {
		d.Log.Warn("deliveries were cut off", "error", err)
	}
	d.Log.Info("ended")
	switch {
	case errors.Is(err, kpop.ErrServerClosed):
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		d.Log.Warn("sessions were closed at the deadline")
		return nil
	}
	return err
}
