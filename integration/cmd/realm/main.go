// Command realm brings up a private Kerberos realm with a kpopd in it, for
// `make realm`, `make demo` and the programs that they leave in the directory.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/kpopd/kpopd/integration"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "realm:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use: "realm", Short: "A private Kerberos realm with a kpopd in it",
		SilenceUsage: true, SilenceErrors: true,
	}
	root.AddCommand(upCommand(), downCommand(), restartCommand(), fillCommand(), appendCommand(), expungeCommand(), demoCommand(), storeCommand())
	return root
}

// dirFlag adds the flag that every command has.
func dirFlag(c *cobra.Command) *string {
	dir := c.Flags().String("dir", "", "the realm's directory")
	_ = c.MarkFlagRequired("dir") // fails for a flag that is not there only
	return dir
}

func upCommand() *cobra.Command {
	c := &cobra.Command{Use: "up", Short: "Make a realm and start it", Args: cobra.NoArgs}
	dir := dirFlag(c)
	kpopd := c.Flags().String("kpopd", "bin/kpopd", "the daemon's program")
	spool := c.Flags().String("spool", "embedded", "embedded, or cyrus for a Cyrus master over the same spool")
	c.RunE = func(c *cobra.Command, _ []string) error {
		o, err := options(*kpopd, *spool)
		if err != nil {
			return err
		}
		o.Out = c.OutOrStdout()
		r, err := integration.Up(c.Context(), *dir, o)
		if err != nil {
			return err
		}
		c.Printf("The realm is up. In a shell: . %s\n", r.Path("env"))
		return nil
	}
	return c
}

// options fills in where our own programs are.
func options(kpopd, spool string) (integration.Options, error) {
	if spool != "embedded" && spool != "cyrus" {
		return integration.Options{}, fmt.Errorf("--spool is %q; it can be embedded or cyrus", spool)
	}
	daemon, err := filepath.Abs(kpopd)
	if err != nil {
		return integration.Options{}, err
	}
	tool, err := os.Executable()
	return integration.Options{Kpopd: daemon, Tool: tool, WellKnown: true, Cyrus: spool == "cyrus"}, err
}

func downCommand() *cobra.Command {
	c := &cobra.Command{Use: "down", Short: "Stop a realm", Args: cobra.NoArgs}
	dir := dirFlag(c)
	c.RunE = func(*cobra.Command, []string) error { return integration.End(*dir) }
	return c
}

func restartCommand() *cobra.Command {
	c := &cobra.Command{Use: "restart", Short: "Stop kpopd and start it again", Args: cobra.NoArgs}
	dir := dirFlag(c)
	c.RunE = func(*cobra.Command, []string) error {
		r, err := integration.Open(*dir)
		if err != nil {
			return err
		}
		return r.Restart()
	}
	return c
}

func fillCommand() *cobra.Command {
	c := &cobra.Command{Use: "fill USER FOLDER", Short: "Make a maildrop exactly a folder's *.eml files", Args: cobra.ExactArgs(2)}
	dir := dirFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		r, err := integration.Open(*dir)
		if err != nil {
			return err
		}
		return r.Fill(c.Context(), args[0], args[1])
	}
	return c
}

func appendCommand() *cobra.Command {
	c := &cobra.Command{Use: "append USER FOLDER", Short: "Deliver a folder's *.eml files", Args: cobra.ExactArgs(2)}
	dir := dirFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		r, err := integration.Open(*dir)
		if err != nil {
			return err
		}
		return r.Append(c.Context(), args[0], args[1])
	}
	return c
}

func expungeCommand() *cobra.Command {
	c := &cobra.Command{Use: "expunge USER NUMBER...", Short: "Remove messages by another way than POP", Args: cobra.MinimumNArgs(2)}
	dir := dirFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		r, err := integration.Open(*dir)
		if err != nil {
			return err
		}
		numbers, err := parseNumbers(args[1:])
		if err != nil {
			return err
		}
		return r.Expunge(c.Context(), args[0], numbers...)
	}
	return c
}

func parseNumbers(args []string) ([]int, error) {
	numbers := make([]int, len(args))
	for i, a := range args {
		n, err := strconv.Atoi(a)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is no message-number", a)
		}
		numbers[i] = n
	}
	return numbers, nil
}
