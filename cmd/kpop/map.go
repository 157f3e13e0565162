package main

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/cmd/assemble"
	"github.com/kpopd/kpopd/cmd/config"
	"github.com/kpopd/kpopd/krb5conf"
)

// mapCommand asks for a decision before a user meets it: which maildrop a
// principal may open, and by which steps. It fails when the answer is no.
func mapCommand() *cobra.Command {
	file, id, why := "", auth.Identity{Mechanism: "KPOP"}, false
	c := &cobra.Command{
		Use: "map PRINCIPAL", Short: "say whose maildrop a principal may open", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := config.Load(file)
			if err != nil {
				return err
			}
			d, err := assemble.Build(c, slog.New(slog.DiscardHandler))
			if err != nil {
				return err
			}
			p, err := krb5conf.ParsePrincipal(args[0], d.Profile.DefaultRealm())
			if err != nil {
				return err
			}
			id.Authcid, id.Realm = p.String(), p.Realm
			steps, account, err := d.Rules.Why(cmd.Context(), id)
			out := cmd.OutOrStdout()
			for _, s := range steps {
				if why {
					_, _ = fmt.Fprintf(out, "%s: %s\n", s.What, s.Detail)
				}
			}
			if err != nil {
				return err
			}
			return tell(out, account)
		},
	}
	f := c.Flags()
	f.StringVar(&file, "config", config.DefaultPath, "configuration file")
	f.StringVar(&id.Authzid, "user", "", "whose maildrop is asked for; default: the principal's own")
	f.BoolVar(&why, "why", false, "print every step")
	return c
}

func tell(w io.Writer, a auth.Account) error {
	text := "allowed: mailbox " + a.Mailbox
	if a.Host != "" {
		text += " on " + a.Host
	}
	if a.Acting {
		text += ", acting for another"
	}
	_, err := fmt.Fprintln(w, text)
	return err
}
