//go:build integration

package integration_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/mailstore/cyrus"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

// raceTime is how long everybody works on the same maildrops, in each mode of
// expunging; make race-cyrus has it longer.
var raceTime = flag.Duration("race-time", 4*time.Second, "how long the race beside Cyrus lasts, in each expunge_mode")

// A ledger knows of every message what was done about it.
type ledger struct {
	mu       sync.Mutex
	sent     map[string]bool // a delivery was begun; true: it was accepted
	asked    map[string]bool // a removal was begun; true: it was acknowledged
	sessions map[string]int
}

func newLedger() *ledger {
	return &ledger{sent: map[string]bool{}, asked: map[string]bool{}, sessions: map[string]int{}}
}

func (l *ledger) note(book map[string]bool, done bool, subjects ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range subjects {
		book[s] = book[s] || done
	}
}

func (l *ledger) has(book map[string]bool, subject string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, found := book[subject]
	return found
}

func (l *ledger) count(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sessions[what]++
}

// balance compares the ledger with the subjects that are there: nothing is lost
// that nobody asked to remove, and what was removed is gone.
func (l *ledger) balance(t *testing.T, there []string) {
	t.Helper()
	left := map[string]int{}
	for _, s := range there {
		left[s]++
		if _, sent := l.sent[s]; !sent {
			t.Errorf("%q was never sent", s)
		}
	}
	for s, accepted := range l.sent {
		removed, asked := l.asked[s]
		switch n := left[s]; {
		case n > 1:
			t.Errorf("%q is there %d times", s, n)
		case n == 1 && removed:
			t.Errorf("%q was removed and is there", s)
		case n == 0 && accepted && !asked:
			t.Errorf("%q is lost: nobody asked to remove it", s)
		}
	}
}

// body is what a message with this subject says, many lines of it.
func body(subject string) string {
	return strings.Repeat("the message "+subject+" says this\r\n", 1+len(subject)*7%200) + "end of " + subject
}

// A race is one of everybody against everybody.
type race struct {
	realm   *integration.Realm
	through bool // kpopd removes by Cyrus's IMAP server, and takes no mail in
	until   time.Time
	books   map[string]*ledger // by user
	fail    chan error
}

// running is true until the time is over; on a slow machine until enough has
// happened to show something.
func (x *race) running() bool {
	late := time.Since(x.until)
	return len(x.fail) == 0 && (late < 0 || late < time.Minute && !x.enough())
}

func (x *race) enough() bool {
	for _, book := range x.books {
		book.mu.Lock()
		few := len(book.asked) < 10 || book.sessions["POP"] == 0 || book.sessions["IMAP"] == 0
		book.mu.Unlock()
		if few {
			return false
		}
	}
	return true
}

func (x *race) failed(format string, args ...any) {
	select {
	case x.fail <- fmt.Errorf(format, args...):
	default:
	}
}

// TestRaceBesideCyrus: Cyrus delivers, sets flags, expunges, expires and
// reconstructs while kpopd's clients retrieve and delete, all on the same
// maildrops. Afterwards every message is where the ledger says.
func TestRaceBesideCyrus(t *testing.T) {
	for name, mode := range map[string]struct {
		conf    string
		through bool
	}{
		"delayed":       {"expunge_mode: delayed\n", false},
		"immediate":     {"expunge_mode: immediate\n", false},
		"conversations": {"expunge_mode: delayed\nconversations: yes\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			r := besideCyrus(t, mode.conf+"statuscache: yes\nsync_log: yes\n")
			if mode.through {
				throughIMAP(t, r, r.Cyrus.IMAP)
			}
			x := &race{realm: r, through: mode.through, until: time.Now().Add(*raceTime), fail: make(chan error, 20), books: map[string]*ledger{}}
			for _, user := range []string{"alice", "bob"} {
				x.books[user] = newLedger()
				setQuota(t, r, user)
			}
			x.run(t)
			x.settle(t)
		})
	}
}

// setQuota gives user's mailboxes a quota root that nobody exceeds.
func setQuota(t *testing.T, r *integration.Realm, user string) {
	t.Helper()
	c, err := newTalk(r.Cyrus.IMAP, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // at the test's end
	_, err = c.read("* OK")
	for _, command := range []string{"LOGIN cyrus x", "SETQUOTA user." + user + " (STORAGE 10000000 MESSAGE 10000000)"} {
		if err == nil {
			_, err = c.imap(command)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (x *race) run(t *testing.T) {
	ctx := t.Context()
	var group sync.WaitGroup
	loop := func(do func(i int) error) {
		group.Go(func() {
			for i := 0; x.running(); i++ {
				if err := do(i); err != nil {
					x.failed("%w", err)
				}
			}
		})
	}
	for user, book := range x.books {
		loop(func(i int) error { return x.lmtpClient("tcp", x.realm.Cyrus.LMTP, user, fmt.Sprintf("%s-%d", user, i)) })
		if !x.through {
			loop(func(i int) error {
				return x.lmtpClient("unix", x.realm.Path("lmtp"), user, fmt.Sprintf("%s-kpopd-%d", user, i))
			})
		}
		loop(func(i int) error { return x.popClient(user, book, i) })
		loop(func(i int) error { return x.popClient(user, book, i) })
		loop(func(i int) error { return x.imapClient(user, book, i) })
	}
	if !x.through {
		loop(func(i int) error { return x.append(ctx, "alice", i) })
	}
	loop(func(int) error { return x.tool(ctx, "cyr_expire", "-E", "1", "-X", "0") })
	loop(func(int) error { return x.tool(ctx, "reconstruct", "user.alice", "user.bob") })
	group.Wait()
	close(x.fail)
	for err := range x.fail {
		t.Error(err)
	}
}

func (x *race) tool(ctx context.Context, name string, args ...string) error {
	_, err := x.realm.Cyrus.Run(ctx, name, args...)
	x.books["alice"].count(name)
	return err
}

// lmtpClient delivers some messages in one session, to Cyrus's lmtpd or to kpopd.
func (x *race) lmtpClient(network, address, user, name string) error {
	c, err := lmtpAt(network, address)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // all has been answered
	book := x.books[user]
	for i := 0; i < 20 && x.running(); i++ {
		subject := fmt.Sprintf("%s-%d", name, i)
		book.note(book.sent, false, subject)
		if err := c.deliver(user, "From: a@client.test\r\nSubject: "+subject+"\r\n\r\n"+body(subject)); err != nil {
			return err
		}
		book.note(book.sent, true, subject)
	}
	return nil
}

// append delivers some messages as kpopd itself would.
func (x *race) append(ctx context.Context, user string, round int) error {
	book := x.books[user]
	dir, err := os.MkdirTemp(x.realm.Dir, "append")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // within the realm's directory
	var subjects []string
	for i := range 5 {
		subject := fmt.Sprintf("%s-own-%d-%d", user, round, i)
		text := "From: a@client.test\r\nSubject: " + subject + "\r\n\r\n" + body(subject) + "\r\n"
		if err := os.WriteFile(filepath.Join(dir, subject+".eml"), []byte(text), 0o600); err != nil {
			return err
		}
		subjects = append(subjects, subject)
	}
	book.note(book.sent, false, subjects...)
	if err := x.realm.Append(ctx, user, dir); err != nil {
		return err
	}
	book.note(book.sent, true, subjects...)
	book.count("append")
	return nil
}

// errInUse is the other POP client's doing.
var errInUse = errors.New("in use")

func (x *race) popLogin(user string) (*talk, error) {
	c, err := popLogin(x.realm, user)
	if err != nil && strings.Contains(err.Error(), "[IN-USE]") {
		return nil, errInUse
	}
	return c, err
}

// popClient retrieves everything and deletes every second message. Every third
// session deletes everything and is cut off.
func (x *race) popClient(user string, book *ledger, round int) error {
	c, err := x.popLogin(user)
	if errors.Is(err, errInUse) {
		time.Sleep(5 * time.Millisecond) // a client comes again
		return nil
	}
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // all has been answered
	lists, err := c.lines("LIST")
	if err != nil {
		return err
	}
	cut := round%3 == 2
	var gone []string
	for n := 1; n <= len(lists) && n <= 100; n++ {
		subject, err := c.retrieve(n, book)
		if err != nil {
			return err
		}
		if subject == "" || n%2 == 1 && !cut {
			continue
		}
		if _, err := c.say(fmt.Sprintf("DELE %d", n), "+OK"); err != nil {
			return err
		}
		gone = append(gone, subject)
	}
	if cut {
		book.count("POP cut off")
		return nil
	}
	book.note(book.asked, false, gone...)
	if _, err := c.say("QUIT", "+OK"); err != nil {
		return err
	}
	book.note(book.asked, true, gone...)
	book.count("POP")
	return nil
}

// retrieve reads a message and gives its subject; none when another program has
// removed it meanwhile and its file is gone.
func (c *talk) retrieve(n int, book *ledger) (string, error) {
	if _, err := fmt.Fprintf(c, "RETR %d\r\n", n); err != nil {
		return "", err
	}
	line, err := c.read("")
	if err != nil || strings.HasPrefix(line, "-ERR") {
		return "", err
	}
	var text strings.Builder
	for {
		line, err := c.read("")
		if err != nil {
			return "", err
		}
		if line == ".\r\n" {
			break
		}
		text.WriteString(line)
	}
	_, after, _ := strings.Cut(text.String(), "\r\nSubject: ")
	subject, _, _ := strings.Cut(after, "\r\n")
	if !strings.HasSuffix(text.String(), "\r\n\r\n"+body(subject)+"\r\n") {
		return "", fmt.Errorf("message %d, %q, is not what was sent: %q", n, subject, text.String())
	}
	if !book.has(book.sent, subject) {
		return "", fmt.Errorf("message %d, %q, is not this user's", n, subject)
	}
	return subject, nil
}

// imapClient sets flags and expunges the oldest message by UID.
func (x *race) imapClient(user string, book *ledger, round int) error {
	c, err := imapLogin(x.realm, user)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // all has been answered
	for i := 0; i < 10 && x.running(); i++ {
		if _, err := c.imap(fmt.Sprintf(`UID STORE 1:* +FLAGS.SILENT (\Seen k%d)`, (round+i)%5)); err != nil && !noMessages(err) {
			return fmt.Errorf("IMAP: %w", err)
		}
		lines, err := c.imap("FETCH 1 (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
		if err != nil {
			if noMessages(err) {
				continue
			}
			return fmt.Errorf("IMAP: %w", err)
		}
		if err := c.imapExpunge(lines, book); err != nil {
			return fmt.Errorf("IMAP: %w", err)
		}
	}
	book.count("IMAP")
	return nil
}

// imapExpunge removes the message that FETCH has shown.
func (c *talk) imapExpunge(lines []string, book *ledger) error {
	var seq, uid int
	for _, line := range lines {
		if _, err := fmt.Sscanf(line, "* %d FETCH (UID %d BODY", &seq, &uid); err == nil {
			break
		}
	}
	subjects := subjectsIn(lines)
	if uid == 0 || len(subjects) != 1 {
		return nil
	}
	book.note(book.asked, false, subjects[0])
	if _, err := c.imap(fmt.Sprintf(`UID STORE %d +FLAGS (\Deleted \Flagged)`, uid)); err != nil {
		return err
	}
	if _, err := c.imap(fmt.Sprintf("UID EXPUNGE %d", uid)); err != nil {
		return err
	}
	book.note(book.asked, true, subjects[0])
	return nil
}

// settle looks at what is left with everybody's eyes.
func (x *race) settle(t *testing.T) {
	t.Helper()
	if !x.enough() {
		t.Error("too little has happened")
	}
	for user, book := range x.books {
		there := imapSubjects(t, x.realm, user)
		book.balance(t, there)
		if got := popSubjects(t, x.realm, user, book); !slices.Equal(got, there) {
			t.Errorf("kpopd has %q, Cyrus has %q", got, there)
		}
		t.Logf("%s: %d sent, %d removed, %d there; sessions %v", user, len(book.sent), len(book.asked), len(there), book.sessions)
		cyrusClean(t, x.realm, user)
	}
}

// popSubjects are what kpopd says is in the maildrop, each message read.
func popSubjects(t *testing.T, r *integration.Realm, user string, book *ledger) []string {
	t.Helper()
	c := popSession(t, r, user)
	lists, err := c.lines("LIST")
	if err != nil {
		t.Fatal(err)
	}
	subjects := make([]string, 0, len(lists))
	for n := range lists {
		subject, err := c.retrieve(n+1, book)
		if err != nil || subject == "" {
			t.Errorf("RETR %d: %q, %v", n+1, subject, err)
		}
		subjects = append(subjects, subject)
	}
	if _, err := c.say("QUIT", "+OK"); err != nil {
		t.Error(err)
	}
	return subjects
}

// lookAt opens a realm's spool as it is now, to be read only.
func lookAt(t *testing.T, r *integration.Realm) (*imapdconf.Config, *cyrus.Store) {
	t.Helper()
	conf, err := imapdconf.Read(r.Path("imapd.conf"))
	if err != nil {
		t.Fatal(err)
	}
	store, err := cyrus.Open(cyrus.Options{Config: conf, Mode: cyrus.ReadOnly, StateDir: filepath.Join(t.TempDir(), "state")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() }) //nolint:errcheck // only read
	return conf, store
}

// cyrusClean has Cyrus's checkers and ours look at user's mailbox.
func cyrusClean(t *testing.T, r *integration.Realm, user string) {
	t.Helper()
	name := "user." + user
	for _, tool := range [][]string{{"reconstruct", "-n", "-G", name}, {"mbexamine", name}, {"mbexamine", "-q", name}, {"quota", name}} {
		out, err := r.Cyrus.Run(t.Context(), tool[0], tool[1:]...)
		switch {
		case err != nil:
			t.Error(err)
		case tool[0] == "reconstruct" && strings.TrimSpace(out) != name:
			t.Errorf("reconstruct: %s", out)
		case tool[0] == "mbexamine" && (strings.Contains(out, "INCORRECT") || !strings.Contains(out, name)):
			t.Errorf("mbexamine: %s", out)
		}
	}
	_, store := lookAt(t, r)
	faults, err := store.Check(t.Context(), user)
	if err != nil {
		t.Errorf("our check of %s: %v", user, err)
	}
	for _, f := range faults {
		t.Errorf("our check of %s: %v", user, &f)
	}
}

// TestRecordNumbersBesideCyrus is the fault of Cyrus's own pop3d: it remembers
// record numbers, and holds the mailbox lock until QUIT, when an expiry that
// waits for it drops records in front. Then another message is expunged than the
// client has deleted. kpopd finds messages by UID and keeps nobody waiting.
func TestRecordNumbersBesideCyrus(t *testing.T) {
	t.Parallel()
	r := besideCyrus(t, "")
	mail := t.TempDir()
	var all []string
	for i := range 12 {
		all = append(all, fmt.Sprintf("m%02d", i+1))
		write(t, filepath.Join(mail, all[i]+".eml"), "Subject: "+all[i]+"\r\n\r\nx\r\n")
	}
	want := all[6:] // the first five are expunged before, the sixth by the session
	prepare := func(t *testing.T, user string) {
		t.Helper()
		if err := errors.Join(r.Fill(t.Context(), user, mail), r.Expunge(t.Context(), user, 1, 2, 3, 4, 5)); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("Cyrus", func(t *testing.T) {
		prepare(t, "alice")
		c, err := popPlain(r.Cyrus.POP3, "alice", "x", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close() //nolint:errcheck // at the test's end
		if _, err := c.say("DELE 1", "+OK"); err != nil {
			t.Fatal(err)
		}
		expired := make(chan error, 1)
		go func() {
			_, err := r.Cyrus.Run(context.WithoutCancel(t.Context()), "cyr_expire", "-E", "1", "-X", "0", "-p", "user.alice")
			expired <- err
		}()
		awaitNamespaceLock(t, r, "alice")
		_, quit := c.say("QUIT", "+OK")
		if err := errors.Join(quit, <-expired); err != nil {
			t.Fatal(err)
		}
		got := imapSubjects(t, r, "alice")
		t.Logf("Cyrus's pop3d was to expunge m06, and left %q", got)
		if slices.Equal(got, want) {
			t.Error("Cyrus's pop3d has expunged the right message: it has been mended, and this shows nothing any more")
		}
	})
	t.Run("kpopd", func(t *testing.T) {
		prepare(t, "bob")
		c := popSession(t, r, "bob")
		if _, err := c.say("DELE 1", "+OK"); err != nil {
			t.Fatal(err)
		}
		// Nothing waits for the session: the expiry ends, mail is delivered.
		if _, err := r.Cyrus.Run(t.Context(), "cyr_expire", "-E", "1", "-X", "0", "-p", "user.bob"); err != nil {
			t.Fatal(err)
		}
		lmtp(t, r, "bob", "Subject: new\r\n\r\nx")
		if _, err := c.say("QUIT", "+OK"); err != nil {
			t.Fatal(err)
		}
		if got := imapSubjects(t, r, "bob"); !slices.Equal(got, append(want, "new")) {
			t.Errorf("left are %q, want %q and new", got, want)
		}
		cyrusClean(t, r, "bob")
	})
}

// awaitNamespaceLock waits until somebody has the lock of user's namespace for
// himself. Whoever wants to replace an index then waits for the mailbox's.
func awaitNamespaceLock(t *testing.T, r *integration.Realm, user string) {
	t.Helper()
	conf, err := imapdconf.Read(r.Path("imapd.conf"))
	if err != nil {
		t.Fatal(err)
	}
	name, err := conf.Names.ParseUserid(user)
	if err != nil {
		t.Fatal(err)
	}
	path, err := conf.NamespaceLock(name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // gives a lock back too
	// An expiry that nobody stops has the lock for much less than this.
	const row = 60
	held := 0
	for end := time.Now().Add(time.Minute); held < row && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		ok, err := ofd.TryLock(f, false)
		if err != nil {
			t.Fatal(err)
		}
		if held++; ok {
			held, err = 0, ofd.Unlock(f)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if held < row {
		t.Fatal("nobody takes the lock")
	}
}
