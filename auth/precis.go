package auth

import (
	"fmt"
	"unicode/utf8"

	"golang.org/x/text/secure/precis"
)

// PrepareName is a user name in the form in which names are compared: RFC 8265
// section 3.4, which keeps case. It is what SASLprep was for (RFC 4013). An
// ASCII name stays as it is. Errors wrap ErrName.
func PrepareName(name string) (string, error) {
	if isASCII(name) {
		return name, nil
	}
	prepared, err := precis.UsernameCasePreserved.String(name)
	if err != nil {
		return "", fmt.Errorf("%w: %.64q: %w", ErrName, name, err)
	}
	return prepared, nil
}

// PreparePassword is the same for a password: RFC 8265 section 4.2. Errors wrap
// ErrDenied and do not tell the password.
func PreparePassword(password string) (string, error) {
	if isASCII(password) {
		return password, nil
	}
	prepared, err := precis.OpaqueString.String(password)
	if err != nil {
		return "", fmt.Errorf("auth: a password that nobody has (RFC 8265 section 4.2): %w", ErrDenied)
	}
	return prepared, nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
