package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/kpopd/kpopd/cmd/assemble"
	"github.com/kpopd/kpopd/cmd/config"
	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus"
)

// spoolCommand is the group of what an operator does with maildrops on disk.
func spoolCommand() *cobra.Command {
	o := &spool{}
	c := &cobra.Command{
		Use: "spool", Short: "look at and look after the maildrops on disk",
		Long: `Work on the spool's files, beside running daemons: every command takes Cyrus's
locks for as long as it reads or writes one mailbox. Run it as the spool's
owner, cyrus on Debian.

A maildrop is named as its user logs in: alice, alice@example.org with
virtdomains, and a folder of hers alice+folder.`,
	}
	c.PersistentFlags().StringVar(&o.file, "config", config.DefaultPath, "configuration file")
	c.AddCommand(o.create(), o.list(), o.show(), o.check(), o.expire(), o.undelete(), o.quota(), o.importMail())
	return c
}

// A spool is one run of a command of the group.
type spool struct {
	file   string
	json   bool
	listed bool // all maildrops are worked on, in the order of the list
	config *config.Config
	store  *cyrus.Store
}

// run opens the spool around a command's work.
func (o *spool) run(do func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := config.Load(o.file)
		if err != nil {
			return err
		}
		log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
		if o.store, err = assemble.OpenSpool(c, log); err != nil {
			return err
		}
		defer o.store.Close() //nolint:errcheck // it holds no session
		o.config = c
		return do(cmd, args)
	}
}

// changing is run for a command that writes. What root writes belongs to root,
// and Cyrus's and kpopd's own processes could not use it.
func (o *spool) changing(do func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return o.run(func(cmd *cobra.Command, args []string) error {
		if err := ownSpool(o.store.Directory()); err != nil {
			return err
		}
		return do(cmd, args)
	})
}

func ownSpool(directory string) error {
	info, err := os.Stat(directory)
	if err != nil {
		return fmt.Errorf("configdirectory: %w; make it, owned by the user that kpopd runs as", err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if ok && os.Geteuid() == 0 && owner.Uid != 0 {
		return fmt.Errorf("%s belongs to uid %d; run this as that user: setpriv --reuid %d --regid %d --init-groups kpop ...",
			directory, owner.Uid, owner.Uid, owner.Gid)
	}
	return nil
}

// named are the maildrops that were named, or all.
func (o *spool) named(cmd *cobra.Command, args []string) ([]string, error) {
	if len(args) > 0 {
		return args, nil
	}
	o.listed = true
	return o.store.Mailboxes(cmd.Context())
}

// gone tells whether what is wrong with a maildrop is that it was dropped or
// renamed after the list had been read, which is nobody's fault.
func (o *spool) gone(cmd *cobra.Command, name string, err error) bool {
	if !o.listed || !errors.Is(err, mailstore.ErrUnknown) {
		return false
	}
	names, err := o.store.Mailboxes(cmd.Context())
	return err == nil && !slices.Contains(names, name)
}

func (o *spool) jsonFlag(c *cobra.Command) *cobra.Command {
	c.Flags().BoolVar(&o.json, "json", false, "print JSON")
	return c
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// moment is a time for people; nothing for none.
func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

// A span is a flag with a time span: what Go reads, and days as 7d.
type span time.Duration

func (s *span) String() string {
	d := time.Duration(*s)
	if day := 24 * time.Hour; d > 0 && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	return d.String()
}

func (s *span) Type() string { return "span" }

func (s *span) Set(text string) error {
	if days, isDays := strings.CutSuffix(text, "d"); isDays {
		n, err := strconv.ParseUint(days, 10, 32)
		if err != nil || n > 36500 {
			return errors.New("not a number of days")
		}
		*s = span(time.Duration(n) * 24 * time.Hour)
		return nil
	}
	d, err := time.ParseDuration(text)
	if err == nil && d < 0 {
		err = errors.New("negative")
	}
	*s = span(d)
	return err
}

// A limit is a flag with a number of something, or none. Octets take the units
// K, M, G and T, of 1024 each.
type limit struct {
	value  int64 // negative: none
	octets bool
}

func (l *limit) String() string {
	if l.value < 0 {
		return "none"
	}
	return strconv.FormatInt(l.value, 10)
}

func (l *limit) Type() string { return "number" }

func (l *limit) Set(text string) error {
	if text == "none" {
		l.value = -1
		return nil
	}
	unit := int64(1)
	for i, letter := range []string{"K", "M", "G", "T"} {
		if number, found := strings.CutSuffix(text, letter); found && l.octets {
			text, unit = number, 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return errors.New(`a number is wanted, such as 500M, or "none"`)
	}
	l.value = n * unit
	return nil
}
