package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kpopd/kpopd/cmd/assemble"
	"github.com/kpopd/kpopd/cmd/config"
	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/lmtp"
)

// The exit statuses of sysexits.h that a mail transfer agent knows what to do
// with. All but exitTempFail bounce the message.
const (
	exitUsage       = 64
	exitDataErr     = 65
	exitNoUser      = 67
	exitUnavailable = 69
	exitTempFail    = 75
)

var errTooLarge = errors.New("the message is larger than lmtp.message_size")

// A delivery is one run of kpop deliver.
type delivery struct {
	file      string
	from      string
	overQuota string
}

// deliverCommand is a mail delivery agent for Postfix's pipe(8), procmail and
// the like.
func deliverCommand() *cobra.Command {
	d := &delivery{}
	c := &cobra.Command{
		Use: "deliver USER", Short: "deliver a message from standard input to a maildrop",
		Long: `Deliver the message on standard input, as a mail transfer agent's last hop. It
is on disk when the exit status is 0. With lmtp.forward it is handed over to
Cyrus's lmtpd. USER is the maildrop's name; no directory is asked.

In Postfix's master.cf:

  kpop unix - n n - 10 pipe
    flags=D user=cyrus argv=/usr/bin/kpop deliver -f ${sender} ${user}

Exit status, as in sysexits.h:
   0  delivered
  64  wrong usage
  65  the message cannot be stored, or is larger than lmtp.message_size
  67  no such user
  69  over quota, with --over-quota reject
  75  try again later: everything else, over quota and a wrong configuration too`,
		Args: func(c *cobra.Command, args []string) error {
			if err := cobra.ExactArgs(1)(c, args); err != nil {
				return &exitError{exitUsage, err}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			return deliverStatus(d.run(c.Context(), args[0], c.InOrStdin()), d.overQuota)
		},
	}
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exitError{exitUsage, err} })
	f := c.Flags()
	f.StringVar(&d.file, "config", config.DefaultPath, "configuration file")
	f.StringVarP(&d.from, "from", "f", "", `sender, for Return-Path; default: that of a line "From " before the message`)
	f.StringVar(&d.overQuota, "over-quota", "", "defer or reject; default: lmtp.over_quota")
	return c
}

func (d *delivery) run(ctx context.Context, user string, in io.Reader) error {
	switch d.overQuota {
	case "", "defer", "reject":
	default:
		return &exitError{exitUsage, fmt.Errorf("--over-quota: %q is neither defer nor reject", d.overQuota)}
	}
	c, err := config.Load(d.file)
	if err != nil {
		return err
	}
	if d.overQuota == "" {
		d.overQuota = c.LMTP.OverQuota
	}
	message := bufio.NewReader(&limited{in, c.LMTP.Message})
	from, given, err := envelopeLine(message)
	if err != nil {
		return err
	}
	if d.from != "" {
		from, given = strings.Trim(d.from, "<>"), true
	}
	if f := c.LMTP.Forward; f != "" {
		return (&lmtp.Forwarder{Address: f, Hostname: c.Hostname}).Deliver(ctx, user, message, from)
	}
	store, err := assemble.OpenSpool(c, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer store.Close() //nolint:errcheck // it holds no session
	if err := ownSpool(store.Directory()); err != nil {
		return err
	}
	if given {
		return store.Deliver(ctx, user, message, from)
	}
	_, err = store.Append(ctx, user, message, time.Time{})
	return err
}

// A limited reader ends with errTooLarge when there is more than left octets.
type limited struct {
	in   io.Reader
	left int64
}

func (l *limited) Read(b []byte) (int, error) {
	if l.left < 0 {
		return 0, errTooLarge
	}
	if int64(len(b)) > l.left+1 {
		b = b[:l.left+1]
	}
	n, err := l.in.Read(b)
	if l.left -= int64(n); l.left < 0 {
		return n, errTooLarge
	}
	return n, err
}

// envelopeLine takes the line "From sender date" off the front, which procmail
// and Postfix's flag F put there, and tells its sender.
func envelopeLine(r *bufio.Reader) (from string, found bool, err error) {
	const mark = "From "
	if start, _ := r.Peek(len(mark)); !bytes.Equal(start, []byte(mark)) {
		return "", false, nil
	}
	line, err := r.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", false, err
	}
	fields := strings.Fields(line)
	if len(fields) < 2 || fields[1] == "MAILER-DAEMON" {
		return "", true, nil
	}
	return strings.Trim(fields[1], "<>"), true, nil
}

// deliverStatus gives an error its exit status. Its text is what a bounce shows
// to a sender, so a permanent one tells nothing of files.
func deliverStatus(err error, overQuota string) error {
	if e := (*exitError)(nil); err == nil || errors.As(err, &e) {
		return err
	}
	switch {
	case errors.Is(err, errTooLarge):
		return &exitError{exitDataErr, errTooLarge}
	case errors.Is(err, mailstore.ErrUnknown):
		return &exitError{exitNoUser, errors.New("no such user here")}
	case errors.Is(err, mailstore.ErrMessage):
		return &exitError{exitDataErr, errors.New("the message cannot be stored")}
	case errors.Is(err, mailstore.ErrOverQuota) && overQuota == "reject":
		return &exitError{exitUnavailable, errors.New("the mailbox is over quota")}
	}
	return &exitError{exitTempFail, err}
}
