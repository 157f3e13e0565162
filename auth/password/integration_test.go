//go:build integration

package password_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/keytab"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/integration/loopback"
)

// A site is a private realm with real MIT KDCs on loopback.
type site struct {
	t       *testing.T
	dir     string
	address string
	env     []string
	keys    *keytab.Keytab
}

const policies = `addpol -maxfailure 2 -failurecountinterval 0 -lockoutduration 0 lock
addprinc +requires_preauth -pw alicepw alice
addprinc -requires_preauth -pw nopreauthpw nopreauth
addprinc +requires_preauth -pw expiredpw -pwexpire yesterday expired
addprinc +requires_preauth -pw goneopw -expire yesterday gone
addprinc +requires_preauth -pw mustpw +needchange must
addprinc +requires_preauth -pw lockpw -policy lock locked
addprinc +requires_preauth -pw sha2pw -e aes256-sha2:normal sha2
addprinc +requires_preauth -pw oldpw -e aes128-cts:normal aes128
addprinc +requires_preauth -pw saltpw -e aes256-cts:special salted
addprinc +requires_preauth +requires_hwauth -pw tokenpw token
addprinc -randkey pop/mail.r.test
addprinc -randkey disabled
modprinc -allow_tix disabled
ktadd -k %s pop/mail.r.test
`

// newSite makes the database and starts a KDC.
func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir()}
	s.address = s.port()
	s.write("krb5.conf", "[libdefaults]\ndefault_realm = R.TEST\ndns_lookup_kdc = false\nrdns = false\n[realms]\nR.TEST = {\nkdc = "+s.address+"\n}\n")
	s.env = append(os.Environ(), "KRB5_CONFIG="+filepath.Join(s.dir, "krb5.conf"))
	s.profile(s.address)
	s.run("", "kdb5_util", "-r", realm, "create", "-s", "-P", "master")
	path := filepath.Join(s.dir, "pop.keytab")
	s.run(fmt.Sprintf(policies, path), "kadmin.local", "-r", realm)
	kt, err := keytab.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	s.keys = kt
	return s
}

func (s *site) port() string {
	s.t.Helper()
	port, err := loopback.FreePort()
	if err != nil {
		s.t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

func (s *site) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// profile tells kdc.conf where to listen, and gives its environment.
func (s *site) profile(address string) []string {
	name := "kdc-" + strings.ReplaceAll(address, ":", "-") + ".conf"
	s.write(name, fmt.Sprintf(`[realms]
R.TEST = {
	kdc_listen = %[1]s
	kdc_tcp_listen = %[1]s
	database_name = %[2]s/principal
	key_stash_file = %[2]s/stash
	acl_file = %[2]s/acl
	supported_enctypes = aes256-sha2:normal aes256-cts:normal aes128-cts:normal
}
[logging]
kdc = FILE:%[2]s/kdc.log
`, address, s.dir))
	env := slices.Clone(s.env)
	s.env = append(env, "KRB5_KDC_PROFILE="+filepath.Join(s.dir, name))
	return s.env
}

func (s *site) run(input, name string, args ...string) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), name, args...) //nolint:gosec // G204: constant commands
	cmd.Env, cmd.Stdin = s.env, strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// start runs a KDC at address and returns what ends it.
func (s *site) start(address string) (stop func()) {
	s.t.Helper()
	cmd := exec.Command("krb5kdc", "-n", "-r", realm, "-P", filepath.Join(s.dir, "pid-"+address)) //nolint:gosec,noctx // ended below
	cmd.Env = s.profile(address)
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := false
	stop = func() {
		if !ended {
			ended = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	s.t.Cleanup(stop)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			return stop
		}
		if time.Now().After(deadline) {
			s.t.Fatal("krb5kdc does not listen")
		}
	}
}

func TestRealKDC(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start(s.address)
	for _, limit := range []int{1, 9000} {
		k := checker(t, s.keys, s.address)
		k.Realm.UDPLimit = limit
		for _, c := range []struct {
			name, user, password string
			want                 error
			says                 string
		}{
			{"good", "alice", "alicepw", nil, ""},
			{"good again", "alice", "alicepw", nil, ""},
			{"without preauthentication", "nopreauth", "nopreauthpw", nil, ""},
			{"SHA-2 key only", "sha2", "sha2pw", nil, ""},
			{"AES-128 key only", "aes128", "oldpw", nil, ""},
			{"random salt", "salted", "saltpw", nil, ""},
			{"wrong", "alice", "alicepx", auth.ErrDenied, "wrong password"},
			{"wrong without preauthentication", "nopreauth", "x", auth.ErrDenied, "wrong password"},
			{"wrong with a random salt", "salted", "x", auth.ErrDenied, "wrong password"},
			{"unknown", "nobody", "x", auth.ErrDenied, "unknown principal"},
			{"password expired", "expired", "expiredpw", auth.ErrDenied, "password has expired or must be changed"},
			{"password must be changed", "must", "mustpw", auth.ErrDenied, "password has expired or must be changed"},
			{"account expired", "gone", "goneopw", auth.ErrDenied, "account has expired"},
			{"account disabled", "disabled", "x", auth.ErrDenied, "account is locked"},
			{"hardware wanted", "token", "tokenpw", auth.ErrDenied, "preauthentication that a password cannot do"},
		} {
			id, err := attempt(t, k, c.user, c.password)
			if !errors.Is(err, c.want) || c.want != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("UDP limit %d, %s: %v, %v", limit, c.name, id, err)
			}
			if c.want == nil && err == nil && id.Authcid != c.user+"@R.TEST" {
				t.Errorf("%s: identity %+v", c.name, id)
			}
		}
	}
	k := checker(t, s.keys, s.address)
	for range 2 {
		_, _ = attempt(t, k, "locked", "x")
	}
	if _, err := attempt(t, k, "locked", "lockpw"); !errors.Is(err, auth.ErrDenied) || !strings.Contains(err.Error(), "locked") {
		t.Errorf("locked: %v", err)
	}
	k.Service = "pop/other.r.test"
	if _, err := attempt(t, k, "alice", "alicepw"); !errors.Is(err, auth.ErrPermanent) {
		t.Errorf("a service the KDC does not know: %v", err)
	}
}

// TestRealKDCFailover ends the first of two KDCs between and before checks.
func TestRealKDCFailover(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	second := s.port()
	stopFirst := s.start(s.address)
	stopSecond := s.start(second)
	k := checker(t, s.keys, s.address, second)
	ask := func(want string) {
		t.Helper()
		id, err := attempt(t, k, "alice", "alicepw")
		if want == "" && !errors.Is(err, auth.ErrTemporary) || want != "" && (err != nil || !strings.Contains(fmt.Sprint(id.Detail), want)) {
			t.Errorf("want %q, got %v, %v", want, id, err)
		}
	}
	ask(s.address)
	stopFirst()
	ask(second)
	ask(second)
	stopSecond()
	ask("") // both are down: temporary, never denied
}

// TestRealKDCSpoofed: a second realm of the same name, whose users and services
// are called the same, is the attacker's.
func TestRealKDCSpoofed(t *testing.T) {
	t.Parallel()
	ours, his := newSite(t), newSite(t)
	his.start(his.address)
	id, err := attempt(t, checker(t, ours.keys, his.address), "alice", "alicepw")
	if !errors.Is(err, auth.ErrTemporary) {
		t.Errorf("a spoofed KDC gives %v, %v", id, err)
	}
	if _, err := attempt(t, checker(t, his.keys, his.address), "alice", "alicepw"); err != nil {
		t.Errorf("the same KDC with its own keytab: %v", err)
	}
}

// TestRealKDCManyAtOnce: checks share nothing but their slots.
func TestRealKDCManyAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start(s.address)
	k := checker(t, s.keys, s.address)
	k.Timeout = 3 * time.Minute // it counts from the wait for a slot, and keys of passwords take their time
	results := make(chan error, 24)
	for i := range cap(results) {
		go func() {
			pw := "alicepw"
			if i%2 == 1 {
				pw = "no"
			}
			_, err := k.Check(t.Context(), auth.Peer{}, "alice", pw)
			if (err == nil) != (i%2 == 0) {
				results <- fmt.Errorf("check %d: %w", i, err)
				return
			}
			results <- nil
		}()
	}
	for range cap(results) {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}
