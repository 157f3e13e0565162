package cyrus

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		c := newConfig(t)
		s, other := newStore(t, c), newStore(t, c)
		other.stateDir = t.TempDir() // another program: it knows nothing of our sessions
		other.holds.dir = t.TempDir()
		if err := os.Mkdir(filepath.Join(other.stateDir, "octets"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := s.CreateMailbox(context.Background(), "alice"); err != nil {
			t.Fatal(err)
		}
		return storetest.Subject{
			Store:   s,
			Mailbox: "alice",
			Append:  func(t *testing.T, m string) { appendMessage(t, other, "alice", m) },
			Expunge: func(t *testing.T, n mailstore.Number) {
				expunge(t, other, "alice", n)
				if done, err := other.Expire(context.Background(), "alice", 0); err != nil || done.Messages != 1 {
					t.Fatalf("expire: %+v, %v", done, err)
				}
			},
			Verify: func(t *testing.T) { clean(t, s, "alice") },
		}
	})
}

// TestStoreAsStored is the suite on messages that lie in the spool as they were
// given, bare line feeds and all, as other programs may put them there.
func TestStoreAsStored(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		s := newMailbox(t)
		return storetest.Subject{
			Store:   s,
			Mailbox: "alice",
			Append:  func(t *testing.T, m string) { appendRaw(t, s, "alice", m) },
			Expunge: func(t *testing.T, n mailstore.Number) {
				d, err := s.Dump(context.Background(), "alice")
				if err != nil {
					t.Fatal(err)
				}
				path, err := s.conf.MessagePath(must(s.lookup("alice")), d.Records[n-1].UID, false)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}
