package cyrus

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/kpopd/kpopd/mailstore/cyrus/bodycache"
)

// TestPanicOverAMessage: a fault of the parser is logged and told with its
// stack, and costs neither the message nor anybody else's delivery.
func TestPanicOverAMessage(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	var log bytes.Buffer
	s.log = slog.New(slog.NewTextHandler(&log, nil))
	told := 0
	s.panicked = func(value any, stack []byte) {
		if told++; value != "fell over" || !bytes.Contains(stack, []byte("brittleBuild")) {
			t.Errorf("told of %v at\n%s", value, stack)
		}
	}
	s.build = brittleBuild
	const text = "Subject: a\r\n\r\nb\r\n"
	appendMessage(t, s, "alice", text)
	if told != 1 || !strings.Contains(log.String(), "level=ERROR msg=panic") || !strings.Contains(log.String(), "brittleBuild") {
		t.Errorf("told %d times; the log: %s", told, &log)
	}
	s.build = bodycache.Build
	appendMessage(t, s, "alice", text)
	if got := texts(t, s); !slices.Equal(got, []string{"a", "a"}) {
		t.Errorf("the maildrop holds %q", got)
	}
	clean(t, s, "alice")
}

func brittleBuild([]byte, bodycache.Options) (bodycache.Record, error) { panic("fell over") }
