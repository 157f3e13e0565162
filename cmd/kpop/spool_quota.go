package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/kpopd/kpopd/mailstore/cyrus"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
)

func (o *spool) create() *cobra.Command {
	octets, messages, existing := limit{-1, true}, limit{value: -1}, false
	c := &cobra.Command{
		Use: "create USER...", Short: "make maildrops", Args: cobra.MinimumNArgs(1),
		Long: `Make a maildrop for each user, as Cyrus 3.6 would make it: Cyrus can be started
on the spool later. Beside a running Cyrus its own "cyradm createmailbox" is the
better way, since it knows site policies that are not in imapd.conf.`,
		RunE: o.changing(func(cmd *cobra.Command, args []string) error {
			for _, name := range args {
				err := o.store.CreateMailbox(cmd.Context(), name)
				if existing && errors.Is(err, cyrusdb.ErrMailboxExists) {
					fmt.Fprintf(cmd.OutOrStdout(), "%s: is there already\n", name)
					continue
				}
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				if octets.value >= 0 || messages.value >= 0 {
					if err := o.store.SetQuota(cmd.Context(), name, limits(octets, messages)); err != nil {
						return fmt.Errorf("%s was made, its quota not set: %w", name, err)
					}
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: made\n", name)
			}
			return nil
		}),
	}
	c.Flags().Var(&octets, "quota", "octets each may hold, such as 500M")
	c.Flags().Var(&messages, "messages", "messages each may hold")
	c.Flags().BoolVar(&existing, "existing", false, "leave those as they are that are there already")
	return c
}

func limits(octets, messages limit) cyrus.Limits {
	l := cyrus.Limits{StorageKiB: cyrusdb.Unlimited, Messages: cyrusdb.Unlimited}
	if octets.value >= 0 {
		l.StorageKiB = (octets.value + 1023) / 1024
	}
	if messages.value >= 0 {
		l.Messages = messages.value
	}
	return l
}

func (o *spool) quota() *cobra.Command {
	octets, messages, recount := limit{-1, true}, limit{value: -1}, false
	c := &cobra.Command{
		Use: "quota USER", Short: "print, set or recount a maildrop's quota", Args: cobra.ExactArgs(1),
		Long: `Print the quota root that covers a maildrop. With --storage or --messages the
root at the maildrop itself is set, and made when there is none; a limit that is
not named stays. What is used is counted anew then, as --recount does alone.`,
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		set := cmd.Flags().Changed("storage") || cmd.Flags().Changed("messages")
		work := func(cmd *cobra.Command, args []string) error {
			if set {
				if err := o.keepOther(cmd, args[0], &octets, &messages); err != nil {
					return err
				}
				if err := o.store.SetQuota(cmd.Context(), args[0], limits(octets, messages)); err != nil {
					return err
				}
			} else if recount {
				if err := o.store.RecountQuota(cmd.Context(), args[0]); err != nil {
					return err
				}
			}
			return o.printQuota(cmd, args[0])
		}
		if set || recount {
			return o.changing(work)(cmd, args)
		}
		return o.run(work)(cmd, args)
	}
	c.Flags().Var(&octets, "storage", "octets it may hold, such as 500M, or none")
	c.Flags().Var(&messages, "messages", "messages it may hold, or none")
	c.Flags().BoolVar(&recount, "recount", false, "count what is used anew, as Cyrus's quota -f does")
	return o.jsonFlag(c)
}

// keepOther fills a limit that was not named with the one there is.
func (o *spool) keepOther(cmd *cobra.Command, name string, octets, messages *limit) error {
	_, q, err := o.store.Quota(cmd.Context(), name)
	if err != nil {
		return err
	}
	if !cmd.Flags().Changed("storage") && q.Limit[cyrusdb.QuotaStorage] > 0 {
		octets.value = q.Limit[cyrusdb.QuotaStorage] * 1024
	}
	if !cmd.Flags().Changed("messages") && q.Limit[cyrusdb.QuotaMessages] > 0 {
		messages.value = q.Limit[cyrusdb.QuotaMessages]
	}
	return nil
}

// A usage is one resource of a quota root.
type usage struct {
	Used  int64  `json:"used"`
	Limit *int64 `json:"limit"` // null: none
}

func (o *spool) printQuota(cmd *cobra.Command, name string) error {
	root, q, err := o.store.Quota(cmd.Context(), name)
	if err != nil {
		return err
	}
	of := func(r cyrusdb.Resource, unit int64) usage {
		u := usage{Used: q.Used[r]}
		if n := q.Limit[r]; n != cyrusdb.Unlimited && root != "" {
			n *= unit
			u.Limit = &n
		}
		return u
	}
	storage, messages := of(cyrusdb.QuotaStorage, 1024), of(cyrusdb.QuotaMessages, 1)
	w := cmd.OutOrStdout()
	switch {
	case o.json:
		return printJSON(w, map[string]any{"root": root, "storage": storage, "messages": messages})
	case root == "":
		_, err = fmt.Fprintf(w, "%s: no quota root\n", name)
	default:
		_, err = fmt.Fprintf(w, "%s: ", root)
		if err == nil {
			err = printUsage(w, storage, "octets, ")
		}
		if err == nil {
			err = printUsage(w, messages, "messages\n")
		}
	}
	return err
}

func printUsage(w io.Writer, u usage, what string) error {
	limit := "no limit"
	if u.Limit != nil {
		limit = strconv.FormatInt(*u.Limit, 10)
	}
	_, err := fmt.Fprintf(w, "%d of %s %s", u.Used, limit, what)
	return err
}
