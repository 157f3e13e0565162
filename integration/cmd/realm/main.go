// Command realm brings up a private Kerberos realm with kpopd, for `make realm`
// and `make demo`.
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
	defer stop()
	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "realm:", err)
		os.Exit(1)
	}
}

func root() *cobra.Command {
	c := &cobra.Command{Use: "realm", Short: "a private Kerberos realm with kpopd", SilenceUsage: true, SilenceErrors: true}
	c.AddCommand(up(), demo(), on("down", 0, func(_ context.Context, r *integration.Realm, _ []string) error { return r.Down() }),
		on("restart", 0, func(_ context.Context, r *integration.Realm, _ []string) error { return r.Restart() }),
		on("fill", 2, func(ctx context.Context, r *integration.Realm, a []string) error { return r.Fill(ctx, a[0], a[1]) }),
		on("append", 2, func(ctx context.Context, r *integration.Realm, a []string) error { return r.Append(ctx, a[0], a[1]) }),
		addUser(), expunge(), change())
	return c
}

// on makes a subcommand that works on the realm of its first argument.
func on(name string, args int, do func(context.Context, *integration.Realm, []string) error) *cobra.Command {
	return &cobra.Command{Use: name + " DIR", Args: cobra.ExactArgs(args + 1), RunE: func(c *cobra.Command, a []string) error {
		r, err := integration.Open(a[0])
		if err != nil {
			return err
		}
		return do(c.Context(), r, a[1:])
	}}
}

func addUser() *cobra.Command {
	c := on("adduser", 0, func(ctx context.Context, r *integration.Realm, users []string) error { return r.AddUser(ctx, users...) })
	c.Use, c.Args = "adduser DIR NAME...", cobra.MinimumNArgs(2)
	return c
}

func expunge() *cobra.Command {
	c := on("expunge", 0, func(ctx context.Context, r *integration.Realm, a []string) error {
		numbers, err := parseNumbers(a[1:])
		if err != nil {
			return err
		}
		return r.Expunge(ctx, a[0], numbers...)
	})
	c.Use, c.Args = "expunge DIR USER NUMBER...", cobra.MinimumNArgs(3)
	return c
}

// change is what the harness runs as the spool's owner.
func change() *cobra.Command {
	return &cobra.Command{Use: "change IMAPD.CONF DO USER [NUMBER...]", Hidden: true, Args: cobra.MinimumNArgs(3), RunE: func(c *cobra.Command, a []string) error {
		numbers, err := parseNumbers(a[3:])
		if err != nil {
			return err
		}
		return integration.ChangeSpool(c.Context(), a[0], integration.SpoolChange{Do: a[1], User: a[2], Numbers: numbers, Archive: os.Stdin})
	}}
}

func parseNumbers(texts []string) ([]int, error) {
	numbers := make([]int, 0, len(texts))
	for _, text := range texts {
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, err
		}
		numbers = append(numbers, n)
	}
	return numbers, nil
}

// programs gives kpopd beside this program, and this program itself.
func programs() (kpopd, self string, err error) {
	self, err = os.Executable()
	return filepath.Join(filepath.Dir(self), "kpopd"), self, err
}

func up() *cobra.Command {
	spool := ""
	c := &cobra.Command{Use: "up DIR", Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, a []string) error {
		kpopd, self, err := programs()
		if err != nil {
			return err
		}
		r, err := integration.Up(c.Context(), a[0], integration.Options{Kpopd: kpopd, Tool: self, WellKnown: true, Spool: spool})
		if err != nil {
			return err
		}
		fmt.Printf("realm %s is up in %s: KPOP %d, POP3 %d, POP3S %d\n. %s\n", integration.RealmName, r.Dir, r.Ports.KPOP, r.Ports.POP3, r.Ports.POP3S, r.Path("env"))
		return nil
	}}
	c.Flags().StringVar(&spool, "spool", "", "cyrus: a Cyrus master over the same spool; empty: none")
	return c
}

func demo() *cobra.Command {
	once := false
	c := &cobra.Command{Use: "demo DIR", Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, a []string) error {
		kpopd, self, err := programs()
		if err != nil {
			return err
		}
		d := integration.Demo{Dir: a[0], Options: integration.Options{Kpopd: kpopd, Tool: self, WellKnown: true}, Once: once, Out: os.Stdout}
		return d.Run(c.Context())
	}}
	c.Flags().BoolVar(&once, "once", false, "end when every step held")
	return c
}
