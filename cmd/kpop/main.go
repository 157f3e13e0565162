// Command kpop is the operator's tool beside the daemon kpopd.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := rootCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "kpop:", err)
		os.Exit(1)
	}
}

// rootCommand has one subcommand a file.
func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "kpop",
		Short:         "Tools for kpopd, the Kerberized POP3 server",
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(loginCommand())
	return root
}

// version is the module's as the go command recorded it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(unknown)"
	}
	return info.Main.Version
}
