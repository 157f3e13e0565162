package ldapdir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// Simple binds as dn with the password that is the first line of a file (RFC
// 4513 section 5.1.3). The file is read at each bind, so that the password may
// change, and nobody but its owner may read it.
func Simple(dn, passwordFile string) Bind {
	return func(_ context.Context, c *ldap.Conn, _ string) error {
		password, err := readSecret(passwordFile)
		if err != nil {
			return err
		}
		// A name without a password would be an anonymous bind that says
		// "success" (RFC 4513 section 5.1.2).
		if dn == "" || password == "" {
			return errors.New("simple bind without a DN or with an empty password")
		}
		return c.Bind(dn, password)
	}
}

// CheckSecret tells why Simple cannot use a password file as it is now.
func CheckSecret(passwordFile string) error {
	_, err := readSecret(passwordFile)
	return err
}

// External binds by SASL EXTERNAL (RFC 4513 section 5.2.3): over ldapi the
// server knows our user id.
func External() Bind {
	return func(_ context.Context, c *ldap.Conn, _ string) error { return c.ExternalBind() }
}

// maxSecret bounds a password file, in octets.
const maxSecret = 4096

func readSecret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("password file: %w", err)
	}
	defer f.Close() //nolint:errcheck // read only
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("password file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("password file %s can be read by others (mode %v); chmod 600 it", path, info.Mode())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSecret))
	if err != nil {
		return "", fmt.Errorf("password file: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSuffix(line, "\r"), nil
}
