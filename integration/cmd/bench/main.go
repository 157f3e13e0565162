// Command bench measures kpopd beside Cyrus and Dovecot, for `make bench` and
// `make bench-quick`.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/kpopd/kpopd/integration/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// A run is what the flags ask for.
type run struct {
	options  bench.Options
	quick    bool
	document string
	out      string
	check    string
	renew    bool
	stay     bool
	network  string
}

func command() *cobra.Command {
	r := &run{}
	c := &cobra.Command{
		Use: "bench", Short: "measure kpopd beside Cyrus and Dovecot", Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(c *cobra.Command, _ []string) error { return r.run(c.Context()) },
	}
	f := c.Flags()
	f.BoolVar(&r.quick, "quick", false, "the short form")
	f.IntVar(&r.options.Rounds, "rounds", 3, "how often each scenario is played on each server")
	f.StringVar(&r.options.Only, "only", "", "only scenarios whose names match this regular expression")
	f.BoolVar(&r.options.Peers, "peers", true, "measure Cyrus and Dovecot too; without them there are no ratios")
	f.StringVar(&r.options.Kpopd, "kpopd", "", "the daemon's program; default: kpopd beside this one")
	f.StringVar(&r.options.Before, "before", "", "another build of kpopd, measured beside this one")
	f.StringVar(&r.options.Dir, "dir", "", "where servers and mail lie during the run; default: a new one in /var/tmp")
	f.BoolVar(&r.stay, "keep", false, "leave that directory as it is, with every server's log")
	f.StringVar(&r.network, "congestion", "reno", "TCP's congestion control, in a network of the run's own; system: as it is, in the system's")
	f.StringVar(&r.out, "out", "bench", "where the reports are written")
	f.StringVar(&r.document, "document", "", "a document that takes the tables in between its marks")
	f.StringVar(&r.check, "check", "", "a file of ratios that must not have grown by more than a quarter")
	f.BoolVar(&r.renew, "renew", false, "write that file anew")
	return c
}

func (r *run) run(ctx context.Context) (err error) {
	if r.network != "system" {
		if err := bench.EnterNetwork(r.network); err != nil {
			return err
		}
	}
	o := &r.options
	o.Log, o.Size = os.Stdout, bench.Full
	if r.quick {
		o.Size = bench.Quick
	}
	if o.Kpopd == "" {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		o.Kpopd = filepath.Join(filepath.Dir(self), "kpopd")
	}
	if o.Dir == "" {
		if o.Dir, err = os.MkdirTemp("/var/tmp", "kpopd-bench"); err != nil {
			return err
		}
	}
	if !r.stay {
		// Last of all: a hundred thousand files are not gone at once.
		defer func() { err = errors.Join(err, os.RemoveAll(o.Dir)) }()
	}
	report, err := bench.Run(ctx, *o)
	if err != nil {
		return err
	}
	fmt.Println(report.Markdown())
	return r.keep(report)
}

// keep writes what was found and holds it against what is known.
func (r *run) keep(report *bench.Report) error {
	if err := report.Write(r.out, string(report.Size)); err != nil {
		return err
	}
	if r.document != "" {
		if err := report.Insert(r.document); err != nil {
			return err
		}
	}
	if r.check == "" {
		return nil
	}
	worse, err := report.Regressions(r.check, r.renew)
	if err == nil && len(worse) > 0 {
		err = errors.New("ratios have grown by more than a quarter:\n  " + strings.Join(worse, "\n  "))
	}
	return err
}
