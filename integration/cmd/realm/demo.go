package main

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/kpopd/kpopd/integration"
)

func demoCommand() *cobra.Command {
	c := &cobra.Command{Use: "demo", Short: "Show the main job from beginning to end", Args: cobra.NoArgs}
	dir := dirFlag(c)
	once := c.Flags().Bool("once", false, "end by itself instead of waiting for Ctrl-C")
	kpopd := c.Flags().String("kpopd", "bin/kpopd", "the daemon's program")
	kpop := c.Flags().String("kpop", "bin/kpop", "the operator's tool")
	c.RunE = func(c *cobra.Command, _ []string) error {
		o, err := options(*kpopd, "embedded")
		if err != nil {
			return err
		}
		o.Out = c.OutOrStdout()
		tool, err := filepath.Abs(*kpop)
		if err != nil {
			return err
		}
		return integration.Demo(c.Context(), *dir, tool, *once, o)
	}
	return c
}
