// Command kpopd is a POP3 server for a Kerberos realm.
package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/kpopd/kpopd/cmd/assemble"
	"github.com/kpopd/kpopd/cmd/config"
	"github.com/kpopd/kpopd/cmd/confine"
)

// version is set by the linker.
var version = "devel"

func main() {
	relaxTimers()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "kpopd:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use: "kpopd", Short: "POP3 server for a Kerberos realm: KPOP, POP3, POP3S", Version: version,
		SilenceUsage: true, SilenceErrors: true,
	}
	root.SetVersionTemplate("kpopd {{.Version}}\n")
	root.AddCommand(
		withConfig("serve", "serve until SIGTERM; SIGHUP reads the configuration again", serve),
		withConfig("check", "say what is wrong with the configuration", func(_ context.Context, _ string, c *config.Config) error {
			if err := confine.Known(cmp.Or(c.User, "root")); err != nil {
				return err
			}
			if _, err := assemble.Build(c, assemble.NewLogger(c.Log)); err != nil {
				return err
			}
			fmt.Println("kpopd: the configuration is good")
			return nil
		}),
	)
	document(root)
	return root
}

func withConfig(name, short string, do func(ctx context.Context, file string, c *config.Config) error) *cobra.Command {
	file := ""
	c := &cobra.Command{Use: name, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		file, err := filepath.Abs(config.Find(file)) // a reload comes from anywhere
		if err != nil {
			return err
		}
		c, err := config.Load(file)
		if err != nil {
			return err
		}
		return do(cmd.Context(), file, c)
	}}
	c.Flags().StringVar(&file, "config", config.DefaultPath, "configuration file")
	return c
}
