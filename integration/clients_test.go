//go:build integration

package integration_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/kpopd/kpopd/integration"
)

// What fetchmail deletes is gone, and Cyrus's own reconstruct finds nothing to
// mend.
func TestDeleteAndReconstruct(t *testing.T) {
	fill(t, "alice")
	cache := cacheOf(t, "alice")
	if _, err := realm.Fetchmail(t.Context(), io.Discard, cache, integration.FetchKPOP, "no keep"); err != nil {
		t.Fatal(err)
	}
	out, err := realm.Reconstruct(t.Context(), t.TempDir(), "user.alice")
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(out) != "user.alice" {
		t.Errorf("reconstruct -n -G says %q", out)
	}
	p := dial(t, realm.Ports.POP3)
	p.Expect("+OK")
	got, err := realm.Tool(cache).Run(t.Context(), "curl", "-sS", "--login-options", "AUTH=GSSAPI", "-u", ":", fmt.Sprintf("pop3://%s:%d/", integration.Host, realm.Ports.POP3))
	if err != nil || strings.TrimSpace(got) != "" {
		t.Errorf("the maildrop still lists %q, %v", got, err)
	}
}

// The maildrops outlive the daemon.
func TestRestart(t *testing.T) {
	want := fill(t, "alice")
	if err := realm.Restart(); err != nil {
		t.Fatal(err)
	}
	got, err := realm.Fetchmail(t.Context(), io.Discard, cacheOf(t, "alice"), integration.FetchKPOP)
	if err != nil {
		t.Fatal(err)
	}
	if err := integration.SameMail(got, want); err != nil {
		t.Error(err)
	}
}
