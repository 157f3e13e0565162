package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kpopd/kpopd/auth/krb5"
)

// explainCommand prints what a refusal's code means.
func explainCommand() *cobra.Command {
	all := false
	c := &cobra.Command{
		Use: "explain [KP-NNN]", Short: "say what a refused ticket's code means and what to do", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case all:
				return explainAll(c.OutOrStdout())
			case len(args) == 0:
				return fmt.Errorf("which code? The log has them as KP-1 and two digits; --all prints the table")
			}
			return explain(c.OutOrStdout(), args[0])
		},
	}
	c.Flags().BoolVar(&all, "all", false, "print the whole table as docs/kerberos-errors.md has it")
	return c
}

func explain(w io.Writer, code string) error {
	for _, e := range krb5.Refusals() {
		if strings.EqualFold(e.ID, code) {
			_, err := fmt.Fprintf(w, "%s  %s\n\nWhat it means: %s\nWhat to do:    %s\n", e.ID, e.Title, e.Meaning, e.Do)
			return err
		}
	}
	return fmt.Errorf("no code %s; kpop explain --all prints those there are", code)
}

func explainAll(w io.Writer) error {
	const head = "# Why a ticket was refused\n\nEach refusal has a code in the log that does not change between releases.\n" +
		"`kpop explain KP-104` prints one of these; `kpop explain --all` made this page.\n\n" +
		"| code | KRB-ERROR | what happened | what it means | what to do |\n|---|---|---|---|---|\n"
	if _, err := io.WriteString(w, head); err != nil {
		return err
	}
	cell := strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;")
	for _, e := range krb5.Refusals() {
		number := "-"
		if e.Code != 0 {
			number = fmt.Sprint(e.Code)
		}
		if _, err := fmt.Fprintf(w, "| %s | %s | %s | %s | %s |\n", e.ID, number, cell.Replace(e.Title), cell.Replace(e.Meaning), cell.Replace(e.Do)); err != nil {
			return err
		}
	}
	return nil
}
