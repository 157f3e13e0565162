package krb5

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/jcmturner/gokrb5/v8/messages"
)

// TestRecorded decodes what real clients have sent (testdata/<client>.apreq,
// recorded from Debian 12's programs against a private realm whose keys are
// gone) and finds in it what gokrb5 finds.
func TestRecorded(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.apreq")
	if err != nil || len(files) < 6 {
		t.Fatalf("%d recordings, %v", len(files), err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := decodeAPReq(b)
		if !ok {
			t.Errorf("%s is not decoded", name)
			continue
		}
		var want messages.APReq
		if err := want.Unmarshal(b); err != nil {
			t.Fatal(err)
		}
		if got.realm != "TEST.KPOP" || !sameName(got.service, want.Ticket.SName.NameString) || int(got.ticket.kvno) != want.Ticket.EncPart.KVNO ||
			got.ticket.etype != want.Ticket.EncPart.EType || len(got.authenticator.cipher) != len(want.EncryptedAuthenticator.Cipher) {
			t.Errorf("%s: %+v", name, got)
		}
		_, err = fuzzAcceptor(t).Accept(t.Context(), b, UseKPOP, nil)
		mustRefuse(t, err)
	}
}
