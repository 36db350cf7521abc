/* Takes connections at all addresses: TLS on one port, on the other whatever has first bytes.
 *
 *     taker TLS_PORT OTHER_PORT CERTIFICATE KEY FORBIDDEN
 *
 * On the TLS port a few processes shake hands, one connection after the other each, without
 * resumption. On the other the first bytes are answered with an HTTP response whose first byte is
 * `H`, or `W` where FORBIDDEN stands in them: what has that name should never have come here. How
 * many of those did is printed at each, as `forbidden N`.
 */

#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WORKERS = 4, BACKLOG = 4096, EVENTS = 256 };

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
static const char wrong[] = "W";

static int listen_on(int port, int flags)
{
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | flags, 0);
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};

    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&any, sizeof any) || listen(listener, BACKLOG))
        err(1, "TCP port %d", port);
    return listener;
}

static void shake_hands(int listener, SSL_CTX *context)
{
    struct timeval patience = {.tv_sec = 2};

    for (;;) {
        char byte;
        int on = 1, taken = accept(listener, NULL, NULL);
        SSL *tls = SSL_new(context);

        setsockopt(taken, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        setsockopt(taken, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        SSL_set_fd(tls, taken);
        if (SSL_accept(tls) == 1)
            (void)!read(taken, &byte, 1); /* until the client has ended it */
        SSL_free(tls);
        close(taken);
    }
}

static void start_tls(int port, const char *certificate, const char *key)
{
    int listener = listen_on(port, 0);
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());

    SSL_CTX_set_num_tickets(context, 0);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    if (SSL_CTX_use_certificate_file(context, certificate, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
        errx(1, "%s, %s", certificate, key);
    for (int n = 0; n < WORKERS; n++)
        if (!fork()) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            shake_hands(listener, context);
        }
    close(listener);
}

int main(int argc, char **argv)
{
    struct rlimit files = {1 << 16, 1 << 16};
    struct epoll_event events[EVENTS], more = {.events = EPOLLIN};
    unsigned forbidden = 0;
    int listener, polling;

    if (argc != 6)
        errx(2, "usage: taker TLS_PORT OTHER_PORT CERTIFICATE KEY FORBIDDEN");
    signal(SIGPIPE, SIG_IGN);
    setrlimit(RLIMIT_NOFILE, &files);
    start_tls(atoi(argv[1]), argv[3], argv[4]);
    listener = listen_on(atoi(argv[2]), SOCK_NONBLOCK);
    polling = epoll_create1(0);
    more.data.fd = listener;
    epoll_ctl(polling, EPOLL_CTL_ADD, listener, &more);
    puts("listening");
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(polling, events, EVENTS, -1);

        for (int n = 0; n < ready; n++) {
            char first[16384];
            int taken = events[n].data.fd;
            ssize_t size;

            if (taken == listener) {
                while ((taken = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    more.data.fd = taken;
                    epoll_ctl(polling, EPOLL_CTL_ADD, taken, &more);
                }
                continue;
            }
            size = recv(taken, first, sizeof first, 0);
            if (size <= 0) {
                if (size == 0 || errno != EAGAIN)
                    close(taken);
            } else if (memmem(first, size, argv[5], strlen(argv[5]))) {
                printf("forbidden %u\n", ++forbidden);
                fflush(stdout);
                send(taken, wrong, sizeof wrong - 1, 0);
            } else {
                send(taken, answer, sizeof answer - 1, 0);
            }
        }
    }
}
