package rules_test

import (
	"testing"

	"github.com/kpopd/kpopd/auth"
)

// BenchmarkLookup is a principal who opens its own maildrop by auth_to_local.
func BenchmarkLookup(b *testing.B) {
	r := realm()
	id := auth.Identity{Mechanism: "GSSAPI", Authcid: "alice@REALM.TEST", Realm: "REALM.TEST"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Lookup(b.Context(), id); err != nil {
			b.Fatal(err)
		}
	}
}
