//go:build integration

package integration_test

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/kpopd/kpopd/integration"
)

// The programs that people have, over every port that each can speak. Each must
// hand over the messages octet for octet.
func TestClientsFetch(t *testing.T) {
	want := fill(t, "alice")
	cache := cacheOf(t, "alice")
	for name, setup := range map[string]integration.FetchmailSetup{
		"fetchmail KPOP":           integration.FetchKPOP,
		"fetchmail KPOP with STLS": integration.FetchKPOPSTLS,
		"fetchmail SDPS over KPOP": integration.FetchSDPSKPOP,
		"fetchmail GSSAPI":         integration.FetchPOP3,
		"fetchmail GSSAPI, STLS":   integration.FetchSTLS,
		"fetchmail GSSAPI, POP3S":  integration.FetchPOP3S,
	} {
		t.Run(name, func(t *testing.T) {
			var log strings.Builder
			got, err := realm.Fetchmail(t.Context(), &log, cache, setup)
			if err != nil {
				t.Fatal(err, log.String())
			}
			if err := integration.SameMail(got, want); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("mpop GSSAPI, STLS", func(t *testing.T) {
		got, err := realm.Mpop(t.Context(), io.Discard, cache)
		if err != nil {
			t.Fatal(err)
		}
		if err := integration.SameMail(got, want); err != nil {
			t.Error(err)
		}
	})
}

// curl retrieves one message; it asks for no mutual authentication.
func TestCurl(t *testing.T) {
	fill(t, "alice")
	tool := realm.Tool(cacheOf(t, "alice"))
	p := realm.Ports
	for name, args := range map[string][]string{
		"in clear": {fmt.Sprintf("pop3://%s:%d/1", integration.Host, p.POP3)},
		"STLS":     {"--ssl-reqd", fmt.Sprintf("pop3://%s:%d/1", integration.Host, p.POP3)},
		"POP3S":    {fmt.Sprintf("pop3s://%s:%d/1", integration.Host, p.POP3S)},
	} {
		t.Run(name, func(t *testing.T) {
			args = append([]string{"-sS", "--cacert", realm.Path("ca.pem"), "--login-options", "AUTH=GSSAPI", "-u", ":"}, args...)
			out, err := tool.Run(t.Context(), "curl", args...)
			if err != nil {
				t.Fatal(err)
			}
			if out != integration.SampleMail()["1-plain.eml"] {
				t.Errorf("got %q", out)
			}
		})
	}
}

// Cyrus's pop3test is the one that takes security layers.
func TestLayers(t *testing.T) {
	fill(t, "alice")
	tool := realm.Tool(cacheOf(t, "alice"))
	for name, args := range map[string][]string{
		"none":            {"-l", "0"},
		"integrity":       {"-k", "1", "-l", "1"},
		"confidentiality": {"-k", "256", "-l", "256"},
		"default":         nil,
	} {
		t.Run(name, func(t *testing.T) {
			args = append([]string{"-m", "GSSAPI", "-u", "alice", "-a", "alice", "-p", strconv.Itoa(realm.Ports.POP3)}, args...)
			out, err := tool.Input(t.Context(), "STAT\r\nTOP 2 10\r\nQUIT\r\n", "/usr/lib/cyrus/bin/pop3test", append(args, integration.Host)...)
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range []string{"+OK 5 ", "..a line that begins with a dot"} {
				if !strings.Contains(out, line) {
					t.Errorf("no %q in %s", line, out)
				}
			}
		})
	}
}

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
