//go:build integration

package cyrusdb_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
)

// A dbtool is Cyrus's own cyr_dbtool on one database, with a configuration
// of its own. It refuses to run as root: then it runs as the user cyrus.
type dbtool struct {
	conf, path string
	as         *syscall.Credential
}

func newDBTool(t *testing.T) dbtool {
	t.Helper()
	dir, err := os.MkdirTemp("", "cyrusdb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	tool := dbtool{conf: filepath.Join(dir, "imapd.conf"), path: filepath.Join(dir, "test.db")}
	conf := fmt.Sprintf("configdirectory: %s\npartition-default: %s\ndefaultpartition: default\nservername: test\n", dir, dir)
	if err := os.WriteFile(tool.conf, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		cyrus, err := user.Lookup("cyrus")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(cyrus.Uid)
		gid, _ := strconv.Atoi(cyrus.Gid)
		tool.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	return tool
}

func (d dbtool) run(t *testing.T, args ...string) string {
	t.Helper()
	if d.as != nil { // what we wrote belongs to us
		if err := os.Chown(d.path, int(d.as.Uid), int(d.as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "/usr/lib/cyrus/bin/cyr_dbtool",
		append([]string{"-C", d.conf, d.path, "twoskip"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: d.as}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("cyr_dbtool %q: %v\n%s%s", args, err, out, stderr.String())
	}
	return string(out)
}

// TestSharedWithCyrus lets Cyrus and us write the same database in turns, our
// transactions of many keys, and some of them cut off.
func TestSharedWithCyrus(t *testing.T) {
	t.Parallel()
	tool := newDBTool(t)
	db := database(tool.path)
	if err := cyrusdb.Create(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	model := map[string]string{}
	for round := range 60 {
		err := cyrusdb.Update(t.Context(), db, func(tx cyrusdb.Tx) error { return randomChanges(tx, model) })
		if err != nil {
			t.Fatal(err)
		}
		switch round % 6 {
		case 1:
			tool.run(t, "set", "cyrus"+strconv.Itoa(round), "by Cyrus")
			model["cyrus"+strconv.Itoa(round)] = "by Cyrus"
		case 3:
			key := "key" + strconv.Itoa(rand.IntN(60))
			if _, there := model[key]; there {
				tool.run(t, "delete", key)
				delete(model, key)
			}
		case 4:
			breakOff(t, tool.path)
		case 5:
			if err := cyrusdb.Checkpoint(t.Context(), db); err != nil {
				t.Fatal(err)
			}
		}
		same(t, tool, model)
	}
}

func randomChanges(tx cyrusdb.Tx, model map[string]string) error {
	for range 1 + rand.IntN(8) {
		key := "key" + strconv.Itoa(rand.IntN(60))
		if rand.IntN(4) == 0 {
			delete(model, key)
			if err := tx.Delete([]byte(key)); err != nil {
				return err
			}
			continue
		}
		model[key] = strings.Repeat("v", rand.IntN(300))
		if err := tx.Put([]byte(key), []byte(model[key])); err != nil {
			return err
		}
	}
	return nil
}

// breakOff leaves the file as a process does that is killed within its
// transaction: on a copy the transaction is left open, and the copy put back.
func breakOff(t *testing.T, path string) {
	t.Helper()
	db := database(path)
	var dirty []byte
	stop := fmt.Errorf("killed")
	err := cyrusdb.Update(t.Context(), db, func(tx cyrusdb.Tx) error {
		for _, key := range []string{"key1", "key30", "never"} {
			if err := tx.Put([]byte(key), []byte("never")); err != nil {
				return err
			}
		}
		if err := tx.Delete([]byte("key2")); err != nil {
			return err
		}
		var err error
		if dirty, err = os.ReadFile(path); err != nil {
			return err
		}
		return stop
	})
	if err == nil {
		t.Fatal("the transaction was committed")
	}
	if err := os.WriteFile(path, dirty, 0o600); err != nil {
		t.Fatal(err)
	}
}

// same compares our view with the model, and Cyrus's with ours.
func same(t *testing.T, tool dbtool, model map[string]string) {
	t.Helper()
	ours := dump(t, tool.path) // before Cyrus repairs anything
	for line := range strings.Lines(ours) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if want, there := model[key]; !there || value != want {
			t.Fatalf("key %q: %q, want %q (%v)", key, value, want, there)
		}
	}
	if n := strings.Count(ours, "\n"); n != len(model) {
		t.Fatalf("%d keys, want %d", n, len(model))
	}
	if theirs := tool.run(t, "show"); theirs != ours {
		t.Fatalf("Cyrus reads\n%swe read\n%s", theirs, ours)
	}
	if out := tool.run(t, "consistent"); !strings.Contains(out, "Yes, consistent") {
		t.Fatalf("consistent: %s", out)
	}
}
