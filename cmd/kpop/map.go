package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/cmd/assemble"
	"github.com/kpopd/kpopd/cmd/config"
	"github.com/kpopd/kpopd/krb5conf"
)

// undecided is the exit status when nobody could be asked: 0 is allowed, 1 is
// not allowed, or any other fault.
const undecided = 2

// exitStatus tells a no from the want of an answer.
func exitStatus(err error) int {
	if errors.Is(err, auth.ErrTemporary) || errors.Is(err, auth.ErrPermanent) {
		return undecided
	}
	return 1
}

// mapCommand asks for a decision before a user meets it: which maildrop a
// principal may open, and by which steps. It fails when the answer is no.
func mapCommand() *cobra.Command {
	file, protocol, id, why := "", "", auth.Identity{}, false
	c := &cobra.Command{
		Use: "map PRINCIPAL", Short: "say whose maildrop a principal may open", Args: cobra.ExactArgs(1),
		Long: "Says whose maildrop a principal may open, and with --why by which steps: each rule tried,\n" +
			"each filter sent with its values, the entry found, its attributes, and the decision.\n" +
			"The exit status is 0 when allowed, 1 when not, 2 when the directory could not be asked.",
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
			if id.Mechanism, err = mechanismOf(protocol); err != nil {
				return err
			}
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
	f.StringVar(&protocol, "protocol", "kpop", "kpop or pop3: an entry may allow one of them only")
	f.BoolVar(&why, "why", false, "print every step")
	return c
}

func mechanismOf(protocol string) (string, error) {
	switch protocol {
	case "kpop":
		return "KPOP", nil
	case "pop3":
		return "GSSAPI", nil
	}
	return "", fmt.Errorf("--protocol %q is neither kpop nor pop3", protocol)
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
