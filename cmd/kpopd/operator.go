package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/kpopd/kpopd/cmd/control"
	"github.com/kpopd/kpopd/cmd/logs"
	"github.com/kpopd/kpopd/cmd/metrics"
	"github.com/kpopd/kpopd/kpop"
)

// serveOperator answers kpop's questions, pprof and Prometheus until ctx ends; wait
// returns when the last answer is given.
func (d *daemon) serveOperator(ctx context.Context) (wait func(), err error) {
	var running sync.WaitGroup
	if path := d.Config.ControlSocket(); path != "" {
		l, err := control.Listen(path)
		if err != nil {
			return nil, err
		}
		s := &control.Server{Log: d.Log, Panicked: d.metrics.Panicked, Handlers: map[string]control.Handler{
			control.Who: d.who, control.Kick: d.kick, control.Stats: d.stats, control.Reload: d.askReload, control.Trace: d.trace,
			control.Ready: func(context.Context, control.Request) (any, error) { return struct{}{}, d.ready() },
		}}
		running.Go(func() {
			s.Serve(ctx, l)
			_ = os.Remove(path)
		})
	}
	if path := d.Config.Control.Pprof; path != "" {
		l, err := control.Listen(path)
		if err != nil {
			return nil, err
		}
		running.Go(func() {
			control.ServeProfiles(ctx, l, d.Log)
			_ = os.Remove(path)
		})
	}
	if where := d.Config.Metrics.Listen; where != "" {
		l, err := metrics.Listen(where)
		if err != nil {
			return nil, err
		}
		running.Go(func() { metrics.Serve(ctx, l, d.metrics.Handler(d.ready, d.Log), d.Log) })
	}
	return running.Wait, nil
}

// ready is for /readyz and kpop ready: a load balancer sends nobody here while it
// is not nil.
func (d *daemon) ready() error {
	if d.draining.Load() {
		return errors.New("draining")
	}
	if len(d.current.Load().Keytab.Keys()) == 0 {
		return errors.New("the keytab is empty")
	}
	return nil
}

func (d *daemon) who(_ context.Context, r control.Request) (any, error) {
	chosen, err := choose(d.Server.Sessions(), r)
	if err != nil {
		return nil, err
	}
	holds := map[string]string{}
	for _, h := range d.Store.Holders() {
		holds[h.Holder.Session] = h.Mailbox
	}
	out := make([]control.Session, len(chosen))
	for i := range chosen {
		out[i] = sessionOf(&chosen[i], holds)
	}
	return out, nil
}

func sessionOf(s *kpop.SessionInfo, holds map[string]string) control.Session {
	out := control.Session{
		ID: s.ID, Listener: s.Port, Remote: s.Remote.String(), Since: s.Since, TLS: s.TLS, Mechanism: s.Mechanism,
		Authcid: s.Authcid, Authzid: s.Authzid, User: s.User, Mailbox: s.Mailbox, Holds: holds[s.ID], Acting: s.Acting,
		Retrieved: s.Retrieved, Octets: s.Octets,
	}
	if !s.Waiting.IsZero() {
		out.Idle = time.Since(s.Waiting).Seconds()
	}
	for _, a := range s.Detail {
		if out.Detail == nil {
			out.Detail = map[string]string{}
		}
		out.Detail[a.Key] = a.Value.String()
	}
	return out
}

// choose gives the sessions that fit all that r names.
func choose(all []kpop.SessionInfo, r control.Request) ([]kpop.SessionInfo, error) {
	var within netip.Prefix
	if r.Address != "" {
		target, err := logs.ParseTarget(r.Address)
		if err != nil || !target.Prefix.IsValid() {
			return nil, fmt.Errorf("%q is neither an address nor a prefix", r.Address)
		}
		within = target.Prefix
	}
	var out []kpop.SessionInfo
	for _, s := range all {
		switch {
		case r.Session != "" && r.Session != s.ID, r.User != "" && r.User != s.User, r.Mailbox != "" && r.Mailbox != s.Mailbox:
		case within.IsValid() && !contains(within, s.Remote.String()):
		default:
			out = append(out, s)
		}
	}
	return out, nil
}

func contains(p netip.Prefix, remote string) bool {
	at, err := netip.ParseAddrPort(remote)
	return err == nil && p.Contains(at.Addr().Unmap().WithZone(""))
}

func (d *daemon) kick(_ context.Context, r control.Request) (any, error) {
	if r.Session == "" && r.User == "" && r.Mailbox == "" && r.Address == "" {
		return nil, errors.New("name a session, a user, a mailbox or an address")
	}
	chosen, err := choose(d.Server.Sessions(), r)
	if err != nil {
		return nil, err
	}
	out := control.Kicked{Sessions: []string{}}
	for i := range chosen {
		if s := &chosen[i]; d.Server.Kick(s.ID) {
			d.Log.Info("kick", "audit", true, "session", s.ID, "remote", s.Remote.String(), "user", s.User, "mailbox", s.Mailbox)
			out.Sessions = append(out.Sessions, s.ID)
		}
	}
	if len(out.Sessions) == 0 {
		return nil, errors.New("no such session")
	}
	return out, nil
}

func (d *daemon) stats(context.Context, control.Request) (any, error) {
	values, err := d.metrics.Values()
	return control.Numbers{Version: version, Started: d.started, Values: values}, err
}

func (d *daemon) askReload(ctx context.Context, _ control.Request) (any, error) {
	r := reloadRequest{make(chan error, 1)}
	select {
	case d.reloading <- r:
		return struct{}{}, <-r.done
	case <-time.After(10 * time.Second):
		return nil, errors.New("kpopd is starting or ending")
	case <-ctx.Done():
		return nil, errors.New("kpopd is ending")
	}
}

// trace turns a dialogue trace on or off, and lists who is traced.
func (d *daemon) trace(_ context.Context, r control.Request) (any, error) {
	now := time.Now()
	if r.Target != "" {
		if err := d.traces.Add(r.Target, r.For, now); err != nil {
			return nil, err
		}
		d.Log.Info("trace", "audit", true, "target", r.Target, "for", r.For)
		d.Server.Retrace()
		time.AfterFunc(r.For, d.Server.Retrace)
	}
	return d.traces.List(now), nil
}
