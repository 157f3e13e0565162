package logs

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// MaxTrace is the longest that a dialogue is traced for one asking: a trace that
// is forgotten must not fill the disk.
const MaxTrace = 24 * time.Hour

// ErrTrace is wrapped by what Add refuses.
var ErrTrace = errors.New("cannot trace")

// Traces is the list of those whose dialogue is logged: users, addresses and
// address prefixes, each for a time. The zero value is an empty list; it is safe
// for concurrent use.
type Traces struct {
	mu   sync.Mutex
	list []Trace
}

// A Trace is one entry: a user, or the addresses of a prefix.
type Trace struct {
	User   string       `json:"user,omitempty"`
	Prefix netip.Prefix `json:"prefix,omitzero"`
	Until  time.Time    `json:"until"`
}

// ParseTarget reads what is to be traced: an address, a prefix as 192.0.2.0/24,
// or else a user.
func ParseTarget(what string) (Trace, error) {
	if what == "" || strings.ContainsAny(what, " \t\n") {
		return Trace{}, fmt.Errorf("logs: %w %q: want a user, an address or a prefix", ErrTrace, what)
	}
	if a, err := netip.ParseAddr(what); err == nil {
		a = a.Unmap().WithZone("")
		return Trace{Prefix: netip.PrefixFrom(a, a.BitLen())}, nil
	}
	if p, err := netip.ParsePrefix(what); err == nil {
		return Trace{Prefix: p.Masked()}, nil
	}
	return Trace{User: what}, nil
}

// Add traces what for so long from now, in the place of what was asked for it
// before; zero ends it.
func (t *Traces) Add(what string, long time.Duration, now time.Time) error {
	entry, err := ParseTarget(what)
	if err != nil {
		return err
	}
	if long < 0 || long > MaxTrace {
		return fmt.Errorf("logs: %w for %s: at most %s", ErrTrace, long, MaxTrace)
	}
	entry.Until = now.Add(long)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list = slices.DeleteFunc(t.list, func(e Trace) bool {
		return !e.Until.After(now) || e.User == entry.User && e.Prefix == entry.Prefix
	})
	if long > 0 {
		t.list = append(t.list, entry)
	}
	return nil
}

// List gives what is traced now, the one that ends first first.
func (t *Traces) List(now time.Time) []Trace {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list = slices.DeleteFunc(t.list, func(e Trace) bool { return !e.Until.After(now) })
	out := slices.Clone(t.list)
	slices.SortFunc(out, func(a, b Trace) int { return cmp.Or(a.Until.Compare(b.Until), strings.Compare(a.User, b.User)) })
	return out
}

// Wants says whether the dialogue of user, empty while it is not known, from
// remote is traced now.
func (t *Traces) Wants(user string, remote net.Addr, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.list) == 0 {
		return false
	}
	var address netip.Addr
	if at, err := netip.ParseAddrPort(remote.String()); err == nil {
		address = at.Addr().Unmap().WithZone("")
	}
	return slices.ContainsFunc(t.list, func(e Trace) bool {
		return e.Until.After(now) && (e.User != "" && e.User == user || e.Prefix.IsValid() && e.Prefix.Contains(address))
	})
}
