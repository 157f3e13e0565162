/* What MIT's acceptor costs: gssaccept FILE COUNT accepts the initial token in
 * FILE so often and prints the CPU time of one, in nanoseconds. Its replay cache
 * is to be off (KRB5RCACHENAME=none:), for the token is always the same. */
#include <gssapi/gssapi.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int acceptOne(gss_cred_id_t cred, gss_buffer_t token)
{
    OM_uint32 minor, major;
    gss_ctx_id_t ctx = GSS_C_NO_CONTEXT;
    gss_buffer_desc out = GSS_C_EMPTY_BUFFER;
    gss_name_t client = GSS_C_NO_NAME;
    major = gss_accept_sec_context(&minor, &ctx, cred, token, GSS_C_NO_CHANNEL_BINDINGS, &client, NULL, &out, NULL, NULL, NULL);
    int ok = major == GSS_S_COMPLETE && out.length > 0;
    if (!ok)
        fprintf(stderr, "gss_accept_sec_context: %x %u\n", major, minor);
    gss_release_buffer(&minor, &out);
    gss_release_name(&minor, &client);
    gss_delete_sec_context(&minor, &ctx, GSS_C_NO_BUFFER);
    return ok;
}

int main(int argc, char **argv)
{
    static char buf[1 << 17];
    OM_uint32 minor;
    gss_cred_id_t cred = GSS_C_NO_CREDENTIAL;
    struct timespec t;
    FILE *f = argc == 3 ? fopen(argv[1], "rb") : NULL;
    if (f == NULL)
        return 2;
    gss_buffer_desc token = {fread(buf, 1, sizeof buf, f), buf};
    if (gss_acquire_cred(&minor, GSS_C_NO_NAME, GSS_C_INDEFINITE, GSS_C_NO_OID_SET, GSS_C_ACCEPT, &cred, NULL, NULL) != GSS_S_COMPLETE)
        return 3;
    long count = atol(argv[2]);
    for (int i = 0; i < 50; i++) /* to warm up */
        if (!acceptOne(cred, &token))
            return 4;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    long long began = t.tv_sec * 1000000000LL + t.tv_nsec;
    for (long i = 0; i < count; i++)
        if (!acceptOne(cred, &token))
            return 4;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    printf("%lld\n", (t.tv_sec * 1000000000LL + t.tv_nsec - began) / count);
    return 0;
}
