package krb5_test

import (
	"crypto/rand"
	"net"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/types"
)

// A forgery is an AP-REQ made with the service's key that no KDC would make, or
// that some would: id and code are our answer, none for an accepted one.
type forgery struct {
	name   string
	change func(*forge)
	id     string
	code   int32
}

// anyKey is one that nobody has.
func anyKey(etype int32) types.EncryptionKey {
	k := types.EncryptionKey{KeyType: etype, KeyValue: make([]byte, keySize[etype])}
	_, _ = rand.Read(k.KeyValue) // never fails
	return k
}

func cut(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:n] } }

func flip(b []byte) []byte { b[len(b)/2] ^= 1; return b }

// label makes the ticket one for a service in that service's key.
func (f *forge) label(name string) {
	f.service = name
	principal, _ := types.ParseSPNString(name)
	f.key, _, _ = f.kt.GetEncryptionKey(principal, realm, 0, f.key.KeyType)
}

var forgeries = []forgery{
	{"good", func(*forge) {}, "", 0},
	{"without mutual", func(f *forge) { f.options = nil }, "", 0},
	{"sequence number", func(f *forge) { f.seq = 0x01234567 }, "", 0},
	{"negative sequence number", func(f *forge) { f.seq = -5 }, "", 0},
	{"subkey", func(f *forge) { f.subkey = anyKey(18) }, "", 0},
	{"pvno 4", func(f *forge) { f.pvno = 4 }, "KP-103", 39},
	{"msg-type 12", func(f *forge) { f.msgType = 12 }, "KP-101", 40},
	{"user to user", func(f *forge) { f.options = []int{1, 2} }, "KP-105", 45},
	{"service not allowed", func(f *forge) { f.service = "imap/" + host }, "KP-104", 35},
	{"host service", func(f *forge) { f.service = "host/" + host }, "KP-104", 35},
	{"host service in its own key", func(f *forge) { f.label("host/" + host) }, "KP-104", 35},
	{"imap service in its own key", func(f *forge) { f.label("imap/" + host) }, "KP-104", 35},
	{"our label, key of host", func(f *forge) { f.label("host/" + host); f.service = service }, "KP-108", 31},
	{"wrong service realm", func(f *forge) { f.serviceRealm = "WRONG.TEST" }, "KP-104", 35},
	{"no service realm", func(f *forge) { f.serviceRealm = "" }, "", 0},
	{"no service realm, wrong key", func(f *forge) { f.serviceRealm = ""; f.key = anyKey(18) }, "KP-104", 35},
	{"no service realm, host service in its own key", func(f *forge) { f.serviceRealm = ""; f.label("host/" + host) }, "KP-104", 35},
	{"no service realm, our label, key of host", func(f *forge) { f.serviceRealm = ""; f.label("host/" + host); f.service = service }, "KP-104", 35},
	{"host alias, our key", func(f *forge) { f.service = "pop/alias.realm.test" }, "", 0},
	{"host alias, wrong key", func(f *forge) { f.service = "pop/alias.realm.test"; f.key = anyKey(18) }, "KP-104", 35},
	{"host in upper case", func(f *forge) { f.service = "pop/" + strings.ToUpper(host) }, "", 0},
	{"pop3, key of pop", func(f *forge) { f.service = "pop3/" + host }, "", 0},
	{"krbtgt", func(f *forge) { f.service = "krbtgt/" + realm }, "KP-104", 35},
	{"service one component", func(f *forge) { f.service = "pop" }, "KP-104", 35},
	{"service three components", func(f *forge) { f.service = service + "/x" }, "KP-104", 35},
	{"service upper case", func(f *forge) { f.service = "POP/" + host }, "KP-104", 35},
	{"kvno 77, right key", func(f *forge) { f.kvno = 77 }, "", 0},
	{"kvno 77, wrong key", func(f *forge) { f.kvno = 77; f.key = anyKey(18) }, "KP-107", 44},
	{"no kvno, right key", func(f *forge) { f.kvno = 0 }, "", 0},
	{"no kvno, wrong key", func(f *forge) { f.kvno = 0; f.key = anyKey(18) }, "KP-108", 31},
	{"wrong key", func(f *forge) { f.key = anyKey(18) }, "KP-108", 31},
	{"ticket in RC4", func(f *forge) { f.key = anyKey(23) }, "KP-106", 14},
	{"session key RC4", func(f *forge) { f.session = anyKey(23) }, "KP-109", 14},
	{"subkey RC4", func(f *forge) { f.subkey = anyKey(23) }, "KP-109", 14},
	{"ticket 5 octets", func(f *forge) { f.ticketCipher = cut(5) }, "KP-108", 31},
	{"ticket 20 octets", func(f *forge) { f.ticketCipher = cut(20) }, "KP-108", 31},
	{"ticket bit flipped", func(f *forge) { f.ticketCipher = flip }, "KP-108", 31},
	{"authenticator 5 octets", func(f *forge) { f.authCipher = cut(5) }, "KP-110", 31},
	{"authenticator bit flipped", func(f *forge) { f.authCipher = flip }, "KP-110", 31},
	{"expired", func(f *forge) { f.end = f.now.Add(-10 * time.Minute) }, "KP-119", 32},
	{"expired within skew", func(f *forge) { f.end = f.now.Add(-4 * time.Minute) }, "", 0},
	{"not yet valid", func(f *forge) { f.start = f.now.Add(10 * time.Minute) }, "KP-118", 33},
	{"starts within skew", func(f *forge) { f.start = f.now.Add(4 * time.Minute) }, "", 0},
	{"INVALID flag", func(f *forge) { f.flags = []int{7} }, "KP-121", 33},
	{"clock slow", func(f *forge) { f.ctime = f.now.Add(-10 * time.Minute) }, "KP-120", 37},
	{"clock fast", func(f *forge) { f.ctime = f.now.Add(10 * time.Minute) }, "KP-120", 37},
	{"expired, and clock slow", func(f *forge) { f.end = f.now.Add(-time.Hour); f.ctime = f.now.Add(-time.Hour) }, "KP-119", 32},
	{"clock slow within skew", func(f *forge) { f.ctime = f.now.Add(-4 * time.Minute) }, "", 0},
	{"authenticator name", func(f *forge) { f.authName = []string{"bob"} }, "KP-111", 36},
	{"authenticator realm", func(f *forge) { f.crealm = "EVIL.TEST"; f.authRealm = realm }, "KP-111", 36},
	{"authenticator realm, ticket ours", func(f *forge) { f.authRealm = "EVIL.TEST" }, "KP-111", 36},
	{"foreign realm", func(f *forge) { f.crealm = "EVIL.TEST" }, "KP-114", 43},
	{"transited", func(f *forge) { f.crealm = "EVIL.TEST"; f.transited = "MID.TEST" }, "KP-113", 43},
	{"transited, checked", func(f *forge) { f.transited = "MID.TEST"; f.flags = []int{12} }, "", 0},
	{"other address", func(f *forge) { f.addresses = types.HostAddressesFromNetIPs([]net.IP{{10, 1, 2, 3}}) }, "", 0},
	{"PAC of garbage", func(f *forge) {
		f.authData = types.AuthorizationData{{ADType: 1, ADData: []byte("garbage")}, {ADType: 1}}
	}, "", 0},
	{"GSS checksum on KPOP", func(f *forge) { f.checksum = gssChecksum(0x3a, [16]byte{}) }, "KP-122", 50},
	{"other checksum", func(f *forge) { f.checksum = &types.Checksum{CksumType: 16, Checksum: make([]byte, 12)} }, "", 0},
	{"name UTF-8", func(f *forge) { f.cname = []string{"ålice"} }, "", 0},
	{"name two components", func(f *forge) { f.cname = []string{"alice", "admin"} }, "", 0},
	{"name with newline", func(f *forge) { f.cname = []string{"al\nice"} }, "KP-115", 60},
	{"name with NUL", func(f *forge) { f.cname = []string{"alice\x00evil"} }, "KP-115", 60},
	{"name empty", func(f *forge) { f.cname = []string{""} }, "KP-115", 60},
	{"name part empty", func(f *forge) { f.cname = []string{"a", "", "b"} }, "KP-115", 60},
	{"name too long", func(f *forge) { f.cname = []string{strings.Repeat("x", 3000)} }, "KP-115", 60},
	{"name not UTF-8", func(f *forge) { f.cname = []string{"\xff"} }, "KP-115", 60},
	{"anonymous", func(f *forge) { f.cname = []string{"WELLKNOWN", "ANONYMOUS"} }, "KP-115", 60},
	{"empty message", func(f *forge) { f.message = func([]byte) []byte { return nil } }, "KP-101", 40},
	{"HTTP", func(f *forge) { f.message = func([]byte) []byte { return []byte("GET / HTTP/1.0\r\n\r\n") } }, "KP-101", 40},
	{"KRB-ERROR", func(f *forge) { f.message = func(b []byte) []byte { b[0] = 0x7e; return b } }, "KP-101", 40},
	{"junk behind the tag", func(f *forge) { f.message = func([]byte) []byte { return append([]byte{0x6e}, make([]byte, 40)...) } }, "KP-102", 60},
	{"truncated", func(f *forge) { f.message = func(b []byte) []byte { return b[:len(b)-1] } }, "KP-102", 60},
	{"half", func(f *forge) { f.message = func(b []byte) []byte { return b[:len(b)/2] } }, "KP-102", 60},
	{"octets behind it", func(f *forge) { f.message = func(b []byte) []byte { return append(b, 0, 0) } }, "KP-102", 60},
	{"indefinite length", func(f *forge) { f.message = func(b []byte) []byte { return append([]byte{0x6e, 0x80}, b[4:]...) } }, "KP-102", 60},
	{"name of ten parts", func(f *forge) { f.cname = strings.Split("a a a a a a a a a a", " ") }, "KP-102", 60},
}
