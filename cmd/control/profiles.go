package control

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

// longestProfile bounds the seconds that one profile may take.
const longestProfile = 10 * time.Minute

// Profiles serves the profiles of this process as go tool pprof asks for them,
// below /debug/pprof/. They hold names of functions, numbers and sizes: the
// form with debug=2, which tells the arguments of calls, is not to be had, nor is
// the command line.
func Profiles() http.Handler {
	mux := http.NewServeMux()
	handle := func(name string, h http.Handler) {
		mux.HandleFunc("GET /debug/pprof/"+name, func(w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			if q.Get("debug") != "" {
				q.Set("debug", "0")
			}
			r.URL.RawQuery = q.Encode()
			h.ServeHTTP(w, r)
		})
	}
	handle("profile", http.HandlerFunc(pprof.Profile))
	handle("trace", http.HandlerFunc(pprof.Trace))
	for _, name := range []string{"heap", "allocs", "goroutine", "block", "mutex", "threadcreate"} {
		handle(name, pprof.Handler(name))
	}
	return mux
}

// ServeProfiles answers on l, a socket by Listen, until ctx ends. It closes l.
func ServeProfiles(ctx context.Context, l net.Listener, log *slog.Logger) {
	s := &http.Server{
		Handler: Profiles(), ReadTimeout: requestTime, WriteTimeout: longestProfile, MaxHeaderBytes: maxRequest,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		log.Error("control: serving profiles ended", "error", err)
	}
}
