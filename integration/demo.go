package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A demo shows the main job in a realm of its own.
type demo struct {
	r    *Realm
	out  io.Writer
	kpop string // the operator's tool
}

// How much of a line is shown: of a client's words, and of everything else.
const (
	narrow = 100
	wide   = 1000
)

// Demo makes a realm in dir, fetches alice's mail with real clients, and shows
// what everybody says. With once it ends then; without, it waits for ctx. It
// takes the realm and the directory away in the end.
func Demo(ctx context.Context, dir, kpop string, once bool, o Options) (err error) {
	d := &demo{out: o.Out, kpop: kpop}
	d.heading("A realm of its own in %s: krb5kdc, a Cyrus spool, certificates, kpopd", dir)
	if d.r, err = Up(ctx, dir, o); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, d.r.Down(), os.RemoveAll(d.r.Dir))
		if err == nil {
			d.heading("Stopped and removed all of it.")
		}
	}()
	d.note("realm %s, host %s; KPOP on %d, POP3 with STLS on %d, POP3S on %d; the KDC on %d",
		RealmName, d.r.Host, d.r.Ports.KPOP, d.r.Ports.POP3, d.r.Ports.POP3S, d.r.Ports.KDC)
	for _, step := range []func(context.Context) error{d.fill, d.kinit, d.fetch, d.after} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	d.heading("Every step held.")
	if !once {
		d.invite()
		<-ctx.Done()
	}
	return nil
}

func (d *demo) heading(format string, args ...any) {
	_, _ = fmt.Fprintf(d.out, "\n== "+format+"\n", args...)
}

func (d *demo) note(format string, args ...any) {
	_, _ = fmt.Fprintf(d.out, format+"\n", args...)
}

// quote shows a program's own words. Tokens and progress bars are cut.
func (d *demo) quote(mark, text string, width int) {
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		line = strings.TrimRight(line, "\r\n")
		if len(line) > width {
			line = fmt.Sprintf("%s... (%d more)", line[:width], len(line)-width)
		}
		_, _ = fmt.Fprintf(d.out, "  %s %s\n", mark, line)
	}
}

// fill gives everybody mail.
func (d *demo) fill(ctx context.Context) error {
	d.heading("Mail for everybody")
	for _, user := range People {
		letters := OtherMail(user)
		if user == "alice" {
			letters = SampleMail()
		}
		folder := d.r.Path("mail", user)
		if err := WriteMail(folder, letters); err != nil {
			return err
		}
		d.note("$ %s %s %s", d.r.Path("fill"), user, folder)
		for _, l := range letters {
			d.note("    %-8s %8d octets", l.Name, len(l.Text))
		}
		if err := d.r.Fill(ctx, user, folder); err != nil {
			return err
		}
	}
	return nil
}

// kinit gets alice a ticket by her password.
func (d *demo) kinit(ctx context.Context) error {
	d.heading("A ticket for alice")
	password, err := d.r.Password("alice")
	if err != nil {
		return err
	}
	home := d.home()
	if err := os.MkdirAll(home, 0o700); err != nil {
		return err
	}
	d.note("$ kinit alice < %s", d.r.Path("alice.pw"))
	if _, err := d.r.Client(home).Input(ctx, password+"\n", "kinit", "alice"); err != nil {
		return err
	}
	list, err := d.r.Client(home).Run(ctx, "klist")
	d.quote("|", list, wide)
	return err
}

// home is alice's; all her clients share the ticket cache in it.
func (d *demo) home() string { return d.r.Path("home") }

// fetch runs the clients one after the other; the last one deletes.
func (d *demo) fetch(ctx context.Context) error {
	clients := []struct {
		title string
		make  func(string, Session) (Program, error)
		s     Session
	}{
		{"fetchmail over KPOP, with her ticket", d.r.Fetchmail, Session{User: "alice", Protocol: "kpop", Security: Clear, Keep: true}},
		{"mpop by GSSAPI on POP3, with STLS", d.r.Mpop, Session{User: "alice", Protocol: "pop3", Security: STLS, Keep: true}},
		{"fetchmail by GSSAPI on POP3S, deleting what it fetched", d.r.Fetchmail, Session{User: "alice", Protocol: "pop3", Security: Implicit}},
	}
	for _, c := range clients {
		d.heading("%s", c.title)
		if err := os.RemoveAll(filepath.Join(d.home(), "got")); err != nil {
			return err
		}
		p, err := c.make(d.home(), c.s)
		if err != nil {
			return err
		}
		if err := d.run(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) run(ctx context.Context, p Program) error {
	d.note("$ cat %s", p.Args[len(p.Args)-1])
	d.quote("|", p.Config, wide)
	d.note("$ %s", strings.Join(p.Args, " "))
	logged, err := d.r.LogMark()
	if err != nil {
		return err
	}
	out, err := p.Run(ctx)
	if err != nil {
		return err
	}
	d.quote(">", out, narrow)
	lines, err := logged.Until("session ended", 10*time.Second)
	if err != nil {
		return err
	}
	d.note("the server's log:")
	d.quote("|", lines, wide)
	received, err := Received(d.home())
	if err != nil {
		return err
	}
	if err := Compare(received, SampleMail()); err != nil {
		return err
	}
	d.note("compared with what was put in: all %d messages are equal, octet by octet (line ends are LF in the client's files)", len(received))
	return nil
}

// after shows that the last client's deletions are done, and fills up again.
func (d *demo) after(ctx context.Context) error {
	d.heading("What is left on the server")
	args := []string{"login", "--gssapi", "--stls", "--ca", d.r.Path("ca.pem"), "--stat", Address(d.r.Host, d.r.Ports.POP3)}
	d.note("$ kpop %s", strings.Join(args, " "))
	out, err := d.r.Client(d.home()).Run(ctx, d.kpop, args...)
	if err != nil {
		return err
	}
	d.quote(">", out, narrow)
	if !strings.Contains(out, "+OK 0 0") {
		return errors.New("messages that a client deleted are still there")
	}
	return d.r.Fill(ctx, "alice", d.r.Path("mail", "alice"))
}

// invite says how to go on by hand.
func (d *demo) invite() {
	d.heading("Now by hand. In another terminal:")
	d.note("  . %s", d.r.Path("env"))
	d.note("  kinit alice < %s", d.r.Path("alice.pw"))
	d.note("  %s login --stat $HOST:$KPOP_PORT", d.kpop)
	d.note("  %s login --gssapi --stls --ca $CA_FILE --retr 1 $HOST:$POP3_PORT", d.kpop)
	d.note("The server's log is %s. Ctrl-C here stops and removes everything.", d.r.Path("kpopd.log"))
}
