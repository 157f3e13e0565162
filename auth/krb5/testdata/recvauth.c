/* MIT's own acceptor of KPOP, which ours is held against:
 *   recvauth SERVICE/HOST
 * It listens on a port of loopback, prints the port, and takes one connection
 * after the other by krb5_recvauth; after an accepted ticket it says who came.
 * It ends with its standard input. */
#include <arpa/inet.h>
#include <krb5.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void serve(krb5_context ctx, krb5_principal server, krb5_keytab keytab, int s)
{
    krb5_auth_context auth = NULL;
    krb5_ticket *ticket = NULL;
    char *name = NULL;
    if (krb5_recvauth(ctx, &auth, &s, "KPOPV1.0", server, 0, keytab, &ticket) == 0) {
        if (krb5_unparse_name(ctx, ticket->enc_part2->client, &name) == 0)
            dprintf(s, "+OK %s\r\n", name);
        krb5_free_unparsed_name(ctx, name);
        krb5_free_ticket(ctx, ticket);
        krb5_auth_con_free(ctx, auth); /* after a refusal it has freed it itself */
    }
    close(s);
}

int main(int argc, char **argv)
{
    krb5_context ctx;
    krb5_principal server;
    krb5_keytab keytab;
    signal(SIGPIPE, SIG_IGN);
    if (argc != 2 || krb5_init_context(&ctx) != 0 || krb5_parse_name(ctx, argv[1], &server) != 0 ||
        krb5_kt_default(ctx, &keytab) != 0)
        return 2;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int l = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(l, (struct sockaddr *)&at, size) != 0 || listen(l, 8) != 0 || getsockname(l, (struct sockaddr *)&at, &size) != 0)
        return 2;
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    for (struct pollfd p[2] = {{l, POLLIN, 0}, {0, POLLIN, 0}}; poll(p, 2, -1) > 0 && p[1].revents == 0;) {
        int s = accept(l, NULL, NULL);
        if (s >= 0)
            serve(ctx, server, keytab, s);
    }
    return 0;
}
