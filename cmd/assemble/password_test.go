package assemble_test

import (
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/kpopd/kpopd/auth/password"
	"github.com/kpopd/kpopd/auth/rules"
	"github.com/kpopd/kpopd/cmd/assemble"
	"github.com/kpopd/kpopd/kpop"
	"github.com/kpopd/kpopd/mailstore"
)

// TestChargeRefusal: a right password that is refused all the same costs what a wrong
// one costs, whoever refuses it.
func TestChargeRefusal(t *testing.T) {
	t.Parallel()
	remote := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}
	for name, c := range map[string]struct {
		code, authcid string
		cause         error
		want          bool
	}{
		"refused by the directory":       {"AUTH", "alice@REALM.TEST", rules.Refuse(rules.Locked, "locked"), true},
		"no maildrop":                    {"AUTH", "alice@REALM.TEST", fmt.Errorf("mailbox: %w", mailstore.ErrUnknown), true},
		"wrong, and charged by then":     {"AUTH", "", errors.New("wrong password"), false},
		"the directory is down":          {"SYS/TEMP", "alice@REALM.TEST", errors.New("down"), false},
		"somebody has the maildrop open": {"IN-USE", "alice@REALM.TEST", mailstore.ErrInUse, false},
	} {
		for _, mechanism := range []string{"USER", "PLAIN", "LOGIN", "APOP"} {
			d := &assemble.Daemon{Limiter: password.NewLimiter(password.LimiterOptions{FreeUser: 1, FreePrefix: 9})}
			d.ChargeRefusal(kpop.SessionInfo{Remote: remote, Mechanism: mechanism, Authcid: c.authcid}, c.code, c.cause)
			if wait, ok := d.Limiter.Take(remote, "alice"); !ok || (wait > 0) != c.want {
				t.Errorf("%s by %s: the next guess waits %v, %t", name, mechanism, wait, ok)
			}
		}
	}
}
