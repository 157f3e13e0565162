package main

import (
	"context"
	"strings"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
)

// Without systemd all of these do nothing (sd_notify(3)).

func notify(states ...string) { _, _ = sd.SdNotify(false, strings.Join(states, "\n")) }

func notifyReady()    { notify(sd.SdNotifyReady, "STATUS=serving") }
func notifyStopping() { notify(sd.SdNotifyStopping, "STATUS=waiting for sessions to end") }

// notifyReloading begins what notifyReady ends; Type=notify-reload wants the
// time.
func notifyReloading() {
	notify(sd.SdNotifyReloading, sd.SdNotifyMonotonicUsec(), "STATUS=reloading")
}

// watchdog tells systemd that the server's tables can be had, twice in each
// interval: a process that hangs there is started anew.
func (d *daemon) watchdog(ctx context.Context) {
	interval, err := sd.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return
	}
	tick := time.NewTicker(interval / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			d.Server.Count()
			notify(sd.SdNotifyWatchdog)
		}
	}
}
