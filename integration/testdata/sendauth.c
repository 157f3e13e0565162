/* A KPOP client on libkrb5, MIT's or (-DHEIMDAL) Heimdal's, for what Debian does
 * not ship:
 *   sendauth PORT SERVICE MUTUAL
 * Emacs's pop.c asks for SERVICE pop3; Heimdal's push sets MUTUAL to 0 and
 * pipelines. After the ticket it copies its standard input to the server and
 * what the server says to its standard output. */
#include <arpa/inet.h>
#include <krb5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void fail(krb5_context ctx, krb5_error_code code, const char *what)
{
    fprintf(stderr, "%s: %s\n", what, krb5_get_error_message(ctx, code));
    exit(1);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    int s = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(s, (struct sockaddr *)&to, sizeof to) != 0) {
        perror("connect");
        return 1;
    }

    krb5_context ctx;
    krb5_auth_context auth = NULL;
    krb5_ccache cache;
    krb5_principal client, server;
    krb5_error_code e = krb5_init_context(&ctx);
    if (e != 0)
        return 1;
    if ((e = krb5_cc_default(ctx, &cache)) != 0 || (e = krb5_cc_get_principal(ctx, cache, &client)) != 0)
        fail(ctx, e, "ticket cache");
    if ((e = krb5_sname_to_principal(ctx, "localhost", argv[2], KRB5_NT_UNKNOWN, &server)) != 0)
        fail(ctx, e, "service");
    krb5_error *refusal = NULL;
    e = krb5_sendauth(ctx, &auth, &s, "KPOPV1.0", client, server, atoi(argv[3]) ? AP_OPTS_MUTUAL_REQUIRED : 0,
                      NULL, NULL, cache, &refusal, NULL, NULL);
    if (e != 0) {
        if (refusal != NULL)
#ifdef HEIMDAL
            fprintf(stderr, "refused: %d %s\n", (int)refusal->error_code, refusal->e_text ? *refusal->e_text : "");
#else
            fprintf(stderr, "refused: %u %.*s\n", refusal->error, (int)refusal->text.length, refusal->text.data);
#endif
        fail(ctx, e, "sendauth");
    }

    char buf[65536];
    ssize_t n;
    while ((n = read(0, buf, sizeof buf)) > 0)
        if (write(s, buf, n) != n)
            return 1;
    while ((n = read(s, buf, sizeof buf)) > 0)
        fwrite(buf, 1, n, stdout);
    return 0;
}
