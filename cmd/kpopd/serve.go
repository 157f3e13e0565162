package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/kpopd/kpopd/cmd/assemble"
	"github.com/kpopd/kpopd/cmd/config"
	"github.com/kpopd/kpopd/kpop"
)

// A daemon is an assembled one that runs.
type daemon struct{ *assemble.Daemon }

// serve runs until ctx ends by SIGTERM, then drains.
func serve(ctx context.Context, c *config.Config) error {
	log := assemble.NewLogger(c.Log)
	if os.Getuid() == 0 {
		if c.User != "root" {
			return errRoot
		}
		log.Warn("running as root because the configuration says so")
	}
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		return fmt.Errorf("state_dir: %w", err)
	}
	built, err := assemble.Build(c, log)
	if err != nil {
		return err
	}
	d := &daemon{built}
	cache, err := d.OpenJournal()
	if err != nil {
		return err
	}
	defer cache.Close() //nolint:errcheck // every entry is written already
	listeners, err := d.listen()
	if err != nil {
		return err
	}
	return d.run(ctx, listeners)
}

// listen opens every socket before the first client is served.
func (d *daemon) listen() (map[string]net.Listener, error) {
	out := map[string]net.Listener{}
	for _, name := range d.Config.Listen.Names() {
		l, err := net.Listen("tcp", d.Config.Listen[name].Address)
		if err != nil {
			for _, open := range out {
				_ = open.Close()
			}
			return nil, fmt.Errorf("listen.%s: %w; is another POP server running, or is the port below 1024 and not permitted?", name, err)
		}
		out[name] = l
		d.Log.Info("listening", "port", name, "address", l.Addr(), "protocol", d.Config.Listen[name].Protocol)
	}
	return out, nil
}

func (d *daemon) run(ctx context.Context, listeners map[string]net.Listener) error {
	working, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := d.Keytab.Watch(working); err != nil {
		return err
	}
	go d.reloadOnHUP(working)
	failed := make(chan error, len(listeners)+1)
	stopLMTP, err := d.startLMTP(failed)
	if err != nil {
		return err
	}
	for name, l := range listeners {
		go func() { failed <- d.Server.Serve(working, l, d.Ports[name]) }()
	}
	d.Log.Info("serving", "version", version, "hostname", d.Config.Hostname)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	d.Log.Info("draining", "deadline", d.Config.Limits.DrainTimeout)
	deadline, stop := context.WithTimeout(context.Background(), d.Config.Limits.DrainTimeout)
	defer stop()
	for _, l := range listeners {
		_ = l.Close()
	}
	stopped := make(chan error, 1)
	go func() { stopped <- stopLMTP(deadline) }()
	err = d.Server.Shutdown(deadline)
	if err := <-stopped; err != nil {
		d.Log.Warn("deliveries were cut off", "error", err)
	}
	d.Log.Info("ended")
	if errors.Is(err, kpop.ErrServerClosed) {
		return nil
	}
	return err
}

// reloadOnHUP reads the keytab again at SIGHUP; the old keys stay when it cannot
// be read.
func (d *daemon) reloadOnHUP(ctx context.Context) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			if err := d.Keytab.Reload(); err != nil {
				d.Log.Error("keytab cannot be read; the old keys stay in use", "error", err)
			}
		}
	}
}
