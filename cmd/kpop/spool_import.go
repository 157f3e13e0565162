package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/kpopd/kpopd/mailstore/cyrus"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
	"github.com/kpopd/kpopd/mailstore/maildir"
)

func (o *spool) importMail() *cobra.Command {
	lose := false
	c := &cobra.Command{
		Use: "import USER MAILDIR", Short: "make a maildrop of a Dovecot Maildir, keeping unique-ids", Args: cobra.ExactArgs(2),
		Long: `Make a maildrop for USER and bring the mail of a Maildir of Dovecot's into it:
messages, flags, times of arrival, and the numbers that unique-ids are made of.
With uidl_format = "dovecot", in [spool.options] or as the account's uid_style,
POP clients that leave their mail on the server fetch nothing twice.

Stop Dovecot first, or at least its deliveries. The Maildir is only read. Keywords
and folders do not come over. When a message cannot be taken the maildrop is left
as far as it got, and the command says where.`,
		RunE: o.changing(func(cmd *cobra.Command, args []string) error {
			folder, err := maildir.Read(args[1])
			if err != nil {
				return err
			}
			if err := o.sameIDs(folder, lose); err != nil {
				return err
			}
			if err := o.store.CreateMailboxWith(cmd.Context(), args[0], folder.UIDValidity); err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			if err := o.bring(cmd.Context(), args[0], folder); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d messages came over, uidvalidity %d, next UID %d\n",
				args[0], len(folder.Messages), folder.UIDValidity, folder.Next)
			if err == nil && o.store.POP().UIDL != imapdconf.UIDLDovecot {
				_, err = fmt.Fprintln(cmd.ErrOrStderr(), `kpop: uidl_format is not "dovecot": without it clients fetch this mail again`)
			}
			return err
		}),
	}
	c.Flags().BoolVar(&lose, "lose-saved-ids", false, "import although Dovecot has saved other unique-ids for some messages")
	return c
}

// sameIDs refuses what would be fetched twice: unique-ids that Dovecot has saved
// apart (pop3_save_uidl), and that are not what follows from the numbers.
func (o *spool) sameIDs(folder *maildir.Folder, lose bool) error {
	differ := 0
	for _, m := range folder.Messages {
		if m.UniqueID != "" && m.UniqueID != fmt.Sprintf("%08x%08x", m.UID, folder.UIDValidity) {
			differ++
		}
	}
	if differ > 0 && !lose {
		return fmt.Errorf("Dovecot has saved other unique-ids for %d of %d messages, which cannot be kept; --lose-saved-ids imports them all the same, and clients fetch those again",
			differ, len(folder.Messages))
	}
	return nil
}

func (o *spool) bring(ctx context.Context, user string, folder *maildir.Folder) error {
	bar := progress(len(folder.Messages))
	defer bar.Finish() //nolint:errcheck // nothing depends on the bar
	for i := range folder.Messages {
		if err := o.bringOne(ctx, user, &folder.Messages[i]); err != nil {
			return fmt.Errorf("%d of %d messages came over; %s: %w", i, len(folder.Messages), folder.Messages[i].Path, err)
		}
		_ = bar.Add(1)
	}
	if folder.Next == 0 {
		return nil
	}
	return o.store.ReserveUIDs(ctx, user, folder.Next)
}

func (o *spool) bringOne(ctx context.Context, user string, m *maildir.Message) (err error) {
	f, err := os.Open(m.Path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return o.store.AppendForeign(ctx, user, f, cyrus.Foreign{UID: m.UID, Arrived: m.Arrived, Flags: spoolFlags(m.Flags)})
}

func spoolFlags(f maildir.Flags) (flags cyrus.Flags) {
	for _, each := range []struct {
		set  bool
		flag cyrus.Flags
	}{
		{f.Seen, cyrus.FlagSeen}, {f.Answered, cyrus.FlagAnswered}, {f.Flagged, cyrus.FlagFlagged}, {f.Draft, cyrus.FlagDraft},
		{f.Deleted, cyrus.FlagDeleted},
	} {
		if each.set {
			flags |= each.flag
		}
	}
	return flags
}
