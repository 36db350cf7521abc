/* Opens connections with a name in their first bytes, to taker.c.
 *
 *     opener tls ADDRESS COUNT PORT NAME AUTHORITY CONNECTIONS
 *     opener delay ADDRESS COUNT PORT NAME - CONNECTIONS
 *     opener plain ADDRESS COUNT PORT NAME - CONNECTIONS
 *     opener burst ADDRESS COUNT PORT NAME FORBIDDEN CONNECTIONS
 *
 * The connections go to COUNT addresses from ADDRESS on, in turns. `tls` shakes hands with a few
 * processes, one connection after the other each, and checks the certificate; `plain` sends one
 * HTTP request on each and has a few open at any time. Both print connections a second, and how
 * many failed. `delay` sends a hello on each and prints p50 and p99 of the microseconds from a
 * connection's beginning to the first byte of its answer, how many had none, and which was the first
 * of these, with its errno. `burst` opens all at once, half with a hello that names NAME, half
 * FORBIDDEN; it prints how many of the first got no answer, how many of the others were not refused,
 * and the seconds that it all took.
 */

#include <arpa/inet.h>
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
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PROCESSES = 8, OUTSTANDING = 16, EVENTS = 256, LONGEST = 20, ROOM = 4096 };

struct opening {
    char bytes[ROOM];
    size_t size;
};

static const char *first_address, *name;
static unsigned addresses, port;
static SSL_CTX *context;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int start_connecting(unsigned serial, int flags)
{
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct linger at_once = {.l_onoff = 1}; /* nothing is left that keeps the port */
    struct timeval patience = {.tv_sec = LONGEST};
    int on = 1, connecting = socket(AF_INET, SOCK_STREAM | flags, 0);

    inet_pton(AF_INET, first_address, &there.sin_addr);
    there.sin_addr.s_addr = htonl(ntohl(there.sin_addr.s_addr) + serial % addresses);
    setsockopt(connecting, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    setsockopt(connecting, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(connecting, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (!connect(connecting, (struct sockaddr *)&there, sizeof there) || errno == EINPROGRESS)
        return connecting;
    close(connecting);
    return -1;
}

static SSL_CTX *client_context(const char *authority)
{
    SSL_CTX *made = SSL_CTX_new(TLS_client_method());

    if (authority && SSL_CTX_load_verify_file(made, authority) != 1)
        errx(1, "%s", authority);
    SSL_CTX_set_verify(made, SSL_VERIFY_PEER, NULL);
    return made;
}

static int shake_hands(unsigned serial)
{
    int done = 0, connected = start_connecting(serial, 0);
    SSL *tls = SSL_new(context);

    SSL_set_tlsext_host_name(tls, name);
    SSL_set1_host(tls, name);
    if (connected >= 0 && SSL_set_fd(tls, connected))
        done = SSL_connect(tls) == 1;
    SSL_free(tls);
    if (connected >= 0)
        close(connected);
    return done;
}

/* A hello as OpenSSL would send it. */
static void make_hello(struct opening *made, const char *server_name)
{
    SSL *tls = SSL_new(context);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());

    SSL_set_bio(tls, in, out);
    SSL_set_tlsext_host_name(tls, server_name);
    SSL_connect(tls);
    made->size = BIO_read(out, made->bytes, ROOM);
    SSL_free(tls);
}

static void measure_tls(unsigned count)
{
    unsigned failed = 0;
    double begun = now();

    for (unsigned n = 0; n < PROCESSES; n++)
        if (!fork()) {
            for (unsigned serial = n; serial < count; serial += PROCESSES)
                failed += !shake_hands(serial);
            _exit(failed > 250 ? 250 : failed);
        }
    for (int status; wait(&status) > 0;)
        failed += WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    printf("%.1f %u\n", count / (now() - begun), failed);
}

static int ascending(const void *one, const void *other)
{
    double difference = *(const double *)one - *(const double *)other;

    return (difference > 0) - (difference < 0);
}

static void measure_delay(unsigned count)
{
    double *took = calloc(count, sizeof *took);
    struct opening hello;
    unsigned got = 0, first_failed = 0;
    int first_errno = 0;

    make_hello(&hello, name);
    for (unsigned n = 0; n < count; n++) {
        double begun = now();
        int connected, answered = 0;
        char byte;

        errno = 0;
        connected = start_connecting(n, 0);
        if (connected >= 0 &&
            send(connected, hello.bytes, hello.size, MSG_NOSIGNAL) == (ssize_t)hello.size)
            answered = recv(connected, &byte, 1, 0) == 1;
        if (answered)
            took[got++] = (now() - begun) * 1e6;
        else if (n == got) {
            first_failed = n;
            first_errno = errno;
        }
        if (connected >= 0)
            close(connected);
    }
    if (!got)
        errx(1, "no handshake was answered");
    qsort(took, got, sizeof *took, ascending);
    printf("%.2f %.2f %u %u %d\n", took[got / 2], took[got * 99 / 100], count - got, first_failed,
           first_errno);
}

/* What connections came to whose openings are sent in turns, so many open at any time. */
struct outcome {
    unsigned answered[2], refused[2], silent[2];
};

static struct outcome open_all(const struct opening openings[2], unsigned count, unsigned most)
{
    struct outcome found = {0};
    struct epoll_event events[EVENTS];
    unsigned begun = 0, open = 0, *serials = calloc(1 << 16, sizeof *serials);
    char *sent = calloc(1 << 16, 1);
    int polling = epoll_create1(0);
    double end = now() + LONGEST;

    while (begun < count || open) {
        int ready;

        for (; begun < count && open < most; begun++) {
            struct epoll_event wanted = {.events = EPOLLOUT};
            int connecting = start_connecting(begun, SOCK_NONBLOCK);

            if (connecting < 0) {
                found.refused[begun % 2]++;
                continue;
            }
            wanted.data.fd = connecting;
            serials[connecting] = begun;
            sent[connecting] = 0;
            epoll_ctl(polling, EPOLL_CTL_ADD, connecting, &wanted);
            open++;
        }
        ready = epoll_wait(polling, events, EVENTS, 100);
        for (int n = 0; n < ready; n++) {
            int which = events[n].data.fd, half = serials[which] % 2;
            struct epoll_event wanted = {.events = EPOLLIN, .data.fd = which};
            char byte[256];

            if (!sent[which] && !(events[n].events & EPOLLERR)) {
                const struct opening *first = &openings[half];

                sent[which] = 1;
                if (send(which, first->bytes, first->size, MSG_NOSIGNAL) > 0) {
                    epoll_ctl(polling, EPOLL_CTL_MOD, which, &wanted);
                    continue;
                }
            } else if (recv(which, byte, sizeof byte, 0) > 0 && byte[0] == 'H') {
                found.answered[half]++;
                goto done;
            }
            found.refused[half]++;
        done:
            close(which);
            open--;
        }
        if (now() > end)
            break;
    }
    for (int half = 0; half < 2; half++) {
        unsigned all = (count + 1 - half) / 2;

        found.silent[half] = all - found.answered[half] - found.refused[half];
    }
    return found;
}

static void measure_plain(unsigned count)
{
    struct opening openings[2];
    struct outcome found;
    double begun = now();

    openings[0].size = snprintf(openings[0].bytes, ROOM,
                                "GET / HTTP/1.1\r\nHost: %s:%u\r\nAccept: */*\r\n\r\n", name, port);
    openings[1] = openings[0];
    found = open_all(openings, count, OUTSTANDING);
    printf("%.1f %u\n", count / (now() - begun), count - found.answered[0] - found.answered[1]);
}

static void measure_burst(unsigned count, const char *forbidden)
{
    struct opening openings[2];
    struct outcome found;
    double begun;

    make_hello(&openings[0], name);
    make_hello(&openings[1], forbidden);
    begun = now();
    found = open_all(openings, count, count);
    printf("%u %u %.3f\n", found.refused[0] + found.silent[0],
           found.answered[1] + found.silent[1], now() - begun);
}

int main(int argc, char **argv)
{
    struct rlimit files = {1 << 16, 1 << 16};
    unsigned count;

    if (argc != 8)
        errx(2, "usage: opener tls|delay|plain|burst ADDRESS COUNT PORT NAME MORE CONNECTIONS");
    signal(SIGPIPE, SIG_IGN);
    setrlimit(RLIMIT_NOFILE, &files);
    first_address = argv[2];
    addresses = atoi(argv[3]);
    port = atoi(argv[4]);
    name = argv[5];
    count = atoi(argv[7]);
    context = client_context(strcmp(argv[1], "tls") ? NULL : argv[6]);
    if (!strcmp(argv[1], "tls"))
        measure_tls(count);
    else if (!strcmp(argv[1], "delay"))
        measure_delay(count);
    else if (!strcmp(argv[1], "plain"))
        measure_plain(count);
    else
        measure_burst(count, argv[6]);
    return 0;
}
