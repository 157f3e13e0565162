package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kpopd/kpopd/auth/krb5"
)

// explainCommand prints what a refusal's code means.
func explainCommand() *cobra.Command {
	return &cobra.Command{
		Use: "explain KP-NNN", Short: "say what a refused ticket's code means and what to do", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			for _, e := range krb5.Refusals() {
				if strings.EqualFold(e.ID, args[0]) {
					_, err := fmt.Fprintf(c.OutOrStdout(), "%s  %s\n\nWhat it means: %s\nWhat to do:    %s\n", e.ID, e.Title, e.Meaning, e.Do)
					return err
				}
			}
			return fmt.Errorf("no code %s; the log has them as KP-1 and two digits", args[0])
		},
	}
}
