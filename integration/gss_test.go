//go:build integration

package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/kpopd/kpopd/integration"
)

// gssEnctypes are the four enctypes that are accepted, as session keys.
var gssEnctypes = []string{
	"aes128-cts-hmac-sha1-96", "aes256-cts-hmac-sha1-96", "aes128-cts-hmac-sha256-128", "aes256-cts-hmac-sha384-192",
}

// TestGSSMatrix runs testdata/gsspop.c on the GSSAPI of MIT and of Heimdal, with
// each enctype, each layer, with and without mutual authentication.
func TestGSSMatrix(t *testing.T) {
	sample := map[string]string{"1.eml": integration.SampleMail()["1-plain.eml"], "2.eml": integration.SampleMail()["2-dots.eml"],
		"3.eml": "From: a@realm.test\r\n\r\n" + strings.Repeat("A line of a message longer than many tokens.\r\n", 4000)}
	fillWith(t, "bob", sample)
	want := []string{sample["1.eml"], sample["2.eml"], sample["3.eml"]}
	programs := map[string]string{}
	for _, library := range []string{"mit", "heimdal"} {
		programs[library] = filepath.Join(t.TempDir(), library)
		flags, err := realm.Tool("").Run(t.Context(), "krb5-config."+library, "--cflags", "--libs", "gssapi")
		if err != nil {
			t.Fatal(err)
		}
		compile(t, "gsspop.c", programs[library], strings.Fields(flags)...)
	}
	for _, enctype := range gssEnctypes {
		for library, program := range programs {
			tool := toolWithEnctype(t, "bob", enctype)
			for _, mutual := range []int{1, 0} {
				run := func(name string, port, layer int, authzid string) {
					t.Run(fmt.Sprintf("%s, %s, %s, mutual %d", library, enctype, name, mutual), func(t *testing.T) {
						out, err := tool.Input(t.Context(), "STAT\r\nRETR 1\r\nRETR 2\r\nRETR 3\r\nQUIT\r\n",
							program, strconv.Itoa(port), strconv.Itoa(layer), strconv.Itoa(mutual), authzid)
						if err != nil {
							t.Fatal(err)
						}
						same(t, messagesIn(out), want)
					})
				}
				run("none", realm.Ports.POP3, 1, "bob")
				run("integrity", realm.Ports.POP3, 2, "bob")
				run("confidentiality", realm.Ports.POP3, 4, "bob")
				run("SPNEGO", negotiate, 4, "-")
			}
			out, err := tool.Run(t.Context(), "klist", "-e")
			if err != nil || !strings.Contains(out, "(skey, tkt): "+enctype+",") {
				t.Errorf("%s: the session key is not %s: %v %s", library, enctype, err, out)
			}
		}
	}
}

// toolWithEnctype gives user's tools whose tickets have session keys of that
// enctype, by a krb5.conf of their own.
func toolWithEnctype(t *testing.T, user, enctype string) integration.Tool {
	t.Helper()
	b, err := os.ReadFile(realm.Path("krb5.conf"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, "krb5.conf")
	lines := ""
	for _, key := range []string{"default_tkt_enctypes", "default_tgs_enctypes", "default_etypes"} { // the last is Heimdal's
		lines += "  " + key + " = " + enctype + "\n"
	}
	write(t, conf, strings.Replace(string(b), "[libdefaults]\n", "[libdefaults]\n"+lines, 1))
	tool := realm.Tool(filepath.Join(dir, "cc"))
	tool.Env = append(tool.Env, "KRB5_CONFIG="+conf)
	if _, err := tool.Run(t.Context(), "kinit", "-k", "-t", realm.Path(user+".keytab"), user); err != nil {
		t.Fatal(err)
	}
	return tool
}
