package kpop

import (
	"context"
	"sort"
	"time"

	"github.com/kpopd/kpopd/auth"
)

// track adds a connection to those that Sessions, Kick and Shutdown see.
func (s *Server) track(c *conn, info *SessionInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[*conn]*SessionInfo)
	}
	s.open[c] = info
}

func (s *Server) untrack(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}

// register notes who a connection belongs to.
func (s *Server) register(c *conn, id *auth.Identity, account *auth.Account) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if info := s.open[c]; info != nil {
		info.User, info.Mailbox = account.User, account.Mailbox
		info.Mechanism, info.Authcid, info.TLS = id.Mechanism, id.Authcid, c.peer.TLS != nil
	}
}

func (c *conn) sessionName() string {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	return c.server.open[c].ID
}

// Sessions lists the open connections, oldest first.
func (s *Server) Sessions() []SessionInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]SessionInfo, 0, len(s.open))
	for _, info := range s.open {
		out = append(out, *info)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Since.Before(out[j].Since) })
	return out
}

// Kick ends the session of that ID; what it marked stays. It says whether there
// was one.
func (s *Server) Kick(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c, info := range s.open {
		if info.ID == id {
			c.log.Warn("session kicked", "audit", true)
			c.hangUp()
			return true
		}
	}
	return false
}

// hangUp ends a session from another goroutine: at once when it waits for its
// client, after the command when it works.
func (c *conn) hangUp() {
	c.closed.Store(true)
	_ = c.raw.SetReadDeadline(time.Unix(1, 0))
}

// Shutdown drains: new connections are turned away, sessions end when they next
// wait for their client, and those in UPDATE finish. When ctx ends before they
// do, the rest is cut off.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	done := make(chan struct{})
	go func() {
		s.sessions.Wait()
		close(done)
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		s.endIdle()
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return s.cut(done)
		case <-tick.C:
		}
	}
}

// endIdle hangs up on the sessions that wait for their clients before login,
// and tells the others at their next command.
func (s *Server) endIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		if !c.busy.Load() {
			c.hangUp()
		}
	}
}

func (s *Server) cut(done <-chan struct{}) error {
	s.mu.Lock()
	for c := range s.open {
		c.closed.Store(true)
		_ = c.raw.SetReadDeadline(time.Unix(1, 0))
	}
	s.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-time.After(updateTime):
		return context.DeadlineExceeded
	}
}
