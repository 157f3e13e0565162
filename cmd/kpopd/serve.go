package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/kpopd/kpopd/kpop"
)

// serve runs until ctx ends by SIGTERM, then drains.
func serve(ctx context.Context, c *Config) error {
	log := newLogger(c.Log)
	if os.Getuid() == 0 {
		if c.User != "root" {
			return errRoot
		}
		log.Warn("running as root because the configuration says so")
	}
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		return fmt.Errorf("state_dir: %w", err)
	}
	d, err := build(c, log)
	if err != nil {
		return err
	}
	cache, err := d.openJournal()
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
	for _, name := range d.config.listenNames() {
		l, err := net.Listen("tcp", d.config.Listen[name].Address)
		if err != nil {
			for _, open := range out {
				_ = open.Close()
			}
			return nil, fmt.Errorf("listen.%s: %w; is another POP server running, or is the port below 1024 and not permitted?", name, err)
		}
		out[name] = l
		d.log.Info("listening", "port", name, "address", l.Addr(), "protocol", d.config.Listen[name].Protocol)
	}
	return out, nil
}

func (d *daemon) run(ctx context.Context, listeners map[string]net.Listener) error {
	working, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := d.keytab.Watch(working); err != nil {
		return err
	}
	go d.reloadOnHUP(working)
	failed := make(chan error, len(listeners))
	for name, l := range listeners {
		go func() { failed <- d.server.Serve(working, l, d.ports[name]) }()
	}
	d.log.Info("serving", "version", version, "hostname", d.config.Hostname)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	d.log.Info("draining", "deadline", d.config.Limits.DrainTimeout)
	deadline, stop := context.WithTimeout(context.Background(), d.config.Limits.DrainTimeout)
	defer stop()
	for _, l := range listeners {
		_ = l.Close()
	}
	err := d.server.Shutdown(deadline)
	d.log.Info("ended")
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
			if err := d.keytab.Reload(); err != nil {
				d.log.Error("keytab cannot be read; the old keys stay in use", "error", err)
			}
		}
	}
}
