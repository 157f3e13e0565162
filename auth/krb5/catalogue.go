package krb5

import "github.com/kpopd/kpopd/auth"

// Error codes of RFC 4120 section 7.5.9, as far as they are sent.
const (
	codeEtypeNoSupp  = 14
	codeBadIntegrity = 31
	codeExpired      = 32
	codeNotYetValid  = 33
	codeRepeat       = 34
	codeNotUs        = 35
	codeBadMatch     = 36
	codeSkew         = 37
	codeBadAddress   = 38
	codeBadVersion   = 39
	codeMsgType      = 40
	codeIllegalRealm = 43
	codeBadKeyVer    = 44
	codeNoKey        = 45
	codeInappCksum   = 50
	codeGeneric      = 60
)

// The codes of the refusals. They are printed in logs and in the manual, so a
// number is never given a second meaning.
const (
	idMsgType      = "KP-101"
	idSyntax       = "KP-102"
	idVersion      = "KP-103"
	idNotUs        = "KP-104"
	idUserToUser   = "KP-105"
	idTicketEtype  = "KP-106"
	idNoKvno       = "KP-107"
	idTicketKey    = "KP-108"
	idSessionEtype = "KP-109"
	idAuthKey      = "KP-110"
	idMismatch     = "KP-111"
	idAddress      = "KP-112"
	idTransited    = "KP-113"
	idRealm        = "KP-114"
	idPrincipal    = "KP-115"
	idReplay       = "KP-116"
	idReplayStore  = "KP-117"
	idNotYet       = "KP-118"
	idExpired      = "KP-119"
	idSkew         = "KP-120"
	idInvalidFlag  = "KP-121"
	idPurpose      = "KP-122"
	idTooLong      = "KP-123"
	idNoKeys       = "KP-124"
	idAfterBoot    = "KP-125"
	idInternal     = "KP-126"
	idForgotten    = "KP-127"

	idSilent     = "KP-131"
	idGaveUp     = "KP-132"
	idKerberos4  = "KP-133"
	idTLSHello   = "KP-134"
	idOtherTalk  = "KP-135"
	idSendauth   = "KP-136"
	idAppVersion = "KP-137"
	idLength     = "KP-138"
	idBroken     = "KP-139"

	idToken     = "KP-151"
	idChecksum  = "KP-152"
	idBinding   = "KP-153"
	idNoBinding = "KP-154"
	idDCE       = "KP-155"
	idOrder     = "KP-156"
	idWrap      = "KP-157"
	idLayer     = "KP-158"
	idAuthzid   = "KP-159"
	idGS2       = "KP-160"
	idNoMutual  = "KP-161"
	idNegToken  = "KP-162"
	idNegMech   = "KP-163"
	idNegMIC    = "KP-164"
	idNoProof   = "KP-165"
)

const textIntegrity = "Decrypt integrity check failed"

var refusals = [...]Explanation{
	{idMsgType, codeMsgType, "Invalid message type", "not an AP-REQ", "The message does not begin as a Kerberos AP-REQ does.", "Probably no Kerberos 5 client, or a scanner: look who is at the address.", auth.ErrProtocol},
	{idSyntax, codeGeneric, "ASN.1 encoding ended unexpectedly", "malformed AP-REQ", "The message cannot be decoded, or has octets too many.", "If a real client sends it, record the exchange and report it.", auth.ErrProtocol},
	{idVersion, codeBadVersion, "Protocol version mismatch", "not Kerberos 5", "The message has another protocol version than 5.", "Upgrade the client.", auth.ErrProtocol},
	{idNotUs, codeNotUs, "The ticket isn't for us", "ticket for another service", "The service named in the ticket is not one of ours, or the keytab has no entry for it.", "Compare the service with `klist -k`. Clients ask for pop/<canonical host name> (Emacs: pop3/<host>); check the alias and the PTR record, add the principal to the KDC and to the keytab.", auth.ErrDenied},
	{idUserToUser, codeNoKey, "Service key not available", "user-to-user request", "The client wants the ticket to be read with a session key. A server has none.", "Nothing; no mail client does this.", auth.ErrDenied},
	{idTicketEtype, codeEtypeNoSupp, "KDC has no support for encryption type", "ticket in a refused enctype", "The service ticket is encrypted with an enctype other than AES (17 to 20).", "Rekey the service principal with AES keys (`kadmin -q 'ktadd -e aes256-cts:normal pop/<host>'`) and let users get new tickets.", auth.ErrDenied},
	{idNoKvno, codeBadKeyVer, "Key version is not available", "key version not in the keytab", "The keytab knows the service, not the key version of this ticket, and no other key opens it.", "The keytab is older than the KDC's key, or the ticket older than the keytab. Run `kvno pop/<host>` and `klist -k`; extract the keytab again, keep old versions while tickets live.", auth.ErrDenied},
	{idTicketKey, codeBadIntegrity, textIntegrity, "ticket does not open with our key", "The key of that version is in the keytab, but the ticket is not encrypted with it.", "The key was changed without changing its version, or the keytab is of another KDC: extract it again. Without such a change: a forged ticket.", auth.ErrDenied},
	{idSessionEtype, codeEtypeNoSupp, "Bad encryption type", "session key in a refused enctype", "The session key or subkey is not AES (17 to 20), or has a wrong size.", "Remove RC4 and DES from the client's default_tkt_enctypes and permitted_enctypes, and set the service principal's session enctypes to AES.", auth.ErrDenied},
	{idAuthKey, codeBadIntegrity, textIntegrity, "authenticator does not open", "The ticket is good; the authenticator is not encrypted with its session key.", "Somebody has a stolen ticket without its key, or the message was damaged. If one client does this always, report it.", auth.ErrDenied},
	{idMismatch, codeBadMatch, "Ticket/authenticator don't match", "ticket and authenticator name different clients", "Name or realm of the client differ between ticket and authenticator.", "An attack, or a broken client: look at the address.", auth.ErrDenied},
	{idAddress, codeBadAddress, "Incorrect net address", "ticket bound to another address", "The ticket names addresses and the connection comes from another one.", "Clients behind NAT need tickets without addresses (`kinit -A`); or switch check_addresses off.", auth.ErrDenied},
	{idTransited, codeIllegalRealm, "Illegal cross-realm ticket", "unchecked path between realms", "The ticket came over other realms and no KDC of ours has checked the path.", "Set up [capaths] on the KDC so that it checks the path.", auth.ErrDenied},
	{idRealm, codeIllegalRealm, "Illegal cross-realm ticket", "client realm not trusted", "The client's realm is not on the list of trusted realms.", "If users of that realm may have mail here, add it to the trusted realms.", auth.ErrDenied},
	{idPrincipal, codeGeneric, "Principal not allowed", "client name not usable", "The client's name has an empty part, a control octet, is not UTF-8, too long, or anonymous.", "Nothing; such principals get no mail.", auth.ErrDenied},
	{idReplay, codeRepeat, "Request is a replay", "replayed authenticator", "This very authenticator was presented before.", "One now and then: a client that sends a request again after a broken connection. Many: somebody is replaying captured logins.", auth.ErrDenied},
	{idReplayStore, codeGeneric, "Service temporarily unavailable", "replay cache cannot be consulted", "The replay cache is full or its journal cannot be written; nobody is let in without it.", "Look at the disk of the state directory (space, rights), then at the number of logins.", auth.ErrTemporary},
	{idNotYet, codeNotYetValid, "Ticket not yet valid", "ticket not yet valid", "The ticket begins in the future.", "Compare the clocks of KDC and server; or the user has a postdated ticket.", auth.ErrDenied},
	{idExpired, codeExpired, "Ticket expired", "ticket expired", "The ticket ended, more than the allowed clock skew ago.", "The user needs a new ticket: kinit. If all users: compare the server's clock with the KDC's.", auth.ErrDenied},
	{idSkew, codeSkew, "Clock skew too great", "clock skew too great", "The client's clock differs from ours by more than allowed.", "Set the clock (NTP) of the client, which is off by skew_s seconds; if all clients are refused, of this server.", auth.ErrDenied},
	{idInvalidFlag, codeNotYetValid, "Ticket not yet valid", "ticket has the INVALID flag", "A postdated ticket that the KDC has not validated.", "The user has to validate it: kinit -v.", auth.ErrDenied},
	{idPurpose, codeInappCksum, "Inappropriate type of checksum in message", "SASL login presented over KPOP", "The authenticator was made for GSSAPI. Somebody has caught it on the way and presents it here.", "An attack from the address given, or between the client and this server: find who is on the path, demand TLS.", auth.ErrDenied},
	{idTooLong, codeGeneric, "Message too long", "message too long", "The message is longer than any ticket may be.", "A ticket with a huge PAC: the user must be in fewer groups. From an unknown address: a scanner.", auth.ErrProtocol},
	{idNoKeys, codeNotUs, "The ticket isn't for us", "no usable key in the keytab", "The keytab has no AES key for an allowed service.", "Extract the keytab: `kadmin -q 'ktadd -k <file> pop/<host>'`, and look at `kpopd check`.", auth.ErrPermanent},
	{idAfterBoot, codeSkew, "Clock skew too great", "authenticator older than this machine's start", "The machine was not shut down in order, so what was presented just before is not known; authenticators from before are refused for the time of the allowed skew.", "Nothing: it ends by itself after a few minutes. Clients with a right clock are not touched. After every restart: kpopd cannot read /proc/sys/kernel/random/boot_id, as under ProcSubset=pid of systemd; let it.", auth.ErrTemporary},
	{idInternal, codeGeneric, "Service temporarily unavailable", "internal error", "A fault of this program, caught.", "Report it with the log line.", auth.ErrTemporary},
	{idForgotten, codeSkew, "Clock skew too great", "the clock was set back", "Authenticators of this time were accepted before and are no longer known: this machine's clock stands at a time that it has shown already, and somebody may present again what he caught then.", "Set the clock of this machine (NTP) and find out who has set it back.", auth.ErrTemporary},

	{idSilent, 0, "", "client sent nothing", "The client connected to the KPOP port and said nothing until the deadline.", "Usually a fetchmail without tickets (kinit), or a POP3 client that waits for a greeting: KPOP is not POP3.", auth.ErrProtocol},
	{idGaveUp, 0, "", "client gave up before sending a ticket", "After the versions were agreed the client ended the dialog: its Kerberos library could not get a service ticket.", "On the client: klist, then `kvno pop/<host>`; the ticket has expired, or the KDC does not know the service.", auth.ErrProtocol},
	{idKerberos4, 0, "", "Kerberos 4 client", "The client speaks KPOP with Kerberos 4, which nobody should any more.", "Configure or replace the client: it must use Kerberos 5.", auth.ErrProtocol},
	{idTLSHello, 0, "", "TLS on the KPOP port", "The client began with TLS. KPOP begins in clear; TLS comes by STLS after the greeting.", "Take `ssl` out of the client's settings for this port; fetchmail: sslproto and STLS, not ssl.", auth.ErrProtocol},
	{idOtherTalk, 0, "", "not a KPOP client", "The client began with text (POP3, HTTP or something else).", "Point it at the POP3 port; if it is unknown, a scanner.", auth.ErrProtocol},
	{idSendauth, 0, "", "unknown sendauth version", "The first string is not KRB5_SENDAUTH_V1.0.", "The line has what it sent: a damaged or home-made client, or a scanner. Those of MIT and Heimdal send this string.", auth.ErrProtocol},
	{idAppVersion, 0, "", "unknown application version", "The client names another protocol than KPOPV1.0.", "If it is a known client with its own name for KPOP, add that to kpop.versions.", auth.ErrProtocol},
	{idLength, 0, "", "length out of bounds", "The client announces a string or message longer than allowed.", "Probably not KPOP at all: look who is at the address, and point it at the POP3 port. A real ticket is never longer than 128 KiB.", auth.ErrProtocol},
	{idBroken, 0, "", "connection broken during the KPOP dialog", "The connection ended or timed out in the middle.", "Look at the network, and at the client's log.", auth.ErrProtocol},

	{idToken, codeGeneric, "", "malformed GSSAPI token", "The token is not a Kerberos 5 token in the form of RFC 4121.", "The client sends NTLM or SPNEGO tokens by AUTH GSSAPI, which does not take them: choose Kerberos in its settings, or name GSS-SPNEGO in the listener's mechanisms.", auth.ErrProtocol},
	{idChecksum, codeInappCksum, "", "authenticator without GSSAPI checksum", "A GSSAPI login must carry the checksum of RFC 4121 section 4.1.1; this one has none or another.", "A very old client: replace it. Otherwise an attack: somebody has caught a KPOP login and presents it over SASL; look at the address.", auth.ErrDenied},
	{idBinding, 0, "", "channel bindings do not match", "The client is bound to another channel than this connection: another TLS session, or another certificate.", "Find out who terminates TLS in between; or the client sends a type that cannot be computed here (Cyrus clients with TLS 1.3): then set channel_binding to ignore.", auth.ErrDenied},
	{idNoBinding, 0, "", "channel bindings missing", "The client sent no channel bindings and they are required, or it says it knows them.", "Use a client that sends them, or set channel_binding to when_present or ignore.", auth.ErrDenied},
	{idDCE, 0, "", "DCE style context", "The client wants the three-legged exchange of DCE.", "Nothing; no mail client does this.", auth.ErrDenied},
	{idOrder, 0, "", "unexpected response", "The client sent data where none belongs, or none where some does.", "`kpop trace <address>` shows its dialogue: report it with the client's name and version. Meanwhile another of its mechanisms may do.", auth.ErrProtocol},
	{idWrap, 0, "", "protected message refused", "A wrapped message is malformed, out of order, of the wrong direction or protection, or its checksum fails.", "Once: a broken connection. Often: somebody changes the traffic; demand TLS, and find who is on the path.", auth.ErrDenied},
	{idLayer, 0, "", "security layer refused", "The client chose a layer that was not offered, or a buffer too small for it.", "Look at the client's SASL settings (minimum and maximum SSF). In TLS no layer is offered, TLS being one; in clear none without sasl.security_layers.", auth.ErrDenied},
	{idAuthzid, 0, "", "malformed authorization identity", "The name asked for has NUL or control octets, is not UTF-8 or too long.", "Look at the user name in the client's settings; empty means the ticket's own.", auth.ErrProtocol},
	{idGS2, 0, "", "malformed GS2 header", "The message does not begin with a GS2 header of RFC 5801 section 4, or it does not fit the mechanism.", "`kpop trace <address>` shows its dialogue: report it with the client's name and version. Meanwhile GSSAPI may do: name it first in the listener's mechanisms.", auth.ErrProtocol},
	{idNoMutual, 0, "", "no mutual authentication", "GS2 demands mutual authentication (RFC 5801 section 5).", "Switch mutual authentication on in the client, or let it use GSSAPI, which does without.", auth.ErrDenied},
	{idNegToken, 0, "", "malformed SPNEGO token", "The message is not a negotiation token of RFC 4178 section 4.2, or not the one that belongs here.", "`kpop trace <address>` shows its dialogue: report it with the client's name and version. Meanwhile GSSAPI may do: name it first in the listener's mechanisms.", auth.ErrProtocol},
	{idNegMech, 0, "", "Kerberos is not among the mechanisms", "The client proposes mechanisms by SPNEGO, and Kerberos 5 is none of them: it has no ticket and tries NTLM or the like.", "On the client: klist, then `kvno pop/<host>`; it needs a ticket. NTLM is not spoken here.", auth.ErrDenied},
	{idNegMIC, 0, "", "list of mechanisms not confirmed", "The checksum over the client's list of mechanisms is missing where it must be, or is not that of the list which came.", "Once, a broken client. Often: somebody may be changing the list on the way; demand TLS, or let the client use GSSAPI, which has no list.", auth.ErrDenied},
	{idNoProof, 0, "", "no proof of the session key", "The client asked for neither integrity nor confidentiality: nothing shows that it has the key of its ticket, which may have been caught elsewhere.", "Allow the client a security layer (Cyrus SASL: a maximum SSF above 0), or let it use GSSAPI.", auth.ErrDenied},
}
