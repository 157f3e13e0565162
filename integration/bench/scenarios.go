package bench

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// A scenario is one kind of work.
type scenario struct {
	name    string
	unit    string // of work: session, MB, message
	figures []figure
	only    string // the one server that can; empty: all
	rounds  int    // at most; 0: as many as the run has
	goals   []goal
	mail    maildrops
	run     func(t *trial) error
}

// maildrops are those that a scenario works on.
type maildrops func(*corpus) *group

// A figure is one of those that a trial gives.
type figure string

// The figures, each with its unit in what is printed.
const (
	cpuTime figure = "CPU"    // µs of the server's for a unit
	rate    figure = "rate"   // units a second
	p50     figure = "p50"    // ms
	p99     figure = "p99"    // ms
	memory  figure = "memory" // KiB for an idle session
)

var all = []figure{cpuTime, rate, p50, p99}

// A goal is what kpopd's figure may be, divided by another.
type goal struct {
	figure figure
	of     string // a server; best; or a scenario of kpopd's own
	most   float64
	more   time.Duration // instead of most: how much CPU more than of
}

const best = "best"

// A trial is one scenario on one server in one round.
type trial struct {
	w      *World
	server *server
	round  int

	began, ended  time.Time
	before, after time.Duration // CPU
	units         float64
	perSession    float64 // octets of an idle one

	lock      sync.Mutex
	latencies []time.Duration
}

// start starts the clocks.
func (t *trial) start() (err error) {
	t.before, err = t.server.meter.cpu()
	t.began = time.Now()
	return err
}

// stop stops them after some units of work.
func (t *trial) stop(units float64) (err error) {
	t.ended = time.Now()
	t.after, err = t.server.meter.cpu()
	t.units = units
	return err
}

// took notes one latency.
func (t *trial) took(since time.Time) {
	d := time.Since(since)
	t.lock.Lock()
	defer t.lock.Unlock()
	t.latencies = append(t.latencies, d)
}

// parallel runs do for 0..n-1 by some clients at once.
func parallel(clients, n int, do func(i int) error) error {
	var next atomic.Int64
	errs := make(chan error, clients)
	for range clients {
		go func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					errs <- nil
					return
				}
				if err := do(i); err != nil {
					next.Store(int64(n)) // the others need not go on
					errs <- err
					return
				}
			}
		}()
	}
	var first error
	for range clients {
		if err := <-errs; first == nil {
			first = err
		}
	}
	return first
}

// logins are n sessions that only look: connect, AUTH, STAT, QUIT.
func logins(clients, n int, secure bool) func(*trial) error {
	return func(t *trial) error {
		ready, err := proofs(t.w.tickets[t.w.corpus.poll.name], n, true)
		if err != nil {
			return err
		}
		if err := t.start(); err != nil {
			return err
		}
		err = parallel(clients, n, func(i int) error {
			began := time.Now()
			c, err := t.w.enter(t.server, ready[i], secure, 4<<10)
			if err != nil {
				return err
			}
			return t.finish(c, began)
		})
		if err != nil {
			return err
		}
		return t.stop(float64(n))
	}
}

// finish ends a session that only looks.
func (t *trial) finish(c *session, began time.Time) error {
	defer c.Close() //nolint:errcheck // closed by quit
	if _, err := c.do("STAT"); err != nil {
		return err
	}
	if _, err := c.do("QUIT"); err != nil {
		return err
	}
	t.took(began)
	return c.gone()
}

// kpopLogins are the same over KPOP.
func kpopLogins(clients, n int) func(*trial) error {
	return func(t *trial) error {
		ready, err := proofs(t.w.tickets[t.w.corpus.poll.name], n, false)
		if err != nil {
			return err
		}
		if err := t.start(); err != nil {
			return err
		}
		err = parallel(clients, n, func(i int) error {
			began := time.Now()
			c, err := dial(t.server.kpop, nil, 4<<10)
			if err != nil {
				return err
			}
			if err := c.kpop(ready[i]); err != nil {
				return err
			}
			return t.finish(c, began)
		})
		if err != nil {
			return err
		}
		return t.stop(float64(n))
	}
}

// polls are sessions as a phone has them: STAT, UIDL, and none to two messages.
func polls(clients, n int, secure bool) func(*trial) error {
	return func(t *trial) error {
		g := t.w.corpus.poll
		replies := t.w.lengths[g.name].retr
		ready, err := proofs(t.w.tickets[g.name], n, true)
		if err != nil {
			return err
		}
		if err := t.start(); err != nil {
			return err
		}
		err = parallel(clients, n, func(i int) error {
			began := time.Now()
			c, err := t.w.enter(t.server, ready[i], secure, 4<<10)
			if err != nil {
				return err
			}
			if err := c.poll(g, replies, i%3); err != nil {
				return err
			}
			return t.finish(c, began)
		})
		if err != nil {
			return err
		}
		return t.stop(float64(n))
	}
}

func (s *session) poll(g group, replies []int, messages int) error {
	if err := s.send("UIDL\r\n"); err != nil {
		return err
	}
	if n, err := s.lines(); err != nil || n != g.count {
		return fmt.Errorf("bench: UIDL has %d lines, %w", n, err)
	}
	for i := range messages {
		if err := s.send("RETR " + strconv.Itoa(i+1) + "\r\n"); err != nil {
			return err
		}
		if err := s.skip(replies[i]); err != nil {
			return err
		}
	}
	return nil
}

// A transfer is one kind of fetching.
type transfer struct {
	of       maildrops
	sessions int
	n        int // messages in each session
	batch    int // commands sent at once
	secure   bool
	top      bool // TOP n 0 instead of RETR
	messages bool // the unit is a message, not a MB
}

func appendRetr(dst []byte, n int) []byte {
	return append(strconv.AppendInt(append(dst, "RETR "...), int64(n), 10), '\r', '\n')
}

func appendTop(dst []byte, n int) []byte {
	return append(strconv.AppendInt(append(dst, "TOP "...), int64(n), 10), " 0\r\n"...)
}

// run fetches by sessions that have logged in before, and have fetched each message
// once: what a system does with files that nobody has read for a while is not
// measured.
func (f transfer) run(t *trial) error {
	g := f.of(&t.w.corpus)
	lengths, command := t.w.lengths[g.name].retr, appendRetr
	if f.top {
		lengths, command = t.w.lengths[g.name].top, appendTop
	}
	sessions := make([]*session, min(f.sessions, g.users))
	for i := range sessions {
		p, err := t.w.tickets[g.name][i].prove(true)
		if err != nil {
			return err
		}
		c, err := t.w.enter(t.server, p, f.secure, 256<<10)
		if err != nil {
			return err
		}
		defer c.Close() //nolint:errcheck // closed by quit
		sessions[i] = c
		if _, err := c.do("STAT"); err != nil {
			return err
		}
	}
	warm := f
	warm.n, warm.batch = min(f.n, g.count), 100
	for _, c := range sessions {
		if err := warm.fetch(c, lengths, command, func(time.Time) {}); err != nil {
			return err
		}
	}
	if err := t.start(); err != nil {
		return err
	}
	err := parallel(len(sessions), len(sessions), func(i int) error {
		return f.fetch(sessions[i], lengths, command, t.took)
	})
	if err != nil {
		return err
	}
	if err := t.stop(f.units(lengths, len(sessions))); err != nil {
		return err
	}
	for _, c := range sessions {
		if err := c.quit(); err != nil {
			return err
		}
	}
	return nil
}

// fetch is one session's part; a latency is that of a batch.
func (f transfer) fetch(c *session, lengths []int, command func([]byte, int) []byte, took func(since time.Time)) error {
	for i := 0; i < f.n; i += f.batch {
		began := time.Now()
		err := c.pipeline(f.batch, min(f.batch, f.n-i),
			func(dst []byte, k int) []byte { return command(dst, (i+k)%len(lengths)+1) },
			func(k int) int { return lengths[(i+k)%len(lengths)] })
		if err != nil {
			return err
		}
		took(began)
	}
	return nil
}

func (f transfer) units(lengths []int, sessions int) float64 {
	if f.messages {
		return float64(f.n * sessions)
	}
	octets := 0
	for i := range f.n {
		octets += lengths[i%len(lengths)]
	}
	return float64(octets*sessions) / 1e6
}

// listings are sessions that ask for everything but messages.
func listings(of maildrops, n int) func(*trial) error {
	return glances(of, n, 256<<10, func(c *session, messages int) error {
		for _, listing := range []string{"LIST", "UIDL"} {
			if err := c.send(listing + "\r\n"); err != nil {
				return err
			}
			if n, err := c.lines(); err != nil || n != messages {
				return fmt.Errorf("bench: %s has %d lines, %w", listing, n, err)
			}
		}
		return nil
	})
}

// looks are sessions that ask for STAT only.
func looks(of maildrops, n int) func(*trial) error {
	return glances(of, n, 4<<10, func(*session, int) error { return nil })
}

// glances are n sessions, one after another, each of STAT and what asks. One that
// retrieves comes before the clock runs.
func glances(of maildrops, n, buffer int, asks func(c *session, messages int) error) func(*trial) error {
	return func(t *trial) error {
		g := of(&t.w.corpus)
		ready, err := proofs(t.w.tickets[g.name], n, true)
		if err != nil {
			return err
		}
		if err := t.w.visit(t.server, *g, t.w.tickets[g.name][0], false); err != nil {
			return err
		}
		if err := t.start(); err != nil {
			return err
		}
		for _, p := range ready {
			began := time.Now()
			c, err := t.w.enter(t.server, p, false, buffer)
			if err != nil {
				return err
			}
			if err := asks(c, g.count); err != nil {
				return err
			}
			if err := t.finish(c, began); err != nil {
				return err
			}
		}
		return t.stop(float64(n))
	}
}

// deletions mark every message of a maildrop that is used once, and commit. The
// latency is that of everything from the first DELE to the answer of QUIT. Another
// session has looked at the maildrop just before.
func deletions(t *trial) error {
	g := t.w.corpus.dele
	if err := t.w.visit(t.server, g, t.w.tickets[g.name][t.round], false); err != nil {
		return err
	}
	c, err := t.w.login(t.server, t.w.tickets[g.name][t.round], false)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // closed by gone
	if _, err := c.do("STAT"); err != nil {
		return err
	}
	if err := t.start(); err != nil {
		return err
	}
	const batch = 100
	for i := 0; i < g.count; i += batch {
		var out []byte
		for k := i; k < i+batch; k++ {
			out = append(strconv.AppendInt(append(out, "DELE "...), int64(k+1), 10), '\r', '\n')
		}
		if _, err := c.Write(out); err != nil {
			return err
		}
		for range batch {
			if _, err := c.line(); err != nil {
				return err
			}
		}
	}
	if _, err := c.do("QUIT"); err != nil {
		return err
	}
	t.took(t.began)
	if err := t.stop(1); err != nil {
		return err
	}
	return c.gone()
}

// scenarios are those of a size.
func scenarios(size Size) []scenario {
	switch size {
	case Tiny:
		return []scenario{
			{name: "GSSAPI login, clear, 4 clients", unit: "session", figures: all, mail: pollMail, run: logins(4, 12, false)},
			{
				name: "RETR 4 KiB, clear, pipelined", unit: "message", figures: all,
				mail: smallMail, run: transfer{of: smallMail, sessions: 1, n: 200, batch: 50, messages: true}.run,
			},
		}
	case Quick:
		return quickScenarios()
	}
	return fullScenarios()
}

func pollMail(c *corpus) *group  { return &c.poll }
func bigMail(c *corpus) *group   { return &c.big }
func smallMail(c *corpus) *group { return &c.small }
func hugeMail(c *corpus) *group  { return &c.huge }
func deleMail(c *corpus) *group  { return &c.dele }
func idleMail(c *corpus) *group  { return &c.idle }
func sentMail(c *corpus) *group  { return &c.mail }

func list(i int) maildrops { return func(c *corpus) *group { return &c.lists[i] } }

const ownLogin = "GSSAPI login, clear, 8 clients"

func cpuGoal(of string, most float64) []goal { return []goal{{figure: cpuTime, of: of, most: most}} }

func quickScenarios() []scenario {
	return []scenario{
		{name: "KPOP login, 8 clients", unit: "session", figures: all, only: "kpopd", goals: cpuGoal(ownLogin, 0.90), mail: pollMail, run: kpopLogins(8, 600)},
		{name: ownLogin, unit: "session", figures: all, goals: cpuGoal(best, 0.22), mail: pollMail, run: logins(8, 600, false)},
		{name: "GSSAPI login, TLS, 8 clients", unit: "session", figures: all, goals: cpuGoal(best, 0.33), mail: pollMail, run: logins(8, 250, true)},
		{name: "poll storm, 16 clients", unit: "session", figures: all, goals: cpuGoal(best, 0.22), mail: pollMail, run: polls(16, 600, false)},
		{name: "RETR 1 MiB, clear, 2 sessions pipelined", unit: "MB", figures: all, goals: cpuGoal(best, 0.25), mail: bigMail, run: transfer{of: bigMail, sessions: 2, n: 64, batch: 8}.run},
		{name: "RETR 1 MiB, TLS, pipelined", unit: "MB", figures: all, goals: cpuGoal(best, 0.30), mail: bigMail, run: transfer{of: bigMail, sessions: 1, n: 64, batch: 8, secure: true}.run},
		{name: "RETR 4 KiB, clear, pipelined", unit: "message", figures: all, goals: cpuGoal("mdbox", 0.45), mail: smallMail, run: transfer{of: smallMail, sessions: 1, n: 6000, batch: 50, messages: true}.run},
		{name: "RETR 4 KiB, TLS, pipelined", unit: "message", figures: all, goals: cpuGoal("mdbox", 0.45), mail: smallMail, run: transfer{of: smallMail, sessions: 1, n: 6000, batch: 50, messages: true, secure: true}.run},
		{name: "TOP n 0, pipelined", unit: "message", figures: all, goals: cpuGoal("mdbox", 0.70), mail: list(1), run: transfer{of: list(1), sessions: 1, n: 4000, batch: 100, messages: true, top: true}.run},
		{name: "STAT, LIST, UIDL on 10,000", unit: "session", figures: all, goals: cpuGoal("cyrus", 0.33), mail: list(1), run: listings(list(1), 20)},
		{name: "LMTP, 4 KiB, 4 clients", unit: "message", figures: all, goals: cpuGoal("cyrus", 0.50), mail: sentMail, run: deliveries(4, 300)},
		{name: "DELE of 2,000 and QUIT", unit: "session", figures: all, goals: []goal{{figure: p50, of: "mdbox", most: 0.60}, {figure: p50, of: "cyrus", most: 0.10}}, mail: deleMail, run: deletions},
		{name: "500 idle sessions, clear", unit: "session", figures: []figure{memory}, rounds: 1, only: "kpopd", goals: []goal{{figure: memory, most: 8}}, mail: idleMail, run: idles(500, false)},
	}
}
