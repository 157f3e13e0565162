package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kpopd/kpopd/mailstore/cyrus"
)

// What kpop spool check exits with.
const (
	exitFaults     = 1
	exitUnexamined = 2
)

// A report is what check has found in one maildrop.
type report struct {
	Login  string             `json:"login"`
	Faults []cyrus.FaultError `json:"faults"`
	Error  string             `json:"error,omitempty"` // why it could not be examined
}

func (o *spool) check() *cobra.Command {
	return o.jsonFlag(&cobra.Command{
		Use: "check [USER...]", Short: "recompute all that maildrops say of themselves and tell every fault",
		Long: `Recompute every CRC, counter, GUID, quota and cross-reference of the maildrops
named, or of all, and say each fault with its file and offset. When all are
examined, so is the list of them: that its records agree, and that there is no
mailbox's directory that it does not know. Nothing is changed; a maildrop is
locked for reading while it is examined.

Exit status: 0 when nothing is wrong, 1 when there are faults, 2 when a maildrop
could not be examined. Cyrus's "reconstruct" mends what this finds.`,
		RunE: o.run(func(cmd *cobra.Command, args []string) error {
			names, err := o.named(cmd, args)
			if err != nil {
				return &exitError{exitUnexamined, err}
			}
			all, err := o.examineList(cmd, args)
			if err != nil {
				return &exitError{exitUnexamined, err}
			}
			for _, name := range names {
				all = append(all, o.examine(cmd, name))
			}
			return printReports(cmd.OutOrStdout(), all, len(names), o.json)
		}),
	})
}

// examineList examines the list of mailboxes when all are to be examined.
func (o *spool) examineList(cmd *cobra.Command, args []string) ([]report, error) {
	if len(args) > 0 {
		return []report{}, nil
	}
	faults, err := o.store.CheckList(cmd.Context())
	if err != nil || len(faults) == 0 {
		return []report{}, err
	}
	return []report{{Login: "(the list of mailboxes)", Faults: faults}}, nil
}

func (o *spool) examine(cmd *cobra.Command, name string) report {
	r := report{Login: name, Faults: []cyrus.FaultError{}}
	faults, err := o.store.Check(cmd.Context(), name)
	if err != nil && !o.gone(cmd, name, err) {
		r.Error = strings.TrimPrefix(err.Error(), "cyrus: ")
		return r
	}
	r.Faults = append(r.Faults, faults...)
	return r
}

// printReports prints what was found, and gives the exit status as an error.
func printReports(w io.Writer, all []report, maildrops int, asJSON bool) error {
	faults, unexamined := 0, 0
	for _, r := range all {
		faults += len(r.Faults)
		if r.Error != "" {
			unexamined++
		}
		for i := range r.Faults {
			if !asJSON {
				fmt.Fprintf(w, "%s: %s\n", r.Login, strings.TrimPrefix(r.Faults[i].Error(), "cyrus: "))
			}
		}
		if r.Error != "" && !asJSON {
			fmt.Fprintf(w, "%s: cannot be examined: %s\n", r.Login, r.Error)
		}
	}
	var err error
	if asJSON {
		err = printJSON(w, all)
	} else {
		_, err = fmt.Fprintf(w, "%d maildrops, %d faults\n", maildrops, faults)
	}
	switch {
	case err != nil:
		return err
	case unexamined > 0:
		return &exitError{exitUnexamined, fmt.Errorf("%d maildrops could not be examined", unexamined)}
	case faults > 0:
		return &exitError{exitFaults, errors.New("there are faults")}
	}
	return nil
}
