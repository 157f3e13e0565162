package authtest

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/kpopd/kpopd/auth"
)

// An ExchangeCase is a mechanism with a client that succeeds.
type ExchangeCase struct {
	Mechanism auth.Mechanism
	Peer      auth.Peer

	// Client answers a challenge. It is called with a nil challenge first,
	// for the initial response; step counts from 0.
	Client func(step int, challenge []byte) []byte
}

// maxSteps bounds an exchange that succeeds.
const maxSteps = 8

// Exchange runs the suite. client is called for each run anew.
func Exchange(t *testing.T, client func(t *testing.T) ExchangeCase) {
	t.Helper()
	t.Run("succeeds", func(t *testing.T) {
		t.Parallel()
		c := client(t)
		run(t, c, c.Mechanism.Begin(c.Peer))
	})
	t.Run("over when over", func(t *testing.T) {
		t.Parallel()
		c := client(t)
		ex := c.Mechanism.Begin(c.Peer)
		run(t, c, ex)
		for _, response := range [][]byte{nil, {}, []byte("x"), c.Client(0, nil)} {
			if _, id, err := ex.Next(t.Context(), response); id != nil || err == nil {
				t.Errorf("after its end Next(%q) gave %+v, %v", response, id, err)
			}
		}
	})
	t.Run("bad first response", func(t *testing.T) {
		t.Parallel()
		for _, response := range [][]byte{
			{}, {0}, []byte("*"), []byte("\x00\x00"), []byte("\x00a\x00"), []byte("garbage"), {0x60, 0x84, 0xff, 0xff, 0xff, 0xff},
			bytes.Repeat([]byte{0x30, 0x80}, 15000), make([]byte, 1<<20),
		} {
			c := client(t)
			fails(t, c.Mechanism.Begin(c.Peer), response)
		}
	})
	t.Run("too many steps", func(t *testing.T) {
		t.Parallel()
		c := client(t)
		ex := c.Mechanism.Begin(c.Peer)
		for range 64 {
			_, id, err := ex.Next(t.Context(), []byte{0})
			if id != nil {
				t.Fatalf("identity %+v for nothing", id)
			}
			if err != nil {
				return
			}
		}
		t.Error("64 steps of nothing and no end")
	})
	t.Run("runs are apart", func(t *testing.T) {
		t.Parallel()
		c := client(t)
		broken, whole := c.Mechanism.Begin(c.Peer), c.Mechanism.Begin(c.Peer)
		_, _, _ = broken.Next(t.Context(), []byte("garbage"))
		run(t, c, whole)
	})
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		c := client(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		began := time.Now()
		_, _, _ = c.Mechanism.Begin(c.Peer).Next(ctx, c.Client(0, nil))
		if time.Since(began) > patience {
			t.Errorf("a cancelled step took %v", time.Since(began))
		}
	})
}

// run drives ex to its identity.
func run(t *testing.T, c ExchangeCase, ex auth.Exchange) {
	t.Helper()
	var challenge []byte
	for step := range maxSteps {
		next, id, err := ex.Next(t.Context(), c.Client(step, challenge))
		switch {
		case err != nil:
			t.Fatalf("step %d: %v", step, err)
		case id != nil:
			if next != nil || id.Authcid == "" || id.Mechanism == "" {
				t.Errorf("ended by %+v with challenge %q", id, next)
			}
			return
		}
		challenge = next
	}
	t.Fatalf("no identity after %d steps", maxSteps)
}

// fails wants a first response to lead to an error and nothing else;
// a mechanism may ask on once or twice before it says so.
func fails(t *testing.T, ex auth.Exchange, response []byte) {
	t.Helper()
	for range 3 {
		_, id, err := ex.Next(t.Context(), response)
		if id != nil {
			t.Fatalf("%.40q proves %+v", response, id)
		}
		if err != nil {
			return
		}
	}
	t.Errorf("%.40q is taken three times", response)
}
