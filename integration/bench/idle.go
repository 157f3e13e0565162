package bench

import (
	"errors"
	"sync"
	"time"
)

// growth is how much more CPU a login may take on 100,000 messages than on ten.
const growth = 5 * time.Millisecond

// errLeftOut: the server does not play this scenario here.
var errLeftOut = errors.New("bench: not for this server")

// idles opens sessions on a server that was just started, lets them wait, and
// asks what each costs in memory.
func idles(n int, secure bool) func(*trial) error {
	return func(t *trial) (err error) {
		if n > t.server.most {
			return errLeftOut
		}
		if idle := t.server.idle; idle != nil {
			t.server = idle
			defer func() { err = errors.Join(err, idle.end()) }()
		}
		if err := t.server.restart(); err != nil {
			return err
		}
		// One session comes before: program text that it needs is no session's.
		first, err := t.openMany(1, secure)
		if err != nil {
			return err
		}
		if err := first[0].quit(); err != nil {
			return err
		}
		before, err := settled(t.server.meter, t.server.quiet/3)
		if err != nil {
			return err
		}
		if err := t.start(); err != nil {
			return err
		}
		open, err := t.openMany(n, secure)
		defer func() {
			for _, c := range open {
				_ = c.Close()
			}
		}()
		if err != nil {
			return err
		}
		if err := t.stop(float64(n)); err != nil {
			return err
		}
		// kpopd gives memory back after some seconds of silence.
		after, err := settled(t.server.meter, t.server.quiet)
		t.perSession = float64(after-before) / float64(n)
		return err
	}
}

// openMany opens a session for each of n users.
func (t *trial) openMany(n int, secure bool) ([]*session, error) {
	var mu sync.Mutex
	open := make([]*session, 0, n)
	err := parallel(16, n, func(i int) error {
		p, err := t.w.tickets[t.w.corpus.idle.name][i].prove(true)
		if err != nil {
			return err
		}
		c, err := t.w.enter(t.server, p, secure, 4<<10)
		if err != nil {
			return err
		}
		mu.Lock()
		open = append(open, c)
		mu.Unlock()
		_, err = c.do("STAT")
		return err
	})
	return open, err
}

// settled waits at least for some time, and until memory does not fall any
// more.
func settled(m meter, least time.Duration) (int64, error) {
	began := time.Now()
	last, err := pss(m)
	for steady := 0; err == nil && time.Since(began) < 25*time.Second; {
		time.Sleep(500 * time.Millisecond)
		var now int64
		now, err = pss(m)
		if now > last-last/200 {
			steady++
		} else {
			steady = 0
		}
		last = now
		if steady >= 4 && time.Since(began) >= least {
			break
		}
	}
	return last, err
}
