package cyrusdb_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
)

func TestDlistText(t *testing.T) {
	t.Parallel()
	// As Cyrus writes them: each must come out as it went in.
	for _, s := range []string{
		"NIL", "atom", `""`, `"NIL"`, `"two words"`, "()", "%()", "(a b c)", "(a NIL (b))",
		"%(T e I 4n0)", "%(N user\x1ffirst.last)", "%(N \"dom.example\x1duser\x1feve\")",
		`%("key one" value)`, "{3+}\r\n\"x\"", "{4+}\r\na\r\nb", "({2+}\r\n\xc3\xa9 next)", `"a*b"`, `"a(b"`,
	} {
		d, rest, err := cyrusdb.ParseDlist(s)
		if err != nil || rest != "" || d.String() != s {
			t.Errorf("%q: %q, rest %q, %v", s, d.String(), rest, err)
		}
	}
	for s, want := range map[string]string{
		`"a\"b\\c"`:         "{5+}\r\na\"b\\c",
		"{3}\r\nabc":        "abc",
		"( a  b )":          "(a b)",
		`%(a  "b c"  d ())`: `%(a "b c" d ())`,
	} {
		d, _, err := cyrusdb.ParseDlist(s)
		if err != nil || d.String() != want {
			t.Errorf("%q: %q, %v; want %q", s, d.String(), err, want)
		}
	}
	for _, s := range []string{
		"", "(", "%(", "%(a", "%(a)", "%(a ", ")", `"abc`, `"abc\`, "{", "{3", "{3}", "{3}\r\nab", "{x}\r\n", "{-1}\r\n",
		"{99999999999}\r\n", strings.Repeat("(", 1000) + strings.Repeat(")", 1000), "{4294967296}\r\n",
	} {
		if d, rest, err := cyrusdb.ParseDlist(s); err == nil && rest == "" {
			t.Errorf("%q was accepted as %q", s, d.String())
		}
	}
}

func TestDlistProperty(t *testing.T) {
	t.Parallel()
	text := rapid.SliceOfN(rapid.Byte(), 0, 20)
	rapid.Check(t, func(t *rapid.T) {
		d := cyrusdb.Dlist{Kind: cyrusdb.DlistMap}
		for range rapid.IntRange(0, 5).Draw(t, "n") {
			d.SetText(string(text.Draw(t, "key")), string(text.Draw(t, "value")))
		}
		got, rest, err := cyrusdb.ParseDlist(d.String())
		if err != nil || rest != "" {
			t.Fatalf("%q: %q, %v", d.String(), rest, err)
		}
		if diff := cmp.Diff(d, got); diff != "" {
			t.Error(diff)
		}
	})
}

func FuzzDlist(f *testing.F) {
	f.Add("%(T e I x P default A %(a lr) H (%(N b M 1)))")
	f.Add("(a \"b\\\"\" {3+}\r\nabc NIL)")
	f.Fuzz(func(t *testing.T, s string) {
		d, _, err := cyrusdb.ParseDlist(s)
		if err != nil {
			return
		}
		again, rest, err := cyrusdb.ParseDlist(d.String())
		if err != nil || rest != "" || cmp.Diff(d, again) != "" {
			t.Errorf("%q: %q, rest %q, %v", s, d.String(), rest, err)
		}
	})
}

func FuzzMailboxEntry(f *testing.F) {
	f.Add("%(T el I x P default S there V 1 C 1 F 1 M 1 A %(a lr) H ())")
	f.Add("(uniqueid 12 specialuse \\Sent) 0 there!p a\tlr\t")
	f.Fuzz(func(t *testing.T, s string) {
		e, err := cyrusdb.ParseMailboxEntry(s)
		if err != nil {
			return
		}
		if _, err := cyrusdb.ParseMailboxEntry(string(e.AppendNameValue(nil))); err != nil {
			t.Errorf("%q: written as %q: %v", s, e.AppendNameValue(nil), err)
		}
	})
}

func TestQuotaText(t *testing.T) {
	t.Parallel()
	const no = cyrusdb.Unlimited
	for text, want := range map[string]cyrusdb.Quota{
		"%(S (6906 1000) M (4) AS (0) NF (2) MODSEQ 10)\n": {
			Used: [4]int64{6906, 4, 0, 2}, Limit: [4]int64{1000, no, no, no}, ModSeq: 10,
		},
		"%(S (2745 100) M (4 50) AS (0) NF (1) MODSEQ 8)\n": {
			Used: [4]int64{2745, 4, 0, 1}, Limit: [4]int64{100, 50, no, no}, ModSeq: 8,
		},
		"%(S (1) M (1) AS (0) NF (1) SCAN %(MBOX user.x S 5 M 6 AS 7 NF 8) MODSEQ 8)\n": {
			Used: [4]int64{1, 1, 0, 1}, Limit: [4]int64{no, no, no, no}, ModSeq: 8,
			Scan: &cyrusdb.QuotaScan{Mailbox: "user.x", Used: [4]int64{5, 6, 7, 8}},
		},
	} {
		got, err := cyrusdb.ParseQuota([]byte(text))
		if err != nil || cmp.Diff(want, got) != "" {
			t.Errorf("%q: %v %s", text, err, cmp.Diff(want, got))
		}
		if out := string(got.Append(nil)) + "\n"; out != text {
			t.Errorf("%q written as %q", text, out)
		}
	}
	for text, want := range map[string]cyrusdb.Quota{
		"1234\n100\n":                  {Used: [4]int64{1234, 0, 0, 0}, Limit: [4]int64{100, no, no, no}},
		"1234\n-1\n":                   {Used: [4]int64{1234, 0, 0, 0}, Limit: [4]int64{no, no, no, no}},
		"1234 100 99 M 5 50 AS 0 -1":   {Used: [4]int64{1234, 5, 0, 0}, Limit: [4]int64{100, 50, no, no}},
		"-3 100 X-NUM-FOLDERS 2 9":     {Used: [4]int64{0, 0, 0, 2}, Limit: [4]int64{100, no, no, 9}},
		"%(S (1 2) MODSEQ 3 X %(a b))": {Used: [4]int64{1, 0, 0, 0}, Limit: [4]int64{2, no, no, no}, ModSeq: 3},
	} {
		got, err := cyrusdb.ParseQuota([]byte(text))
		if err != nil || cmp.Diff(want, got) != "" {
			t.Errorf("%q: %v %s", text, err, cmp.Diff(want, got))
		}
	}
	for _, text := range []string{
		"", "1", "a b", "1 2 M", "1 2 Q 3 4", "1 -7", "%(S", "%(S (a))", "%(S (-1))", "%(MODSEQ x)", "%() x", "%(SCAN %(MBOX a S x))",
	} {
		if q, err := cyrusdb.ParseQuota([]byte(text)); !errors.Is(err, cyrusdb.ErrCorrupt) {
			t.Errorf("%q: %+v, %v", text, q, err)
		}
	}
}

func FuzzQuota(f *testing.F) {
	f.Add("%(S (1 2) M (1) AS (0) NF (1) SCAN %(MBOX user.x S 5 M 6 AS 7 NF 8) MODSEQ 8)\n")
	f.Add("1234 100 99 M 5 50 AS 0 -1")
	f.Fuzz(func(t *testing.T, s string) {
		q, err := cyrusdb.ParseQuota([]byte(s))
		if err != nil {
			return
		}
		again, err := cyrusdb.ParseQuota(q.Append(nil))
		if err != nil || cmp.Diff(q, again) != "" {
			t.Errorf("%q: %q: %v", s, q.Append(nil), err)
		}
	})
}

func TestQuotaCounts(t *testing.T) {
	t.Parallel()
	q, err := cyrusdb.ParseQuota([]byte("%(S (1000 1) M (2 3) AS (0) NF (1) SCAN %(MBOX user.m S 500 M 1 AS 0 NF 0) MODSEQ 8)"))
	if err != nil {
		t.Fatal(err)
	}
	for delta, over := range map[cyrusdb.QuotaDelta]bool{
		{24, 1}: false, {25, 1}: true, {0, 2}: true, {-9, -1}: false, {0, 0, 1 << 40, 9}: false,
	} {
		if q.Over(delta) != over {
			t.Errorf("%v: over %v", delta, !over)
		}
	}
	q.Add("user.a", cyrusdb.QuotaDelta{-600, -1}) // the scan has been there
	q.Add("user.z", cyrusdb.QuotaDelta{-600, -1}) // and not here yet
	want := "%(S (0 1) M (0 3) AS (0) NF (1) SCAN %(MBOX user.m S 0 M 0 AS 0 NF 0) MODSEQ 10)"
	if got := string(q.Append(nil)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestQuotaFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "quota", "a", "user.alice")
	if _, err := cyrusdb.ReadQuota(t.Context(), path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	q := cyrusdb.Quota{Limit: [4]int64{100, -1, -1, -1}}
	if err := cyrusdb.CreateQuota(path, &q); err != nil {
		t.Fatal(err)
	}
	if err := cyrusdb.CreateQuota(path, &q); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second time: %v", err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				if err := addOne(t.Context(), path); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got, err := cyrusdb.ReadQuota(t.Context(), path)
	if err != nil || got.Used[cyrusdb.QuotaMessages] != 40 || got.ModSeq != 40 {
		t.Errorf("%+v, %v", got, err)
	}
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(files) != 1 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

func addOne(ctx context.Context, path string) error {
	tx, err := cyrusdb.OpenQuota(ctx, path)
	if err != nil {
		return err
	}
	tx.Add("user.alice", cyrusdb.QuotaDelta{100, 1})
	return errors.Join(tx.Commit(), tx.Close())
}
