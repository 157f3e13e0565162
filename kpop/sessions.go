package kpop

import (
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Sessions lists the connections, oldest first.
func (s *Server) Sessions() []SessionInfo {
	s.prepare()
	s.mu.Lock()
	all := make([]*conn, 0, len(s.conns))
	for _, c := range s.conns {
		all = append(all, c)
	}
	s.mu.Unlock()
	infos := make([]SessionInfo, len(all))
	for i, c := range all {
		infos[i] = c.info()
	}
	slices.SortFunc(infos, func(a, b SessionInfo) int {
		if order := a.Since.Compare(b.Since); order != 0 {
			return order
		}
		return strings.Compare(a.ID, b.ID)
	})
	return infos
}

// Count gives the connections there are, and how many of them have not logged in.
func (s *Server) Count() (all, waiting int) {
	s.prepare()
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns), s.waiting
}

// Kick closes the session that Sessions calls id, without UPDATE unless it is
// in it already. It says whether there was one.
func (s *Server) Kick(id string) bool {
	s.prepare()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		if c.name() == id {
			c.stop("kicked")
			return true
		}
	}
	return false
}

// register counts a new connection, or says why it cannot be served.
func (s *Server) register(c *conn) (*refusal, string) {
	limits := &s.terms.Load().limits
	prefix := limits.prefixOf(c.raw.RemoteAddr())
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.draining:
		return refDraining, "shutting down"
	case full(len(s.conns), limits.MaxConnections):
		return refBusy, "too many connections"
	case full(s.waiting, limits.MaxUnauthenticated):
		return refBusy, "too many connections before login"
	case full(s.prefixes[prefix], limits.MaxPerPrefix):
		return refBusy, "too many connections from this prefix"
	}
	s.lastID++
	c.id, c.prefix = s.lastID, prefix
	s.conns[c.id] = c
	s.prefixes[prefix]++
	s.waiting++
	return nil, ""
}

func full(n, limit int) bool { return limit >= 0 && n >= limit }

// admit moves c from those before login to those after.
func (s *Server) admit(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting--
	c.admitted = true
}

// forget is register undone.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c.id)
	drop(s.prefixes, c.prefix)
	if !c.admitted {
		s.waiting--
	}
	if c.user != "" { // a login that ended in a panic
		drop(s.users, c.user)
	}
	if s.draining && len(s.conns) == 0 {
		close(s.idle)
	}
}

// takeUser counts c as a session of user, unless there are too many.
func (s *Server) takeUser(c *conn, user string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if full(s.users[user], s.terms.Load().limits.MaxPerUser) {
		return false
	}
	s.users[user]++
	c.user = user
	return true
}

func (s *Server) giveUser(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.user != "" {
		drop(s.users, c.user)
		c.user = ""
	}
}

// drop counts one off; a name with none is forgotten.
func drop[K comparable](counts map[K]int, name K) {
	if counts[name]--; counts[name] <= 0 {
		delete(counts, name)
	}
}

// prefixOf is the address prefix that limits are counted by; one for all that
// have no address.
func (l *Limits) prefixOf(remote net.Addr) netip.Prefix {
	var at netip.AddrPort
	if tcp, ok := remote.(*net.TCPAddr); ok {
		at = tcp.AddrPort()
	} else {
		at, _ = netip.ParseAddrPort(remote.String()) // the zero value is no address
	}
	bits, ip := l.PrefixV6, at.Addr().Unmap().WithZone("")
	if ip.Is4() {
		bits = l.PrefixV4
	}
	if bits < 0 || bits > ip.BitLen() {
		bits = ip.BitLen()
	}
	prefix, _ := ip.Prefix(bits) // the zero value for none
	return prefix
}
