package krb5

import (
	"fmt"
	"log/slog"

	"github.com/kpopd/kpopd/auth"
)

// An Advice explains one reason for refusing a ticket to a tired admin. Its ID
// is stable: it stands in log lines, and `kpop explain ID` prints the rest.
type Advice struct {
	ID      string
	Code    int32  // KRB-ERROR code of RFC 4120 section 7.5.9 that the client gets
	Text    string // KRB-ERROR e-text, libkrb5's words
	Meaning string
	Remedy  string
}

// KRB-ERROR codes (RFC 4120 section 7.5.9).
const (
	codeBadEnctype     = 14
	codeBadIntegrity   = 31
	codeExpired        = 32
	codeNotYetValid    = 33
	codeRepeat         = 34
	codeNotUs          = 35
	codeBadMatch       = 36
	codeSkew           = 37
	codeBadAddress     = 38
	codeBadVersion     = 39
	codeMessageType    = 40
	codePathNotTrusted = 43
	codeBadKeyVersion  = 44
	codeInappChecksum  = 50
	codeGeneric        = 60
)

// advices is every reason for which an AP-REQ is refused.
var advices = [...]Advice{
	{"KP-101", codeMessageType, "Invalid message type", "what came is no AP-REQ", "the client is broken or speaks another protocol; look at its address"},
	{"KP-102", codeGeneric, "ASN.1 encoding ended unexpectedly", "the AP-REQ or something inside it is malformed or cut", "as KP-101; a middlebox may cut long messages"},
	{"KP-103", codeBadVersion, "Requested protocol version not supported", "the message is not of Kerberos version 5", "update the client; Kerberos 4 is not supported"},
	{"KP-104", codeNotUs, "The ticket isn't for us", "the ticket is for a service or host name that kpopd does not serve", "compare the name asked for with `klist -k`: DNS aliases and a missing pop/HOST key are the usual cause; host/ and imap/ tickets are refused on purpose"},
	{"KP-105", codeBadKeyVersion, "Key version is not available", "the service is ours, but no key of that kvno and enctype opens the ticket", "after a key change: put the new key into the keytab (ktadd), or let users run kinit again; `kpop doctor` compares keytab and KDC"},
	{"KP-106", codeBadIntegrity, "Decrypt integrity check failed", "a key fits by name, but the ticket or authenticator does not decrypt with it", "the keytab's key differs from the KDC's with the same kvno: run ktadd again; if it comes from one address only, somebody is trying"},
	{"KP-107", codeBadEnctype, "Encryption type not permitted", "ticket, session key or subkey is of an enctype that is refused (DES, 3DES, RC4)", "rekey the service and the user with AES: cpw -randkey -e aes256-cts-hmac-sha1-96:normal"},
	{"KP-108", codeBadMatch, "Ticket/authenticator don't match", "the authenticator names another client or realm than the ticket", "no honest client does this; look at the address"},
	{"KP-109", codeBadAddress, "Incorrect net address", "the ticket is bound to other addresses than the client's", "the client is behind NAT or a proxy: turn kerberos.check_addresses off, or kinit -A"},
	{"KP-110", codePathNotTrusted, "Illegal cross-realm ticket", "the ticket crossed realms and no KDC has checked the path", "set the transited check on the KDC (reject_bad_transit), or correct [capaths]"},
	{"KP-111", codeRepeat, "Request is a replay", "the same authenticator was presented before", "a client that sends twice is broken; otherwise somebody copied it from the network: use STLS"},
	{"KP-112", codeNotYetValid, "Ticket not yet valid", "the ticket's start time lies in the future or it was postdated and not validated", "compare the clocks of client, KDC and server"},
	{"KP-113", codeExpired, "Ticket expired", "the ticket's end time is past", "the user runs kinit again; if it is everybody, look at this machine's clock"},
	{"KP-114", codeSkew, "Clock skew too great", "the client's clock and this one differ by more than kerberos.clock_skew", "set the clock that is wrong: run an NTP client on both machines"},
	{"KP-115", codeNotYetValid, "Ticket has invalid flag set", "the ticket must be validated by the KDC first", "kinit -v"},
	{"KP-116", codeInappChecksum, "Inappropriate type of checksum in message", "an AP-REQ made for SASL came to the KPOP port", "no honest client does this: it was caught on another port; use STLS"},
	{"KP-117", codeInappChecksum, "Inappropriate type of checksum in message", "the authenticator has no or a malformed GSS-API checksum", "the client is broken, or an AP-REQ made for KPOP came to AUTH GSSAPI"},
	{"KP-118", codeGeneric, "Channel bindings do not match", "the client bound its login to another TLS connection than this", "somebody is in the middle, or a TLS proxy is: set channel_binding = \"ignore\" if it is yours"},
	{"KP-119", codeGeneric, "Service unavailable", "the replay cache could not be consulted", "look at the line before this one: disk full or permissions of the replay journal"},
	{"KP-120", codeBadMatch, "Ticket/authenticator don't match", "the client's name or realm holds octets that no principal has", "delete the principal; look at who made it"},
	{"KP-121", codeNotUs, "The ticket isn't for us", "user-to-user authentication was asked for", "servers use a keytab; the client is misconfigured"},
	{"KP-122", codePathNotTrusted, "Illegal cross-realm ticket", "the client's realm is not one of kerberos.trusted_realms", "add the realm if its users are to read mail here"},
}

// Advices gives the table of refusals, in order of ID.
func Advices() []Advice { return append([]Advice(nil), advices[:]...) }

// A Refusal is a ticket that was refused. Nothing in it is secret; of it the
// client sees only Code and Text of its advice, and over SASL not even those.
type Refusal struct {
	Advice
	Came     []slog.Attr // what the ticket claimed and what was expected
	Identity string      // the client, once the ticket was decrypted
	err      error       // auth.ErrDenied, auth.ErrTemporary or auth.ErrProtocol
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("krb5: %s %s: %s; %s", r.ID, r.Text, r.Meaning, r.Remedy)
}

// Unwrap gives the sentinel of package auth that the refusal counts as.
func (r *Refusal) Unwrap() error { return r.err }

// LogValue puts the particulars into a log line.
func (r *Refusal) LogValue() slog.Value {
	attrs := append([]slog.Attr{slog.String("code", r.ID), slog.String("what", r.Meaning), slog.String("todo", r.Remedy)}, r.Came...)
	if r.Identity != "" {
		attrs = append(attrs, slog.String("principal", r.Identity))
	}
	return slog.GroupValue(attrs...)
}

func refuse(id string, came ...slog.Attr) *Refusal {
	return &Refusal{Advice: adviceFor(id), Came: came, err: auth.ErrDenied}
}

func adviceFor(id string) Advice {
	for _, a := range advices {
		if a.ID == id {
			return a
		}
	}
	return Advice{ID: id, Code: codeGeneric, Text: "Generic error"}
}
