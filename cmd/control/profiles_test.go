package control_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/kpopd/kpopd/cmd/control"
)

// TestProfiles: each is there for its owner alone, in the binary form, which
// has no arguments of calls.
func TestProfiles(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pprof.sock")
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() { control.ServeProfiles(ctx, l, slog.New(slog.DiscardHandler)); close(over) }()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(func() { transport.CloseIdleConnections(); cancel(); <-over })
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	for name, want := range map[string]int{
		"heap": 200, "allocs": 200, "goroutine": 200, "goroutine?debug=2": 200, "heap?debug=1": 200, "mutex": 200,
		"profile?seconds=1": 200, "cmdline": 404, "": 404, "symbol": 404,
	} {
		r, err := (&http.Client{Transport: transport}).Get("http://kpopd/debug/pprof/" + name)
		if err != nil {
			t.Fatal(name, err)
		}
		body, err := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if err != nil || r.StatusCode != want {
			t.Errorf("%q: %s, %v", name, r.Status, err)
		}
		if want != 200 {
			continue
		}
		if _, err := gzip.NewReader(bytes.NewReader(body)); err != nil {
			t.Errorf("%q is no binary profile: %v", name, err)
		}
	}
}
