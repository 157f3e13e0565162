package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/kpopd/kpopd/cmd/config"
)

// A reloadRequest comes from the control socket.
type reloadRequest struct{ done chan error }

// hangups are the SIGHUPs that come, until stop.
func hangups() (hup <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}

// reload reads configuration, certificate, keytab and tables again. What is wrong
// with them is told, and all that was stays in use.
func (d *daemon) reload(working context.Context) error {
	notifyReloading()
	defer notifyReady()
	err := d.renew(working)
	d.metrics.Reloaded(err)
	if err != nil {
		d.Log.Error("reload refused; what was loaded before stays in use", "audit", true, "error", err)
		return err
	}
	d.Log.Info("reloaded", "audit", true, "file", d.file)
	return nil
}

func (d *daemon) renew(working context.Context) error {
	c, err := config.Load(d.file)
	if err != nil {
		return d.hint(err)
	}
	before := d.current.Load()
	next, err := before.Renew(c)
	if err != nil {
		return d.hint(err)
	}
	if err := d.logs.Reload(c.Log); err != nil {
		next.Close()
		return err
	}
	next.Apply()
	d.current.Store(next)
	// Logins that have begun by the old directory may take so long.
	time.AfterFunc(before.Config.Limits.LoginTimeout+time.Minute, before.Close)
	if next.Keytab != before.Keytab {
		if err := d.watchKeytab(working); err != nil {
			d.Log.Warn("the keytab is not watched; SIGHUP reads it again", "error", err)
		}
	}
	return nil
}

// hint tells of the one cause that the error does not show.
func (d *daemon) hint(err error) error {
	if os.IsPermission(err) || isPermission(err) {
		return fmt.Errorf("%w (a file that was put in the place of another can be read only where it has a directory of its own, or after a restart: see sandbox.landlock)", err)
	}
	return err
}

// watchKeytab has the current keytab read when it changes, and no other.
func (d *daemon) watchKeytab(working context.Context) error {
	ctx, cancel := context.WithCancel(working)
	if d.unwatch != nil {
		d.unwatch()
	}
	d.unwatch = cancel
	return d.current.Load().Keytab.Watch(ctx)
}
