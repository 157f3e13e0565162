package kpop

import "github.com/kpopd/kpopd/auth"

// A Change is what Reconfigure puts in the place of a Server's own fields.
type Change struct {
	Hostname  string
	Directory auth.Directory
	Limits    Limits

	// Ports replace those of the same Name; a listener whose port is not
	// among them goes on with the one it has.
	Ports []*Port
}

// terms are what a connection is served by from its first octet to its end.
type terms struct {
	hostname  string
	directory auth.Directory
	limits    Limits
	ports     map[string]*Port
}

// Reconfigure makes c rule the connections that are accepted from now on. Those
// that are open keep what they began with, but for the limits that are counted
// over many connections.
func (s *Server) Reconfigure(c Change) {
	s.prepare()
	ports := make(map[string]*Port, len(c.Ports))
	for _, p := range c.Ports {
		ports[p.Name] = p
	}
	s.terms.Store(&terms{hostname: c.Hostname, directory: c.Directory, limits: c.Limits.withDefaults(), ports: ports})
}
