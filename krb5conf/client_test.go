package krb5conf_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kpopd/kpopd/krb5conf"
)

// gokrb5Breakers are the files on which gokrb5's own reader panics, errors or
// reads something else (kerberos section 3.3), and what must come out.
func TestClientReadsWhatBreaksGokrb5(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, want string }{
		{"auth_to_local_names", "[realms]\nA = {\nauth_to_local_names = {\nal = alice\n}\nkdc = h\n}\n", "A h:88"},
		{"unknown sub-block", "[realms]\nA = {\nv4_name_convert = {\nhost = {\nrcmd = host\n}\n}\nkdc = h\n}\n", "A h:88"},
		{"one-line realm", "[realms]\nA = { kdc = h }\n", "A h:88"},
		{"brace on the next line", "[realms]\nA =\n{\nkdc = h\n}\n", "A h:88"},
		{"two realms sections", "[realms]\nA = {\nkdc = h\n}\n[realms]\nB = {\nkdc = i\n}\n", "A h:88 B i:88"},
		{"bracketed v6", "[realms]\nA = {\nkdc = [2001:db8::1]\n}\n", "A [2001:db8::1]:88"},
		{"bracketed v6 with port", "[realms]\nA = {\nkdc = [2001:db8::1]:750\n}\n", "A [2001:db8::1]:750"},
		{"bare v6", "[realms]\nA = {\nkdc = 2001:db8::1\n}\n", "A [2001:db8::1]:88"},
		{"transport prefix", "[realms]\nA = {\nkdc = tcp/h:750\nkdc = udp/i\n}\n", "A h:750 i:88"},
		{"https proxy", "[realms]\nA = {\nkdc = https://proxy/KdcProxy\nkdc = h\n}\n", "A h:88"},
		{"bad ports", "[realms]\nA = {\nkdc = h:0\nkdc = h:99999\nkdc = h:x\nkdc = :88\nkdc = a:b:c\nkdc = h\n}\n", "A h:88"},
		{"order is kept", "[realms]\nA = {\nkdc = c\nkdc = a\nkdc = b\n}\n", "A c:88 a:88 b:88"},
		{"rdns off", "[libdefaults]\nrdns = off\ndns_lookup_kdc = off\n", "no-dns"},
		{"fallback", "[libdefaults]\ndns_canonicalize_hostname = fallback\n", ""},
		{"lifetimes of odd shape", "[libdefaults]\nrenew_lifetime = 0\nticket_lifetime = 1d 2h\n", ""},
		{"enctype families", "[libdefaults]\npermitted_enctypes = aes256-cts, aes128-cts\ndefault_tkt_enctypes = aes256-sha2 aes -rc4 DEFAULT\n", ""},
		{"libdefaults with a realm's block", "[libdefaults]\nA = {\nticket_lifetime = 1\n}\n", ""},
		{"domain_realm", "[domain_realm]\n.Example.Test = A\nh.test = B\n", ".example.test=A h.test=B"},
		{"other sections", "[capaths]\nA = {\nB = .\n}\n[appdefaults]\npam = {\nx = y\n}\n[logging]\nkdc = FILE:/x\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := describe(parse(t, c.text)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func describe(p *krb5conf.Profile) string {
	c := p.Client()
	var out []string
	for _, r := range c.Realms {
		out = append(out, r.Realm)
		out = append(out, r.KDC...)
	}
	for _, d := range p.Names("domain_realm") {
		out = append(out, strings.ToLower(d)+"="+c.DomainRealm[strings.ToLower(d)])
	}
	if !c.LibDefaults.DNSLookupKDC {
		out = append(out, "no-dns")
	}
	return strings.Join(out, " ")
}

func TestClientDefaults(t *testing.T) {
	t.Parallel()
	p := parse(t, "[libdefaults]\ndefault_realm = R.TEST\n[realms]\nR.TEST = {\nkdc = a\nkdc = b\n}\n")
	c := p.Client()
	l := c.LibDefaults
	got := fmt.Sprint(l.DefaultRealm, l.DefaultTktEnctypeIDs, l.DefaultTGSEnctypeIDs, l.PermittedEnctypeIDs, l.UDPPreferenceLimit, l.DNSLookupKDC, l.DNSLookupRealm, l.NoAddresses)
	if want := "R.TEST[20 19 18 17] [20 19 18 17] [20 19 18 17] 1 true false true"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// gokrb5 swaps inside the slices it is given.
	c.Realms[0].KDC[0], c.LibDefaults.DefaultTktEnctypeIDs[0] = "x", 1
	if d := cmp.Diff([]string{"a:88", "b:88"}, p.Client().Realms[0].KDC); d != "" || p.Client().LibDefaults.DefaultTktEnctypeIDs[0] != 20 {
		t.Errorf("a configuration is shared: %s", d)
	}
}

func TestUDPLimit(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]int{"1": 1, "0": 0, "1400": 1400, "": 1465, "x": 1465, "-1": 1465, "99999": 1465} {
		if got := parse(t, "[libdefaults]\nudp_preference_limit = \""+value+"\"\n").UDPLimit(); got != want {
			t.Errorf("%q gives %d, want %d", value, got, want)
		}
	}
}

func TestBool(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"y": "true", "YES": "true", "true": "true", "t": "true", "1": "true", "on": "true",
		"n": "false", "no": "false", "False": "false", "nil": "false", "0": "false", "off": "false", "fallback": "otherwise",
	} {
		p := parse(t, "[libdefaults]\nrdns = "+value+"\n")
		got := "otherwise"
		if p.Bool(true, "libdefaults", "rdns") == p.Bool(false, "libdefaults", "rdns") {
			got = fmt.Sprint(p.Bool(true, "libdefaults", "rdns"))
		}
		if got != want {
			t.Errorf("%s is %s, want %s", value, got, want)
		}
	}
}

// The files that distributions and FreeIPA install, in shape.
func TestDistributions(t *testing.T) {
	t.Parallel()
	drop := t.TempDir()
	write(t, drop, "crypto-policies", "[libdefaults]\npermitted_enctypes = aes256-cts-hmac-sha1-96 aes256-cts-hmac-sha384-192\n")
	write(t, drop, "kcm_default_ccache", "[libdefaults]\n    default_ccache_name = KCM:\n")
	write(t, drop, "sssd_enable_idp", "[plugins]\n clpreauth = {\n  module = idp:/usr/lib64/sssd/modules/sssd_krb5_idp_plugin.so\n }\n")
	for name, text := range map[string]string{
		"Debian": `[libdefaults]
	default_realm = EXAMPLE.TEST

# The following krb5.conf variables are only for MIT Kerberos.
	kdc_timesync = 1
	ccache_type = 4
	forwardable = true
	proxiable = true
        rdns = false

# The following libdefaults parameters are only for Heimdal Kerberos.
	fcc-mit-ticketflags = true

[realms]
	EXAMPLE.TEST = {
		kdc = kdc.example.test
		kdc = kdc-2.example.test:88
		admin_server = kdc.example.test
	}
	ATHENA.TEST = {
		kdc = kerberos.athena.test
		admin_server = kerberos.athena.test
		default_domain = athena.test
	}

[domain_realm]
	.example.test = EXAMPLE.TEST
`,
		"RHEL": `# To opt out of the system crypto-policies configuration of krb5, remove the
# symlink at /etc/krb5.conf.d/crypto-policies which will not be recreated.
includedir ` + drop + `/

[logging]
    default = FILE:/var/log/krb5libs.log
    kdc = FILE:/var/log/krb5kdc.log

[libdefaults]
    dns_lookup_realm = false
    dns_lookup_kdc = false
    ticket_lifetime = 24h
    renew_lifetime = 7d
    forwardable = true
    rdns = false
    pkinit_anchors = FILE:/etc/pki/tls/certs/ca-bundle.crt
    spake_preauth_groups = edwards25519
    dns_canonicalize_hostname = fallback
    qualify_shortname = ""
    default_realm = EXAMPLE.TEST
    default_ccache_name = KEYRING:persistent:%{uid}

[realms]
 EXAMPLE.TEST = {
     kdc = kdc.example.test
     kdc = kdc-2.example.test:88
     admin_server = kdc.example.test
 }

[domain_realm]
 .example.test = EXAMPLE.TEST
`,
		"FreeIPA": `#File modified by ipa-client-install

includedir ` + drop + `/
[libdefaults]
  default_realm = EXAMPLE.TEST
  dns_lookup_realm = false
  rdns = false
  dns_canonicalize_hostname = false
  dns_lookup_kdc = true
  ticket_lifetime = 24h
  forwardable = true
  udp_preference_limit = 0
  default_ccache_name = KEYRING:persistent:%{uid}

[realms]
  EXAMPLE.TEST = {
    kdc = kdc.example.test:88
    kdc = kdc-2.example.test:88
    master_kdc = kdc.example.test:88
    admin_server = kdc.example.test:749
    kpasswd_server = kdc.example.test:464
    default_domain = example.test
    pkinit_anchors = FILE:/var/lib/ipa-client/pki/kdc-ca-bundle.pem
    pkinit_pool = FILE:/var/lib/ipa-client/pki/ca-bundle.pem
    auth_to_local = RULE:[1:$1@$0](^.*@AD.TEST$)s/@AD.TEST/@ad.test/
    auth_to_local = DEFAULT
  }

[domain_realm]
  .example.test = EXAMPLE.TEST
  example.test = EXAMPLE.TEST
`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := parse(t, text)
			if len(p.Warnings) > 0 {
				t.Errorf("warnings %q", p.Warnings)
			}
			if d := cmp.Diff([]string{"kdc.example.test:88", "kdc-2.example.test:88"}, p.KDCs(p.DefaultRealm())); d != "" {
				t.Error(d)
			}
			if _, err := krb5conf.NewLocalNames(p, krb5conf.LocalNameOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
}
