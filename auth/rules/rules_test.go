package rules_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/authtest"
	"github.com/kpopd/kpopd/auth/rules"
)

// local is auth_to_local's DEFAULT rule, and one that a careless site has.
func local(principal string) (string, error) {
	name, realm, _ := strings.Cut(principal, "@")
	first, instance, _ := strings.Cut(name, "/")
	switch {
	case realm == "REALM.TEST" && instance == "":
		return name, nil
	case instance != "host":
		return first, nil // RULE:[2:$1]: alice/admin is alice, of any realm
	}
	return "", errors.New("no mapping")
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "table")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func realm() *rules.Rules {
	return &rules.Rules{
		Names: auth.NamePolicy{
			Mode: auth.NameBoth, Hosts: []string{"shop.test", "mail.test"}, Realms: []string{"REALM.TEST", "TRUSTED.TEST"},
		},
		Realms: rules.Realms{Default: "REALM.TEST"},
		Local:  rules.Local{Map: local},
		Acting: map[string][]string{"helpdesk": {"alice", "bob"}, "pop/front.test@REALM.TEST": {"*"}},
		Log:    slog.New(slog.DiscardHandler),
	}
}

// A decision is one line of the tables below: an identity, and the mailbox (with
// "as " when acting) or the reason of the refusal.
type decision struct {
	authcid, authzid string
	want             string
}

func (d decision) identity() auth.Identity {
	_, r, _ := strings.Cut(d.authcid, "@")
	return auth.Identity{Mechanism: "GSSAPI", Authcid: d.authcid, Authzid: d.authzid, Realm: r}
}

func result(a auth.Account, err error) string {
	var refusal *rules.Refusal
	switch {
	case errors.As(err, &refusal):
		return "refused " + string(refusal.Reason)
	case err != nil:
		return err.Error()
	case a.Acting:
		return "as " + a.Mailbox
	}
	return a.Mailbox
}

func judge(t *testing.T, r *rules.Rules, table []decision) {
	t.Helper()
	for _, d := range table {
		account, err := r.Lookup(t.Context(), d.identity())
		if got := result(account, err); got != d.want {
			t.Errorf("%s asks for %q: %s, want %s", d.authcid, d.authzid, got, d.want)
		}
		if err != nil && !errors.Is(err, auth.ErrDenied) {
			t.Errorf("%s asks for %q: %v is no refusal", d.authcid, d.authzid, err)
		}
		steps, traced, whyErr := r.Why(t.Context(), d.identity())
		if result(traced, whyErr) != d.want || len(steps) == 0 {
			t.Errorf("%s asks for %q: Why differs: %s after %v", d.authcid, d.authzid, result(traced, whyErr), steps)
		}
	}
}

func TestRealm(t *testing.T) {
	t.Parallel()
	judge(t, realm(), []decision{
		{"alice@REALM.TEST", "", "alice"},
		{"alice@REALM.TEST", "alice", "alice"},
		{"alice@REALM.TEST", "alice@REALM.TEST", "alice"},
		{"alice@REALM.TEST", "alice@mail.test", "alice"},
		{"alice@REALM.TEST", "alice+shop.test", "alice"},
		{"alice@REALM.TEST", "alice+lists", "alice+lists"},
		{"alice@REALM.TEST", "alice+lists@REALM.TEST", "alice+lists"},
		{"alice@REALM.TEST", "bob", "refused not-authorized"},
		{"alice@REALM.TEST", "bob+lists", "refused not-authorized"},
		{"alice@REALM.TEST", "bob@REALM.TEST", "refused not-authorized"},
		{"alice@REALM.TEST", "nobody-at-all", "refused not-authorized"},
		{"alice@REALM.TEST", "alice\x00", "refused bad-name"},
		{"alice@REALM.TEST", "alice@EVIL.TEST", "refused bad-name"},
		{"alice@REALM.TEST", "alice@TRUSTED.TEST", "refused foreign-realm"},
		{"alice@REALM.TEST", "../alice", "refused bad-name"},
		{"alice@REALM.TEST", "Alice", "refused not-authorized"},
		{"alice/admin@REALM.TEST", "", "refused instance"},
		{"alice/admin@REALM.TEST", "alice", "refused instance"},
		{"alice@EVIL.TEST", "", "refused foreign-realm"},
		{"alice@EVIL.TEST", "alice", "refused foreign-realm"},
		{"alice@realm.test", "", "refused foreign-realm"},
		{"alice@REALM.TEST.EVIL", "", "refused foreign-realm"},
		{"WELLKNOWN/ANONYMOUS@REALM.TEST", "", "refused anonymous"},
		{"WELLKNOWN/ANONYMOUS@WELLKNOWN:ANONYMOUS", "", "refused anonymous"},
		{`alice\@REALM.TEST`, "", "refused bad-name"},
		{`alice\/x@REALM.TEST`, "", "refused bad-name"},
		{"alice\n@REALM.TEST", "", "refused bad-name"},
		{"/@REALM.TEST", "", "refused bad-name"},
		{"@REALM.TEST", "", "refused bad-name"},
		{"..@REALM.TEST", "", "refused bad-name"},
		{"", "alice", "refused bad-name"},
		{"helpdesk@REALM.TEST", "", "helpdesk"},
		{"helpdesk@REALM.TEST", "alice", "as alice"},
		{"helpdesk@REALM.TEST", "bob@REALM.TEST", "as bob"},
		{"helpdesk@REALM.TEST", "bob+lists", "as bob+lists"},
		{"helpdesk@REALM.TEST", "carol", "refused not-authorized"},
		{"helpdesk@EVIL.TEST", "alice", "refused foreign-realm"},
		{"pop/front.test@REALM.TEST", "carol", "as carol"},
		{"pop/front.test@REALM.TEST", "", "refused instance"},
		{"pop/other.test@REALM.TEST", "carol", "refused instance"},
	})
}

// TestRealmOfTheTicket is threat T2: what a client writes must not name a realm
// that its ticket does not prove.
func TestRealmOfTheTicket(t *testing.T) {
	t.Parallel()
	for _, id := range []auth.Identity{
		{Authcid: "alice@REALM.TEST", Realm: "EVIL.TEST"},
		{Authcid: "alice", Realm: "REALM.TEST"},
		{Authcid: "alice@EVIL.TEST@REALM.TEST", Realm: "REALM.TEST"},
	} {
		if _, err := realm().Lookup(t.Context(), id); !errors.Is(err, auth.ErrDenied) {
			t.Errorf("%+v: %v", id, err)
		}
	}
}

func TestProvedWithoutRealm(t *testing.T) {
	t.Parallel()
	for authcid, want := range map[string]string{
		"alice": "alice", "alice+lists": "alice+lists", "alice@REALM.TEST": "alice", "alice@EVIL.TEST": "refused bad-name", "a/b": "refused bad-name",
	} {
		account, err := realm().Lookup(t.Context(), auth.Identity{Mechanism: "APOP", Authcid: authcid})
		if got := result(account, err); got != want {
			t.Errorf("%s: %s, want %s", authcid, got, want)
		}
	}
}

func TestMapOrderAndInstances(t *testing.T) {
	t.Parallel()
	m, err := rules.OpenMapFile(write(t, "# who\nalice@TRUSTED.TEST alice2\n\nbackup/arch@REALM.TEST archive\nbob@REALM.TEST robert\nx@EVIL.TEST alice\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := realm()
	r.Map = m
	r.Realms.Trusted = []string{"REALM.TEST", "TRUSTED.TEST"}
	judge(t, r, []decision{
		{"alice@TRUSTED.TEST", "", "alice2"},
		{"alice@TRUSTED.TEST", "alice", "refused not-authorized"},
		{"alice@TRUSTED.TEST", "alice@TRUSTED.TEST", "alice2"},
		{"backup/arch@REALM.TEST", "", "archive"},
		{"backup/other@REALM.TEST", "", "refused instance"},
		{"bob@REALM.TEST", "robert", "robert"},
		{"bob@REALM.TEST", "bob", "refused not-authorized"},
		{"x@EVIL.TEST", "", "refused foreign-realm"},
	})
	r.Order = []rules.Origin{rules.FromLocal, rules.FromMap}
	judge(t, r, []decision{{"bob@REALM.TEST", "", "bob"}})
	r.Order, r.Realms.Instances = nil, true
	judge(t, r, []decision{{"alice/admin@REALM.TEST", "", "alice"}})
	r.Order = []rules.Origin{"ldap"}
	if _, err := r.Lookup(t.Context(), decision{"bob@REALM.TEST", "", ""}.identity()); !errors.Is(err, auth.ErrPermanent) {
		t.Errorf("unknown origin: %v", err)
	}
}

const accounts = `
alice                  retention=30d delay=60s uidl=dovecot alias=alice.liddell,al@mail.test
alice@shop.test        user=alice mailbox=alice.shop
bob                    mailbox=robert host=mail2.test protocols=KPOP
carol                  locked
dave@REALM.TEST        user=dave mailbox=dave@example.test
warden                 actsfor=alice,carol
oldwarden              actsfor=alice locked
`

func TestAccounts(t *testing.T) {
	t.Parallel()
	a, err := rules.OpenAccounts(write(t, accounts), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := realm()
	r.Source = a
	judge(t, r, []decision{
		{"alice@REALM.TEST", "", "alice"},
		{"alice@REALM.TEST", "alice@shop.test", "alice.shop"},
		{"alice@REALM.TEST", "alice+shop.test", "alice.shop"},
		{"alice@REALM.TEST", "alice@mail.test", "alice"},
		{"alice@REALM.TEST", "alice.liddell", "alice"},
		{"alice@REALM.TEST", "al@mail.test", "alice"},
		{"bob@REALM.TEST", "", "refused protocol"},
		{"carol@REALM.TEST", "", "refused locked"},
		{"dave@REALM.TEST", "dave", "dave@example.test"},
		{"dave@REALM.TEST", "dave+lists", "dave+lists@example.test"},
		{"erin@REALM.TEST", "", "refused no-entry"},
		{"warden@REALM.TEST", "alice", "as alice"},
		{"warden@REALM.TEST", "carol", "refused locked"},
		{"warden@REALM.TEST", "bob", "refused not-authorized"},
		{"oldwarden@REALM.TEST", "alice", "refused locked"},
		{"helpdesk@REALM.TEST", "alice", "refused no-entry"},
		{"pop/front.test@REALM.TEST", "alice", "as alice"},
		{"pop/front.test@REALM.TEST", "erin", "refused instance"},
	})
	account, err := r.Lookup(t.Context(), decision{"alice@REALM.TEST", "", ""}.identity())
	want := auth.Account{User: "alice", Mailbox: "alice", UIDStyle: "dovecot", Retention: 30 * 24 * time.Hour, LoginDelay: time.Minute}
	if err != nil || account != want {
		t.Errorf("alice: %+v, %v, want %+v", account, err, want)
	}
	id := decision{"bob@REALM.TEST", "", ""}.identity()
	id.Mechanism = "KPOP"
	if account, err = r.Lookup(t.Context(), id); err != nil || account.Host != "mail2.test" || account.Mailbox != "robert" {
		t.Errorf("bob by KPOP: %+v, %v", account, err)
	}
	r.HostMailbox = "{user}@{host}"
	judge(t, r, []decision{{"alice@REALM.TEST", "alice@mail.test", "alice@mail.test"}})
}

// addresses is a source that finds hosts' entries by mail address, as mail servers
// do: whose an address is does not show in its left part.
type addresses struct{ byUser, byAddress map[string]rules.Entry }

func (a addresses) Find(_ context.Context, q rules.Query, _ rules.Trace) (rules.Entry, error) {
	entry, ok := a.byUser[q.User]
	if q.Host != "" {
		entry, ok = a.byAddress[q.User+"@"+q.Host]
	}
	if !ok {
		return rules.Entry{}, rules.Refuse(rules.NoEntry, "none")
	}
	return entry, nil
}

// TestHostOfAnother: an entry that is found for john@shop.test may be Smith's, who
// has that address. It is John's only when it says so.
func TestHostOfAnother(t *testing.T) {
	t.Parallel()
	account := func(name string, aliases ...string) rules.Entry {
		return rules.Entry{ID: "uid=" + name, User: name, Mailbox: name, Aliases: aliases}
	}
	john, smith, shop, front := account("john"), account("smith", "john@shop.test"), account("john-shop", "john"), account("front")
	front.ActsFor = []string{"john"}
	r := realm()
	r.Names.Hosts = []string{"shop.test", "mail.test", "own.test"}
	r.Source = addresses{
		map[string]rules.Entry{"john": john, "smith": smith, "front": front},
		map[string]rules.Entry{"john@shop.test": smith, "john@mail.test": shop, "john@own.test": john},
	}
	judge(t, r, []decision{
		{"john@REALM.TEST", "john@shop.test", "refused not-authorized"},
		{"john@REALM.TEST", "john+shop.test", "refused not-authorized"},
		{"john@REALM.TEST", "john@mail.test", "john-shop"},
		{"john@REALM.TEST", "john@own.test", "john"},
		{"front@REALM.TEST", "john", "as john"},
		{"front@REALM.TEST", "john@mail.test", "as john-shop"},
		{"front@REALM.TEST", "john@shop.test", "refused not-authorized"},
	})
	john.ActsFor = []string{"smith"}
	r.Source.(addresses).byUser["john"] = john
	judge(t, r, []decision{{"john@REALM.TEST", "john@shop.test", "as smith"}})
}

// folding is a source that does not tell names apart by case, as LDAP does not.
type folding struct{ entries []rules.Entry }

func (f folding) Find(_ context.Context, q rules.Query, _ rules.Trace) (rules.Entry, error) {
	for _, e := range f.entries {
		for _, name := range slices.Concat([]string{e.User}, e.Names, e.Aliases) {
			if strings.EqualFold(name, q.User) || strings.EqualFold(name, q.User+"@mail.test") {
				return e, nil
			}
		}
	}
	return rules.Entry{}, rules.Refuse(rules.NoEntry, "none")
}

// TestSpelling: ALICE@REALM.TEST is another principal than alice@REALM.TEST, unless
// the KDC makes none of it.
func TestSpelling(t *testing.T) {
	t.Parallel()
	r := realm()
	r.Source = folding{[]rules.Entry{
		{ID: "1", User: "alice", Mailbox: "alice", Aliases: []string{"liddell", "ALiCE"}},
		{ID: "2", User: "ren\u00e9", Mailbox: "rene"}, // composed
		{ID: "3", User: "smith", Names: []string{"jsmith"}, Mailbox: "smith", Aliases: []string{"john.smith@mail.test", "JSmith@mail.test"}},
		{ID: "4", User: "JONES", Mailbox: "jones", Aliases: []string{"jones@mail.test"}}, // another's address
	}}
	judge(t, r, []decision{
		{"alice@REALM.TEST", "", "alice"},
		{"ALICE@REALM.TEST", "", "refused no-entry"},
		{"Alice@REALM.TEST", "alice", "refused no-entry"},
		{"liddell@REALM.TEST", "", "alice"},
		{"LIDDELL@REALM.TEST", "", "refused no-entry"},
		{"ALiCE@REALM.TEST", "", "alice"}, // says so itself
		{"jsmith@REALM.TEST", "", "smith"},
		{"JSmith@REALM.TEST", "", "refused no-entry"},
		{"john.smith@REALM.TEST", "", "smith"},
		{"John.Smith@REALM.TEST", "", "refused no-entry"},
		{"jones@REALM.TEST", "", "refused no-entry"},
		{"ren\u00e9@REALM.TEST", "", "rene"},
		{"REN\u00c9@REALM.TEST", "", "refused no-entry"},
	})
	r.FoldCase = true
	judge(t, r, []decision{{"ALICE@REALM.TEST", "", "alice"}, {"Alice@REALM.TEST", "Alice", "alice"}})
}

// found is a source whose filter finds its one entry by any user's name.
type found rules.Entry

func (f found) Find(_ context.Context, q rules.Query, _ rules.Trace) (rules.Entry, error) {
	if q.User == "" {
		return rules.Entry{}, rules.Refuse(rules.NoEntry, "none")
	}
	return rules.Entry(f), nil
}

// TestSpellingOfOtherScripts: what directories fold beyond the case of letters is
// somebody else too, and what differs in its letters is another name of the account.
func TestSpellingOfOtherScripts(t *testing.T) {
	t.Parallel()
	for user, others := range map[string][]string{
		"alice": {
			"al\u0130ce",                 // slapd has i for it
			"al\u0131ce",                 // upper case is I
			"\u00e1lice",                 // Active Directory does not look at accents
			"alice\u034f", "ali\ufe00ce", // RFC 4518 section 2.2 maps them to nothing
			"\uff41lice", "\U0001d41alice",
		},
		"weiss":        {"wei\u00df", "wei\u1e9e", "wei\u017f\u017f"}, // RFC 3454 table B.2
		"wei\u00df":    {"weiss", "WEISS"},
		"kim":          {"\u212aim"}, // the sign of Kelvin
		"\u03c3\u03b1": {"\u03a3\u03b1", "\u03c2\u03b1"},
	} {
		r := realm()
		r.Source = found{ID: "1", User: user, Mailbox: "box"}
		all := []decision{{user + "@REALM.TEST", "", "box"}, {"liddell@REALM.TEST", "", "box"}}
		for _, o := range others {
			all = append(all, decision{o + "@REALM.TEST", "", "refused no-entry"})
		}
		judge(t, r, all)
	}
}

// TestLockedWithHosts: a locked account has no host name by which it is open.
func TestLockedWithHosts(t *testing.T) {
	t.Parallel()
	a, err := rules.OpenAccounts(write(t, "carol locked\ncarol@shop.test mailbox=carol.shop\ndave\ndave@shop.test user=alice mailbox=alice\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := realm()
	r.Source = a
	judge(t, r, []decision{
		{"carol@REALM.TEST", "", "refused locked"},
		{"carol@REALM.TEST", "carol@shop.test", "refused locked"},
		{"carol@REALM.TEST", "carol+shop.test", "refused locked"},
		{"dave@REALM.TEST", "dave", "dave"},
		{"dave@REALM.TEST", "dave@shop.test", "refused not-authorized"},
	})
}

// TestHostLineIsNoPrincipal: an SDPS line and a principal may be spelled alike.
func TestHostLineIsNoPrincipal(t *testing.T) {
	t.Parallel()
	a, err := rules.OpenAccounts(write(t, "bob\nbob@TRUSTED.TEST mailbox=bob.shop\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := realm()
	r.Source, r.Realms.Trusted, r.Order = a, []string{"TRUSTED.TEST"}, []rules.Origin{rules.FromSource}
	judge(t, r, []decision{{"bob@TRUSTED.TEST", "", "refused unmapped"}})
}

func TestTablesAreReloaded(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	path := write(t, "alice\n")
	a, err := rules.OpenAccounts(path, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	find := func(user string) error {
		_, err := a.Find(context.Background(), rules.Query{User: user}, nil)
		return err
	}
	for _, step := range []struct {
		text string
		bob  bool
	}{{"alice\nbob\n", true}, {"alice\nbob nonsense=1\n", true}, {"alice\n# bob\n", false}} {
		if err := os.WriteFile(path, []byte(step.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := find("bob"); (err == nil) != step.bob {
			t.Errorf("after %q: %v", step.text, err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := find("alice"); err != nil {
		t.Errorf("a removed table locked alice out: %v", err)
	}
	if n := strings.Count(log.String(), "the old one stays"); n != 2 {
		t.Errorf("%d complaints, want 2:\n%s", n, &log)
	}
}

func TestTablesWithFaults(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"alice\nalice\n", "alice nonsense=1\n", "alice locked=1\n", "alice mailbox=\n", "alice mailbox=../bob\n",
		"alice retention=-3\n", "alice delay=x\n", "alice mailbox\n", "a*b\n", "x/y@REALM.TEST user=../z\n",
	} {
		if _, err := rules.OpenAccounts(write(t, text), nil); err == nil || !strings.Contains(err.Error(), "table:") {
			t.Errorf("accounts %q: %v", text, err)
		}
	}
	for _, text := range []string{"alice alice\n", "alice@REALM.TEST\n", "a@R b c\n", "a@R ../b\n", "a@R b\na@R c\n"} {
		if _, err := rules.OpenMapFile(write(t, text), nil); err == nil || !strings.Contains(err.Error(), "table:") {
			t.Errorf("map %q: %v", text, err)
		}
	}
	path := write(t, "alice\n")
	if err := os.Chmod(path, 0o666); err != nil { //nolint:gosec // the fault under test
		t.Fatal(err)
	}
	if _, err := rules.OpenAccounts(path, nil); err == nil {
		t.Error("a table that anyone can write was taken")
	}
	if _, err := rules.OpenAccounts(t.TempDir(), nil); err == nil {
		t.Error("a directory was taken for a table")
	}
}

// down is a source that cannot be asked.
type down struct{}

func (down) Find(context.Context, rules.Query, rules.Trace) (rules.Entry, error) {
	return rules.Entry{}, auth.ErrTemporary
}

// many finds more than one entry.
type many struct{}

func (many) Find(context.Context, rules.Query, rules.Trace) (rules.Entry, error) {
	return rules.Entry{}, rules.Refuse(rules.ManyEntries, "two")
}

func TestSourceFailures(t *testing.T) {
	t.Parallel()
	for _, id := range []decision{{"alice@REALM.TEST", "", ""}, {"pop/front.test@REALM.TEST", "alice", ""}} {
		r := realm()
		r.Source = down{}
		if _, err := r.Lookup(t.Context(), id.identity()); !errors.Is(err, auth.ErrTemporary) || errors.Is(err, auth.ErrDenied) {
			t.Errorf("%s: a source that is down gave %v", id.authcid, err)
		}
	}
	r := realm()
	r.Source = many{} // no later origin may be asked
	judge(t, r, []decision{{"alice@REALM.TEST", "", "refused many-entries"}})
}

func TestAudit(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	r := realm()
	r.Log = slog.New(slog.NewTextHandler(&log, nil))
	for _, d := range []decision{{"helpdesk@REALM.TEST", "alice", ""}, {"bob@REALM.TEST", "alice\x1b[2J", ""}, {"bob@REALM.TEST", "alice", ""}} {
		_, _ = r.Lookup(t.Context(), d.identity())
	}
	for _, want := range []string{
		`msg="acting for another" authcid=helpdesk@REALM.TEST authzid=alice`, `reason=bad-name`, `reason=not-authorized`,
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %s in\n%s", want, &log)
		}
	}
	if strings.Contains(log.String(), "\x1b") {
		t.Error("an escape reached the log")
	}
}

func TestWhyTellsEachStep(t *testing.T) {
	t.Parallel()
	m, err := rules.OpenMapFile(write(t, "x@REALM.TEST y\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := realm()
	r.Map = m
	r.Local.Explain = func(p string) (string, []rules.Step, error) {
		return "alice", []rules.Step{{What: "RULE", Detail: "DEFAULT fits " + p}}, nil
	}
	steps, _, err := r.Why(t.Context(), decision{"alice@REALM.TEST", "alice+lists", ""}.identity())
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, s := range steps {
		all.WriteString(s.What + ": " + s.Detail + "\n")
	}
	for _, want := range []string{`order: ["map" "directory" "auth_to_local"]`, `realm: "REALM.TEST" is trusted`, "map file", "RULE: DEFAULT fits", "auth_to_local: maps", "directory: none", `folder "lists"`, `allowed: mailbox "alice+lists"`} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("no %q in\n%s", want, all.String())
		}
	}
}

func TestDirectoryContract(t *testing.T) {
	t.Parallel()
	authtest.Directory(t, realm(), decision{"alice@REALM.TEST", "", ""}.identity())
}
