package kpop

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// Limits are what clients may use of the server. A zero field has the default
// that stands with it; a negative count means no limit.
type Limits struct {
	Connections     int           // open at once; 20000
	Unauthenticated int           // of them not logged in; 2000
	PerAddress      int           // from one IPv4 address or IPv6 /64; 1000
	PerUser         int           // logged in as one user; 20
	LoginTimeout    time.Duration // from accept to login, not renewed by octets; 60 s
	IdleTimeout     time.Duration // RFC 1939 section 3: at least 10 minutes; 10 min
	WriteTimeout    time.Duration // for a client to take a buffer; 60 s
	LineLength      int           // of a command, in octets; 512 (RFC 2449 section 4: 255)
	SASLLine        int           // of an AUTH line or response; 128 KiB
	BadCommands     int           // in a row after login; 10. Before login 3 at most
	AuthFailures    int           // on one connection; 3
	FailureDelay    time.Duration // before the first refusal is answered; doubles; 0 none
}

func pickInt(n, usual int) int {
	if n == 0 {
		return usual
	}
	return n
}

func pickTime(d, usual time.Duration) time.Duration {
	if d <= 0 {
		return usual
	}
	return d
}

func (l *Limits) idleTimeout() time.Duration  { return pickTime(l.IdleTimeout, 10*time.Minute) }
func (l *Limits) loginTimeout() time.Duration { return pickTime(l.LoginTimeout, time.Minute) }
func (l *Limits) writeTimeout() time.Duration { return pickTime(l.WriteTimeout, time.Minute) }
func (l *Limits) lineLength() int             { return pickInt(l.LineLength, 512) }
func (l *Limits) saslLine() int               { return pickInt(l.SASLLine, 128<<10) }
func (l *Limits) authFailures() int           { return pickInt(l.AuthFailures, 3) }

// badCommands is stricter before login, where a confused browser or a scanner
// talks.
func (l *Limits) badCommands(beforeLogin bool) int {
	n := pickInt(l.BadCommands, 10)
	if beforeLogin {
		return min(n, 3)
	}
	return n
}

// prefix is what addresses are counted by: an IPv6 host has a /64 to choose
// from.
func prefix(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap()
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	p, _ := ip.Prefix(bits) // bits fits the family
	return p
}

// admission counts connections by address and sessions by user.
type admission struct {
	mu      sync.Mutex
	total   int
	waiting int // not logged in
	address map[netip.Prefix]int
	user    map[string]int
}

// enter counts a new connection in, or says which limit forbids it.
func (a *admission) enter(p netip.Prefix, l *Limits) (reason string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case exceeds(a.total, pickInt(l.Connections, 20000)):
		return "connections"
	case exceeds(a.waiting, pickInt(l.Unauthenticated, 2000)):
		return "unauthenticated"
	case exceeds(a.address[p], pickInt(l.PerAddress, 1000)):
		return "per_address"
	}
	if a.address == nil {
		a.address = make(map[netip.Prefix]int)
	}
	a.total++
	a.waiting++
	a.address[p]++
	return ""
}

func exceeds(have, limit int) bool { return limit > 0 && have >= limit }

// leave counts a connection out; waiting says that it never logged in.
func (a *admission) leave(p netip.Prefix, waiting bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.total--
	if waiting {
		a.waiting--
	}
	if a.address[p]--; a.address[p] == 0 {
		delete(a.address, p)
	}
}

// addUser counts a session of user in, if the limit allows one more.
func (a *admission) addUser(user string, limit int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if exceeds(a.user[user], pickInt(limit, 20)) {
		return false
	}
	if a.user == nil {
		a.user = make(map[string]int)
	}
	a.user[user]++
	return true
}

func (a *admission) removeUser(user string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.user[user]--; a.user[user] <= 0 {
		delete(a.user, user)
	}
}

// authenticated takes a connection out of those that wait.
func (a *admission) authenticated() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting--
}

// penalties slow down addresses whose logins fail; the users named suffer
// nothing at other addresses.
type penalties struct {
	mu    sync.Mutex
	count map[netip.Prefix]penalty
}

type penalty struct {
	failures int
	last     time.Time
}

const (
	penaltyMemory = 10 * time.Minute
	penaltyMost   = 16 * time.Second
	penaltySlots  = 1 << 16
)

// failed books a failure and says how long its answer waits.
func (p *penalties) failed(remote net.Addr, base time.Duration) time.Duration {
	if base <= 0 {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now, key := time.Now(), prefix(remote)
	if p.count == nil || len(p.count) >= penaltySlots {
		p.count = make(map[netip.Prefix]penalty) // bounded: forgetting makes nobody worse off
	}
	e := p.count[key]
	if now.Sub(e.last) > penaltyMemory {
		e.failures = 0
	}
	delay := base << min(e.failures/3, 10)
	p.count[key] = penalty{e.failures + 1, now}
	return min(delay, penaltyMost)
}
