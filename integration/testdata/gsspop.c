/* A POP3 client on the GSSAPI of MIT or of Heimdal, built against each:
 *   gsspop PORT LAYER MUTUAL AUTHZID
 * LAYER is 1 (none), 2 (integrity) or 4 (confidentiality), RFC 4752 section 3.3.
 * It logs in by AUTH GSSAPI, or with AUTHZID "-" by AUTH GSS-SPNEGO, sends its standard input and prints all that the
 * server says after its login, taken out of the layer. */
#include <arpa/inet.h>
#include <gssapi/gssapi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static gss_OID_desc krb5 = {9, "\x2a\x86\x48\x86\xf7\x12\x01\x02\x02"};
static gss_OID_desc spnego = {6, "\x2b\x06\x01\x05\x05\x02"};
static gss_OID_desc hostbased = {10, "\x2a\x86\x48\x86\xf7\x12\x01\x02\x01\x04"};
static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int s;
static gss_ctx_id_t ctx = GSS_C_NO_CONTEXT;
static char line[1 << 18];

static void die(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static void check(OM_uint32 major, OM_uint32 minor, const char *what)
{
    OM_uint32 more = 0, m;
    gss_buffer_desc text;
    if (!GSS_ERROR(major))
        return;
    gss_display_status(&m, minor, GSS_C_MECH_CODE, &krb5, &more, &text);
    fprintf(stderr, "%s: %.*s\n", what, (int)text.length, (char *)text.value);
    exit(1);
}

static void writeAll(const void *p, size_t n)
{
    for (ssize_t w; n > 0; p = (const char *)p + w, n -= w)
        if ((w = write(s, p, n)) <= 0)
            die("write");
}

static int readAll(void *p, size_t n)
{
    for (ssize_t r; n > 0; p = (char *)p + r, n -= r)
        if ((r = read(s, p, n)) <= 0)
            return 0;
    return 1;
}

/* A line, octet by octet: what follows it may belong to the layer. */
static char *getLine(void)
{
    size_t n = 0;
    while (n < sizeof line - 1 && readAll(line + n, 1))
        if (line[n++] == '\n')
            break;
    line[n] = 0;
    return line;
}

static gss_buffer_desc challenge(void)
{
    static unsigned char out[1 << 18];
    gss_buffer_desc b = {0, out};
    unsigned value = 0, bits = 0;
    char *p = getLine();
    if (p[0] != '+' || p[1] != ' ') {
        fprintf(stderr, "S: %s", p);
        exit(1);
    }
    for (p += 2; strchr(digits, *p) && *p; p++) {
        value = value << 6 | (unsigned)(strchr(digits, *p) - digits);
        if ((bits += 6) >= 8)
            out[b.length++] = value >> (bits -= 8);
    }
    return b;
}

static void respond(const unsigned char *p, size_t n)
{
    char *out = malloc(n * 2 + 8), *o = out;
    for (size_t i = 0; i < n; i += 3) {
        unsigned v = p[i] << 16 | (i + 1 < n ? p[i + 1] << 8 : 0) | (i + 2 < n ? p[i + 2] : 0);
        *o++ = digits[v >> 18 & 63];
        *o++ = digits[v >> 12 & 63];
        *o++ = i + 1 < n ? digits[v >> 6 & 63] : '=';
        *o++ = i + 2 < n ? digits[v & 63] : '=';
    }
    *o++ = '\r';
    *o++ = '\n';
    writeAll(out, o - out);
    free(out);
}

/* Establishes the context; in is what the server has said behind it. */
static gss_buffer_desc establish(gss_OID mech, OM_uint32 flags)
{
    OM_uint32 major, minor, got = 0;
    gss_buffer_desc name = {13, "pop@localhost"}, in = {0, NULL}, out;
    gss_name_t target;
    major = gss_import_name(&minor, &name, &hostbased, &target);
    check(major, minor, "gss_import_name");
    challenge();
    do {
        major = gss_init_sec_context(&minor, GSS_C_NO_CREDENTIAL, &ctx, target, mech, flags, 0, GSS_C_NO_CHANNEL_BINDINGS,
                                     in.length ? &in : GSS_C_NO_BUFFER, NULL, &out, &got, NULL);
        check(major, minor, "gss_init_sec_context");
        if (out.length || major == GSS_S_CONTINUE_NEEDED) {
            respond(out.value, out.length);
            if (mech == &spnego && major == GSS_S_COMPLETE)
                return in; /* its MIC was the last token */
            in = challenge();
        }
    } while (major == GSS_S_CONTINUE_NEEDED);
    if (mech == &spnego || flags & GSS_C_MUTUAL_FLAG) { /* the server's was the last token: answered by an empty line */
        respond(NULL, 0);
        if (mech != &spnego)
            in = challenge();
    }
    return in;
}

static void choose(gss_buffer_desc offer, int layer, const char *authzid)
{
    OM_uint32 major, minor;
    gss_buffer_desc plain, out;
    int conf = -1;
    major = gss_unwrap(&minor, ctx, &offer, &plain, &conf, NULL);
    check(major, minor, "unwrapping the offer");
    if (plain.length != 4 || !(((unsigned char *)plain.value)[0] & layer))
        die("the layer is not offered");
    unsigned char choice[512] = {layer, 0, layer == 1 ? 0 : 0x10, 0}; /* a buffer of 4096 octets */
    strcpy((char *)choice + 4, authzid);
    gss_buffer_desc answer = {4 + strlen(authzid), choice};
    major = gss_wrap(&minor, ctx, 0, GSS_C_QOP_DEFAULT, &answer, &conf, &out);
    check(major, minor, "wrapping the choice");
    respond(out.value, out.length);
}

static void login(OM_uint32 flags, int layer, const char *authzid)
{
    if (strcmp(authzid, "-") == 0) {
        writeAll("AUTH GSS-SPNEGO\r\n", 17);
        establish(&spnego, flags);
    } else {
        writeAll("AUTH GSSAPI\r\n", 13);
        choose(establish(&krb5, flags), layer, authzid);
    }
    if (strncmp(getLine(), "+OK", 3) != 0) {
        fprintf(stderr, "S: %s", line);
        exit(1);
    }
}

static void sendLayered(const char *p, size_t n, int layer)
{
    OM_uint32 major, minor;
    gss_buffer_desc in = {n, (void *)p}, out;
    int conf;
    major = gss_wrap(&minor, ctx, layer == 4, GSS_C_QOP_DEFAULT, &in, &conf, &out);
    check(major, minor, "gss_wrap");
    unsigned size = htonl(out.length);
    writeAll(&size, 4);
    writeAll(out.value, out.length);
    gss_release_buffer(&minor, &out);
}

int main(int argc, char **argv)
{
    static char buf[1 << 17];
    ssize_t n;
    if (argc != 5)
        return 2;
    int layer = atoi(argv[2]);
    /* Heimdal 7.8 without mutual authentication expects the acceptor to count
     * from zero, and MIT's does not: no initiator can ask for sequence then. */
    OM_uint32 flags = GSS_C_INTEG_FLAG | GSS_C_CONF_FLAG;
    if (atoi(argv[3]))
        flags |= GSS_C_MUTUAL_FLAG | GSS_C_SEQUENCE_FLAG;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    s = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(s, (struct sockaddr *)&to, sizeof to) != 0)
        die("connect");
    getLine();
    login(flags, layer, argv[4]);
    while ((n = read(0, buf, sizeof buf)) > 0)
        if (layer == 1)
            writeAll(buf, n);
        else
            sendLayered(buf, n, layer);
    if (layer == 1) {
        while ((n = read(s, buf, sizeof buf)) > 0)
            fwrite(buf, 1, n, stdout);
        return 0;
    }
    for (unsigned size; readAll(&size, 4);) {
        OM_uint32 major, minor;
        gss_buffer_desc in = {ntohl(size), buf}, plain;
        int conf;
        if (in.length > 4096 || !readAll(buf, in.length))
            die("token longer than 4096 octets, or cut short");
        major = gss_unwrap(&minor, ctx, &in, &plain, &conf, NULL);
        check(major, minor, "gss_unwrap");
        if (conf != (layer == 4))
            die("another layer than agreed on");
        fwrite(plain.value, 1, plain.length, stdout);
        gss_release_buffer(&minor, &plain);
    }
    return 0;
}
