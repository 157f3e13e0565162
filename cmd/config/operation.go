package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// A Control section is the socket of kpop who, kick, stats, reload and trace, and
// that of the profiles.
type Control struct {
	Socket string `mapstructure:"socket"` // a path; empty: in the state directory; "none"
	Pprof  string `mapstructure:"pprof"`  // a path; empty: nowhere
}

func (*Control) defaults() map[string]any { return nil }

func (c *Control) check(f *faults, _ *Config) {
	f.absolute("control.socket", strings.TrimPrefix(c.Socket, "none"), false)
	f.absolute("control.pprof", c.Pprof, false)
}

// ControlSocket is where the daemon listens to its operator; empty: nowhere.
func (c *Config) ControlSocket() string {
	switch c.Control.Socket {
	case "":
		return filepath.Join(c.StateDir, "control.sock")
	case "none":
		return ""
	}
	return c.Control.Socket
}

// A Metrics section says where Prometheus finds the metrics.
type Metrics struct {
	Listen string `mapstructure:"listen"` // unix:PATH, or an address and port of loopback; empty: nowhere
}

func (*Metrics) defaults() map[string]any { return nil }

// check keeps the metrics, which name principals, from the network.
func (m *Metrics) check(f *faults, _ *Config) {
	path, unix := strings.CutPrefix(m.Listen, "unix:")
	if m.Listen == "" || unix {
		f.need(!unix || filepath.IsAbs(path), "metrics.listen", fmt.Sprintf("%q must name an absolute path", m.Listen))
		return
	}
	host, _, err := net.SplitHostPort(m.Listen)
	at, perr := netip.ParseAddr(host)
	f.need(err == nil && (host == "localhost" || perr == nil && at.IsLoopback()), "metrics.listen",
		fmt.Sprintf("%q is neither unix:PATH nor an address of loopback with a port; put a proxy with access control before it for others", m.Listen))
}

// A Sandbox section says how the process confines itself once it serves.
type Sandbox struct {
	Landlock string `mapstructure:"landlock"` // auto, require, off
}

func (*Sandbox) defaults() map[string]any { return map[string]any{"landlock": "auto"} }

func (s *Sandbox) check(f *faults, _ *Config) {
	f.oneOf("sandbox.landlock", s.Landlock, "auto", "require", "off")
}

// fixed is the section without what recipients are looked up by.
func (l LMTP) fixed() LMTP {
	l.Domains, l.Lower = nil, false
	return l
}

// NeedRestart names the keys in which next differs from c and which a running
// daemon cannot change.
func (c *Config) NeedRestart(next *Config) []string {
	var keys []string
	fixed := func(key string, same bool) {
		if !same {
			keys = append(keys, key)
		}
	}
	fixed("state_dir", c.StateDir == next.StateDir)
	fixed("user", c.User == next.User)
	fixed("log.format", c.Log.Format == next.Log.Format)
	fixed("log.audit", c.Log.Audit == next.Log.Audit)
	fixed("kerberos.replay_journal", c.Kerberos.ReplayJournal == next.Kerberos.ReplayJournal)
	fixed("spool", reflect.DeepEqual(c.Spool, next.Spool))
	fixed("lmtp", reflect.DeepEqual(c.LMTP.fixed(), next.LMTP.fixed()))
	fixed("control.socket", c.Control.Socket == next.Control.Socket)
	fixed("control.pprof", c.Control.Pprof == next.Control.Pprof)
	fixed("metrics.listen", c.Metrics == next.Metrics)
	fixed("sandbox.landlock", c.Sandbox == next.Sandbox)
	for _, name := range slices.Compact(slices.Sorted(slices.Values(append(c.Listen.Names(), next.Listen.Names()...)))) {
		a, was := c.Listen[name]
		b, is := next.Listen[name]
		fixed("listen."+name, was && is && a.Address == b.Address && slices.Equal(a.ProxyFrom, b.ProxyFrom))
	}
	return keys
}
