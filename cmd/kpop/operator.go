package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kpopd/kpopd/cmd/config"
	"github.com/kpopd/kpopd/cmd/control"
	"github.com/kpopd/kpopd/cmd/logs"
)

// operatorCommands speak to the running kpopd over its control socket.
func operatorCommands() []*cobra.Command {
	return []*cobra.Command{whoCommand(), kickCommand(), statsCommand(), reloadCommand(), traceCommand(), readyCommand()}
}

// A line is what all of them have in common: where kpopd listens, and how its
// answer is printed.
type line struct {
	config, socket string
	json           bool
}

func (l *line) flags(c *cobra.Command) *cobra.Command {
	c.Flags().StringVar(&l.config, "config", config.DefaultPath, "kpopd's configuration, which names the socket")
	c.Flags().StringVar(&l.socket, "socket", "", "the control socket; default: the configuration's")
	c.Flags().BoolVar(&l.json, "json", false, "print JSON")
	return c
}

// ask sends r and prints the answer, as JSON or by text.
func ask[T any](cmd *cobra.Command, l *line, r control.Request, text func(io.Writer, T) error) error {
	path, fault := l.socket, error(nil)
	if path == "" {
		if path, fault = config.ControlSocket(l.config); path == "" {
			return cmp.Or(fault, fmt.Errorf("%s: control.socket is \"none\"", l.config))
		}
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Minute)
	defer cancel()
	var result T
	if err := control.Ask(ctx, path, r, &result); err != nil {
		return errors.Join(err, fault)
	}
	if l.json {
		e := json.NewEncoder(cmd.OutOrStdout())
		e.SetIndent("", "  ")
		return e.Encode(result)
	}
	return text(cmd.OutOrStdout(), result)
}

// chooser adds the flags by which sessions are chosen.
func chooser(c *cobra.Command, r *control.Request) {
	c.Flags().StringVar(&r.User, "user", "", "sessions of this user")
	c.Flags().StringVar(&r.Mailbox, "mailbox", "", "the session that holds this maildrop")
	c.Flags().StringVar(&r.Address, "address", "", "sessions from this address or prefix")
}

func whoCommand() *cobra.Command {
	l, r := &line{}, control.Request{Command: control.Who}
	c := l.flags(&cobra.Command{
		Use: "who", Short: "list the sessions and who holds which maildrop", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return ask(cmd, l, r, printSessions) },
	})
	chooser(c, &r)
	return c
}

func printSessions(w io.Writer, all []control.Session) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "SESSION\tLISTENER\tFROM\tSINCE\tIDLE\tUSER\tPRINCIPAL\tMECHANISM\tMAILDROP\tRETR\tOCTETS")
	for i := range all {
		s := &all[i]
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\n", s.ID, s.Listener, s.Remote,
			s.Since.Local().Format(time.DateTime), time.Duration(s.Idle*float64(time.Second)).Round(time.Second),
			dash(s.User), dash(s.Authcid), dash(s.Mechanism), dash(s.Holds), s.Retrieved, s.Octets)
	}
	return t.Flush()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func kickCommand() *cobra.Command {
	l, r := &line{}, control.Request{Command: control.Kick}
	c := l.flags(&cobra.Command{
		Use: "kick [SESSION]", Args: cobra.MaximumNArgs(1),
		Short: "close sessions: nothing they marked is deleted, and their maildrops are free at once",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				r.Session = args[0]
			}
			return ask(cmd, l, r, func(w io.Writer, k control.Kicked) error {
				for _, id := range k.Sessions {
					_, _ = fmt.Fprintln(w, "closed", id)
				}
				return nil
			})
		},
	})
	chooser(c, &r)
	return c
}

func statsCommand() *cobra.Command {
	l := &line{}
	return l.flags(&cobra.Command{
		Use: "stats", Short: "print what kpopd has counted since it started", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd, l, control.Request{Command: control.Stats}, func(w io.Writer, n control.Numbers) error {
				_, _ = fmt.Fprintf(w, "kpopd %s, started %s\n", n.Version, n.Started.Local().Format(time.DateTime))
				for _, name := range slices.Sorted(maps.Keys(n.Values)) {
					_, _ = fmt.Fprintf(w, "%s %g\n", name, n.Values[name])
				}
				return nil
			})
		},
	})
}

func readyCommand() *cobra.Command {
	l := &line{}
	return l.flags(&cobra.Command{
		Use: "ready", Args: cobra.NoArgs,
		Short: "say whether kpopd would serve somebody who connects now, as /readyz does: for health checks",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd, l, control.Request{Command: control.Ready}, func(w io.Writer, _ struct{}) error {
				_, err := fmt.Fprintln(w, "ready")
				return err
			})
		},
	})
}

func reloadCommand() *cobra.Command {
	l := &line{}
	return l.flags(&cobra.Command{
		Use: "reload", Args: cobra.NoArgs,
		Short: "have kpopd read its configuration, certificate, keytab and tables again; no session ends",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd, l, control.Request{Command: control.Reload}, func(w io.Writer, _ struct{}) error {
				_, err := fmt.Fprintln(w, "reloaded")
				return err
			})
		},
	})
}

func traceCommand() *cobra.Command {
	l, r := &line{}, control.Request{Command: control.Trace}
	c := l.flags(&cobra.Command{
		Use: "trace [USER|ADDRESS|PREFIX]", Args: cobra.MaximumNArgs(1),
		Short: "have the dialogues of a user or an address written to the log, without secrets and message text; or list what is traced",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				r.Target = args[0]
			}
			return ask(cmd, l, r, printTraces)
		},
	})
	c.Flags().DurationVar(&r.For, "for", 15*time.Minute, "how long; 0 ends it")
	return c
}

func printTraces(w io.Writer, all []logs.Trace) error {
	for _, t := range all {
		what := t.User
		if what == "" {
			what = t.Prefix.String()
		}
		if _, err := fmt.Fprintf(w, "%s until %s\n", what, t.Until.Local().Format(time.DateTime)); err != nil {
			return err
		}
	}
	return nil
}
