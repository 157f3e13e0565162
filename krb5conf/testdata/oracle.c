/*
 * Asks the real libkrb5 what it makes of a configuration (KRB5_CONFIG).
 *   oracle map PRINCIPAL...     prints the local name or the error of each
 *   oracle get a/b/c...         prints the values of each path, \x1f between
 *   oracle parse PRINCIPAL...   prints each as libkrb5 prints it back
 */
#include <krb5.h>
#include <profile.h>
#include <stdio.h>
#include <string.h>

static void map(krb5_context c, const char *text)
{
    krb5_principal p;
    char name[2048];
    krb5_error_code e = krb5_parse_name(c, text, &p);
    if (e) {
        printf("parse-error\n");
        return;
    }
    e = krb5_aname_to_localname(c, p, sizeof name, name);
    if (e == KRB5_LNAME_NOTRANS || e == KRB5_PLUGIN_NO_HANDLE)
        printf("none\n");
    else if (e)
        printf("error\n");
    else
        printf("=%s\n", name);
    krb5_free_principal(c, p);
}

static void get(profile_t profile, const char *path)
{
    char copy[512], **values = NULL, **v;
    const char *names[9];
    int n = 0;
    snprintf(copy, sizeof copy, "%s", path);
    for (char *s = strtok(copy, "/"); s && n < 8; s = strtok(NULL, "/"))
        names[n++] = s;
    names[n] = NULL;
    if (profile_get_values(profile, names, &values) == 0)
        for (v = values; *v; v++)
            printf("%s%s", v == values ? "" : "\x1f", *v);
    printf("\n");
}

static void parse(krb5_context c, const char *text)
{
    krb5_principal p;
    char *out;
    if (krb5_parse_name(c, text, &p) || krb5_unparse_name(c, p, &out)) {
        printf("parse-error\n");
        return;
    }
    printf("=%s\n", out);
}

int main(int argc, char **argv)
{
    krb5_context c;
    profile_t profile;
    krb5_error_code e = krb5_init_context(&c);
    if (e) {
        printf("init-error\n");
        return 0;
    }
    if (krb5_get_profile(c, &profile))
        return 2;
    for (int i = 2; i < argc; i++) {
        if (!strcmp(argv[1], "map"))
            map(c, argv[i]);
        else if (!strcmp(argv[1], "get"))
            get(profile, argv[i]);
        else
            parse(c, argv[i]);
        fflush(stdout);
    }
    return 0;
}
