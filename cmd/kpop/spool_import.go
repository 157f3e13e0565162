package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

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
messages, folders, flags, times of arrival, and the numbers that unique-ids are
made of.
With uidl_format = "dovecot", in [spool.options] or as the account's uid_style,
POP clients that leave their mail on the server fetch nothing twice.

Stop Dovecot first, or at least its deliveries. The Maildir is only read. As root,
with a spool of cyrus's:

  setpriv --reuid cyrus --regid mail --init-groups --inh-caps +dac_read_search \
    --ambient-caps +dac_read_search kpop spool import alice /home/alice/Maildir

Keywords do not come over. When a message cannot be taken the maildrop is left as
far as it got, and the command says where.`,
		RunE: o.changing(func(cmd *cobra.Command, args []string) error {
			all, err := o.readAll(args[0], args[1], lose)
			if errors.Is(err, fs.ErrPermission) {
				return fmt.Errorf("%w; let the spool's owner read it: setpriv --inh-caps +dac_read_search --ambient-caps +dac_read_search, with what makes you that user", err)
			}
			if err != nil {
				return err
			}
			for _, each := range all {
				if err := o.bringFolder(cmd, each); err != nil {
					return err
				}
			}
			if o.store.POP().UIDL != imapdconf.UIDLDovecot {
				_, err = fmt.Fprintln(cmd.ErrOrStderr(), `kpop: uidl_format is not "dovecot": without it clients fetch this mail again`)
			}
			return err
		}),
	}
	c.Flags().BoolVar(&lose, "lose-saved-ids", false, "import although Dovecot has saved other unique-ids for some messages")
	return c
}

// A source is a Maildir or a folder of one, and the maildrop it becomes; nil: a
// level above folders that is none itself.
type source struct {
	login string
	*maildir.Folder
}

// readAll reads a Maildir and its folders before anything is written, those above
// before those below.
func (o *spool) readAll(user, dir string, lose bool) ([]source, error) {
	inbox, err := maildir.Read(dir)
	if err != nil {
		return nil, err
	}
	names, err := maildir.Folders(dir)
	if err != nil {
		return nil, err
	}
	all, there := []source{{user, inbox}}, map[string]bool{}
	for _, name := range names {
		for i := range name {
			if above := name[:i]; name[i] == '.' && !there[above] {
				there[above] = true
				all = append(all, source{o.folderLogin(user, above), nil})
			}
		}
		folder, err := maildir.ReadFolder(filepath.Join(dir, "."+name))
		if err != nil {
			return nil, err
		}
		there[name] = true
		all = append(all, source{o.folderLogin(user, name), folder})
	}
	for _, each := range all {
		if each.Folder == nil {
			continue
		}
		if err := o.sameIDs(each.Folder, lose); err != nil {
			return nil, fmt.Errorf("%s: %w", each.login, err)
		}
	}
	return all, nil
}

// folderLogin is the login name of a folder of the user's, whose levels have dots
// between them.
func (o *spool) folderLogin(user, folder string) string {
	local, domain, found := strings.Cut(user, "@")
	local += "+" + strings.ReplaceAll(folder, ".", o.store.Names().Separator())
	if found {
		return local + "@" + domain
	}
	return local
}

// bringFolder makes one maildrop with its mail.
func (o *spool) bringFolder(cmd *cobra.Command, from source) error {
	if from.Folder == nil {
		if err := o.store.CreateMailbox(cmd.Context(), from.login); err != nil {
			return fmt.Errorf("%s: %w", from.login, err)
		}
		return nil
	}
	if err := o.store.CreateMailboxWith(cmd.Context(), from.login, from.UIDValidity); err != nil {
		return fmt.Errorf("%s: %w", from.login, err)
	}
	if err := o.bring(cmd.Context(), from.login, from.Folder); err != nil {
		return err
	}
	numbers := ""
	if from.UIDValidity != 0 {
		numbers = fmt.Sprintf(", uidvalidity %d, next UID %d", from.UIDValidity, from.Next)
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %d messages came over%s\n", from.login, len(from.Messages), numbers)
	return err
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
			return fmt.Errorf("%s: %d of %d messages came over; %s: %w", user, i, len(folder.Messages), folder.Messages[i].Path, err)
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
