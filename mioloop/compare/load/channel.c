/* TLS is done by libssl, without its headers and without linking to it: the
 * functions are looked up in the libssl that Python's ssl module has loaded, so
 * that generator, baseline and Python servers use one library. The prototypes
 * below are identical in OpenSSL 1.1.1 and 3.x. */
#include "channel.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "sysio.h"

#define SSL_ERROR_WANT_READ 2
#define SSL_ERROR_WANT_WRITE 3
#define SSL_ERROR_SYSCALL 5
#define SSL_ERROR_ZERO_RETURN 6
#define SSL_FILETYPE_PEM 1
#define SSL_CTRL_MODE 33
#define SSL_MODE_PARTIAL_AND_MOVING 3L      /* ENABLE_PARTIAL_WRITE, ACCEPT_MOVING_WRITE_BUFFER */
#define EVP_PKEY_EC 408
#define MBSTRING_UTF8 0x1000

struct mio_tls {
    void *library;
    void *context;
    int is_server;
    const void *(*TLS_method)(void);
    void *(*SSL_CTX_new)(const void *);
    void (*SSL_CTX_free)(void *);
    long (*SSL_CTX_ctrl)(void *, int, long, void *);
    int (*SSL_CTX_use_certificate_chain_file)(void *, const char *);
    int (*SSL_CTX_use_PrivateKey_file)(void *, const char *, int);
    void *(*SSL_new)(void *);
    void (*SSL_free)(void *);
    int (*SSL_set_fd)(void *, int);
    void (*SSL_set_accept_state)(void *);
    void (*SSL_set_connect_state)(void *);
    int (*SSL_do_handshake)(void *);
    int (*SSL_read)(void *, void *, int);
    int (*SSL_write)(void *, const void *, int);
    int (*SSL_get_error)(const void *, int);
    void (*ERR_clear_error)(void);
};

/* ISO C has no cast from an object pointer to a function pointer. POSIX promises
 * that the result of dlsym() may be copied into one. */
static int find(void *library, const char *name, void *function)
{
    void *found = dlsym(library, name);

    if (found == NULL) return -ENOSYS;
    memcpy(function, &found, sizeof found);
    return 0;
}

int mio_tls_open(const char *library, const char *certificate, mio_tls **out)
{
    mio_tls *tls;
    int err = 0;

    *out = NULL;
    tls = calloc(1, sizeof *tls);
    if (tls == NULL) return -ENOMEM;
    tls->library = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (tls->library == NULL) { err = -ENOENT; goto out; }
    tls->is_server = certificate != NULL;

#define FIND(name) if ((err = find(tls->library, #name, &tls->name)) < 0) goto out
    FIND(TLS_method);
    FIND(SSL_CTX_new);
    FIND(SSL_CTX_free);
    FIND(SSL_CTX_ctrl);
    FIND(SSL_CTX_use_certificate_chain_file);
    FIND(SSL_CTX_use_PrivateKey_file);
    FIND(SSL_new);
    FIND(SSL_free);
    FIND(SSL_set_fd);
    FIND(SSL_set_accept_state);
    FIND(SSL_set_connect_state);
    FIND(SSL_do_handshake);
    FIND(SSL_read);
    FIND(SSL_write);
    FIND(SSL_get_error);
    FIND(ERR_clear_error);
#undef FIND
    tls->context = tls->SSL_CTX_new(tls->TLS_method());
    if (tls->context == NULL) { err = -ENOMEM; goto out; }
    tls->SSL_CTX_ctrl(tls->context, SSL_CTRL_MODE, SSL_MODE_PARTIAL_AND_MOVING, NULL);
    if (certificate != NULL
        && (tls->SSL_CTX_use_certificate_chain_file(tls->context, certificate) != 1
            || tls->SSL_CTX_use_PrivateKey_file(tls->context, certificate,
                                                SSL_FILETYPE_PEM) != 1))
        err = -EINVAL;

out:
    if (err < 0) { mio_tls_close(tls); tls = NULL; }
    *out = tls;
    return err;
}

void mio_tls_close(mio_tls *tls)
{
    if (tls == NULL) return;
    if (tls->context != NULL) tls->SSL_CTX_free(tls->context);
    if (tls->library != NULL) dlclose(tls->library);
    free(tls);
}

int mio_tls_make_certificate(const char *library, const char *path)
{
    void *(*EVP_PKEY_CTX_new_id)(int, void *);
    void (*EVP_PKEY_CTX_free)(void *);
    int (*EVP_PKEY_keygen_init)(void *);
    int (*EVP_PKEY_CTX_ctrl_str)(void *, const char *, const char *);
    int (*EVP_PKEY_keygen)(void *, void **);
    void (*EVP_PKEY_free)(void *);
    const void *(*EVP_sha256)(void);
    void *(*X509_new)(void);
    void (*X509_free)(void *);
    int (*X509_set_version)(void *, long);
    void *(*X509_get_serialNumber)(void *);
    int (*ASN1_INTEGER_set)(void *, long);
    void *(*X509_getm_notBefore)(void *);
    void *(*X509_getm_notAfter)(void *);
    void *(*X509_gmtime_adj)(void *, long);
    int (*X509_set_pubkey)(void *, void *);
    void *(*X509_get_subject_name)(void *);
    int (*X509_NAME_add_entry_by_txt)(void *, const char *, int, const unsigned char *, int, int,
                                      int);
    int (*X509_set_issuer_name)(void *, void *);
    int (*X509_sign)(void *, void *, const void *);
    void *(*BIO_new_fd)(int, int);
    int (*BIO_free)(void *);
    int (*PEM_write_bio_X509)(void *, void *);
    int (*PEM_write_bio_PrivateKey)(void *, void *, const void *, void *, int, void *, void *);
    void *so, *keygen = NULL, *key = NULL, *cert = NULL, *name, *file = NULL;
    int fd = -1, err = 0;

    so = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (so == NULL) return -ENOENT;
#define FIND(name) if ((err = find(so, #name, &name)) < 0) goto no_functions
    FIND(EVP_PKEY_CTX_new_id);
    FIND(EVP_PKEY_CTX_free);
    FIND(EVP_PKEY_keygen_init);
    FIND(EVP_PKEY_CTX_ctrl_str);
    FIND(EVP_PKEY_keygen);
    FIND(EVP_PKEY_free);
    FIND(EVP_sha256);
    FIND(X509_new);
    FIND(X509_free);
    FIND(X509_set_version);
    FIND(X509_get_serialNumber);
    FIND(ASN1_INTEGER_set);
    FIND(X509_getm_notBefore);
    FIND(X509_getm_notAfter);
    FIND(X509_gmtime_adj);
    FIND(X509_set_pubkey);
    FIND(X509_get_subject_name);
    FIND(X509_NAME_add_entry_by_txt);
    FIND(X509_set_issuer_name);
    FIND(X509_sign);
    FIND(BIO_new_fd);
    FIND(BIO_free);
    FIND(PEM_write_bio_X509);
    FIND(PEM_write_bio_PrivateKey);
#undef FIND

    err = -EPROTO;      /* unless every step below succeeds */
    keygen = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL);
    if (keygen == NULL || EVP_PKEY_keygen_init(keygen) != 1
        || EVP_PKEY_CTX_ctrl_str(keygen, "ec_paramgen_curve", "P-256") != 1
        || EVP_PKEY_CTX_ctrl_str(keygen, "ec_param_enc", "named_curve") != 1
        || EVP_PKEY_keygen(keygen, &key) != 1)
        goto out;
    cert = X509_new();
    if (cert == NULL) goto out;
    name = X509_get_subject_name(cert);
    if (X509_set_version(cert, 2) != 1
        || ASN1_INTEGER_set(X509_get_serialNumber(cert), 1) != 1
        || X509_gmtime_adj(X509_getm_notBefore(cert), -3600) == NULL
        || X509_gmtime_adj(X509_getm_notAfter(cert), 30L * 24 * 3600) == NULL
        || X509_set_pubkey(cert, key) != 1
        || X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                                      (const unsigned char *)"localhost", -1, -1, 0) != 1
        || X509_set_issuer_name(cert, name) != 1
        || X509_sign(cert, key, EVP_sha256()) == 0)
        goto out;
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd < 0) { err = -errno; goto out; }
    file = BIO_new_fd(fd, 0);
    if (file != NULL && PEM_write_bio_X509(file, cert) == 1
        && PEM_write_bio_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1)
        err = 0;

out:
    if (file != NULL) BIO_free(file);
    if (fd >= 0) close(fd);
    if (cert != NULL) X509_free(cert);
    if (key != NULL) EVP_PKEY_free(key);
    if (keygen != NULL) EVP_PKEY_CTX_free(keygen);
no_functions:
    dlclose(so);
    return err;
}

/* -- channel ------------------------------------------------------------------- */

int mio_channel_open(mio_channel *channel, int fd, mio_tls *tls)
{
    *channel = (mio_channel){.fd = fd, .tls = tls};
    if (tls == NULL) return 0;
    channel->ssl = tls->SSL_new(tls->context);
    if (channel->ssl == NULL || tls->SSL_set_fd(channel->ssl, fd) != 1) {
        mio_channel_close(channel);
        return -ENOMEM;
    }
    if (tls->is_server) tls->SSL_set_accept_state(channel->ssl);
    else tls->SSL_set_connect_state(channel->ssl);
    return 0;
}

void mio_channel_close(mio_channel *channel)
{
    if (channel->ssl != NULL) channel->tls->SSL_free(channel->ssl);
    if (channel->fd >= 0) close(channel->fd);
    channel->ssl = NULL;
    channel->fd = -1;
}

static ssize_t tls_error(mio_channel *channel, int result)
{
    int saved = errno;

    switch (channel->tls->SSL_get_error(channel->ssl, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_SYSCALL:
        return saved != 0 ? -saved : 0;         /* 1.1.1: end of stream without close_notify */
    default:
        return -EPROTO;
    }
}

int mio_channel_handshake(mio_channel *channel)
{
    int result;

    if (channel->ssl == NULL) return 0;
    channel->tls->ERR_clear_error();
    errno = 0;
    result = channel->tls->SSL_do_handshake(channel->ssl);
    if (result == 1) return 0;
    result = (int)tls_error(channel, result);
    return result == 0 ? -ECONNRESET : result;
}

ssize_t mio_channel_recv(mio_channel *channel, void *buf, size_t len)
{
    int n;

    if (channel->ssl == NULL) return mio_recv(channel->fd, buf, len);
    channel->tls->ERR_clear_error();
    errno = 0;
    n = channel->tls->SSL_read(channel->ssl, buf, (int)len);
    return n > 0 ? n : tls_error(channel, n);
}

ssize_t mio_channel_send(mio_channel *channel, const void *buf, size_t len)
{
    int n;
    ssize_t err;

    if (channel->ssl == NULL) return mio_send(channel->fd, buf, len);
    channel->tls->ERR_clear_error();
    errno = 0;
    n = channel->tls->SSL_write(channel->ssl, buf, (int)len);
    if (n > 0) return n;
    err = tls_error(channel, n);
    return err == 0 ? -ECONNRESET : err;
}

/* -- sockets --------------------------------------------------------------------- */

int mio_address(int transport, const char *text, int port, struct sockaddr_storage *out,
                socklen_t *len)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    struct sockaddr_un *local = (struct sockaddr_un *)out;

    memset(out, 0, sizeof *out);
    if (transport == MIO_LOAD_UNIX) {
        if (strlen(text) >= sizeof local->sun_path) return -ENAMETOOLONG;
        local->sun_family = AF_UNIX;
        strcpy(local->sun_path, text);
        *len = sizeof *local;
    } else if (port < 0 || port > 65535) {
        return -EINVAL;
    } else if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        *len = sizeof *v4;
    } else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        *len = sizeof *v6;
    } else {
        return -EINVAL;
    }
    return 0;
}

int mio_socket(int transport, int family)
{
    int fd, on = 1;

    fd = socket(family, transport == MIO_LOAD_UDP ? SOCK_DGRAM : SOCK_STREAM, 0);
    if (fd < 0) return -errno;
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0
        || (transport == MIO_LOAD_TCP
            && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0)) {
        int err = errno;

        close(fd);
        return -err;
    }
    return fd;
}
