package integration

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Messages lists a folder's *.eml files in name order.
func Messages(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder) // sorted by name
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".eml") && !e.IsDir() {
			paths = append(paths, filepath.Join(folder, e.Name()))
		}
	}
	return paths, nil
}

// Fill makes a user's maildrop exactly the folder's messages.
func (r *Realm) Fill(ctx context.Context, user, folder string) error {
	return r.stream(ctx, "fill", user, folder)
}

// Append delivers the folder's messages, as another program would while
// sessions are open.
func (r *Realm) Append(ctx context.Context, user, folder string) error {
	return r.stream(ctx, "append", user, folder)
}

// Expunge removes the messages with these numbers, counted from 1 as POP would,
// in the way IMAP does: a session that is open keeps its own numbers.
func (r *Realm) Expunge(ctx context.Context, user string, numbers ...int) error {
	args := []string{"expunge", user}
	for _, n := range numbers {
		args = append(args, strconv.Itoa(n))
	}
	return r.store(ctx, strings.NewReader(""), args...)
}

// makeSpool makes everybody's mailbox.
func (r *Realm) makeSpool(ctx context.Context) error {
	return r.store(ctx, strings.NewReader(""), append([]string{"create"}, People...)...)
}

// stream hands a folder to the store command: that one is the spool's owner and
// may not be able to read the folder itself.
func (r *Realm) stream(ctx context.Context, command, user, folder string) error {
	paths, err := Messages(folder)
	if err != nil {
		return err
	}
	if !slices.Contains(People, user) {
		return fmt.Errorf("integration: no user %q; there are %s", user, strings.Join(People, ", "))
	}
	in, out := io.Pipe()
	go func() { _ = out.CloseWithError(writeTar(out, paths)) }()
	err = r.store(ctx, in, command, user)
	_ = in.Close() // lets the writer end when the command did not read all
	return err
}

func writeTar(w io.Writer, paths []string) error {
	t := tar.NewWriter(w)
	for _, path := range paths {
		if err := addFile(t, path); err != nil {
			return err
		}
	}
	return t.Close()
}

func addFile(t *tar.Writer, path string) error {
	f, err := os.Open(path) //nolint:gosec // G304: the caller names the folder
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil {
		return err
	}
	err = t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: filepath.Base(path), Size: info.Size(), Mode: 0o600})
	if err != nil {
		return err
	}
	_, err = io.Copy(t, f)
	return err
}

// store runs the realm program's store command as the spool's owner. What it
// makes, kpopd and Cyrus must be able to open.
func (r *Realm) store(ctx context.Context, input io.Reader, args ...string) error {
	args = append([]string{"store", "--imapd-conf", r.Path("imapd.conf")}, args...)
	cmd := Tool{Dir: r.Dir}.Command(ctx, r.Path("bin/realm"), args...)
	cmd.SysProcAttr = r.owner.attributes()
	cmd.Stdin = input
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("integration: %s: %w", strings.Join(args, " "), errors.Join(err, errors.New(string(out))))
	}
	return nil
}
