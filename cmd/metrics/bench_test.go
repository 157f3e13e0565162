package metrics_test

import (
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/kpopd/kpopd/cmd/metrics"
	"github.com/kpopd/kpopd/kpop"
)

// BenchmarkSession is what one session's events cost.
func BenchmarkSession(b *testing.B) {
	o := metrics.New("1.0").Observer()
	remote := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 5}
	s := kpop.SessionInfo{
		Port: "pop3", Mechanism: "GSSAPI", LoggedIn: true, Since: time.Now(),
		Detail: []slog.Attr{slog.Uint64("kvno", 3), slog.String("enctype", "aes"), slog.Int64("skew_ms", -2000)},
	}
	b.ReportAllocs()
	for b.Loop() {
		o.Connected("pop3", remote)
		o.LoggedIn(s)
		for _, verb := range []string{"AUTH", "STAT", "QUIT"} {
			o.Command(verb, time.Millisecond)
		}
		o.Ended(s, "quit")
	}
}
