package integration

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are where the realm's servers listen, all on 127.0.0.1.
type Ports struct{ KDC, KPOP, POP3, POP3S int }

// Address joins a host and a port.
func Address(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// Loopback is a port of 127.0.0.1 as an address.
func Loopback(port int) string { return Address("127.0.0.1", port) }

// choosePorts takes the ports the world knows when it may, and says so when it
// cannot have them.
func (r *Realm) choosePorts(wellKnown bool) error {
	var errs []error
	choose := func(name string, p *int, wanted ...int) {
		var err error
		if !wellKnown {
			wanted = nil
		}
		*p, err = choosePort(wanted...)
		if err == nil && wellKnown && *p != wanted[0] {
			r.say("port %d for %s is taken or not permitted here; using %d", wanted[0], name, *p)
		}
		errs = append(errs, err)
	}
	choose("KPOP", &r.Ports.KPOP, 1109, 11109)
	choose("POP3", &r.Ports.POP3, 110, 10110)
	choose("POP3S", &r.Ports.POP3S, 995, 10995)
	kdc, err := choosePort()
	r.Ports.KDC = kdc
	return errors.Join(append(errs, err)...)
}

// choosePort takes the first of the wanted ports that can be bound, or any free
// one below those that the kernel gives to clients.
func choosePort(wanted ...int) (int, error) {
	for range 100 {
		wanted = append(wanted, 20000+rand.IntN(12000)) //nolint:gosec // G404: a port is no secret
	}
	for _, p := range wanted {
		l, err := net.Listen("tcp", Loopback(p))
		if err == nil {
			return p, l.Close()
		}
	}
	return 0, fmt.Errorf("integration: no free port among %d tried", len(wanted))
}
