package ldapdir

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// A pool keeps bound sessions for use again.
type pool struct {
	dialer *dialer
	limits Limits
	slots  chan struct{} // one for each session that is in use

	mu     sync.Mutex
	idle   []*session // the one used last is at the end
	closed bool
}

func newPool(d *dialer, l Limits) *pool {
	return &pool{dialer: d, limits: l, slots: make(chan struct{}, l.Connections)}
}

// run borrows a session for operation. When that breaks, one other session is
// tried: an idle one may have been dropped, a server may just be going down.
func (p *pool) run(ctx context.Context, operation func(*ldap.Conn) error) error {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return fmt.Errorf("ldapdir: all %d connections are busy: %w", cap(p.slots), ctx.Err())
	}
	s, err := p.borrow(ctx)
	if err != nil {
		return err
	}
	err = p.use(ctx, s, operation)
	if !broken(err) || ctx.Err() != nil {
		return err
	}
	p.drop(s.server)
	if s, err = p.dialer.connect(ctx); err != nil {
		return err
	}
	return p.use(ctx, s, operation)
}

// use runs operation and gives the session back, or closes it.
func (p *pool) use(ctx context.Context, s *session, operation func(*ldap.Conn) error) error {
	limited, cancel := context.WithTimeout(ctx, p.limits.Operation)
	defer cancel()
	began := time.Now()
	err := s.do(limited, operation)
	took := time.Since(began)
	p.dialer.observe(s.server.url, "search", took, err)
	if broken(err) {
		// A connection that had been idle may be dropped without fault.
		if !s.reused || answered(err) || took > p.limits.Operation*9/10 {
			s.server.breaker.fail(time.Now())
		}
		s.close()
		return fmt.Errorf("ldapdir: %s: %w", s.server.url, err)
	}
	s.server.breaker.succeed()
	p.giveBack(s)
	return err
}

// borrow takes an idle session that works, or a fresh one.
func (p *pool) borrow(ctx context.Context) (*session, error) {
	for {
		s := p.take()
		if s == nil {
			return p.dialer.connect(ctx)
		}
		s.reused = true
		now := time.Now()
		if s.conn.IsClosing() || now.Sub(s.born) > p.limits.MaxAge {
			s.close()
			continue
		}
		if now.Sub(s.used) < p.limits.HealthAfter || p.check(ctx, s) {
			return s, nil
		}
		s.close()
	}
}

func (p *pool) check(ctx context.Context, s *session) bool {
	ctx, cancel := context.WithTimeout(ctx, min(p.limits.Operation, time.Second))
	defer cancel()
	return s.rootDSE(ctx) == nil
}

func (p *pool) take() *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return nil
	}
	s := p.idle[len(p.idle)-1]
	p.idle = p.idle[:len(p.idle)-1]
	return s
}

func (p *pool) giveBack(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		s.close()
		return
	}
	p.idle = append(p.idle, s)
}

// drop closes the idle sessions of a server that just failed one.
func (p *pool) drop(of *server) {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := p.idle[:0]
	for _, s := range p.idle {
		if s.server == of {
			s.close()
		} else {
			kept = append(kept, s)
		}
	}
	clear(p.idle[len(kept):])
	p.idle = kept
}

// close ends the idle sessions; those in use end when they are given back.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, s := range p.idle {
		s.close()
	}
	p.idle = nil
}

// counts gives the sessions in use and idle.
func (p *pool) counts() (inUse, idle int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.slots), len(p.idle)
}
