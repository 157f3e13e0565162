package password_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/password"
)

func from(host string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(host), Port: 4711} }

// A limitClock is a Limiter with a clock in hand.
type limitClock struct {
	*password.Limiter
	now time.Time
}

func newLimiter(o password.LimiterOptions) *limitClock {
	c := &limitClock{now: time.Unix(1_700_000_000, 0)}
	o.Now = func() time.Time { return c.now }
	c.Limiter = password.NewLimiter(o)
	return c
}

// waits takes n times and gives what each had to wait; "no" is a refusal.
func (c *limitClock) waits(n int, host, user string) string {
	out := ""
	for range n {
		wait, ok := c.Take(from(host), user)
		if !ok {
			out += "no "
			continue
		}
		out += fmt.Sprint(int(wait.Seconds())) + " "
	}
	return out
}

func TestLimiterSlowsOneUser(t *testing.T) {
	t.Parallel()
	c := newLimiter(password.LimiterOptions{})
	if got, want := c.waits(10, "192.0.2.1", "alice"), "0 0 0 1 2 4 8 16 no no "; got != want {
		t.Errorf("waits are %s, want %s", got, want)
	}
	if got := c.waits(1, "192.0.2.1", "ALICE"); got != "no " {
		t.Errorf("by another spelling: %s", got)
	}
	// The user at another address does not feel it, nor do others at this one.
	if got := c.waits(1, "192.0.2.2", "alice") + c.waits(1, "192.0.2.1", "bob"); got != "0 0 " {
		t.Errorf("others wait %s", got)
	}
	c.now = c.now.Add(time.Minute) // one is forgotten
	if got := c.waits(2, "192.0.2.1", "alice"); got != "16 no " {
		t.Errorf("after a minute: %s", got)
	}
	c.now = c.now.Add(time.Hour)
	if got := c.waits(1, "192.0.2.1", "alice"); got != "0 " {
		t.Errorf("after an hour: %s", got)
	}
}

func TestLimiterSlowsOnePrefix(t *testing.T) {
	t.Parallel()
	c := newLimiter(password.LimiterOptions{FreePrefix: 5})
	got := ""
	for i := range 12 {
		got += c.waits(1, "192.0.2.1", fmt.Sprint("user", i))
	}
	if want := "0 0 0 0 0 1 2 4 8 16 no no "; got != want {
		t.Errorf("waits are %s, want %s", got, want)
	}
	if held := c.Len(); held != 11 { // the prefix and ten users; refusals cost nothing
		t.Errorf("%d entries are held", held)
	}
}

func TestLimiterPrefixes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, one, other string
		same             bool
		options          password.LimiterOptions
	}{
		{"two IPv4 addresses", "192.0.2.1", "192.0.2.2", false, password.LimiterOptions{}},
		{"an IPv4 /24", "192.0.2.1", "192.0.2.2", true, password.LimiterOptions{IPv4Bits: 24}},
		{"an IPv6 /64", "2001:db8::1", "2001:db8::ffff:1", true, password.LimiterOptions{}},
		{"two IPv6 /64", "2001:db8::1", "2001:db8:0:1::1", false, password.LimiterOptions{}},
		{"an IPv6 /48", "2001:db8::1", "2001:db8:0:1::1", true, password.LimiterOptions{IPv6Bits: 48}},
		{"IPv4 in IPv6", "192.0.2.1", "::ffff:192.0.2.1", true, password.LimiterOptions{}},
	} {
		l := newLimiter(c.options)
		l.waits(20, c.one, "alice")
		if got := l.waits(1, c.other, "alice") == "no "; got != c.same {
			t.Errorf("%s: one prefix is %v", c.name, got)
		}
	}
	l := newLimiter(password.LimiterOptions{})
	for _, a := range []net.Addr{nil, &net.UnixAddr{Name: "/x", Net: "unix"}} { // no address at all still counts
		for range 20 {
			l.Take(a, "alice")
		}
		if _, ok := l.Take(a, "alice"); ok {
			t.Errorf("%v is not limited", a)
		}
	}
}

func TestLimiterGivesBack(t *testing.T) {
	t.Parallel()
	c := newLimiter(password.LimiterOptions{FreePrefix: 3})
	for range 1000 {
		if wait, ok := c.Take(from("192.0.2.1"), "alice"); wait > 0 || !ok {
			t.Fatal("right passwords are limited")
		}
		c.GiveBack(from("192.0.2.1"), "alice")
	}
	// An account of one's own does not buy guesses at another's.
	got := ""
	for range 6 {
		got += c.waits(1, "192.0.2.1", "victim")
		if _, ok := c.Take(from("192.0.2.1"), "mallory"); ok {
			c.GiveBack(from("192.0.2.1"), "mallory")
		}
	}
	if got != "0 0 0 1 2 4 " {
		t.Errorf("waits are %s", got)
	}
}

func TestLimiterMemory(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		entries := rapid.IntRange(2, 64).Draw(r, "entries")
		c := newLimiter(password.LimiterOptions{Entries: entries})
		for range 300 {
			host := fmt.Sprintf("10.0.%d.%d", rapid.IntRange(0, 255).Draw(r, "c"), rapid.IntRange(0, 255).Draw(r, "d"))
			if _, ok := c.Take(from(host), rapid.StringN(0, 5, 20).Draw(r, "user")); ok && rapid.Bool().Draw(r, "right") {
				c.GiveBack(from(host), "")
			}
			if n := c.Len(); n > entries+1 {
				r.Fatalf("%d entries are held, %d allowed", n, entries)
			}
		}
	})
}

func TestLimiterParallel(t *testing.T) {
	t.Parallel()
	l := password.NewLimiter(password.LimiterOptions{})
	var wg sync.WaitGroup
	taken := make(chan bool, 200)
	for range 200 {
		wg.Go(func() {
			_, ok := l.Take(from("192.0.2.1"), "alice")
			taken <- ok
		})
	}
	wg.Wait()
	close(taken)
	n := 0
	for ok := range taken {
		if ok {
			n++
		}
	}
	if n != 8 {
		t.Errorf("%d of 200 guesses at once were let in, want 8", n)
	}
}

func TestGuard(t *testing.T) {
	t.Parallel()
	asked := 0
	check := func(_ context.Context, _ auth.Peer, user, pw string) (*auth.Identity, error) {
		asked++
		switch pw {
		case "right":
			return &auth.Identity{Authcid: user}, nil
		case "down":
			return nil, auth.ErrTemporary
		}
		return nil, auth.ErrDenied
	}
	l := newLimiter(password.LimiterOptions{FirstWait: time.Millisecond, MaxWait: time.Millisecond})
	guarded := l.Guard(check)
	try := func(user, pw string) error {
		_, err := guarded(t.Context(), auth.Peer{Remote: from("192.0.2.1")}, user, pw)
		return err
	}
	for range 100 {
		if try("alice", "right") != nil || !errors.Is(try("alice", "down"), auth.ErrTemporary) {
			t.Fatal("what is no wrong guess is limited")
		}
	}
	asked = 0
	for range 10 {
		if err := try("alice", "wrong"); err == nil {
			t.Fatal("a wrong password is taken")
		}
	}
	if asked != 4 {
		t.Errorf("the check was asked %d times", asked)
	}
	if err := try("alice", "right"); !errors.Is(err, auth.ErrTemporary) || errors.Is(err, auth.ErrDenied) {
		t.Errorf("the right password behind a flood gives %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	slow := newLimiter(password.LimiterOptions{FreeUser: 1})
	for range 2 {
		_, err := slow.Guard(check)(ctx, auth.Peer{Remote: from("192.0.2.1")}, "bob", "wrong")
		if err == nil {
			t.Error("a wrong password is taken")
		}
	}
	_, err := slow.Guard(check)(ctx, auth.Peer{Remote: from("192.0.2.1")}, "bob", "wrong")
	if !errors.Is(err, auth.ErrTemporary) {
		t.Errorf("a cancelled wait gives %v", err)
	}
}

// TestLimiterWait: looking costs nothing, and never refuses.
func TestLimiterWait(t *testing.T) {
	t.Parallel()
	l := password.NewLimiter(password.LimiterOptions{FreePrefix: 2, MaxWait: 4 * time.Second, Now: func() time.Time { return time.Unix(1e9, 0) }})
	here, elsewhere := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 1}
	var got []time.Duration
	for range 8 {
		got = append(got, l.Wait(here), l.Wait(here))
		l.Take(here, "")
	}
	s := time.Second
	if want := []time.Duration{0, 0, 0, 0, s, s, 2 * s, 2 * s, 4 * s, 4 * s, 4 * s, 4 * s, 4 * s, 4 * s, 4 * s, 4 * s}; !slices.Equal(got, want) {
		t.Error(got)
	}
	if l.Wait(elsewhere) != 0 {
		t.Error("another address waits")
	}
}
