package control_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/kpopd/kpopd/cmd/control"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve listens in a directory whose name is longer than a socket's address.
func serve(t *testing.T, s *control.Server) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "control.sock")
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s.Log = slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() { s.Serve(ctx, l); close(over) }()
	t.Cleanup(func() { cancel(); <-over })
	return path
}

func echo(_ context.Context, r control.Request) (any, error) {
	switch r.User {
	case "none":
		return nil, errors.New("no such session")
	case "panic":
		panic("fell over")
	}
	return control.Kicked{Sessions: []string{r.User}}, nil
}

func TestAsk(t *testing.T) {
	t.Parallel()
	var told atomic.Int64
	path := serve(t, &control.Server{Handlers: map[string]control.Handler{control.Kick: echo}, Panicked: func(value any, stack []byte) {
		if told.Add(1); value != "fell over" || !bytes.Contains(stack, []byte("echo")) {
			t.Errorf("told of %v at\n%s", value, stack)
		}
	}})
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	for _, c := range []struct {
		request control.Request
		want    string // of the error; empty: none
	}{
		{control.Request{Command: control.Kick, User: "alice"}, ""},
		{control.Request{Command: control.Kick, User: "none"}, "no such session"},
		{control.Request{Command: control.Kick, User: "panic"}, "fault in kpopd"},
		{control.Request{Command: "fly"}, `unknown command "fly"`},
		{control.Request{Command: control.Kick, User: strings.Repeat("x", 5000)}, "no request"},
	} {
		var got control.Kicked
		err := control.Ask(t.Context(), path, c.request, &got)
		switch {
		case c.want == "" && (err != nil || len(got.Sessions) != 1 || got.Sessions[0] != "alice"):
			t.Errorf("%+v gives %+v, %v", c.request, got, err)
		case c.want != "" && (!errors.Is(err, control.ErrRefused) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%.80v gives %v", c.request, err)
		}
	}
	if told.Load() != 1 {
		t.Errorf("told of %d faults", told.Load())
	}
}

func TestOthersAreNotHeard(t *testing.T) {
	t.Parallel()
	asked := uint32(1 << 31)
	path := serve(t, &control.Server{
		Handlers: map[string]control.Handler{control.Kick: echo},
		Allowed:  func(uid uint32) bool { asked = uid; return false },
	})
	err := control.Ask(t.Context(), path, control.Request{Command: control.Kick, User: "alice"}, nil)
	if !errors.Is(err, control.ErrRefused) || int(asked) != os.Geteuid() {
		t.Errorf("user %d gets %v", asked, err)
	}
}

func TestSocketInUse(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	first, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := control.Listen(path); err == nil || !strings.Contains(err.Error(), "another kpopd") {
		t.Error(err)
	}
	_ = first.Close() // leaves the name, as a crash does
	again, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	err := control.Ask(t.Context(), filepath.Join(t.TempDir(), "s"), control.Request{Command: control.Who}, nil)
	if err == nil || !strings.Contains(err.Error(), "is kpopd running") {
		t.Error(err)
	}
}

// TestSilentPeer: one that connects and says nothing keeps nobody out and ends
// with the server.
func TestSilentPeer(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	s := control.Server{Handlers: map[string]control.Handler{control.Kick: echo}, Log: slog.New(slog.DiscardHandler)}
	go func() { s.Serve(ctx, l); close(over) }()
	silent, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if err := control.Ask(t.Context(), path, control.Request{Command: control.Kick, User: "alice"}, nil); err != nil {
		t.Error(err)
	}
	cancel()
	<-over
	if text, _ := io.ReadAll(silent); !strings.Contains(string(text), "no request") {
		t.Errorf("%q", text)
	}
}
