//go:build integration

package chaos_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/integration/player"
)

var realm *integration.Realm

// all are the messages' numbers.
var all = []int{1, 2, 3, 4, 5, 6}

func TestMain(m *testing.M) {
	if err := enterAlone(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := player.Main(m, &realm, func(string) (string, error) { return "failure_delay = \"1ms\"\n", nil })
	fmt.Print(tries.table())
	os.Exit(code)
}

// impatient lets the daemon give up on a dead KDC after two seconds.
func impatient(t *testing.T) {
	t.Helper()
	config := realm.Path("kpopd.toml")
	b, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	const section, timeout = "[password]\n", "timeout = \"2s\"\n"
	if strings.Contains(string(b), section+timeout) {
		return // -count plays it again
	}
	text := strings.Replace(string(b), section, section+timeout, 1)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := realm.Restart(); err != nil {
		t.Fatal(err)
	}
}

// rounds is how often each row is played: CHAOS_ROUNDS, or once.
func rounds() int {
	n, err := strconv.Atoi(os.Getenv("CHAOS_ROUNDS"))
	if err != nil || n < 1 {
		return 1
	}
	return n
}

// A tally counts what was tried and what held, for the table at the end.
type tally struct {
	mu   sync.Mutex
	rows []string // in the order in which they were first played
	held map[string][2]int
}

var tries = tally{held: map[string][2]int{}}

func (y *tally) add(row string, held bool) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if !slices.Contains(y.rows, row) {
		y.rows = append(y.rows, row)
	}
	n := y.held[row]
	n[0]++
	if held {
		n[1]++
	}
	y.held[row] = n
}

func (y *tally) table() string {
	var b strings.Builder
	b.WriteString("| fault | tried | held |\n|---|---|---|\n")
	for _, row := range y.rows {
		fmt.Fprintf(&b, "| %s | %d | %d |\n", row, y.held[row][0], y.held[row][1])
	}
	return b.String()
}

// count is how many messages each maildrop has; the fourth is large enough that
// no socket buffer hides the end of a connection.
const count = 6

func text(user string, n int) string {
	body := strings.Repeat("line of message "+strconv.Itoa(n)+" of "+user+"\r\n", 3)
	if n == 4 {
		body = strings.Repeat("a long line of "+user+"'s large message, said very often\r\n", 60_000)
	}
	return "From: a@b.test\r\nSubject: chaos " + strconv.Itoa(n) + "\r\n\r\n" + body
}

// fill gives user the messages 1 to count.
func fill(t *testing.T, user string) {
	t.Helper()
	dir := t.TempDir()
	for n := 1; n <= count; n++ {
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(n)+".eml"), []byte(text(user, n)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := realm.Fill(t.Context(), user, dir); err != nil {
		t.Fatal(err)
	}
}

// whole checks that user's maildrop holds these messages, octet for octet, and
// that Cyrus finds nothing to mend.
func whole(t *testing.T, user string, numbers ...int) {
	t.Helper()
	player.Holds(t, realm, user, len(numbers))
	p := player.Login(t, realm, user)
	for i, n := range numbers {
		p.Play(fmt.Sprintf("C: RETR %d\nS: +OK\n", i+1))
		if string(p.Message()) != text(user, n) {
			t.Errorf("message %d of %s is not what was delivered", n, user)
		}
	}
	p.Play("C: QUIT\nS: +OK\n")
	clean(t, user)
}

func clean(t *testing.T, user string) {
	t.Helper()
	out, err := realm.Reconstruct(t.Context(), t.TempDir(), "user."+user)
	if err != nil || strings.TrimSpace(out) != "user."+user {
		t.Errorf("reconstruct -n -G says %q, %v", out, err)
	}
}

// file finds a message file of user's by what is in it.
func file(t *testing.T, user string, n int) string {
	t.Helper()
	found := ""
	err := filepath.WalkDir(realm.Path("spool"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".") {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && string(b) == text(user, n) {
			found = path
		}
		return err
	})
	if err != nil || found == "" {
		t.Fatalf("no file of message %d of %s: %v", n, user, err)
	}
	return found
}
