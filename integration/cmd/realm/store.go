package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/kpopd/kpopd/integration/spool"
)

// storeCommand is what the other commands run as the spool's owner: it changes
// maildrops and nothing else of the realm.
func storeCommand() *cobra.Command {
	c := &cobra.Command{Use: "store", Short: "Change the maildrops of a spool", Hidden: true}
	conf := c.PersistentFlags().String("imapd-conf", "", "the spool's imapd.conf")
	_ = c.MarkPersistentFlagRequired("imapd-conf") // fails for a flag that is not there only
	with := func(do func(context.Context, *spool.Spool, []string) error) func(*cobra.Command, []string) error {
		return func(c *cobra.Command, args []string) error {
			s, err := spool.Open(*conf)
			if err != nil {
				return err
			}
			return errors.Join(do(c.Context(), s, args), s.Close())
		}
	}
	create := &cobra.Command{Use: "create USER...", Args: cobra.MinimumNArgs(1)}
	create.RunE = with(func(ctx context.Context, s *spool.Spool, users []string) error { return s.Create(ctx, users...) })
	fill := &cobra.Command{Use: "fill USER < TAR", Args: cobra.ExactArgs(1)}
	fill.RunE = with(func(ctx context.Context, s *spool.Spool, args []string) error {
		return s.Fill(ctx, args[0], fill.InOrStdin())
	})
	deliver := &cobra.Command{Use: "append USER < TAR", Args: cobra.ExactArgs(1)}
	deliver.RunE = with(func(ctx context.Context, s *spool.Spool, args []string) error {
		return s.Append(ctx, args[0], deliver.InOrStdin())
	})
	expunge := &cobra.Command{Use: "expunge USER NUMBER...", Args: cobra.MinimumNArgs(2)}
	expunge.RunE = with(func(ctx context.Context, s *spool.Spool, args []string) error {
		numbers, err := parseNumbers(args[1:])
		if err != nil {
			return err
		}
		return s.Expunge(ctx, args[0], numbers...)
	})
	c.AddCommand(create, fill, deliver, expunge)
	return c
}
