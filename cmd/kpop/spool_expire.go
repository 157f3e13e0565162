package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/kpopd/kpopd/mailstore/cyrus"
)

func (o *spool) expire() *cobra.Command {
	older, dry, force, retention := span(7*24*time.Hour), false, false, false
	c := &cobra.Command{
		Use: "expire [USER...]", Short: "drop the files of messages that were removed some time ago",
		Long: `Drop what was removed from the maildrops named, or from all: files, records and
annotations of messages that clients have deleted at least --older ago. Until
then "kpop spool undelete" brings them back. Without a name, what deliveries
have left that were killed goes too, after a day.

With --retention the messages go first that have been in an INBOX for longer than
popexpiretime, which CAPA announces as EXPIRE. They are removed as by a client,
and dropped --older after that.

Sessions and deliveries go on meanwhile; one that has listed such a message is
told that it is gone. Beside a Cyrus this is cyr_expire's task. From cron:

  0 3 * * *  cyrus  kpop spool expire --older 7d`,
		RunE: o.changing(func(cmd *cobra.Command, args []string) error {
			if o.config.Spool.Mode != "embedded" && !force && !dry {
				return errors.New(`spool.mode is not "embedded": Cyrus's cyr_expire drops messages here; --force does it all the same, which is safe`)
			}
			names, err := o.named(cmd, args)
			if err != nil {
				return err
			}
			if retention {
				if err := o.retire(cmd, names, dry); err != nil {
					return err
				}
			}
			if len(args) == 0 && !dry {
				if _, err := o.store.SweepStaged(); err != nil {
					return err
				}
			}
			do := o.store.Expire
			if dry {
				do = o.store.Expirable
			}
			return o.expireAll(cmd, names, func(name string) (cyrus.Expired, error) {
				return do(cmd.Context(), name, time.Duration(older))
			}, dry, "dropped")
		}),
	}
	c.Flags().Var(&older, "older", "how long ago they must have been removed, such as 7d or 12h")
	c.Flags().BoolVar(&dry, "dry-run", false, "say what would be dropped")
	c.Flags().BoolVar(&retention, "retention", false, "first remove what came longer ago than popexpiretime")
	c.Flags().BoolVar(&force, "force", false, "also where Cyrus runs")
	return o.jsonFlag(c)
}

// retire removes what has come too long ago.
func (o *spool) retire(cmd *cobra.Command, names []string, dry bool) error {
	kept := o.store.POP().ExpireTime
	if kept <= 0 {
		return errors.New("popexpiretime is not set or is -1, never; set it in imapd.conf or in [spool.options], such as popexpiretime = 30, for days")
	}
	do := o.store.Retire
	if dry {
		do = o.store.Retirable
	}
	return o.expireAll(cmd, names, func(name string) (cyrus.Expired, error) { return do(cmd.Context(), name, kept) }, dry, "removed")
}

// expireAll goes on after a maildrop's fault: one that is damaged is no reason
// to let the others grow.
func (o *spool) expireAll(cmd *cobra.Command, names []string, do func(string) (cyrus.Expired, error), dry bool, did string) error {
	bar := progress(len(names))
	var sum cyrus.Expired
	failed := 0
	for _, name := range names {
		done, err := do(name)
		if err != nil && !o.gone(cmd, name, err) {
			failed++
			_ = bar.Clear() // it is drawn again by Add
			fmt.Fprintf(cmd.ErrOrStderr(), "kpop: %s: %v\n", name, err)
		}
		sum.Messages, sum.Octets, sum.Kept = sum.Messages+done.Messages, sum.Octets+done.Octets, sum.Kept+done.Kept
		_ = bar.Add(1) // nothing depends on the bar
	}
	_ = bar.Finish()
	var err error
	if o.json {
		err = printJSON(cmd.OutOrStdout(), sum)
	} else {
		if dry {
			did = "would be " + did
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d messages of %d octets %s, %d kept for now\n", sum.Messages, sum.Octets, did, sum.Kept)
	}
	if err == nil && failed > 0 {
		err = fmt.Errorf("%d of %d maildrops were not done", failed, len(names))
	}
	return err
}

// progress is a bar on standard error when that is a terminal.
func progress(n int) *progressbar.ProgressBar {
	return progressbar.NewOptions(n,
		progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetVisibility(term.IsTerminal(int(os.Stderr.Fd()))),
		progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish(),
		progressbar.OptionThrottle(100*time.Millisecond))
}

func (o *spool) undelete() *cobra.Command {
	within := span(0)
	c := &cobra.Command{
		Use: "undelete USER", Short: "bring back messages that were removed and not dropped yet", Args: cobra.ExactArgs(1),
		Long: `Bring back the messages that were removed from a maildrop, as new messages with
their flags, arrival and text: to clients they have new unique-ids. With --within
only those removed so long ago or less.`,
		RunE: o.changing(func(cmd *cobra.Command, args []string) error {
			var since time.Time
			if within > 0 {
				since = time.Now().Add(-time.Duration(within))
			}
			n, err := o.store.Undelete(cmd.Context(), args[0], since)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d messages are back\n", n)
			return err
		}),
	}
	c.Flags().Var(&within, "within", "how long ago at most they were removed, such as 2d; 0: whenever")
	return c
}
