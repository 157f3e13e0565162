package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kpopd/kpopd/mailstore/cyrus"
)

func (o *spool) list() *cobra.Command {
	return o.jsonFlag(&cobra.Command{
		Use: "list", Short: "list all maildrops with what they hold", Args: cobra.NoArgs,
		RunE: o.run(func(cmd *cobra.Command, _ []string) error {
			names, err := o.named(cmd, nil)
			if err != nil {
				return err
			}
			all := make([]cyrus.Summary, 0, len(names))
			broken := 0
			for _, name := range names {
				summary, err := o.store.Summary(cmd.Context(), name)
				if o.gone(cmd, name, err) {
					continue
				}
				if err != nil {
					broken++
					fmt.Fprintf(cmd.ErrOrStderr(), "kpop: %s: %v\n", name, err)
					continue
				}
				all = append(all, summary)
			}
			if err := printSummaries(cmd.OutOrStdout(), all, o.json); err != nil || broken == 0 {
				return err
			}
			return fmt.Errorf("%d of %d maildrops cannot be read; kpop spool check says more", broken, len(names))
		}),
	})
}

func printSummaries(w io.Writer, all []cyrus.Summary, asJSON bool) error {
	if asJSON {
		return printJSON(w, all)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "MESSAGES\tOCTETS\tEXPUNGED\tARRIVED\tLAST POP LOGIN\t MAILDROP\n")
	for _, s := range all {
		fmt.Fprintf(t, "%d\t%d\t%d\t%s\t%s\t %s\n", s.Messages, s.Octets, s.Expunged, moment(s.Arrived), moment(s.LastLogin), s.Login)
	}
	return t.Flush()
}

func (o *spool) show() *cobra.Command {
	return o.jsonFlag(&cobra.Command{
		Use: "show USER", Short: "print a maildrop's header and records", Args: cobra.ExactArgs(1),
		Long: `Print what cyrus.header and cyrus.index say of a maildrop: with --json every
field under its name, times in seconds since 1970.`,
		RunE: o.run(func(cmd *cobra.Command, args []string) error {
			d, err := o.store.Dump(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(cmd.OutOrStdout(), d)
			}
			return printDump(cmd.OutOrStdout(), d)
		}),
	})
}

func printDump(w io.Writer, d *cyrus.Dump) error {
	x := &d.Index
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(t, name+"\t"+format+"\n", args...) }
	line("mailbox", "%s", d.Mailbox)
	line("uniqueid", "%s", d.UniqueID)
	line("partition", "%s, in %s", d.Partition, d.Directory)
	line("index", "version %d, generation %d, uidvalidity %d, next UID %d, modseq %d", x.Minor, x.Generation, x.UIDValidity, x.LastUID+1, x.HighestModSeq)
	line("messages", "%d of %d octets; %d unseen, %d answered, %d flagged, %d deleted", x.Exists, x.QuotaUsed, x.Unseen, x.Answered, x.Flagged, x.Deleted)
	line("expunged", "%d, the first at %s", x.Records-min(x.Exists, x.Records), epoch(x.FirstExpunged))
	line("options", "%#x", x.Options)
	line("arrived", "%s", epoch(x.LastAppend))
	line("POP login", "%s", epoch(x.LastLogin))
	line("quota root", "%s", orNone(d.Header.QuotaRoot))
	line("keywords", "%s", orNone(strings.Join(d.Header.Flags, " ")))
	for _, r := range d.ACL {
		line("access", "%s %s", r.Identifier, r.Rights)
	}
	line("header CRC", "%s", d.HeaderCRC)
	if err := t.Flush(); err != nil || len(d.Records) == 0 {
		return err
	}
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "\nUID\tOCTETS\tARRIVED\tMODSEQ\t GUID\t FLAGS\n")
	for i := range d.Records {
		r := &d.Records[i]
		fmt.Fprintf(t, "%d\t%d\t%s\t%d\t %s\t %s\n", r.UID, r.Size, epoch(r.InternalDate), r.ModSeq, r.GUID, orNone(strings.Join(r.Flags.Names(), ",")))
	}
	return t.Flush()
}

// epoch is a time of an index for people.
func epoch(seconds uint64) string {
	if seconds == 0 {
		return "-"
	}
	return moment(time.Unix(int64(seconds), 0))
}

func orNone(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
