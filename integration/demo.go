package integration

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Demo brings up a realm, fetches alice's mail with three real clients and
// compares what arrived with what was put in.
type Demo struct {
	Dir     string
	Options Options
	Once    bool // end after the last step
	Out     io.Writer

	realm *Realm
	mail  string // folder with alice's messages
}

// Run is the whole demonstration. It ends what it started.
func (d *Demo) Run(ctx context.Context) (err error) {
	d.say("Bringing up realm %s in %s (krb5kdc, slapd, spool, CA, kpopd) ...", RealmName, d.Dir)
	if d.realm, err = Up(ctx, d.Dir, d.Options); err != nil {
		return err
	}
	defer func() {
		if derr := d.realm.Down(); derr != nil && err == nil {
			err = derr
		}
		if err != nil {
			d.say("All that was started has ended; %s is left to look into.", d.realm.Dir)
			return
		}
		err = os.RemoveAll(d.realm.Dir)
		d.say("All that was started has ended and is removed.")
	}()
	p := d.realm.Ports
	d.say("KPOP on %d, POP3 with STLS on %d, POP3S on %d.", p.KPOP, p.POP3, p.POP3S)
	if p.KPOP != 1109 || p.POP3 != 110 || p.POP3S != 995 {
		d.say("(1109, 110 or 995 were taken or not permitted.)")
	}
	steps := []func(context.Context) error{d.fill, d.kinit, d.mayRead, d.overKPOP, d.overSTLS, d.overPOP3S, d.showLog}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	d.say("Every step held: three clients, three ports, every message the same octet for octet.")
	if d.Once {
		return nil
	}
	d.say("\nGo on by hand in another terminal:\n  . %s\n  kinit -k -t %s alice\n  curl --login-options AUTH=GSSAPI -u : pop3://$HOST:$POP3_PORT/\n  %s login --kpop $HOST:$KPOP_PORT --user alice\nCtrl-C ends it.",
		d.realm.Path("env"), d.realm.Path("alice.keytab"), d.realm.Kpop())
	<-ctx.Done()
	return nil
}

func (d *Demo) say(format string, args ...any) { _, _ = fmt.Fprintf(d.Out, format+"\n", args...) }

// SampleMail is what each user of the demonstration gets.
func SampleMail() map[string]string {
	head := func(subject string) string {
		return "From: Postmaster <postmaster@realm.test>\r\nTo: Alice <alice@realm.test>\r\nDate: Mon, 02 Nov 2026 09:00:00 +0000\r\nMessage-ID: <" +
			strings.ReplaceAll(subject, " ", "-") + "@realm.test>\r\nSubject: " + subject + "\r\n"
	}
	return map[string]string{
		"1-plain.eml": head("plain") + "\r\nWelcome to your Kerberized maildrop.\r\n",
		"2-dots.eml":  head("dots") + "\r\n.\r\n..\r\n.a line that begins with a dot\r\nend\r\n",
		"3-mime.eml": head("mime") + "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" +
			"Grüße, شكرا, 谢谢\r\n--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\nAAECAwQF\r\n--b--\r\n",
		"4-empty.eml": head("empty body") + "\r\n",
		"5-large.eml": head("large") + "\r\n" + strings.Repeat("The quick brown fox jumps over the lazy dog, again and again.\r\n", 5<<20/63),
	}
}

func (d *Demo) fill(ctx context.Context) error {
	d.mail = d.realm.Path("mail")
	if err := os.MkdirAll(d.mail, 0o700); err != nil {
		return err
	}
	for name, text := range SampleMail() {
		if err := os.WriteFile(filepath.Join(d.mail, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	for _, user := range Users {
		if err := d.realm.Fill(ctx, user, d.mail); err != nil {
			return err
		}
	}
	d.say("%d messages lie in each user's maildrop.", len(SampleMail()))
	return nil
}

func (d *Demo) cache() string { return d.realm.Path("krb5cc") }

func (d *Demo) kinit(ctx context.Context) error {
	password, err := d.realm.Password("alice")
	if err != nil {
		return err
	}
	d.say("\n$ kinit alice")
	if _, err := d.realm.Tool(d.cache()).Input(ctx, password+"\n", "kinit", "alice"); err != nil {
		return err
	}
	return d.show(ctx, nil, "klist")
}

// show runs a command, shows it and what it says.
func (d *Demo) show(ctx context.Context, env []string, name string, args ...string) error {
	d.say("$ %s %s", name, strings.Join(args, " "))
	t := d.realm.Tool(d.cache())
	t.Env = append(t.Env, env...)
	out, err := t.Run(ctx, name, args...)
	d.say("%s", strings.TrimRight(out, "\n"))
	return err
}

// mayRead asks the directory beforehand whose maildrop alice's ticket opens.
func (d *Demo) mayRead(ctx context.Context) error {
	d.say("\nWhose maildrop that ticket opens, as the directory has it:")
	kpop := filepath.Join(filepath.Dir(d.realm.Kpopd), "kpop")
	return d.show(ctx, nil, kpop, "map", "--config", d.realm.Path("kpopd.toml"), "--why", "alice@"+RealmName)
}

func (d *Demo) overKPOP(ctx context.Context) error {
	d.say("\nfetchmail over KPOP, with the ticket alone:")
	box, err := d.realm.Fetchmail(ctx, d.Out, d.cache(), FetchKPOP)
	return d.compare(box, err)
}

func (d *Demo) overSTLS(ctx context.Context) error {
	d.say("\nmpop over GSSAPI on port %d with STLS:", d.realm.Ports.POP3)
	box, err := d.realm.Mpop(ctx, d.Out, d.cache(), d.realm.Ports.POP3, MpopSTLS)
	return d.compare(box, err)
}

func (d *Demo) overPOP3S(ctx context.Context) error {
	d.say("\nfetchmail over GSSAPI on port %d with TLS:", d.realm.Ports.POP3S)
	box, err := d.realm.Fetchmail(ctx, d.Out, d.cache(), FetchPOP3S)
	return d.compare(box, err)
}

// compare holds what a client handed over against what was put in.
func (d *Demo) compare(got [][]byte, err error) error {
	if err != nil {
		return err
	}
	var want [][]byte
	for _, text := range SampleMail() {
		want = append(want, []byte(text))
	}
	if err := SameMail(got, want); err != nil {
		return err
	}
	d.say("%d messages, octet for octet what was put in.", len(got))
	return nil
}

// SameMail compares two sets of messages, with line ends as the local mail
// programs write them and without the fields that fetching adds in front.
func SameMail(got, want [][]byte) error {
	normal := func(messages [][]byte) []string {
		var out []string
		for _, m := range messages {
			m = bytes.ReplaceAll(m, []byte("\r\n"), []byte("\n"))
			if i := bytes.Index(m, []byte("From: Postmaster")); i > 0 {
				m = m[i:]
			}
			out = append(out, string(m))
		}
		slices.Sort(out)
		return out
	}
	g, w := normal(got), normal(want)
	if len(g) != len(w) {
		return fmt.Errorf("integration: %d messages arrived, %d were put in", len(g), len(w))
	}
	for i := range g {
		if g[i] != w[i] {
			return fmt.Errorf("integration: a message arrived changed: %.300q instead of %.300q", g[i], w[i])
		}
	}
	return nil
}

func (d *Demo) showLog(context.Context) error {
	b, err := os.ReadFile(d.realm.Path("kpopd.log"))
	if err != nil {
		return err
	}
	d.say("\nWhat the server says of it:")
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, "session ended") {
			d.say("%s", strings.TrimSpace(line))
		}
	}
	return nil
}
