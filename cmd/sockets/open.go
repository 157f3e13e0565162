package sockets

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"

	"github.com/kpopd/kpopd/cmd/config"
)

// Inherited gives the sockets that systemd opened, by FileDescriptorName. It
// takes them once: a second call gives none.
func Inherited() (map[string][]net.Listener, error) {
	got, err := activation.ListenersWithNames()
	if err != nil {
		return nil, fmt.Errorf("sockets: from systemd: %w", err)
	}
	for name, list := range got {
		if slices.Contains(list, nil) {
			return nil, fmt.Errorf("sockets: systemd's socket %q is not one that listens", name)
		}
	}
	return got, nil
}

// Open opens every listener of c before the first client is served, by name; one
// may have several sockets. What is inherited is not opened again. panicked is
// Proxied's.
func Open(c config.Listeners, inherited map[string][]net.Listener, log *slog.Logger, panicked func(value any, stack []byte)) (map[string][]net.Listener, error) {
	out := map[string][]net.Listener{}
	fail := func(err error) (map[string][]net.Listener, error) {
		return nil, errors.Join(err, Close(out), Close(inherited))
	}
	for name := range inherited {
		if _, known := c[name]; !known {
			return fail(fmt.Errorf("sockets: systemd hands over a socket %q and there is no [listen.%s]; name it by FileDescriptorName= (there are: %s)",
				name, name, strings.Join(c.Names(), ", ")))
		}
	}
	for _, name := range c.Names() {
		list := inherited[name]
		if len(list) == 0 {
			l, err := listen(c[name].Address)
			if err != nil {
				return fail(fmt.Errorf("listen.%s: %w; is another POP server running, or is the port below 1024 and not permitted?", name, err))
			}
			list = []net.Listener{l}
		}
		for _, l := range list {
			log.Info("listening", "port", name, "address", l.Addr(), "protocol", c[name].Protocol)
			if trusted := c[name].Proxies(); len(trusted) > 0 {
				l = Proxied(l, trusted, log.With("listener", name), panicked)
			}
			out[name] = append(out[name], l)
		}
	}
	return out, nil
}

// Close closes all.
func Close(all map[string][]net.Listener) error {
	var errs []error
	for _, list := range all {
		for _, l := range list {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}
