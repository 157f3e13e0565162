package ldapdir

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"
)

// A dialer connects to the best server that answers.
type dialer struct {
	servers   []*server
	bind      Bind
	timeout   time.Duration
	headStart time.Duration
	observe   func(server, operation string, took time.Duration, err error)
}

var errResting = errors.New("ldapdir: every server failed lately and rests")

// An attempt is how one server's race ended.
type attempt struct {
	server  *server
	session *session
	err     error
}

// connect races the servers (RFC 8305 in spirit): each has a head start over
// the next, a failure starts the next at once, the first that is bound wins.
func (d *dialer) connect(ctx context.Context) (*session, error) {
	candidates := d.candidates(time.Now())
	if len(candidates) == 0 {
		return nil, errResting
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout+d.headStart*time.Duration(len(candidates)-1))
	defer cancel()
	ended := make(chan attempt) // whoever ends after the race closes what he has
	timer := time.NewTimer(0)
	defer timer.Stop()
	var failures []error
	running := map[*server]bool{}
	for next := 0; next < len(candidates) || len(running) > 0; {
		select {
		case <-timer.C:
			if next < len(candidates) {
				running[candidates[next]] = true
				go d.attempt(ctx, candidates[next], ended)
				next++
				timer.Reset(d.headStart)
			}
		case a := <-ended:
			delete(running, a.server)
			if a.err == nil {
				d.won(a.server, running)
				return a.session, nil
			}
			a.server.breaker.fail(time.Now())
			failures = append(failures, a.err)
			timer.Reset(0)
		case <-ctx.Done():
			for s := range running {
				s.breaker.fail(time.Now())
			}
			return nil, errors.Join(append(failures, ctx.Err())...)
		}
	}
	return nil, errors.Join(failures...)
}

// won notes that those who began earlier than the winner are slow. That he is
// well again is known only when he has answered a search.
func (d *dialer) won(winner *server, running map[*server]bool) {
	for s := range running {
		if slices.Index(d.servers, s) < slices.Index(d.servers, winner) {
			s.breaker.fail(time.Now())
		}
	}
}

// attempt connects to one server and tells, unless the race is over.
func (d *dialer) attempt(race context.Context, s *server, ended chan<- attempt) {
	ctx, cancel := context.WithTimeout(race, d.timeout)
	defer cancel()
	began := time.Now()
	session, err := s.connect(ctx, d.bind)
	d.observe(s.url, "connect", time.Since(began), err)
	select {
	case ended <- attempt{s, session, err}:
	case <-race.Done():
		if session != nil {
			session.close()
		}
	}
}

// candidates are the servers that may be tried now, those without a failure
// first and otherwise in the configured order.
func (d *dialer) candidates(now time.Time) []*server {
	var out []*server
	for _, s := range d.servers {
		if s.breaker.allow(now) {
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b *server) int { return cmp.Compare(a.breaker.failing(), b.breaker.failing()) })
	return out
}
