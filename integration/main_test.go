//go:build integration

package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/integration/loopback"
	"github.com/kpopd/kpopd/integration/player"
)

// realm is one for all tests; each works on the maildrop of a user of its own,
// or holds no session while another might.
var realm *integration.Realm

// negotiate is the port of a listener that names the mechanisms which others do
// not offer in clear.
var negotiate int

const extraTOML = `failure_delay = "1ms"
drain_timeout = "3s"

[listen.negotiate]
address = "127.0.0.1:%d"
protocol = "pop3"
mechanisms = ["GSS-SPNEGO", "GS2-KRB5"]
`

func TestMain(m *testing.M) {
	os.Exit(player.Main(m, &realm, func(string) (extra string, err error) {
		negotiate, err = loopback.FreePort()
		return fmt.Sprintf(extraTOML, negotiate), err
	}))
}

// fill gives user the sample mail and returns it.
func fill(t *testing.T, user string) [][]byte {
	t.Helper()
	return fillWith(t, user, integration.SampleMail())
}

// fillWith makes user's maildrop the messages, in the order of their file names.
func fillWith(t *testing.T, user string, messages map[string]string) (out [][]byte) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range messages {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out = append(out, []byte(text))
	}
	if err := realm.Fill(t.Context(), user, dir); err != nil {
		t.Fatal(err)
	}
	return out
}

// cacheOf gets user a ticket cache.
func cacheOf(t *testing.T, user string, args ...string) string {
	t.Helper()
	cache := filepath.Join(t.TempDir(), "cc")
	if err := realm.Kinit(t.Context(), user, cache, args...); err != nil {
		t.Fatal(err)
	}
	return cache
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func dial(t *testing.T, port int) *player.Peer {
	t.Helper()
	return player.Dial(t, port)
}

// logged waits for a line of the server's log that holds all words.
func logged(t *testing.T, words ...string) {
	t.Helper()
	player.Logged(t, realm, words...)
}
