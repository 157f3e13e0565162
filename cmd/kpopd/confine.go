package main

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kpopd/kpopd/cmd/confine"
)

// confine takes every file from the process but its own. It comes last: what is
// opened stays open.
func (d *daemon) confine() error {
	wish := d.Config.Sandbox.Landlock
	if wish == "off" {
		return nil
	}
	read, write := d.Files()
	system := confine.System()
	files := confine.Files{Read: append(read, d.file), WriteTrees: append(write, d.socketDirs()...)}
	dial := confine.KeepNameservers("/etc/resolv.conf")
	fixed, err := confine.Landlock(files.And(system))
	if errors.Is(err, confine.ErrNoLandlock) && wish == "auto" {
		d.Log.Warn("not confined", "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	// libc's resolver would load modules, which is over.
	net.DefaultResolver.PreferGo, net.DefaultResolver.Dial = true, dial
	for _, dir := range absent(files.WriteTrees) {
		d.Log.Warn("a directory is not there; restart kpopd when it is", "path", dir)
	}
	fixed = slices.DeleteFunc(fixed, func(path string) bool { return slices.Contains(system.Read, path) })
	d.Log.Info("confined by Landlock", "cannot_be_replaced", fixed)
	return nil
}

// socketDirs are where files are made or removed besides the spool.
func (d *daemon) socketDirs() []string {
	var dirs []string
	for _, path := range []string{d.Config.ControlSocket(), d.Config.Control.Pprof, d.Config.Log.Audit, d.Config.LMTP.Listen} {
		if filepath.IsAbs(path) {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	return dirs
}

// absent are the trees that are not there, nor below one that is: a confined process
// cannot use them when they are made.
func absent(trees []string) []string {
	var there, missing []string
	for _, dir := range trees {
		if _, err := os.Stat(dir); err != nil {
			missing = append(missing, dir)
		} else {
			there = append(there, dir+"/")
		}
	}
	return slices.DeleteFunc(missing, func(dir string) bool {
		return slices.ContainsFunc(there, func(tree string) bool { return strings.HasPrefix(dir, tree) })
	})
}

func isPermission(err error) bool { return errors.Is(err, fs.ErrPermission) }
