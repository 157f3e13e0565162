package gssbind_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/jcmturner/gokrb5/v8/keytab"

	"github.com/kpopd/kpopd/auth/ldapdir/gssbind"
)

// TestPanicIsTold: a fault while a ticket is got fails that bind, and is logged
// and told with its stack.
func TestPanicIsTold(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	told := 0
	b := gssbind.New(gssbind.Options{
		Keytab: func() *keytab.Keytab { panic("fell over") },
		Log:    slog.New(slog.NewTextHandler(&log, nil)),
		Panicked: func(value any, stack []byte) {
			if told++; value != "fell over" || !bytes.Contains(stack, []byte("obtain")) {
				t.Errorf("told of %v at\n%s", value, stack)
			}
		},
	})
	if err := b.Bind(t.Context(), nil, "ldap.test"); err == nil || !strings.Contains(err.Error(), "panic: fell over") || told != 1 {
		t.Errorf("%v, told %d times", err, told)
	}
	if !strings.Contains(log.String(), "level=ERROR msg=panic") || !strings.Contains(log.String(), "obtain") {
		t.Errorf("the log: %s", &log)
	}
}
