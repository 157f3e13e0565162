// Command fuzz gives each fuzz target of the module some CPU time, for `make fuzz`,
// and ends with a table. It fails when a target did.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/kpopd/kpopd/integration/fuzzing"
	"github.com/kpopd/kpopd/integration/page"
)

const module = "github.com/kpopd/kpopd"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	campaign, only, document := fuzzing.Campaign{Module: module}, "", ""
	c := &cobra.Command{Use: "fuzz", Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true, RunE: func(c *cobra.Command, _ []string) error {
		var err error
		if campaign.Only, err = regexp.Compile(only); err != nil {
			return err
		}
		if only != "" {
			document = "" // a part does not stand for the whole
		}
		return play(c.Context(), &campaign, document)
	}}
	f := c.Flags()
	f.DurationVar(&campaign.Each, "time", 10*time.Minute, "CPU time for each target")
	f.IntVar(&campaign.Workers, "workers", runtime.NumCPU(), "processes at a time")
	f.StringVar(&campaign.Dir, "dir", filepath.Join("bin", "fuzz"), "where the inputs found are kept")
	f.StringVar(&only, "only", "", "a pattern of `PACKAGE TARGET`")
	f.StringVar(&document, "document", "", "the document that gets the table of a whole run")
	if err := c.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(1)
	}
}

// play runs the campaign. An interrupt ends it with the table of what was done.
func play(ctx context.Context, c *fuzzing.Campaign, document string) error {
	var err error
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil { //nolint:gosec // G301: programs and inputs, for everybody to read
		return err
	}
	targets, err := c.Targets(ctx)
	if err != nil {
		return err
	}
	began, failed := time.Now(), 0
	var results []fuzzing.Result
	for n, t := range targets {
		fmt.Printf("%d of %d: %s %s ", n+1, len(targets), t.Package, t.Name)
		r, err := c.Run(ctx, t)
		if ctx.Err() != nil {
			fmt.Println("interrupted after", r.Inputs, "inputs")
			results = append(results, r)
			document = "" // nor does this part
			break
		}
		if err != nil {
			return err
		}
		fmt.Println(r.Inputs, "inputs")
		if r.Fault != "" {
			failed++
			fmt.Println(r.Fault)
		}
		results = append(results, r)
	}
	table := fmt.Sprintf("Run of %s, %s of CPU time for each target:\n\n%s", began.UTC().Format(time.DateOnly), c.Each, fuzzing.Table(results))
	fmt.Print("\n", table)
	if document != "" {
		if err := page.Insert(document, "fuzz", table); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d targets failed; their inputs are in testdata/fuzz", failed)
	}
	return nil
}
