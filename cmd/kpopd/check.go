package main

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// check gives every fault of the configuration that can be seen without
// opening a socket, each as "key: what is wrong; what to do".
func (c *Config) check() []string {
	var f faults
	f.need(c.Hostname != "", "hostname", "is empty; set it to the name clients connect to")
	f.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	f.oneOf("log.format", c.Log.Format, "text", "json")
	f.absolute("state_dir", c.StateDir, true)
	c.checkListeners(&f)
	c.checkTLS(&f)
	c.checkKerberos(&f)
	c.checkSpool(&f)
	c.checkLimits(&f)
	return f
}

// listenNames gives the listeners' names in a fixed order.
func (c *Config) listenNames() []string {
	names := make([]string, 0, len(c.Listen))
	for name := range c.Listen {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (c *Config) checkListeners(f *faults) {
	f.need(len(c.Listen) > 0, "listen", "no listener; add a [listen.NAME] section with address and protocol")
	for _, name := range c.listenNames() {
		l, key := c.Listen[name], "listen."+name
		if _, _, err := net.SplitHostPort(l.Address); err != nil {
			f.add(key+".address", fmt.Sprintf("%q is not host:port or :port", l.Address))
		}
		f.oneOf(key+".protocol", l.Protocol, "pop3", "pop3s", "kpop")
		f.oneOf(key+".channel_binding", cmp.Or(l.ChannelBinding, "ignore"), "ignore", "when_present", "require")
		f.need(l.Protocol != "pop3s" || c.TLS.Certificate != "", key, "pop3s needs [tls] certificate and key")
		f.need(!l.RequireTLS || c.TLS.Certificate != "", key+".require_tls", "needs [tls] certificate and key")
		for _, m := range l.Mechanisms {
			f.oneOf(key+".mechanisms", m, mechanismNames...)
		}
	}
}

func (c *Config) checkTLS(f *faults) {
	f.need((c.TLS.Certificate == "") == (c.TLS.Key == ""), "tls", "certificate and key go together; set both or neither")
	f.oneOf("tls.min_version", c.TLS.MinVersion, "1.2", "1.3")
	f.readable("tls.certificate", c.TLS.Certificate)
	f.readable("tls.key", c.TLS.Key)
}

func (c *Config) checkKerberos(f *faults) {
	f.need(len(c.Kerberos.Services) > 0, "kerberos.services", "is empty; the usual value is [\"pop\", \"pop3\"]")
	f.need(!slices.Contains(c.Kerberos.Services, "host"), "kerberos.services",
		"must not hold \"host\": a ticket for logging in to the machine would then read mail")
	f.between("kerberos.clock_skew", c.Kerberos.ClockSkew, time.Second, 10*time.Minute)
	f.between("kpop.ticket_timeout", c.KPOP.TicketTimeout, time.Second, 2*time.Minute)
	f.oneOf("password.check", c.Password.Check, "kdc", "none")
	f.between("password.timeout", c.Password.Timeout, time.Second, time.Minute)
	f.need(c.Password.Concurrent > 0, "password.concurrent", "must be at least 1")
}

func (c *Config) checkSpool(f *faults) {
	f.oneOf("spool.mode", c.Spool.Mode, "embedded", "shared", "readonly")
	f.need(c.Spool.ImapdConf != "", "spool.imapd_conf", "is empty; name Cyrus's imapd.conf, or one of the same form for a site without Cyrus")
	f.readable("spool.imapd_conf", c.Spool.ImapdConf)
	f.oneOf("identity.directory", c.Identity.Directory, "realm", "file", "ldap")
	f.oneOf("identity.names", c.Identity.Names, "plain", "sdps", "folder", "both")
	f.oneOf("ldap.bind", c.LDAP.Bind, "anonymous", "simple", "external", "gssapi")
	f.need(c.Identity.Directory != "ldap" || len(c.LDAP.Servers) > 0 && c.LDAP.Base != "", "ldap", "directory = \"ldap\" needs servers and base")
	f.need(c.Identity.Directory != "file" || c.Identity.Accounts != "", "identity.accounts", "names the table that directory = \"file\" reads")
}

func (c *Config) checkLimits(f *faults) {
	l := c.Limits
	f.between("limits.login_timeout", l.LoginTimeout, time.Second, 10*time.Minute)
	// RFC 1939 section 3: the autologout timer must be at least ten minutes.
	f.need(l.IdleTimeout >= 10*time.Minute, "limits.idle_timeout", "RFC 1939 wants at least 10m")
	f.need(l.Connections > 0 && l.Unauthenticated > 0, "limits", "connections and unauthenticated must be at least 1")
}

// faults is a list of what is wrong, in the file's order.
type faults []string

func (f *faults) add(key, what string) { *f = append(*f, key+": "+what) }

func (f *faults) need(ok bool, key, what string) {
	if !ok {
		f.add(key, what)
	}
}

func (f *faults) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		f.add(key, fmt.Sprintf("%q is not one of %q", value, allowed))
	}
}

func (f *faults) between(key string, d, low, high time.Duration) {
	if d < low || d > high {
		f.add(key, fmt.Sprintf("%s is not between %s and %s", d, low, high))
	}
}

func (f *faults) absolute(key, path string, required bool) {
	if path == "" && !required {
		return
	}
	f.need(filepath.IsAbs(path), key, fmt.Sprintf("%q must be an absolute path", path))
}

func (f *faults) readable(key, path string) {
	if path == "" {
		return
	}
	file, err := os.Open(path) //nolint:gosec // G304: the operator names the file
	if err != nil {
		f.add(key, err.Error()+"; it must be readable by the user that starts kpopd")
		return
	}
	_ = file.Close()
}
