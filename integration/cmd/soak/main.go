// Command soak holds a large crowd against a realm of its own, for `make soak`,
// and prints what was seen. It fails when a bound was passed.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/integration/soak"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	crowd := soak.Crowd{}
	c := &cobra.Command{Use: "soak", Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true, RunE: func(c *cobra.Command, _ []string) error {
		return hold(c.Context(), crowd)
	}}
	f := c.Flags()
	f.IntVar(&crowd.Idle, "idle", 10_000, "authenticated sessions at rest")
	f.IntVar(&crowd.Readers, "readers", 1000, "slow readers")
	f.IntVar(&crowd.Writers, "writers", 1000, "slow writers before login")
	f.IntVar(&crowd.Bad, "bad", 20, "clients with bad tickets, from one address")
	f.IntVar(&crowd.Good, "good", 20, "clients with good tickets, from others")
	f.DurationVar(&crowd.For, "for", 10*time.Minute, "how long")
	f.DurationVar(&crowd.P99, "p99", time.Second, "bound of the good sessions' p99")
	f.IntVar(&crowd.Memory, "memory", 512, "bound of the daemon's resident set in MiB")
	if err := c.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

func hold(ctx context.Context, crowd soak.Crowd) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "kpopd-soak")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	r, err := integration.Up(ctx, dir, integration.Options{Kpopd: filepath.Join(filepath.Dir(self), "kpopd")})
	if err != nil {
		return err
	}
	defer r.Down() //nolint:errcheck // the report is what counts
	fmt.Println("making the accounts")
	if err := soak.Prepare(ctx, r, crowd); err != nil {
		return err
	}
	report, err := soak.Run(ctx, r, crowd, os.Stdout)
	if err != nil {
		return err
	}
	fmt.Print(report.Table())
	for _, failure := range report.Failures {
		fmt.Println(failure)
	}
	if len(report.Failures) > 0 {
		return fmt.Errorf("%d failures", len(report.Failures))
	}
	return nil
}
