package password

import (
	"errors"
	"fmt"

	"github.com/jcmturner/gokrb5/v8/iana/errorcode"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/kdc"
)

// answers are the KDC's errors (RFC 4120 section 7.5.9) and what they are for
// the client. A user whose password has expired is told so before the password
// is looked at, so that it proves nothing.
var answers = map[int32]struct {
	meaning string
	err     error
}{
	errorcode.KDC_ERR_PREAUTH_FAILED:      {"wrong password", auth.ErrDenied},
	errorcode.KRB_AP_ERR_BAD_INTEGRITY:    {"wrong password", auth.ErrDenied},
	errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN: {"unknown principal", auth.ErrDenied},
	errorcode.KDC_ERR_CLIENT_REVOKED:      {"account is locked", auth.ErrDenied},
	errorcode.KDC_ERR_NAME_EXP:            {"account has expired", auth.ErrDenied},
	errorcode.KDC_ERR_CLIENT_NOTYET:       {"account is not valid yet", auth.ErrDenied},
	errorcode.KDC_ERR_POLICY:              {"KDC policy forbids it", auth.ErrDenied},
	errorcode.KDC_ERR_KEY_EXPIRED:         {"password has expired or must be changed", auth.ErrDenied},
	errorcode.KDC_ERR_NULL_KEY:            {"account has no password", auth.ErrDenied},
	errorcode.KDC_ERR_PREAUTH_REQUIRED:    {"user needs preauthentication that a password cannot do", auth.ErrDenied},
	errorcode.KDC_ERR_PADATA_TYPE_NOSUPP:  {"user needs preauthentication that a password cannot do", auth.ErrDenied},
	errorcode.KDC_ERR_ETYPE_NOSUPP:        {"no AES enctype in common with the KDC; our key must be made anew", auth.ErrPermanent},
	errorcode.KDC_ERR_S_PRINCIPAL_UNKNOWN: {"our own service is unknown to the KDC", auth.ErrPermanent},
	errorcode.KDC_ERR_SERVICE_EXP:         {"our own service has expired in the KDC", auth.ErrPermanent},
	errorcode.KDC_ERR_SERVICE_REVOKED:     {"our own service is locked in the KDC", auth.ErrPermanent},
	errorcode.KDC_ERR_MUST_USE_USER2USER:  {"our own service takes no tickets", auth.ErrPermanent},
	errorcode.KDC_ERR_WRONG_REALM:         {"the KDC refers to another realm", auth.ErrPermanent},
	errorcode.KRB_AP_ERR_SKEW:             {"clocks of KDC and this machine differ", auth.ErrTemporary},
	errorcode.KDC_ERR_SVC_UNAVAILABLE:     {"the KDC cannot reach its database", auth.ErrTemporary},
	errorcode.KRB_ERR_RESPONSE_TOO_BIG:    {"answer is too big for UDP, and no KDC answers by TCP", auth.ErrTemporary},
}

// meant gives what came of an exchange with the KDC its meaning for the client.
func meant(err error, refusal func(code int32) error) error {
	var said *kdc.Refusal
	switch {
	case errors.As(err, &said):
		return refusal(said.Code)
	case errors.Is(err, kdc.ErrSecret):
		return fmt.Errorf("password: wrong password, %w: %w", err, auth.ErrDenied)
	case errors.Is(err, kdc.ErrNoKDC):
		return fmt.Errorf("password: %w: %w", err, auth.ErrPermanent)
	}
	return fmt.Errorf("password: %w: %w", err, auth.ErrTemporary)
}

// clientRefusal is refusal for the AS exchange. The enctype that is not to be had there
// is the user's: a fault of the site, but to say so would tell that he exists.
func clientRefusal(code int32) error {
	if code == errorcode.KDC_ERR_ETYPE_NOSUPP {
		return fmt.Errorf("password: no AES enctype in common with the KDC; the user's key must be made anew (KDC error %d): %w", code, auth.ErrDenied)
	}
	return refusal(code)
}

// refusal tells what the KDC said apart. Its text stays out of the error: it
// came over the net.
func refusal(code int32) error {
	if a, ok := answers[code]; ok {
		return fmt.Errorf("password: %s (KDC error %d): %w", a.meaning, code, a.err)
	}
	return fmt.Errorf("password: KDC error %d: %w", code, auth.ErrTemporary)
}
