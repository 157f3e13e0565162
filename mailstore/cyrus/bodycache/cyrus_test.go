//go:build integration

package bodycache_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kpopd/kpopd/mailstore/cyrus/bodycache"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// perSample is how many broken forms of each sample are tried.
const perSample = 60

// TestAgainstReconstruct lets Cyrus's own reconstruct make the records of all
// samples, and of samples broken at random, and wants ours to be the same.
func TestAgainstReconstruct(t *testing.T) {
	t.Parallel()
	files := sampleFiles(t)
	messages := samples(t)
	rng := rand.New(rand.NewPCG(3, 4))
	for _, m := range messages[:len(messages):len(messages)] {
		for range perSample {
			messages = append(messages, breakAtRandom(rng, m))
		}
	}
	trusted := 0
	for i, want := range reconstruct(t, messages) {
		if *update && i < len(files) {
			writeGolden(t, files[i], want.record)
		}
		got, err := bodycache.Build(messages[i], bodycache.Options{Received: want.internal, Location: time.UTC})
		if ours, theirs := fields(got), fields(want.record); ours != theirs {
			t.Errorf("message %d: %q\n got %s\nwant %s", i, messages[i], ours, theirs)
		}
		switch {
		case errors.Is(err, bodycache.ErrDistrusted):
			t.Logf("message %d: %v", i, err)
		case err != nil:
			t.Errorf("message %d: %v", i, err)
		default:
			trusted++
			diffItems(t, fmt.Sprintf("message %d: %q", i, messages[i]), got.Cache, want.record.Cache)
		}
	}
	t.Logf("%d of %d messages trusted", trusted, len(messages))
	if trusted < len(messages)/2 {
		t.Error("too few to trust")
	}
}

// update makes the records of the samples anew, as Cyrus has them.
var update = flag.Bool("update", false, "write testdata/*.record from what Cyrus makes")

func writeGolden(t *testing.T, sample string, r bodycache.Record) {
	t.Helper()
	if err := os.WriteFile(goldenFile(sample), []byte(describe(r)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// breakAtRandom spoils a message as mail is spoilt: octets and lines go or
// come twice.
func breakAtRandom(rng *rand.Rand, m []byte) []byte {
	lines := bytes.SplitAfter(m, []byte("\r\n"))
	out := append([][]byte(nil), lines...)
	for range 1 + rng.IntN(3) {
		i := rng.IntN(len(out))
		switch rng.IntN(4) {
		case 0:
			out = append(out[:i:i], out[i+1:]...)
		case 1:
			out = append(out[:i+1:i+1], out[i:]...)
		case 2:
			odd := "()<>@,;:\\\"/[]?=*'% \t-a0\x7f{}_.\xe9"
			line := bytes.Clone(out[i])
			if bytes.HasPrefix(line, []byte("Date:")) || bytes.HasPrefix(line, []byte(" ")) { // Cyrus reads outside of a table then
				odd = strings.TrimSuffix(odd, "\xe9")
			}
			if body := bytes.TrimRight(line, "\r\n"); len(body) > 0 {
				line[rng.IntN(len(body))] = odd[rng.IntN(len(odd))]
			}
			out[i] = line
		case 3:
			j := rng.IntN(len(out))
			out[i], out[j] = out[j], out[i]
		}
		if len(out) < 2 {
			break
		}
	}
	if spoilt := bytes.Join(out, nil); len(spoilt) > 0 {
		return spoilt
	}
	return m
}

// A verdict is what Cyrus says of a message.
type verdict struct {
	record   bodycache.Record
	internal time.Time
}

// reconstruct puts the messages into a new mailbox and has Cyrus index it.
func reconstruct(t *testing.T, messages [][]byte) []verdict {
	t.Helper()
	root, err := os.MkdirTemp("", "bodycache")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	conf := filepath.Join(root, "imapd.conf")
	text := strings.ReplaceAll("configdirectory: ROOT/conf\npartition-default: ROOT/spool\ndefaultpartition: default\n"+
		"servername: test\nunixhierarchysep: yes\nconversations: no\nmailbox_legacy_dirs: no\n", "ROOT", root)
	dir := filepath.Join(root, "spool", "uuid", "a", "b", "abcdefghijklmnopqrstuvwx")
	for _, d := range []string{dir, filepath.Join(root, "conf", "db")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for i, m := range messages {
		path := filepath.Join(dir, strconv.Itoa(i+1)+".")
		if err := os.WriteFile(path, m, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, received, received); err != nil {
			t.Fatal(err)
		}
	}
	createMailbox(t, conf)
	runAsCyrus(t, root, "/usr/lib/cyrus/bin/reconstruct", "-C", conf, "-U", "user/x")
	return verdicts(t, dir, len(messages))
}

func createMailbox(t *testing.T, conf string) {
	t.Helper()
	c, err := imapdconf.Read(conf)
	if err != nil {
		t.Fatal(err)
	}
	if err := cyrusdb.Create(t.Context(), c.Databases.Mailboxes); err != nil {
		t.Fatal(err)
	}
	name, err := c.Names.ParseUserid("x")
	if err != nil {
		t.Fatal(err)
	}
	err = cyrusdb.MailboxList{Database: c.Databases.Mailboxes}.Create(t.Context(), cyrusdb.MailboxEntry{
		Name: name, Kind: 'e', UniqueID: "abcdefghijklmnopqrstuvwx", Partition: "default", UIDValidity: 1,
		CreatedModSeq: 1, FolderModSeq: 1, MTime: 1, ACL: []cyrusdb.Right{{Identifier: "x", Rights: "lrswipkxtecdan"}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
}

// runAsCyrus gives the tree to the user cyrus and runs a command as it: its
// programs refuse root.
func runAsCyrus(t *testing.T, root, command string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command, args...)
	cmd.Env = append(os.Environ(), "TZ=UTC")
	if os.Geteuid() == 0 {
		cyrus, err := user.Lookup("cyrus")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(cyrus.Uid)
		gid, _ := strconv.Atoi(cyrus.Gid)
		err = filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Chown(path, uid, gid))
		})
		if err != nil {
			t.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", command, args, err, out)
	}
}

// verdicts reads the index (version 17) and the cache that Cyrus made.
func verdicts(t *testing.T, dir string, n int) []verdict {
	t.Helper()
	index, err := os.ReadFile(filepath.Join(dir, "cyrus.index"))
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.ReadFile(filepath.Join(dir, "cyrus.cache"))
	if err != nil {
		t.Fatal(err)
	}
	u32 := binary.BigEndian.Uint32
	if v, records := u32(index[8:]), u32(index[20:]); v != 17 || int(records) != n {
		t.Fatalf("index version %d with %d records, want %d", v, records, n)
	}
	var list []verdict
	for r := index[160:]; len(r) >= 112; r = r[112:] {
		v := verdict{internal: time.Unix(int64(u32(r[4:])), 0)}
		v.record.SentDate, v.record.Size = u32(r[8:]), u32(r[12:])
		v.record.HeaderSize, v.record.GMTime = u32(r[16:]), u32(r[20:])
		copy(v.record.GUID[:], r[60:80])
		start := u32(r[24:])
		end := start
		for range 10 {
			end += 4 + (u32(cache[end:])+3)&^3
		}
		v.record.Cache = cache[start:end]
		list = append(list, v)
	}
	return list
}
